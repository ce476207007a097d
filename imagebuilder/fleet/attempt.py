"""What a piece of work gives, or why it gives nothing: a fault that one image meets costs no other."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from imagebuilder.errors import REPORT, UserError
from imagebuilder.fleet.job import JobFailure
from imagebuilder.host.fs import explained_error

T = TypeVar("T")


def attempted(work: Callable[[], T]) -> T | JobFailure:
    """What the work gives, or why it gives nothing; of that nothing of the work is kept."""
    try:
        return work()
    except UserError as error:
        return JobFailure.of(error)
    except Exception as error:  # noqa: BLE001 - a bug that one image meets costs no other
        told = explained_error(error) if isinstance(error, OSError) else None
        if told is not None:
            return JobFailure.of(told)
        bug = UserError(f"{type(error).__name__}: {error}", hint=REPORT)
        return JobFailure.of(bug, ours=True, trace=traceback.format_exc())
