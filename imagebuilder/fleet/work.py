"""What is done for a job, and how that goes in a process of its own: events and the end go through a
connection, as tuples that say what they are."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import TypeVar

from imagebuilder import build
from imagebuilder.errors import TerminatedError
from imagebuilder.fleet.attempt import attempted
from imagebuilder.fleet.job import BoardJob, HandedOver
from imagebuilder.host.children import peak_memory
from imagebuilder.host.once import Once
from imagebuilder.log import CommandRun, Event, Log, OutputLine, Progress

T = TypeVar("T")
Work = Callable[[BoardJob, Log], T]
_OURS = "imagebuilder."
_PROGRESS_SECONDS = 0.1  # downloads say more often how far they are, and nobody reads as quickly


@dataclass(frozen=True)
class WorkEnded:
    """What a child sends last. found: what the work gave, or a JobFailure. peak, given_up: as in Ended.
    loaded: modules of ours that it had to load."""

    found: object
    peak: int
    given_up: tuple[str, ...]
    loaded: tuple[str, ...]


def build_job(job: BoardJob, log: Log) -> HandedOver:
    """Build a job's image, unless there is one that is up to date. UserError as build_image()."""
    if job.twice or job.rebuild:
        return HandedOver.of(*(build.build_twice if job.twice else build.build_image)(job.request, log))
    current = build.bring_up_to_date(job.request, log)
    return HandedOver.of(current.place, current.result, current.state, current.rebuilt)


def work_in_child(
    connection: Connection, work: Work[object], job: BoardJob, folder: str, lines: bool
) -> None:
    """Do the work in a process of its own. folder: the current one of who asked. lines: whether programs, and
    what they print, are told of."""
    signal.signal(signal.SIGTERM, _terminate)
    before = set(sys.modules)
    sender = _Sender(connection, lines=lines)
    try:
        os.chdir(folder)
        once = Once()
        once.given_up.update(job.given_up)
        mine = replace(job, request=replace(job.request, once=once))
        found = attempted(lambda: work(mine, Log([sender])))
        new = tuple(sorted(once.given_up - set(job.given_up)))
        loaded = tuple(name for name in sys.modules if name not in before and name.startswith(_OURS))
        connection.send(WorkEnded(found, peak_memory(), new, loaded))
    except BrokenPipeError:
        raise TerminatedError from None  # who asked is gone


class _Sender:
    def __init__(self, connection: Connection, *, lines: bool) -> None:
        self._connection, self._lines, self._last = connection, lines, 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, CommandRun | OutputLine) and not self._lines:
            return
        if isinstance(event, Progress):
            now = time.monotonic()
            if now - self._last < _PROGRESS_SECONDS:
                return
            self._last = now
        self._connection.send(event)


def _terminate(_number: int, _frame: object) -> None:
    raise TerminatedError
