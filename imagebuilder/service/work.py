"""What is done for one request, in the process of the scheduler's that has it."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.ask import plan_and_budgets
from imagebuilder.errors import UserError
from imagebuilder.fleet.job import BoardJob, HandedOver
from imagebuilder.fleet.work import build_job
from imagebuilder.host.files import read_plain
from imagebuilder.log import Log
from imagebuilder.service.asked import BuildRequest
from imagebuilder.service.documents import version_fault
from imagebuilder.service.recipe import ASKED


class VersionsError(UserError):
    """The packages that a client wants are not to be had in the versions that it wants."""


def build_asked(job: BoardJob, log: Log) -> HandedOver:
    """Build a request's image, of a recipe (recipe.py). VersionsError, before anything is built, where the
    plan has other versions than the client wants; what a build raises."""
    asked = BuildRequest.model_validate_json(read_plain(Path(job.request.config).with_name(ASKED)))
    if asked.versions:
        plan, _ = plan_and_budgets(job.request, log)
        there = {each.package.plain_name: each.version for each in plan.install}
        fault = version_fault(asked.versions, there)
        if fault is not None:
            raise VersionsError(fault)
    return build_job(job, log)
