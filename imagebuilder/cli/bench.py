"""`build.py bench`: the project's own benchmarks as one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.cli.guard import guarded
from imagebuilder.cli.options import Shown

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        typer.Option("--imagebuilder", metavar="TREE", help="Compare with a bare make of this tree, too."),
    ] = None,
) -> None:
    """Measure this program itself: ratios, and how its times grow with their work.

    It wants a quiet machine, some minutes, and the project's tests.
    """
    from imagebuilder.cli import show
    from imagebuilder.errors import UserError

    known = _run("--list")
    if wrong := next((name for name in only or () if name not in known), None):
        raise UserError(f"--only: there is no benchmark '{wrong}'", hint=f"there are {', '.join(known)}")
    given = [] if imagebuilder is None else ["--imagebuilder", str(Path(imagebuilder).absolute())]
    rows = _rows(_run("--most", str(most), *given, *dict.fromkeys(only or ())))
    if shown.as_json:
        show.as_json(rows)
    else:
        _text(rows)


def _run(*argv: str) -> list[str]:
    """The lines that the benchmarks say. UserError for an installed copy, which has none."""
    import sys

    from imagebuilder.errors import UserError
    from imagebuilder.host.run import clean_environment, run

    if not (_PROJECT / f"{_MODULE.replace('.', '/')}.py").is_file():
        raise UserError(
            "the benchmarks are among the project's tests, which an installed copy does not have",
            hint="run `bench` in a copy of the project's source",
        )
    return run(
        [sys.executable, "-m", _MODULE, *argv], cwd=_PROJECT, env=clean_environment()
    ).stdout.splitlines()


def _rows(lines: Sequence[str]) -> list[BenchmarkRow]:
    from imagebuilder.model.benchmark import BenchmarkRow

    return [BenchmarkRow.model_validate_json(line) for line in lines]


def _text(rows: Sequence[BenchmarkRow]) -> None:
    """What grows as a table, its times as multiples of the first; below it ratios, and what was not run."""
    from imagebuilder.cli import screen

    growing = [row for row in rows if row.points]
    if growing:
        work = [point.work for point in max((row.points for row in growing), key=len)]
        screen.table(
            ["benchmark", "1 is", f"{work[0]} takes", *(f"{each:,}" for each in work[1:])],
            [
                [
                    row.name,
                    row.unit,
                    f"{row.points[0].seconds * 1000:.2f} ms",
                    *(f"x {point.seconds / row.points[0].seconds:.1f}" for point in row.points[1:]),
                ]
                for row in growing
            ],
        )
    ratios = [(ratio.what, f"{ratio.value:.2f}") for row in rows for ratio in row.ratios]
    if ratios:
        screen.table(["ratio", "is"], [list(each) for each in ratios])
    screen.facts([(row.name, f"not run, because {row.why}") for row in rows if row.why])
