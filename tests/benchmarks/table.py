"""All benchmarks whose figures are ratios: `owrt-python bench` shows them as a table.

    python -m tests.benchmarks.table --list
    python -m tests.benchmarks.table NAME [--most 1000] [--imagebuilder TREE] [--board BOARD]

What grows with its work (growing.py) is measured with 1, 10, 100 and 1,000 of its unit, in one run, the
shortest of some goes each. What compares two things (comparing.py) is measured once, in turns.

One benchmark is run, and its row is printed as a line of JSON whenever more of it is known, so that what was
found is not lost with what fails afterwards; the last line counts. The exit code is 2 for a fault that its
user can put right, which is in the row then.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import TerminatedError, UserError
from imagebuilder.host.handover import temporary_folder
from imagebuilder.model.benchmark import BenchmarkGap, BenchmarkPoint, BenchmarkRatio, BenchmarkRow
from tests.benchmarks import comparing, growing
from tests.benchmarks.growing import Given

WORK = (1, 10, 100, 1000)
GOES = 3
USER_FAULT = 2
TERMINATED = 143
IN_TURN = "commands run one after another, and a thousand keep an emulated guest for a quarter of an hour"


@dataclass(frozen=True)
class Growing:
    """measure: seconds of one go with so much work, in an empty folder. goes: how many, the shortest of which
    counts; warm: one is gone before, and does not count. beyond: why nothing above `most` is measured."""

    name: str
    what: str
    unit: str
    measure: Callable[[int, Path, Given], float]
    goes: int = GOES
    warm: bool = True
    most: int = WORK[-1]
    beyond: str = ""


@dataclass(frozen=True)
class Comparing:
    """measure: the ratios, as they are found."""

    name: str
    what: str
    measure: Callable[[Given], Iterator[BenchmarkRatio]]


Benchmark = Growing | Comparing
BENCHMARKS: tuple[Benchmark, ...] = (
    Comparing("pipeline", "build and plan against a bare make image", comparing.pipeline),
    Growing("plan", "planning a whole config on a tree's package lists", "10 packages", growing.plan, goes=2),
    Comparing("plan-again", "a plan whose package lists were read before", comparing.plan_kept),
    Comparing("accuracy", "planned against built sizes", comparing.accuracy),
    Growing("index", "parsing a package list", "10 packages", growing.index),
    Growing("resolve-opkg", "resolving, as opkg does", "10 packages", growing.resolve_opkg),
    Growing("resolve-apk", "resolving, as apk does", "10 packages", growing.resolve_apk),
    Growing("stage", "staging the files of an overlay, 5,000 in the end", "5 files", growing.stage),
    Growing(
        "compile",
        "compiling a standard library, all of it in the end",
        "1/1000 of it",
        growing.compile_library,
    ),
    Growing("trial", "trying the demo's image with modules besides", "1 module", growing.trial, goes=1),
    Growing(
        "boot",
        "booting the demo's image with trials inside",
        "1 trial",
        growing.boot,
        goes=1,
        warm=False,
        most=100,
        beyond=IN_TURN,
    ),
    Comparing("boot-ways", "ways to start an image", comparing.boot_ways),
    Growing("schedule", "building boards, 8 at once, each asleep", "1 board", growing.schedule, goes=1),
    Growing("publish", "publishing a night's results", "1 board", growing.publish, goes=1),
)


def rows(benchmark: Benchmark, most: int, given: Given) -> Iterator[BenchmarkRow]:
    """What a benchmark has found, again and again, with more of it each time. The last row has the fault of a
    UserError; other errors are raised."""
    row = BenchmarkRow(name=benchmark.name, what=benchmark.what)
    if isinstance(benchmark, Growing):
        gaps = [each for each in WORK if benchmark.most < each <= most]
        left_out = tuple(BenchmarkGap(work=each, why=benchmark.beyond) for each in gaps)
        row = row.model_copy(update={"unit": benchmark.unit, "left_out": left_out})
    yield row
    try:
        if isinstance(benchmark, Growing):
            for point in _points(benchmark, min(most, benchmark.most), given):
                row = row.model_copy(update={"points": (*row.points, point)})
                yield row
        else:
            for ratio in benchmark.measure(given):
                row = row.model_copy(update={"ratios": (*row.ratios, ratio)})
                yield row
    except UserError as error:
        notes = getattr(error, "__notes__", ())
        told = [error.message, *notes, *([f"hint: {error.hint}"] if error.hint else [])]
        yield row.model_copy(update={"fault": "\n".join(told)})


def _points(benchmark: Growing, most: int, given: Given) -> Iterator[BenchmarkPoint]:
    if benchmark.warm:
        _once(benchmark, WORK[0], given)  # modules are loaded
    for work in (each for each in WORK if each <= most):
        yield BenchmarkPoint(
            work=work, seconds=min(_once(benchmark, work, given) for _ in range(benchmark.goes))
        )


def _once(benchmark: Growing, work: int, given: Given) -> float:
    with temporary_folder("scratch") as folder:
        return benchmark.measure(work, folder, given)


def _terminate(_number: int, _frame: object) -> None:
    raise TerminatedError  # so that folders are removed, and programs end


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [each.name for each in BENCHMARKS]
    parser.add_argument("name", nargs="?", choices=names)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--most", type=int, default=WORK[-1])
    parser.add_argument("--imagebuilder", type=Path)
    parser.add_argument("--board")
    options = parser.parse_args()
    if options.list or options.name is None:
        print("\n".join(names))
        return
    signal.signal(signal.SIGTERM, _terminate)
    given = Given(options.imagebuilder, options.board)
    (benchmark,) = (each for each in BENCHMARKS if each.name == options.name)
    fault = ""
    try:
        for row in rows(benchmark, options.most, given):
            print(row.model_dump_json(), flush=True)
            fault = row.fault
    except TerminatedError:
        sys.exit(TERMINATED)
    sys.exit(USER_FAULT if fault else 0)


if __name__ == "__main__":
    main()
