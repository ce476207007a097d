"""The images of one command, one after the other: what became of each, and how that is shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from imagebuilder.cli.guard import (
    INTERRUPTED,
    OUR_FAULT,
    TERMINATED,
    USER_FAULT,
    Failure,
    RefusedError,
    TerminatedError,
    attempted,
    error_lines,
)
from imagebuilder.errors import UserError

if TYPE_CHECKING:
    from imagebuilder.cli.options import Images
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.config.request import Request
    from imagebuilder.log import Log

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What became of one image. seconds: how long it took. found: what the work gave, which may be something
    although it was refused then."""

    config: str
    board: str
    state: Literal["done", "failed", "interrupted", "not run"] = "not run"
    seconds: float = 0.0
    found: T | None = None
    failure: Failure | None = None

    def ended(self, with_what: T | Failure, seconds: float) -> Outcome[T]:
        """The same after its work."""
        if not isinstance(with_what, Failure):
            return replace(self, state="done", seconds=seconds, found=with_what)
        error = with_what.error
        found = error.found if isinstance(error, RefusedError) else None
        return replace(self, state="failed", seconds=seconds, found=found, failure=with_what)


@dataclass(frozen=True)
class Outcomes(Generic[T]):
    """What became of all images of a command, in the order in which they were asked for. done: a word for
    what is done with one. stopped: the exit code of an interruption, None where there was none."""

    done: str
    all: tuple[Outcome[T], ...]
    stopped: int | None = None

    @property
    def found(self) -> list[T]:
        """What the work gave."""
        return [each.found for each in self.all if each.found is not None]

    def name(self, outcome: Outcome[T]) -> str:
        """What one is called beside the others: its board, with the config where there are several."""
        several = len({each.config for each in self.all}) > 1
        return "/".join(filter(None, (outcome.config if several or not outcome.board else "", outcome.board)))

    def failed(self, config: str, failure: Failure) -> Outcomes[T]:
        """The same, where what was done for the boards of a config could not be kept."""
        told = (
            replace(each, state="failed", failure=failure)
            if (each.config, each.state) == (config, "done")
            else each
            for each in self.all
        )
        return replace(self, all=tuple(told))

    def state(self, outcome: Outcome[T]) -> str:
        """Its state in one of the words `failed`, `interrupted`, `not run`, and that for what is done."""
        return self.done if outcome.state == "done" else outcome.state

    def entries(self, facts: Callable[[T], Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What `--json` prints of each. facts: of what the work gave."""
        return [
            {
                "config": each.config,
                "board": each.board,
                "state": self.state(each),
                "seconds": round(each.seconds, 3),
                **({} if each.found is None else facts(each.found)),
                **({} if each.failure is None else each.failure.facts()),
            }
            for each in self.all
        ]

    def error(self, found: object) -> RefusedError | None:
        """The one error of the command; None where all went well. found: what `--json` says besides."""
        failed = [(each, each.failure) for each in self.all if each.failure is not None]
        if len(self.all) == 1:
            return next((RefusedError(failure.error, found) for _, failure in failed), None)
        count = len(self.all)
        names = ", ".join(self.name(each) for each, _ in failed)
        said = f"{len(failed)} of {count} failed: {names}"
        left = sum(each.state in ("interrupted", "not run") for each in self.all)
        if self.stopped is not None:
            word = "terminated" if self.stopped == TERMINATED else "interrupted"
            kept = f"{sum(each.state == 'done' for each in self.all)} of {count} {self.done}, {left} not run"
            text = f"{word}: {kept}{f'; {said}' if failed else ''}"
            again = UserError(text, hint="what was finished stays; the same command can simply be run again")
            return RefusedError(again, found, code=self.stopped, kind="")
        if not failed:
            return None
        code = OUR_FAULT if any(failure.code == OUR_FAULT for _, failure in failed) else USER_FAULT
        rest = f"; {left} not run, because of --fail-fast" if left else ""
        hint = "above it is said what is wrong with each; what was finished stays"
        return RefusedError(UserError(f"{said}{rest}", hint=hint), found, code=code)


def of_each(
    images: Images, asked: Sequence[Request], work: Callable[[Request, Log], T], done: str
) -> Outcomes[T]:
    """Do the work for each image. Of several, one that fails is told at once and the others go on, unless
    images.fail_fast; an interruption ends it, and what was done is told. done: as for Outcomes."""
    outcomes = Outcomes[T](done, tuple(Outcome(each.config_name(), each.board) for each in asked))
    reporter = images.reporter()
    with reporter:
        if len(asked) > 1:
            return _Several(outcomes, reporter, asked, work).run(fail_fast=images.fail_fast)
        began = time.monotonic()
        try:
            ended: T | Failure = work(asked[0], reporter.log())
        except UserError as error:
            ended = Failure(error, USER_FAULT)
        return replace(outcomes, all=(outcomes.all[0].ended(ended, time.monotonic() - began),))


class _Several(Generic[T]):
    """Several images in the making."""

    def __init__(
        self,
        outcomes: Outcomes[T],
        reporter: Reporter,
        asked: Sequence[Request],
        work: Callable[[Request, Log], T],
    ) -> None:
        from imagebuilder.config.request import sharing

        self._outcomes, self._reporter, self._asked, self._work = outcomes, reporter, sharing(asked), work
        self._now = list(outcomes.all)

    def run(self, *, fail_fast: bool) -> Outcomes[T]:
        """All of them, in their order."""
        stopped: int | None = None
        try:
            for step in (self._check, self._do):
                for number, outcome in enumerate(self._now):
                    failed = any(each.state == "failed" for each in self._now)
                    if outcome.state == "not run" and not (fail_fast and failed):
                        step(number, self._outcomes.name(outcome))
        except KeyboardInterrupt:
            stopped = INTERRUPTED
        except TerminatedError:
            stopped = TERMINATED
        return replace(self._outcomes, all=tuple(self._now), stopped=stopped)

    def _check(self, number: int, name: str) -> None:
        """What is wrong in files that somebody wrote is told before the first image takes its minutes."""
        from imagebuilder.decide import load_inputs

        checked = attempted(lambda: load_inputs(self._asked[number]))
        if isinstance(checked, Failure):
            self._end(number, name, checked, 0.0)

    def _do(self, number: int, name: str) -> None:
        request, log = self._asked[number], self._reporter.log(name)
        log.note(f"{number + 1} of {len(self._now)}")
        self._now[number] = replace(self._now[number], state="interrupted")  # until it has ended
        began = time.monotonic()
        ended = attempted(lambda: self._work(request, log))
        self._end(number, name, ended, time.monotonic() - began)

    def _end(self, number: int, name: str, ended: T | Failure, seconds: float) -> None:
        self._now[number] = self._now[number].ended(ended, seconds)
        if isinstance(ended, Failure):
            for text in filter(None, (ended.trace, *error_lines(ended.error))):
                self._reporter.say(text.rstrip("\n"), name)
        else:
            self._reporter.log(name).note(f"{self._outcomes.done} in {seconds:.1f} s")


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

    entries = outcomes.entries(facts) if images.as_json else []
    error = outcomes.error(entries)
    if not images.as_json:
        if outcomes.found:
            text(outcomes.found)
        if len(outcomes.all) > 1:
            print()
            screen.table(("board", "state", "seconds", ""), _rows(outcomes, detail))
    elif error is None:
        show.as_json(entries)
    if error is not None:
        raise error


def _rows(outcomes: Outcomes[T], detail: Callable[[T], str]) -> list[tuple[str, str, str, str]]:
    def words(outcome: Outcome[T]) -> str:
        if outcome.failure is not None:
            return outcome.failure.error.message.partition("\n")[0]
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
