"""`build.py matrix`: the boards of configs as jobs of a CI."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from imagebuilder.cli.guard import guarded
from imagebuilder.cli.options import BoardNames, ConfigNames, Everything, ReleaseWanted, Root, open_library


@guarded
def matrix(
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
    from imagebuilder.config.request import requests
    from imagebuilder.errors import UserError
    from imagebuilder.fleet.job import jobs_of
    from imagebuilder.fleet.matrix import ci_jobs, matrix_text

    if everything and board:
        raise UserError("--all and --board say two things", hint="give one of them")
    asked = requests(open_library(project).root, config or (), board=board, everything=everything)
    if release is not None:
        asked = [each.for_release(release) for each in asked]
    print(matrix_text(ci_jobs(jobs_of(asked)), form))
