"""One image that somebody wants, as it goes to another process or machine, and how that ended, as it comes
back. Both can be pickled; neither holds what only one process has."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar, cast

from imagebuilder.config.request import Request
from imagebuilder.errors import Fault, FaultsError, FoundError, UserError
from imagebuilder.model.result import Result
from imagebuilder.unchanged import State as BuiltState

T = TypeVar("T")
State = Literal["done", "failed", "interrupted", "not run"]


@dataclass(frozen=True)
class BoardJob:
    """What a board's request says; jobs_of() makes them. number: by which events and cancelling name it,
    unique in one run. config: its own name, also where its file was given. twice: to be built twice, and
    compared; rebuild: also where what is there is up to date. given_up: servers that did not answer other
    jobs, and are not asked."""

    number: int
    request: Request
    config: str
    twice: bool = False
    rebuild: bool = False
    given_up: tuple[str, ...] = ()

    @property
    def board(self) -> str:
        """The board's name; "" where its config's faults keep it from being told."""
        return self.request.board

    def __getstate__(self) -> dict[str, object]:
        """Without what requests of one process share."""
        return {**self.__dict__, "request": replace(self.request, once=None)}


@dataclass(frozen=True)
class Begun:
    """What is told of a job first: it begins now."""


@dataclass(frozen=True)
class Waits:
    """What is told of the next job where there is no room for it: what it waits for, in words."""

    text: str


@dataclass(frozen=True)
class HandedOver:
    """What a build gave. folder: of its result; packed: the result, as of() makes it: another build, or
    `clean`, can have been at the folder by the time that somebody asks. state: what had to be done for it;
    rebuilt: why what was there did not do."""

    folder: Path
    packed: bytes
    state: BuiltState = "built"
    rebuilt: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, folder: Path, result: Result, state: BuiltState = "built", rebuilt: tuple[str, ...] = ()
    ) -> HandedOver:
        """The same with the result packed: 5 KB in place of 160, of each of a thousand boards."""
        return cls(folder, zlib.compress(result.model_dump_json().encode()), state, rebuilt)

    def result(self) -> Result:
        """What was in result.json when it was handed over."""
        return Result.model_validate_json(zlib.decompress(self.packed))


@dataclass(frozen=True)
class JobFailure:
    """Why a job failed: what a UserError says, in values that can be pickled (several of its kinds cannot).
    ours: a fault of this program's, or its process was killed. trace: where in the program, of such a fault.
    found: what the work found out all the same (FoundError)."""

    message: str
    hint: str | None = None
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    ours: bool = False
    trace: str = ""
    found: object = None

    @classmethod
    def of(cls, error: UserError, *, ours: bool = False, trace: str = "") -> JobFailure:
        """What an error says."""
        faults = error.faults if isinstance(error, FaultsError | FoundError) else ()
        found = error.found if isinstance(error, FoundError) else None
        notes = tuple(getattr(error, "__notes__", ()))
        return cls(error.message, error.hint, notes, faults, ours, trace, found)

    def error(self) -> UserError:
        """An error that says the same."""
        error = FaultsError(self.faults) if self.faults else UserError(self.message, hint=self.hint)
        for note in self.notes:
            error.add_note(note)
        return error


@dataclass(frozen=True)
class Ended(Generic[T]):
    """How a job ended. found: what the work gave, None unless it is done, or failed for what it found.
    failure: why it failed. seconds: from its start. step: the one it was in, where it did not reach its end.
    peak: bytes of memory that its process had at most, 0 where nobody measured. given_up: servers that did
    not answer it. where: the machine or process that had it, "" for this machine."""

    job: BoardJob
    state: State
    found: T | None = None
    failure: JobFailure | None = None
    seconds: float = 0.0
    step: str = ""
    peak: int = 0
    given_up: tuple[str, ...] = ()
    where: str = ""


def jobs_of(asked: Sequence[Request], *, twice: bool = False, rebuild: bool = False) -> list[BoardJob]:
    """A job for each request, numbered from 0."""
    names: dict[str, str] = {}
    for each in asked:
        if each.config not in names:
            names[each.config] = each.config_name()
    return [BoardJob(number, each, names[each.config], twice, rebuild) for number, each in enumerate(asked)]


def ended(job: BoardJob, found: T | JobFailure, seconds: float) -> Ended[T]:
    """How a job ended that gave something, or failed."""
    if isinstance(found, JobFailure):
        return Ended(job, "failed", cast("T | None", found.found), found, seconds)
    return Ended(job, "done", found, None, seconds)
