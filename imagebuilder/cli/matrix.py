"""`build.py matrix`: the boards of configs as jobs of a CI."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from imagebuilder.cli.guard import guarded
from imagebuilder.cli.image_options import board_requests
from imagebuilder.cli.options import BoardNames, ConfigNames, Everything, ReleaseWanted, Root, Told


@guarded
def matrix(
    told: Told,
    config: ConfigNames = None,
    everything: Everything = False,
    board: BoardNames = None,
    release: ReleaseWanted = None,
    form: Annotated[
        Literal["github", "gitlab", "json"],
        typer.Option(
            "--format",
            help="github: a line for $GITHUB_OUTPUT; gitlab: a child pipeline; json: a list of jobs.",
        ),
    ] = "github",
    project: Root = None,
) -> None:
    """Print a job for each tree that boards of configs are built with, as a CI takes them.

    Each says what follows `build`. Nothing is fetched.
    """
    from imagebuilder.fleet.job import jobs_of
    from imagebuilder.fleet.matrix import ci_jobs, matrix_text

    asked = board_requests(told, project, release, config or (), board, everything=everything)
    print(matrix_text(ci_jobs(jobs_of(asked)), form))
