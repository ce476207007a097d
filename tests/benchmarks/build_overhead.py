"""What the pipeline costs on a warm genuine tree: `build` against a bare `make image`, in turns in one run.

    .venv/bin/python tests/benchmarks/build_overhead.py --imagebuilder TREE [--rounds 5] [--direct]
        [--board BOARD --profile PROFILE]

Prints the median seconds of both, without the trial and with it, their ratios (at most 1.15 without it is
wanted: a bare make tries nothing), the processor seconds of our own process (which does not wait for those
that make starts), the peak memory of our own process (under 150 MB is wanted) and the median of
`build.py --help` (under 0.4 s is wanted).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
MEMORY = """
import resource, sys
from imagebuilder.cli import main
try:
    main()
finally:
    own = resource.getrusage(resource.RUSAGE_SELF)
    print(own.ru_utime + own.ru_stime, own.ru_maxrss, file=sys.stderr)
"""


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def quietly(argv: Sequence[str], cwd: Path | None = None) -> str:
    # build.py takes the path out. Bytecode is kept, as it is where nobody says otherwise: to compile the
    # sources at each start takes 0.2 s
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(argv, cwd=cwd, env=environment, check=True, capture_output=True, text=True)
    return done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagebuilder", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--direct", action="store_true", help="by this Python, not by build.py and the environment beside it"
    )
    parser.add_argument("--board", default="tplink-tl-wr740n-v4", help="that the tree builds for")
    parser.add_argument("--profile", default="tl-wr740n-v4", help="of the tree, for that board")
    options = parser.parse_args()
    start = [sys.executable, *(["-m", "imagebuilder"] if options.direct else [str(PROJECT / "build.py")])]
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.imagebuilder.parent) as name:
        folder = Path(name)
        tree = folder / "tree"
        shutil.copytree(options.imagebuilder, tree, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        bare = ["make", "image", f"PROFILE={options.profile}", "PACKAGES=", f"BIN_DIR={folder}/bin"]
        quietly(bare, tree)  # the first run makes the index: from here on the tree is warm
        build = [
            "build",
            "router",
            "--rebuild",
            "--board",
            options.board,
            "--imagebuilder",
            str(tree),
            "--output",
            str(folder / "out"),
        ]
        tried = [*start, *build]
        ours = [*tried, "--no-trial"]
        quietly(tried)
        rounds = [
            (
                seconds(lambda: quietly(bare, tree)),
                seconds(lambda: quietly(ours)),
                seconds(lambda: quietly(tried)),
            )
            for _ in range(options.rounds)
        ]
        processor, memory = (
            quietly([sys.executable, "-c", MEMORY, *build, "--no-trial"]).splitlines()[-1].split()
        )
        helps = [seconds(lambda: quietly([*start, "--help"])) for _ in range(9)]
    make, whole, with_trial = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"bare make {make:.2f} s, build {whole:.2f} s, ratio {whole / make:.3f} (median of {len(rounds)})")
    print(f"with the trial {with_trial:.2f} s, ratio {with_trial / make:.3f}")
    print(f"processor time of the builder {float(processor):.2f} s, peak memory {int(memory) / 1024:.0f} MB")
    print(f"--help {statistics.median(helps):.3f} s")


if __name__ == "__main__":
    main()
