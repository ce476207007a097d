"""`build.py bench`: the project's own benchmarks as one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.cli.guard import OUR_FAULT, USER_FAULT, guarded
from imagebuilder.cli.options import Shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imagebuilder.host.run import Completed
    from imagebuilder.log import Log
    from imagebuilder.model.benchmark import BenchmarkRow

_PROJECT = Path(__file__).resolve().parents[2]
_MODULE = "tests.benchmarks.table"


@guarded
def bench(
    shown: Shown,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="This one. Several are possible.")
    ] = None,
    most: Annotated[
        int, typer.Option("--most", min=1, max=1000, help="No work beyond this: 1, 10, 100 or 1000.")
    ] = 1000,
    imagebuilder: Annotated[
        str | None,
        typer.Option("--imagebuilder", metavar="TREE", help="Build and plan with this tree, not the kit."),
    ] = None,
    board: Annotated[
        str | None, typer.Option("--board", "-b", metavar="BOARD", help="That the tree builds for.")
    ] = None,
) -> None:
    """Measure this program itself: ratios, and how its times grow with their work.

    It wants a quiet machine, some minutes, and the project's tests. One that fails costs no other: what was
    found is shown, and the exit code is 2, or 1 where the fault is this program's.
    """
    from imagebuilder.cli import show
    from imagebuilder.errors import UserError

    known = _called("--list").stdout.splitlines()
    if wrong := next((name for name in only or () if name not in known), None):
        raise UserError(f"--only: there is no benchmark '{wrong}'", hint=f"there are {', '.join(known)}")
    options = ["--most", str(most)]
    if imagebuilder is not None:
        options += ["--imagebuilder", str(Path(imagebuilder).absolute())]
    elif board is not None:
        raise UserError("--board says what a tree builds for", hint="name the tree with --imagebuilder")
    if board is not None:
        options += ["--board", board]
    with shown.reporter() as log:
        wanted = [name for name in known if name in (only or known)]
        rows, codes = zip(*_found(wanted, options, log), strict=True)
    failed = [row.name for row in rows if row.fault]
    if not shown.as_json:
        _text(rows)
    elif not failed:
        show.as_json(rows)
    if failed:
        _fail(rows, failed, code=OUR_FAULT if OUR_FAULT in codes else USER_FAULT)


def _fail(rows: Sequence[BenchmarkRow], failed: Sequence[str], *, code: int) -> None:
    from imagebuilder.cli.guard import RefusedError
    from imagebuilder.errors import REPORT, UserError

    said = f"{len(failed)} of {len(rows)} failed: {', '.join(failed)}"
    hint = REPORT if code == OUR_FAULT else "beside each it is said what is wrong"
    raise RefusedError(UserError(said, hint=hint), rows, code=code)


def _found(names: Sequence[str], options: Sequence[str], log: Log) -> Iterator[tuple[BenchmarkRow, int]]:
    """Each benchmark's row, and how its process ended: 0, or as this command does for it."""
    from imagebuilder.host.run import how_it_ended
    from imagebuilder.model.benchmark import BenchmarkRow

    for number, name in enumerate(names):
        log.progress(f"measuring {name}", number, len(names))
        done = _called(name, *options)
        for line in done.stderr.splitlines():
            log.output(line)
        told = done.stdout.splitlines()
        row = BenchmarkRow.model_validate_json(told[-1]) if told else BenchmarkRow(name=name, what="")
        if done.code == 0 or row.fault:
            yield row, done.code
        else:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            log.warn(f"{name}:\n{done.stderr.rstrip()}")  # whoever reports it needs all of it
            yield row.model_copy(update={"fault": f"it {how_it_ended(done.code)}: {last}"}), OUR_FAULT


def _called(*argv: str) -> Completed:
    """The benchmarks' own program, ended, which finds the user's cache and temporary folder as this one does.
    UserError for an installed copy, which has none."""
    import os
    import sys

    from imagebuilder.errors import UserError
    from imagebuilder.host.run import run

    if not (_PROJECT / f"{_MODULE.replace('.', '/')}.py").is_file():
        raise UserError(
            "the benchmarks are among the project's tests, which an installed copy does not have",
            hint="run `bench` in a copy of the project's source",
        )
    return run(
        [sys.executable, "-m", _MODULE, *argv], cwd=_PROJECT, env={**os.environ}, check="--list" in argv
    )


def _text(rows: Sequence[BenchmarkRow]) -> None:
    """What grows as a table, its times as multiples of the first; below it ratios, steps that are left out,
    and what failed."""
    from imagebuilder.cli import screen

    growing = [row for row in rows if row.unit]
    scale = sorted(
        {point.work for row in growing for point in row.points}
        | {gap.work for row in growing for gap in row.left_out}
    )
    if growing and scale:
        screen.table(
            ["benchmark", "1 is", f"{scale[0]} takes", *(f"{each:,}" for each in scale[1:])],
            [[row.name, row.unit, *_cells(row, scale)] for row in growing],
        )
    ratios = [[row.name, ratio.what, f"{ratio.value:.3f}"] for row in rows for ratio in row.ratios]
    if ratios:
        screen.table(["benchmark", "ratio", "is"], ratios)
    notes = [(row.name, f"{gap.work:,} is left out: {gap.why}") for row in rows for gap in row.left_out]
    screen.facts([*notes, *((row.name, f"failed: {row.fault}") for row in rows if row.fault)])


def _cells(row: BenchmarkRow, scale: Sequence[int]) -> Iterator[str]:
    """A cell for each step of the scale: the first one's time, multiples of it, - where nothing was found."""
    found = {point.work: point.seconds for point in row.points}
    for work in scale:
        if work not in found:
            yield "-"
        elif work == scale[0]:
            yield f"{found[work] * 1000:.2f} ms"
        else:
            yield f"x {found[work] / found[scale[0]]:.1f}"
