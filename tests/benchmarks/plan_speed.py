"""How long a plan takes on a tree with many packages, and how much memory.

    .venv/bin/python tests/benchmarks/plan_speed.py --imagebuilder TREE [--packages 10000]

TREE: LEDE 17.01.7 for ar71xx/generic with its package cache (a used tree); a copy of hard links gets one more
feed, so that all its indexes together list that many packages. Prints seconds for a plan with nothing cached,
for the same with parsed indexes, for the whole command, and the largest memory of the command.
"""

from __future__ import annotations

import argparse
import errno
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imagebuilder.ask import plan_and_budgets
from imagebuilder.config.request import requests
from imagebuilder.log import Log
from imagebuilder.packages.opkg.feed import used_indexes
from imagebuilder.packages.opkg.opkg import read_index
from tests.benchmarks.index_text import index_text

PROJECT = Path(__file__).resolve().parents[2]
BOARD = "tplink-tl-wr740n-v4"


def linked(source: str, target: str) -> str:
    """A hard link, or a copy where both lie on different file systems."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copy2(source, target)
    return target


def listed(tree: Path) -> int:
    """How many packages a tree's indexes list."""
    return sum(len(read_index(index)) for index in used_indexes(tree).values())


def copied(tree: Path, folder: Path, wanted: int) -> tuple[Path, int]:
    """A copy of a tree with so many packages in its indexes; how many there are."""
    ignore = shutil.ignore_patterns(".git")
    copy = folder / "tree"
    shutil.copytree(tree, copy, symlinks=True, ignore=ignore, copy_function=linked)
    others = index_text(max(0, wanted - listed(copy)) + 2).split("\n\n")[
        2:
    ]  # libc and kernel are the tree's own
    (copy / "dl").mkdir(exist_ok=True)
    (copy / "dl/many").write_text("\n\n".join(others), "utf-8")
    text = (copy / "repositories.conf").read_text("utf-8")
    (copy / "repositories.conf").unlink()
    (copy / "repositories.conf").write_text(f"{text}\nsrc/gz many http://feeds.invalid/many\n", "utf-8")
    return copy, listed(copy)


def planned(tree: Path, cache: Path, config: str = "router", board: str = BOARD) -> float:
    """Seconds for one plan in this process."""
    (asked,) = requests(PROJECT, config, board=board, imagebuilder=str(tree), cache=cache)
    began = time.perf_counter()
    plan_and_budgets(asked, Log())
    return time.perf_counter() - began


def forget_indexes(cache: Path) -> None:
    """The next plan parses all package lists again."""
    for kept in (cache / "indexes").glob("*.packages"):
        kept.unlink()


def command(tree: Path, cache: Path) -> tuple[float, int]:
    """Seconds and the most memory (KiB) of the whole command."""
    argv = [sys.executable, "-m", "imagebuilder", "plan", "router", "--board", BOARD, "--json"]
    argv += ["--imagebuilder", str(tree), "--cache", str(cache)]
    began = time.perf_counter()
    subprocess.run(argv, cwd=PROJECT, check=True, capture_output=True)
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagebuilder", required=True, type=Path)
    parser.add_argument("--packages", type=int, default=10_000)
    options = parser.parse_args()
    original = options.imagebuilder.resolve()
    with tempfile.TemporaryDirectory(prefix="plan-speed-", dir=original.parent) as name:
        tree, count = copied(original, Path(name), options.packages)
        cache = Path(name) / "cache"
        planned(tree, cache)  # the tree's own packages are indexed once
        forget_indexes(cache)
        cold = planned(tree, cache)
        warm = statistics.median(planned(tree, cache) for _ in range(5))
        whole, memory = command(tree, cache)
    print(f"{count} packages: plan cold {cold:.2f} s (under 1.0 is wanted), cached {warm:.2f} s (0.3)")
    print(f"the whole command, cached: {whole:.2f} s, {memory / 1024:.0f} MiB (under 150)")


if __name__ == "__main__":
    main()
