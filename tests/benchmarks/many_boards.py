"""Many boards in one command against as many commands of one, on a warm genuine tree, in one run.

    .venv/bin/python tests/benchmarks/many_boards.py --imagebuilder TREE [--boards 12]

The boards are one device under several names. Half of the single commands run before the one for all, half
after it, so that a machine that others use too weighs on both. Prints the seconds of both and their ratio, of
`plan` and of `build`; less than 1 is what reading the tree once and starting once save.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DEVICE = "tplink-tl-wr740n-v4"


def seconds(argv: Sequence[str], cwd: Path) -> float:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    began = time.perf_counter()
    subprocess.run(argv, cwd=cwd, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagebuilder", required=True, type=Path)
    parser.add_argument("--boards", type=int, default=12)
    options = parser.parse_args()
    names = [f"board-{number}" for number in range(options.boards)]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        place = Path(folder)
        for name in ("boards", "configs", "overlays"):
            shutil.copytree(PROJECT / name, place / name, symlinks=True)
        for name in names:
            shutil.copy(place / f"boards/{DEVICE}.toml", place / f"boards/{name}.toml")
        (place / "configs/fleet.toml").write_text(f'extends = "router"\nboards = {json.dumps(names)}\n')
        common = ["--imagebuilder", str(options.imagebuilder.resolve()), "--project", folder, "--cache", "c"]
        for command in ("plan", "build"):
            always = ["--rebuild"] if command == "build" else []
            argv = [sys.executable, "-m", "imagebuilder", command, "fleet", *common, *always]
            single = [[*argv, "--board", name] for name in names]
            seconds(single[0], place)  # from here on the tree is warm
            half = len(names) // 2
            alone = sum(seconds(each, place) for each in single[:half])
            together = seconds(argv, place)
            alone += sum(seconds(each, place) for each in single[half:])
            count, ratio = len(names), together / alone
            print(f"{command}: {count} at once {together:.1f} s, {count} alone {alone:.1f} s: {ratio:.2f}")


if __name__ == "__main__":
    main()
