"""What a build costs that need not be: one board and many that are up to date, and one of twelve changed.

    .venv/bin/python tests/benchmarks/unchanged.py [--imagebuilder TREE] [--boards 100] [--rounds 7]

Without a genuine tree the small one of the tests is built with. Boards are one device under several names.
Prints the median seconds of `build` of an up-to-date config, of `--version`, and their ratio; the seconds of
`build` of many boards that are up to date (under 5 s for 100 are wanted); and what was done for each of
twelve boards, in how many seconds, after an overlay of one of them was changed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import make_small_tree

PROJECT = Path(__file__).resolve().parents[2]
DEVICE = "tplink-tl-wr740n-v4"
SETTLED_SECONDS = 2.1  # what was changed sooner is looked at by its content: host/stamps.py
FEW = 12


def run(argv: Sequence[str], cwd: Path) -> tuple[float, str]:
    """The seconds of a command, and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    began = time.perf_counter()
    printed = subprocess.run(
        [sys.executable, "-m", "imagebuilder", *argv],
        cwd=cwd,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return time.perf_counter() - began, printed


def states(printed: str) -> str:
    """How many boards ended in which state."""
    counts = Counter(entry["state"] for entry in json.loads(printed))
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def lay_project(place: Path, count: int) -> None:
    for name in ("boards", "configs", "overlays"):
        shutil.copytree(PROJECT / name, place / name, symlinks=True)
    names = [f"board-{number}" for number in range(count)]
    for name in names:
        shutil.copy(place / f"boards/{DEVICE}.toml", place / f"boards/{name}.toml")
    for config, boards in (("one", names[:1]), ("few", names[:FEW]), ("many", names)):
        text = f'extends = "router"\nboards = {json.dumps(boards)}\n'
        if config == "few":
            text += f'[[board.{names[0]}.overlay]]\npath = "own"\n'
        (place / f"configs/{config}.toml").write_text(text)
    (place / "own/etc").mkdir(parents=True)
    (place / "own/etc/own").write_text("one\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagebuilder", type=Path)
    parser.add_argument("--boards", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        place = Path(folder)
        lay_project(place, max(options.boards, FEW))
        tree = options.imagebuilder
        if tree is None:
            tree = place / "tree"
            make_small_tree(tree)
        common = ["--imagebuilder", str(tree.resolve()), "--project", folder, "--cache", "c", "--json"]

        def build(config: str) -> tuple[float, str]:
            return run(["build", config, *common], place)

        time.sleep(SETTLED_SECONDS)
        for config in ("one", "few", "many"):
            took, printed = build(config)
            print(f"{config}: {states(printed)} in {took:.1f} s")
        pairs = [(build("one")[0], run(["--version"], place)[0]) for _ in range(options.rounds)]
        one, version = (statistics.median(each) for each in zip(*pairs, strict=True))
        print(f"one board, up to date: {one:.2f} s, --version {version:.2f} s: {one / version:.2f}")
        took, printed = build("many")
        print(f"{options.boards} boards: {states(printed)} in {took:.2f} s")
        (place / "own/etc/own").write_text("two\n")
        took, printed = build("few")
        print(f"an overlay of one of {FEW} changed: {states(printed)} in {took:.1f} s")


if __name__ == "__main__":
    main()
