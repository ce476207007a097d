"""What the pipeline costs on a warm genuine tree: `build` against a bare `make image`, in turns in one run.

    .venv/bin/python tests/benchmarks/build_overhead.py --imagebuilder TREE [--rounds 5]

Prints the median seconds of both, their ratio (at most 1.3 is wanted), the peak memory of our own process
(under 150 MB is wanted) and the median of `build.py --help` (under 0.4 s is wanted).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BOARD, PROFILE = "tplink-tl-wr740n-v4", "tl-wr740n-v4"
MEMORY = """
import resource, sys
from imagebuilder.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def quietly(argv: Sequence[str], cwd: Path | None = None) -> str:
    return subprocess.run(argv, cwd=cwd, check=True, capture_output=True, text=True).stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagebuilder", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.imagebuilder.parent) as name:
        folder = Path(name)
        tree = folder / "tree"
        shutil.copytree(options.imagebuilder, tree, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        bare = ["make", "image", f"PROFILE={PROFILE}", "PACKAGES=", f"BIN_DIR={folder}/bin"]
        quietly(bare, tree)  # the first run makes the index: from here on the tree is warm
        build = [
            "build",
            "router",
            "--board",
            BOARD,
            "--imagebuilder",
            str(tree),
            "--output",
            str(folder / "out"),
        ]
        ours = [sys.executable, str(PROJECT / "build.py"), *build]
        quietly(ours)
        pairs = [
            (seconds(lambda: quietly(bare, tree)), seconds(lambda: quietly(ours)))
            for _ in range(options.rounds)
        ]
        memory = int(quietly([sys.executable, "-c", MEMORY, *build]).splitlines()[-1])
        helps = [
            seconds(lambda: quietly([sys.executable, str(PROJECT / "build.py"), "--help"])) for _ in range(9)
        ]
    make, whole = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"bare make {make:.2f} s, build {whole:.2f} s, ratio {whole / make:.3f} (median of {len(pairs)})")
    print(f"peak memory of the builder {memory / 1024:.0f} MB")
    print(f"build.py --help {statistics.median(helps):.3f} s")


if __name__ == "__main__":
    main()
