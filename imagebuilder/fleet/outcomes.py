"""All images of one command, from the first check of what somebody wrote to what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Generic, Protocol, TypeVar

from imagebuilder.errors import TerminatedError
from imagebuilder.fleet.attempt import attempted
from imagebuilder.fleet.job import Begun, BoardJob, Ended, HandedOver, JobFailure, ended
from imagebuilder.fleet.journal import Journal
from imagebuilder.fleet.scheduler import JobEvent, Scheduler
from imagebuilder.host.walk import walk

T = TypeVar("T")


@dataclass(frozen=True)
class Outcomes(Generic[T]):
    """What became of all images of a command, in the order in which they were asked for. done: a word for
    what is done with one. stopped: what ended it before its time."""

    done: str
    all: tuple[Ended[T], ...]
    stopped: type[KeyboardInterrupt] | type[TerminatedError] | None = None

    @property
    def found(self) -> list[T]:
        """What the work gave."""
        return [each.found for each in self.all if each.found is not None]

    @property
    def failed(self) -> list[Ended[T]]:
        """Those that failed."""
        return [each for each in self.all if each.state == "failed"]

    @property
    def left(self) -> int:
        """How many were begun and not ended, or not begun."""
        return sum(each.state in ("interrupted", "not run") for each in self.all)

    @cached_property
    def names(self) -> Mapping[int, str]:
        """What each is called beside the others: see names_of()."""
        return names_of([each.job for each in self.all])

    def name(self, outcome: Ended[T]) -> str:
        """What one of them is called."""
        return self.names[outcome.job.number]

    def state(self, outcome: Ended[T]) -> str:
        """Its state in a word: see state_of()."""
        return state_of(outcome, self.done)

    def lost(self, config: str, failure: JobFailure) -> Outcomes[T]:
        """The same, where what was done for the boards of a config could not be kept."""
        told = (
            replace(each, state="failed", failure=failure)
            if (each.job.config, each.state) == (config, "done")
            else each
            for each in self.all
        )
        return replace(self, all=tuple(told))


def state_of(outcome: Ended[T], done: str) -> str:
    """`failed`, `interrupted`, `not run`, or for what is done that word, or the one that its work has for it
    (HandedOver.state)."""
    if outcome.state != "done":
        return outcome.state
    return outcome.found.state if isinstance(outcome.found, HandedOver) else done


def names_of(jobs: Sequence[BoardJob]) -> dict[int, str]:
    """What each job is called beside the others, by its number: its board, with the config where there are
    several; or its Python, where that is not its config's."""
    several = len({job.config for job in jobs}) > 1
    return {
        job.number: job.request.python.name
        if job.request.python is not None
        else "/".join(filter(None, (job.config if several or not job.board else "", job.board)))
        for job in jobs
    }


class Watcher(Protocol[T]):
    """Who is told how it goes."""

    def told(self, job: BoardJob, event: JobEvent) -> None:
        """Of one event of a job."""
        ...

    def ended(self, how: Ended[T]) -> None:
        """Of a job's end; of what was not run nothing is said."""
        ...


def run_all(
    jobs: Sequence[BoardJob],
    scheduler: Scheduler[T],
    watcher: Watcher[T],
    done: str,
    *,
    fail_fast: bool = False,
    journal: Journal | None = None,
) -> Outcomes[T]:
    """Run the jobs and tell what became of each. One that fails costs no other, unless fail_fast: then
    nothing more is begun. An interruption ends what runs, and what had ended by then is told."""
    return _Command(jobs, scheduler, watcher, done, fail_fast=fail_fast, journal=journal).run()


class _Command(Generic[T]):
    def __init__(
        self,
        jobs: Sequence[BoardJob],
        scheduler: Scheduler[T],
        watcher: Watcher[T],
        done: str,
        *,
        fail_fast: bool,
        journal: Journal | None,
    ) -> None:
        self._jobs, self._scheduler, self._watcher, self._done = jobs, scheduler, watcher, done
        self._fail_fast, self._journal = fail_fast, journal
        self._now: dict[int, Ended[T]] = {job.number: Ended(job, "not run") for job in jobs}

    def run(self) -> Outcomes[T]:
        stopped: type[KeyboardInterrupt] | type[TerminatedError] | None = None
        try:
            if self._journal is not None:
                self._journal.begin(self._jobs)
            good = [job for job in self._jobs if self._is_good(job)]
            if not self._is_over():
                with closing(self._scheduler.run(good, self._told)) as all_ended:
                    for how in all_ended:
                        self._end(how)
        except (KeyboardInterrupt, TerminatedError) as error:
            stopped = type(error)
        return Outcomes(self._done, tuple(self._now.values()), stopped)

    def _is_over(self) -> bool:
        return self._fail_fast and any(each.state == "failed" for each in self._now.values())

    def _is_good(self, job: BoardJob) -> bool:
        """What is wrong in files that somebody wrote is told before the first image takes its minutes."""
        from imagebuilder.decide import load_inputs  # noqa: PLC0415

        if self._is_over():
            return False
        checked = attempted(partial(load_inputs, job.request))
        if isinstance(checked, JobFailure):
            self._end(ended(job, checked, 0.0))
            return False
        return True

    def _told(self, job: BoardJob, event: JobEvent) -> None:
        if isinstance(event, Begun):
            self._now[job.number] = replace(self._now[job.number], state="interrupted")  # until it has ended
        self._watcher.told(job, event)

    def _end(self, how: Ended[T]) -> None:
        self._now[how.job.number] = how
        if how.state == "not run":
            return
        if self._journal is not None:
            self._journal.ended(how, size_of(how))
        self._watcher.ended(how)
        if self._is_over():
            self._scheduler.stop_starting()


def size_of(how: Ended[T]) -> int:
    """Bytes on disk of the result that was handed over; 0 where there is none."""
    if not isinstance(how.found, HandedOver):
        return 0
    with suppress(OSError):  # another build has just put its own there
        return sum(item.status.st_blocks * 512 for item in walk(how.found.folder) if not item.is_folder)
    return 0
