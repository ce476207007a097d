"""What the sandbox, the hermetic feed and the kept index cost and spare, in turns within one run.

    .venv/bin/python tests/benchmarks/hermetic_overhead.py --imagebuilder TREE [--rounds 5]

TREE: LEDE 17.01.7 for ar71xx/generic with its package cache (a used tree). Prints medians in seconds: laying
the feed and the index for a warm cache (under 0.5 s is wanted), a small program in the view with and without
the sandbox, and `make image` in the view: with the feed and the index, with the feed alone, and outside the
sandbox, each beside the other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from imagebuilder.feeds.opkg import format_index, read_index
from imagebuilder.host.run import run
from imagebuilder.host.sandbox import open_view
from imagebuilder.inquiry import plan_image
from imagebuilder.log import Log
from imagebuilder.model.plan import Plan
from imagebuilder.openwrt.feed import FEED, in_folder, lay_feed, lay_repositories, used_indexes
from imagebuilder.openwrt.hermetic import base_packages, lay_own_index, own_index
from imagebuilder.openwrt.make import make_image
from imagebuilder.planning.closure import from_feeds
from imagebuilder.request import requests
from imagebuilder.stage.ipk_index import index_of
from imagebuilder.stage.ipk_reader import read_control

PROJECT = Path(__file__).resolve().parents[2]
BOARD = "tplink-tl-wr740n-v4"
SMALL_PROGRAMS = 20


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def hermetic(tree: Path, plan: Plan, work: Path, cache: Path, *, index: bool) -> Callable[[], None]:
    """Lays all that make needs in its place: from a warm cache if it was called before."""

    def lay() -> None:
        own = own_index(tree, cache, index_of)
        mine = [*read_index(own), *(read_control(path).control for path in base_packages(tree))]
        others = [package for place in used_indexes(tree).values() for package in read_index(place)]
        wanted = from_feeds(plan.wanted, mine, others)
        lay_feed(work / FEED, wanted, [in_folder(tree / "dl")], format_index)
        if index:
            lay_own_index(own, work / "make")

    return lay


def one_build(tree: Path, plan: Plan, cache: Path, *, sandbox: bool, index: bool) -> tuple[float, float]:
    """Seconds for the feed and the index, and for make."""
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as name:
        work = Path(name)
        view = open_view(tree, work, Log(), sandbox=sandbox)
        laying = seconds(hermetic(tree, plan, work, cache, index=index))
        lay_repositories(tree, view)
        return laying, seconds(lambda: make_image(view, plan, work, work / "log", Log()))


def small_programs(tree: Path, cache: Path, *, sandbox: bool) -> float:
    """Seconds for one small program in the view."""
    with tempfile.TemporaryDirectory(prefix="view-", dir=cache) as name:
        view = open_view(tree, Path(name), Log(), sandbox=sandbox)
        argv = view.command(["true"])
        return seconds(lambda: [run(argv) for _ in range(SMALL_PROGRAMS)]) / SMALL_PROGRAMS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagebuilder", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    tree = options.imagebuilder.resolve()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=tree.parent) as name:
        cache = Path(name)
        (asked,) = requests(PROJECT, "router", board=BOARD, imagebuilder=str(tree), cache=cache)
        plan = plan_image(asked, Log())
        cold = seconds(lambda: own_index(tree, cache, index_of))
        rows = [
            (
                *one_build(tree, plan, cache, sandbox=True, index=True),
                one_build(tree, plan, cache, sandbox=True, index=False)[1],
                one_build(tree, plan, cache, sandbox=False, index=True)[1],
                small_programs(tree, cache, sandbox=True),
                small_programs(tree, cache, sandbox=False),
            )
            for _ in range(options.rounds)
        ]
    laying, make, anew, outside, shut, free = (
        statistics.median(column) for column in zip(*rows, strict=True)
    )
    print(f"the index of packages/, made the first time {cold:.2f} s")
    print(f"feed and index, warm cache {laying:.3f} s (under 0.5 s is wanted)")
    print(f"make with them {make:.2f} s, making its own index {anew:.2f} s, ratio {make / anew:.2f}")
    print(f"make outside the sandbox {outside:.2f} s, the sandbox's share {make / outside - 1:+.1%}")
    print(f"a small program in the sandbox {shut * 1000:.1f} ms, without {free * 1000:.1f} ms")


if __name__ == "__main__":
    main()
