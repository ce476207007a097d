"""`build.py compare`: one config for one board with every Python, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.cli.guard import guarded
from imagebuilder.cli.image_options import ComparedImages, of_one_board

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagebuilder.compare import Candidate
    from imagebuilder.fleet.job import HandedOver
    from imagebuilder.fleet.outcomes import Outcomes
    from imagebuilder.model.variant_table import VariantRow


@guarded
def compare(
    images: ComparedImages,
    variants: Annotated[
        str | None,
        typer.Option(
            "--variants",
            metavar="NAME,…",
            help="Which ones; `+shake` with a name cuts the standard library: base,light+shake.",
        ),
    ] = None,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Build nothing: only what can be known before.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write the table there with pictures.")
    ] = None,
) -> None:
    """Show what every Python costs and gives: packages, flash, start, memory, modules.

    Each variant is planned; those that fit are built and tried, and the images are not kept. What the release
    or the board does not offer is a row that says why.
    """
    from imagebuilder.cli import show, show_variants
    from imagebuilder.cli.at_once import check_writable, write_file
    from imagebuilder.cli.many import command_error
    from imagebuilder.compare import planned_variants, table_of
    from imagebuilder.config.python_form import COMPARED, parse_forms
    from imagebuilder.errors import UserError
    from imagebuilder.report.variants_page import variants_page

    if only_plan and images.at_once != 1:
        raise UserError("-j says how many are built at once, and --plan builds none", hint="leave one out")
    words = COMPARED if variants is None else tuple(filter(None, map(str.strip, variants.split(","))))
    forms = parse_forms(words)
    if page is not None:
        check_writable(page)  # before minutes are spent
    with images.asked() as (asked, log):
        request = replace(of_one_board(asked), sandbox=not images.no_sandbox)
        candidates = list(planned_variants(request, forms, log))
    rows, outcomes = [each.row for each in candidates], None
    if not only_plan and any(each.request for each in candidates):
        rows, outcomes = _built(images, candidates)
    table = table_of(request, candidates, rows)
    if page is not None:
        write_file(page, variants_page(table))
    error = (outcomes and command_error(outcomes, table)) or show_variants.failure(table)
    if not images.as_json:
        show_variants.text(table)
    elif error is None:
        show.as_json(table)
    if error is not None:
        raise error


def _built(
    images: ComparedImages, candidates: Sequence[Candidate]
) -> tuple[list[VariantRow], Outcomes[HandedOver]]:
    """The rows with what was measured in images that are built for it, and removed again."""
    from imagebuilder.cli.many import run_jobs
    from imagebuilder.compare import measured_row, shown_error, unbuilt_row
    from imagebuilder.fleet.job import BoardJob
    from imagebuilder.fleet.processes import LocalProcesses
    from imagebuilder.fleet.room import Room
    from imagebuilder.fleet.work import build_job
    from imagebuilder.host.handover import temporary_folder

    wanted = {number: each.request for number, each in enumerate(candidates) if each.request is not None}
    first = next(iter(wanted.values()))
    rows = [each.row for each in candidates]
    with temporary_folder("scratch", first.cache) as folder:
        jobs = [
            BoardJob(number, replace(request, output=folder / str(number)), request.config_name())
            for number, request in wanted.items()
        ]
        places = min(images.at_once, len(jobs))
        if places == 1:
            outcomes = run_jobs(images, jobs, build_job, "built")
        else:
            with LocalProcesses(build_job, places, room=Room(), lines=images.verbose) as scheduler:
                scheduler.ready()
                outcomes = run_jobs(images, jobs, build_job, "built", scheduler=scheduler)
        for how in outcomes.all:
            row = rows[how.job.number]
            if how.found is not None:
                rows[how.job.number] = measured_row(row, how.found.result())
            else:
                why = "" if how.failure is None else shown_error(how.failure.message)
                rows[how.job.number] = unbuilt_row(row, why, failed=how.failure is not None)
    return rows, outcomes
