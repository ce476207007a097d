"""The images of one command: how they are run, what is shown of them meanwhile, and what of their end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from imagebuilder.cli.guard import (
    INTERRUPTED,
    OUR_FAULT,
    TERMINATED,
    USER_FAULT,
    RefusedError,
    error_facts,
    error_lines,
)
from imagebuilder.errors import TerminatedError, UserError

if TYPE_CHECKING:
    from imagebuilder.cli.image_options import Images
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.config.request import Request
    from imagebuilder.fleet.job import BoardJob, Ended, JobFailure
    from imagebuilder.fleet.journal import Journal
    from imagebuilder.fleet.outcomes import Outcomes
    from imagebuilder.fleet.scheduler import JobEvent, Scheduler
    from imagebuilder.fleet.work import Work
    from imagebuilder.log import Log

T = TypeVar("T")


class Shows(Protocol):
    """The options of a command that works on images: how it shows that, and whether a failure ends it."""

    @property
    def fail_fast(self) -> bool: ...

    def reporter(self) -> Reporter: ...


def of_each(
    images: Images, asked: Sequence[Request], work: Callable[[Request, Log], T], done: str
) -> Outcomes[T]:
    """Do the work for each image, one after the other: see run_jobs(). done: a word for what is done then."""
    from imagebuilder.fleet.job import jobs_of

    return run_jobs(images, jobs_of(asked), lambda job, log: work(job.request, log), done)


def run_jobs(
    images: Shows,
    jobs: Sequence[BoardJob],
    work: Work[T],
    done: str,
    *,
    scheduler: Scheduler[T] | None = None,
    journal: Journal | None = None,
) -> Outcomes[T]:
    """Do the work for each job and show how that goes. Of several, one that fails is told at once and the
    others go on, unless images.fail_fast; an interruption ends them, and what was done is told.

    scheduler: who runs them, several at once; by default they are done here, one after the other. done,
    journal: as for fleet.outcomes.run_all().
    """
    from imagebuilder.fleet.in_turn import InTurn
    from imagebuilder.fleet.outcomes import run_all

    reporter = images.reporter()
    if len(jobs) == 1 and scheduler is None:
        with reporter:
            return _alone(jobs[0], work, reporter, done, journal)
    with reporter if scheduler is None else reporter.of_several(len(jobs)):
        shown = _Shown[T](jobs, reporter, done)
        runs = scheduler or InTurn(work)
        return run_all(jobs, runs, shown, done, fail_fast=images.fail_fast, journal=journal)


def _alone(
    job: BoardJob, work: Work[T], reporter: Reporter, done: str, journal: Journal | None
) -> Outcomes[T]:
    """One image. Its errors and an interruption are the command's own."""
    from imagebuilder.fleet.job import JobFailure, ended
    from imagebuilder.fleet.outcomes import Outcomes, size_of

    if journal is not None:
        journal.begin([job])
    began = time.monotonic()
    try:
        found: T | JobFailure = work(job, reporter.log())
    except UserError as error:
        found = JobFailure.of(error)
    how = ended(job, found, time.monotonic() - began)
    if journal is not None:
        journal.ended(how, size_of(how))
    return Outcomes(done, (how,))


class _Shown(Generic[T]):
    """Shows how several images come along: a Watcher (fleet/outcomes.py)."""

    def __init__(self, jobs: Sequence[BoardJob], reporter: Reporter, done: str) -> None:
        from imagebuilder.fleet.outcomes import names_of

        self._reporter, self._done = reporter, done
        self._names = names_of(jobs)
        self._numbers = {job.number: number for number, job in enumerate(jobs, 1)}

    def told(self, job: BoardJob, event: JobEvent) -> None:
        """An event of a job."""
        from imagebuilder.fleet.job import Begun, Waits

        name = self._names[job.number]
        if isinstance(event, Begun):
            self._reporter.begun(name, f"{self._numbers[job.number]} of {len(self._numbers)}")
        elif isinstance(event, Waits):
            self._reporter.waits(name, event.text)
        else:
            self._reporter.show(event, name)

    def ended(self, how: Ended[T]) -> None:
        """What became of a job."""
        from imagebuilder.fleet.outcomes import state_of

        name = self._names[how.job.number]
        if how.failure is not None:
            for text in filter(None, (how.failure.trace, *error_lines(how.failure.error()))):
                self._reporter.say(text.rstrip("\n"), name)
        state = state_of(how, self._done)
        self._reporter.ended(name, state, f"{state} in {how.seconds:.1f} s" if how.state == "done" else "")


