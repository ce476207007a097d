"""Jobs in this process, one after the other: what one has had of a tree, a server or a secret, the others
take."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Generic, TypeVar

from imagebuilder.fleet.attempt import attempted
from imagebuilder.fleet.job import Begun, BoardJob, Ended, ended
from imagebuilder.fleet.scheduler import Tell
from imagebuilder.fleet.work import Work
from imagebuilder.host.once import Once
from imagebuilder.log import Event, Log

T = TypeVar("T")


class InTurn(Generic[T]):
    """A Scheduler (scheduler.py). work: any function. An interruption is raised out of run(); what is
    cancelled has to wait until it begins."""

    def __init__(self, work: Work[T]) -> None:
        self._work = work
        self._stopping = False
        self._cancelled: set[int] = set()

    def run(self, jobs: Sequence[BoardJob], tell: Tell) -> Generator[Ended[T], None, None]:
        """As Scheduler.run()."""
        once, left = Once(), []
        for job in jobs:
            if self._stopping or job.number in self._cancelled:
                left.append(job)
                continue
            told = _Told(job, tell)
            mine = replace(job, request=replace(job.request, once=once))
            tell(job, Begun())
            began = time.monotonic()
            found = attempted(partial(self._work, mine, Log([told])))
            if told.broken is not None:
                raise told.broken
            yield ended(job, found, time.monotonic() - began)
        for job in left:
            yield Ended(job, "not run")

    def stop_starting(self) -> None:
        """As Scheduler.stop_starting()."""
        self._stopping = True

    def cancel(self, job: BoardJob | None = None) -> None:
        """As Scheduler.cancel(), of what has not begun."""
        if job is None:
            self._stopping = True
        else:
            self._cancelled.add(job.number)


class _Told:
    """Tells of a job's events. broken: what went wrong in that, which is no fault of the job's."""

    def __init__(self, job: BoardJob, tell: Tell) -> None:
        self._job, self._tell = job, tell
        self.broken: OSError | None = None

    def __call__(self, event: Event) -> None:
        try:
            self._tell(self._job, event)
        except OSError as error:
            self.broken = error
            raise
