"""How much sooner several boards are built at once than one after the other, on the embedded kit or a tree.

    python -m tests.benchmarks.parallel [--imagebuilder PATH] [--boards 8] [--jobs 2] [--rounds 3]

In each round all are built in one command one after the other, by as many commands, and at once, in turns, so
that what else the machine does hits all alike; prints the ratios of each round and their medians. Also: one
broken config among them leaves the results of all others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DEVICES = {True: "tplink-tl-wr740n-v4", False: "qemu-x86-64"}  # of a genuine tree; of the kit


def run(argvs: list[list[str]], folder: Path, code: int = 0) -> float:
    """Run commands one after the other; seconds."""
    began = time.monotonic()
    for argv in argvs:
        ended = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        if ended.returncode != code:
            sys.exit(f"{' '.join(argv)} exited with {ended.returncode}:\n{ended.stderr[-3000:]}")
    return time.monotonic() - began


def write_configs(folder: Path, boards: int, tree: Path | None) -> list[str]:
    """A config for each image, which differ as those of a household do."""
    (folder / "configs").mkdir()
    names = [f"c{number}" for number in range(boards)]
    given = f'imagebuilder = "{tree}"' if tree else 'release = "embedded"'
    for name in names:
        (folder / f"configs/{name}.toml").write_text(
            f'extends = "{"router" if tree else "base"}"\n{given}\nboards = ["{DEVICES[tree is not None]}"]\n'
            f'[[overlay]]\nname = "base"\nvariables = {{ hostname = "{name}" }}\n'
        )
    return names


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--imagebuilder", type=Path, help="a genuine tree's folder; by default the kit")
    parser.add_argument("--boards", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(PROJECT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = options.imagebuilder.resolve() if options.imagebuilder else None
        names = write_configs(folder, options.boards, tree)
        # nothing is taken from the last round, nor from the cache: building is what is measured
        build = [sys.executable, "-m", "imagebuilder", "build", "--rebuild"]
        at_once = [[*build, *names, "--jobs", str(options.jobs)]]
        run([[*build, names[0]]], folder)  # from here on the tree is warm
        ratios: dict[str, list[float]] = {"in one command": [], "by as many commands": []}
        for number in range(options.rounds):
            turned = [
                ("one", [[*build, *names]]),
                ("each", [[*build, each] for each in names]),
                ("at once", at_once),
            ]
            took = {what: run(argvs, folder) for what, argvs in turned[number % 3 :] + turned[: number % 3]}
            ratios["in one command"].append(took["one"] / took["at once"])
            ratios["by as many commands"].append(took["each"] / took["at once"])
            print("; ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items()), flush=True)
        print(f"{len(names)} boards, -j {options.jobs}: as fast as one after the other, times")
        for what, found in ratios.items():
            each = ", ".join(f"{ratio:.2f}" for ratio in found)
            print(f"  {what:20} {statistics.median(found):.2f}  ({each})")
        broken = folder / f"configs/{names[2]}.toml"
        broken.write_text(broken.read_text() + '[packages]\nadd = ["nothing-is-called-so"]\n')
        run([["rm", "-r", "out"]], folder)
        run(at_once, folder, code=2)
        results = [json.loads(path.read_text())["config"] for path in folder.glob("out/*/*/result.json")]
        print(f"with {names[2]} broken: {len(results)} results of {len(names)}: {', '.join(sorted(results))}")


if __name__ == "__main__":
    main()