def entries(outcomes: Outcomes[T], facts: Callable[[T], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What `--json` prints of each. facts: of what the work gave."""
    return [
        {
            "config": each.job.config,
            "board": each.job.board,
            "state": outcomes.state(each),
            "seconds": round(each.seconds, 3),
            **({} if each.found is None else facts(each.found)),
            **({} if each.failure is None else _failure_facts(each.failure)),
        }
        for each in outcomes.all
    ]


def _failure_facts(failure: JobFailure) -> dict[str, object]:
    return {**error_facts(failure.error()), "exit_code": OUR_FAULT if failure.ours else USER_FAULT}


def command_error(outcomes: Outcomes[T], found: object) -> RefusedError | None:
    """The one error of the command; None where all went well. found: what `--json` says besides."""
    if len(outcomes.all) == 1 and outcomes.stopped is None:
        failure = outcomes.all[0].failure
        if failure is None:
            return None
        return RefusedError(failure.error(), found, code=OUR_FAULT if failure.ours else USER_FAULT)
    count, failed, left = len(outcomes.all), outcomes.failed, outcomes.left
    said = f"{len(failed)} of {count} failed: {', '.join(map(outcomes.name, failed))}"
    if outcomes.stopped is not None:
        terminated = outcomes.stopped is TerminatedError
        kept = f"{sum(each.state == 'done' for each in outcomes.all)} of {count} {outcomes.done}"
        text = f"{'terminated' if terminated else 'interrupted'}: {kept}, {left} not run"
        again = "what was finished stays; the same command can simply be run again"
        error = UserError(f"{text}{f'; {said}' if failed else ''}", hint=again)
        return RefusedError(error, found, code=TERMINATED if terminated else INTERRUPTED, kind="")
    if not failed:
        return None
    ours = any(each.failure is not None and each.failure.ours for each in failed)
    rest = f"; {left} not run, because of --fail-fast" if left else ""
    hint = "above it is said what is wrong with each; what was finished stays"
    error = UserError(f"{said}{rest}", hint=hint)
    return RefusedError(error, found, code=OUR_FAULT if ours else USER_FAULT)


def show_each(
    images: Images,
    outcomes: Outcomes[T],
    *,
    facts: Callable[[T], Mapping[str, Any]],
    text: Callable[[list[T]], None],
    detail: Callable[[T], str],
) -> None:
    """Print what was found, of several with a table of what became of each, or all of it as one document, and
    raise the command's error if there is one.

    facts: for machines; text: prints for people what the work gave; detail: a few words for the table.
    """
    from imagebuilder.cli import screen, show

    found = entries(outcomes, facts) if images.as_json else []
    error = command_error(outcomes, found)
    if not images.as_json:
        if outcomes.found:
            text(outcomes.found)
        if len(outcomes.all) > 1:
            print()
            screen.table(("board", "state", "seconds", ""), _rows(outcomes, detail))
    elif error is None:
        show.as_json(found)
    if error is not None:
        raise error


def _rows(outcomes: Outcomes[T], detail: Callable[[T], str]) -> list[tuple[str, str, str, str]]:
    def words(outcome: Ended[T]) -> str:
        if outcome.failure is not None:
            return outcome.failure.message.partition("\n")[0]
        return "" if outcome.found is None else detail(outcome.found)

    return [
        (
            outcomes.name(each),
            outcomes.state(each),
            f"{each.seconds:.1f}" if each.state in ("done", "failed") else "",
            words(each),
        )
        for each in outcomes.all
    ]
