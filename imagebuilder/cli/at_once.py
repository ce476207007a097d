"""`build`: which boards, how many at once, and what is written of their end besides the results."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from imagebuilder.cli.many import run_jobs
from imagebuilder.cli.terminal import harmless

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from imagebuilder.cli.image_options import BuiltImages
    from imagebuilder.fleet.job import BoardJob, HandedOver
    from imagebuilder.fleet.journal import Journal
    from imagebuilder.fleet.outcomes import Outcomes

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"  # the file that GitHub shows, of all commands of a step


def build_all(images: BuiltImages, *, twice: bool, rebuild: bool) -> Outcomes[HandedOver]:
    """Build what was asked for. twice: to be compared; rebuild: also what is up to date."""
    from imagebuilder.fleet.job import jobs_of
    from imagebuilder.fleet.journal import Journal
    from imagebuilder.fleet.outcomes import Outcomes
    from imagebuilder.fleet.processes import LocalProcesses
    from imagebuilder.fleet.room import Room
    from imagebuilder.fleet.work import build_job

    for file in filter(None, (images.summary, images.junit)):
        check_writable(file)  # before minutes are spent
    jobs = jobs_of(images.requests(), twice=twice, rebuild=rebuild)
    journal = Journal(jobs[0].request.output)
    if images.only_failed:
        jobs = list(journal.failed(jobs))
        if not jobs:
            print("all were built when they were last asked for: nothing to do", file=sys.stderr)
            return Outcomes("built", ())
    places = min(images.at_once, len(jobs))
    if images.scheduler is not None:
        outcomes = _elsewhere(images, images.scheduler, jobs, journal)
    elif places == 1:
        outcomes = run_jobs(images, jobs, build_job, "built", journal=journal)
    else:
        room = Room(dict(journal.boards))
        with LocalProcesses(build_job, places, room=room, lines=images.verbose) as scheduler:
            scheduler.ready()
            outcomes = run_jobs(images, jobs, build_job, "built", scheduler=scheduler, journal=journal)
    if journal.problem is not None:
        _warn(f"{journal.place} could not be written: {journal.problem}; --only-failed will not know of it")
    return outcomes


def _elsewhere(
    images: BuiltImages, address: str, jobs: Sequence[BoardJob], journal: Journal
) -> Outcomes[HandedOver]:
    """On the workers of a cluster. HostError."""
    from imagebuilder.fleet.extra import require_dask

    require_dask()
    from imagebuilder.fleet.cluster import Cluster
    from imagebuilder.fleet.work import build_job

    with Cluster(address) as cluster:
        return run_jobs(images, jobs, build_job, "built", scheduler=cluster, journal=journal)


def write_reports(images: BuiltImages, outcomes: Outcomes[HandedOver]) -> None:
    """The files that --summary and --junit name. UserError."""
    from imagebuilder.fleet.junit import junit_xml
    from imagebuilder.fleet.summary import markdown

    if images.summary is not None:
        write_file(images.summary, markdown(outcomes), added=_is_of_step(images.summary))
    if images.junit is not None:
        write_file(images.junit, junit_xml(outcomes))


def _is_of_step(file: Path) -> bool:
    """Whether GitHub shows it: what other commands wrote there stays."""
    named = os.environ.get(STEP_SUMMARY, "")
    return bool(named) and os.path.realpath(named) == os.path.realpath(file)


def check_writable(file: Path) -> None:
    """UserError for what cannot become a file, or is something else already; its folder is made."""
    from imagebuilder.errors import UserError
    from imagebuilder.host.fs import make_folder

    try:
        make_folder(file.parent)
        if not os.access(file.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(file.stat().st_mode):
                raise UserError(f"{file} is no file that could be written anew")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from error


def write_file(file: Path, text: str, *, added: bool = False) -> None:
    """Write a file whole, or add to it. HostError."""
    from imagebuilder.host.fs import disk_errors_explained
    from imagebuilder.host.handover import write_whole

    with disk_errors_explained(file.parent):
        if added:
            with file.open("a", encoding="utf-8") as stream:
                stream.write(text)
        else:
            write_whole(file.resolve(), text.encode())


def _warn(text: str) -> None:
    print(f"warning: {harmless(text)}", file=sys.stderr)
