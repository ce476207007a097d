"""What the sandbox, the hermetic feed and the kept index cost and spare, in turns within one run.

    .venv/bin/python tests/benchmarks/hermetic_overhead.py --imagebuilder TREE [--rounds 5]

TREE: LEDE 17.01.7 for ar71xx/generic with its package cache (a used tree). Prints medians in seconds: reading
the indexes, and laying the feed and the index for a warm cache (together under 0.5 s is wanted), a small
program in the view with and without the sandbox, and `make image` in the view: with the feed and the index,
with the feed alone, and outside the sandbox, each beside the other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from imagebuilder.choose import lay_packages
from imagebuilder.config.request import Request, requests
from imagebuilder.decide import decided
from imagebuilder.host.run import run
from imagebuilder.host.sandbox import open_view
from imagebuilder.log import Log
from imagebuilder.packages.opkg.feed import own_index
from imagebuilder.tree.make import make_image

PROJECT = Path(__file__).resolve().parents[2]
BOARD = "tplink-tl-wr740n-v4"
SMALL_PROGRAMS = 20


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def one_build(asked: Request, *, sandbox: bool, index: bool) -> tuple[float, float, float]:
    """Seconds for reading the indexes, for laying the feed and the index, and for make."""
    with decided(replace(asked, sandbox=sandbox), Log()) as (_, found):
        job = found.job
        reading = seconds(lambda: job.manager.open(job))
        laying = seconds(lambda: lay_packages(job, found.supply, found.plan.install, found.local))
        if not index:
            for name in ("Packages", "Packages.gz"):
                (job.work / "make" / name).unlink()
        log = job.work / "log"
        return reading, laying, seconds(lambda: make_image(job.view, found.plan, job.work, log, Log()))


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
        cold = seconds(lambda: own_index(tree, cache))
        rows = []
        for _ in range(options.rounds):
            reading, laying, make = one_build(asked, sandbox=True, index=True)
            *_, anew = one_build(asked, sandbox=True, index=False)
            *_, outside = one_build(asked, sandbox=False, index=True)
            shut, free = (small_programs(tree, cache, sandbox=sandbox) for sandbox in (True, False))
            rows.append((reading, laying, make, anew, outside, shut, free))
    reading, laying, make, anew, outside, shut, free = (
        statistics.median(column) for column in zip(*rows, strict=True)
    )
    print(f"the index of packages/, made the first time {cold:.2f} s")
    print(f"warm cache: indexes {reading:.3f} s, feed {laying:.3f} s (together under 0.5 s is wanted)")
    print(f"make with them {make:.2f} s, making its own index {anew:.2f} s, ratio {anew / make:.2f}")
    print(f"make outside the sandbox {outside:.2f} s, the sandbox's share {make / outside - 1:+.1%}")
    print(f"a small program in the sandbox {shut * 1000:.1f} ms, without {free * 1000:.1f} ms")


if __name__ == "__main__":
    main()
