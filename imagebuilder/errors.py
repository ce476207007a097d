"""What a user can put right. Only the command line turns these into exit codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

REPORT = "this is a fault of the builder, not yours: please report it with the lines above"


class UserError(Exception):
    """Something the user can put right; the command line exits with 2.

    message: what is wrong, naming the file, key, image or package.
    hint: what to do next, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong in one file. line counts from 1; None where the fault has no line."""

    file: str
    line: int | None
    key: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f" {self.key}:" if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}:{key} {self.message}{hint}"


class FaultsError(UserError):
    """All faults that were found in the user's files, reported together."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        once = dict.fromkeys(faults)
        self.faults = tuple(sorted(once, key=lambda fault: (fault.file, fault.line or 0, fault.key)))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class HostError(UserError):
    """This machine lacks something: a program, a right, or room on its disk."""


class FoundError(UserError):
    """What was found is an error. found: the facts, which are told in any case."""

    def __init__(self, error: UserError, found: object) -> None:
        super().__init__(error.message, hint=error.hint)
        self.found = found
        self.faults = error.faults if isinstance(error, FaultsError) else ()
        for note in getattr(error, "__notes__", ()):
            self.add_note(note)


class TerminatedError(BaseException):
    """SIGTERM arrived, or the terminal is gone: unwind, so that programs are stopped and folders removed."""
