"""What the pipeline costs on a warm genuine tree: `build` against a bare `make image`, in turns in one run.

    .venv/bin/python -m tests.benchmarks.build_overhead --imagebuilder TREE [--rounds 5] [--direct]
        [--board BOARD] [--config CONFIG] [--mirror FOLDER]

Make is called with the words that the plan of the config says. Each has a copy of the tree that is warm and
that nobody else uses: a bare make leaves its root file system in the tree, so that ours would read all of it
anew to know what it is (0.2 s of 17.01.7). FOLDER: a copy of the download server; the packages of it that the
config wants are laid into the copied trees' own folders, where both find them. Prints
the median seconds of both, without the trial and with it, and of a plan, their ratios (at most 1.15
without the trial is wanted: a bare make tries nothing), the processor seconds of our own process (which does
not wait for those that make starts), the peak memory of our own process (under 150 MB is wanted) and the
median of `build.py --help` (under 0.4 s is wanted).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import Completed, how_it_ended, run

PROJECT = Path(__file__).resolve().parents[2]
BOARD = "tplink-tl-wr740n-v4"
DIRECT = (sys.executable, "-m", "imagebuilder")
CONFIG = "base"  # what OpenWrt installs by default, and nothing else
USER_FAULT = 2
MEMORY = """
import resource, sys
from imagebuilder.cli import main
try:
    main()
finally:
    own = resource.getrusage(resource.RUSAGE_SELF)
    print(own.ru_utime + own.ru_stime, own.ru_maxrss, file=sys.stderr)
"""


@dataclass(frozen=True)
class Overhead:
    """Medians of the seconds of a bare make, of our build without the trial and with it, and of a plan;
    processor: seconds of our own process; memory: KiB that it had at most."""

    make: float
    build: float
    with_trial: float
    plan: float
    processor: float
    memory: int


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, with nothing left to write of what was measured before."""
    os.sync()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def quietly(argv: Sequence[str]) -> Completed:
    """Run this program; what it said. UserError where it says that the fault is its user's, RuntimeError
    where it ends in another way."""
    # build.py takes the path out. Bytecode is kept, as it is where nobody says otherwise: to compile the
    # sources at each start takes 0.2 s
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": ""}
    done = run(argv, env=environment, check=False)
    if done.code:
        told = f"{' '.join(argv)} {how_it_ended(done.code)}:\n{done.stderr.strip()}"
        raise UserError(told) if done.code == USER_FAULT else RuntimeError(told)
    return done


def lay_from(mirror: Path, names: Sequence[str], packages: Path) -> None:
    """Copy those of some files of packages that the feeds of a copied server have, and a tree's own folder
    lacks."""
    for name in names:
        for file in mirror.glob(f"releases/*/packages/*/*/{name}"):
            if not (packages / name).exists():
                shutil.copy2(file, packages)


def measure(
    original: Path,
    board: str,
    *,
    rounds: int,
    start: Sequence[str] = DIRECT,
    config: str = CONFIG,
    mirror: Path | None = None,
) -> Overhead:
    """All of it, in copies of a tree. start: the words that call this program; mirror: as --mirror, the tree
    has all that is wanted where it is None. UserError for a tree or a board with which nothing can be built,
    ProgramError for a make that fails, RuntimeError as quietly()."""
    words = [config, "--board", board, "--project", str(PROJECT), "--imagebuilder"]
    more = ["--mirror", str(mirror)] if mirror else []
    # asked first of the tree as it is given: what is wrong with that is said in the command's own words
    (planned,) = json.loads(quietly([*start, "plan", *words, str(original), *more, "--json"]).stdout)
    with temporary_folder("scratch") as folder:
        by_hand, tree = folder / "by-hand", folder / "tree"
        for copy in (by_hand, tree):
            shutil.copytree(original, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))
            if mirror:
                lay_from(mirror, [each["filename"] for each in planned["install"]], copy / "packages")
        asked = [*words, str(tree)]
        plan = [*start, "plan", *asked]
        bare = ["make", *planned["make"], f"BIN_DIR={folder}/bin"]

        def make() -> None:
            run(bare, cwd=by_hand, env={**os.environ})

        make()  # the first run makes the index: from here on the tree is warm
        build = ["build", *asked, "--rebuild", "--output", str(folder / "out")]
        ours = [*start, *build, "--no-trial"]
        quietly([*start, *build])
        columns = [
            [
                seconds(make),
                seconds(lambda: quietly(ours)),
                seconds(lambda: quietly([*start, *build])),
                seconds(lambda: quietly(plan)),
            ]
            for _ in range(rounds)
        ]
        told = quietly([sys.executable, "-c", MEMORY, *build, "--no-trial"])
    processor, memory = told.stderr.splitlines()[-1].split()
    bare_make, without, tried, plans = (statistics.median(column) for column in zip(*columns, strict=True))
    return Overhead(bare_make, without, tried, plans, processor=float(processor), memory=int(memory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imagebuilder", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--direct", action="store_true", help="by this Python, not by build.py and the environment beside it"
    )
    parser.add_argument("--board", default=BOARD, help="that the tree builds for")
    parser.add_argument("--config", default=CONFIG, help="by its name or file")
    parser.add_argument("--mirror", type=Path, help="a copy of the download server")
    options = parser.parse_args()
    start = DIRECT if options.direct else (sys.executable, str(PROJECT / "build.py"))
    found = measure(
        options.imagebuilder.resolve(),
        options.board,
        rounds=options.rounds,
        start=start,
        config=options.config,
        mirror=options.mirror and options.mirror.resolve(),
    )
    helps = [seconds(lambda: quietly([*start, "--help"])) for _ in range(9)]
    make = found.make
    print(f"bare make {make:.2f} s, build {found.build:.2f} s, ratio {found.build / make:.3f} (medians)")
    print(f"with the trial {found.with_trial:.2f} s, ratio {found.with_trial / make:.3f}")
    print(f"plan {found.plan:.2f} s, ratio {found.plan / make:.3f}")
    print(f"processor time of the builder {found.processor:.2f} s, peak memory {found.memory / 1024:.0f} MB")
    print(f"--help {statistics.median(helps):.3f} s")


if __name__ == "__main__":
    main()
