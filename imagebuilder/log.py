"""Progress as events. Those who work emit them; observers (the command line, a file) show them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class StepStarted:
    """A step of the pipeline begins."""

    step: str


@dataclass(frozen=True)
class StepFinished:
    """A step ended without an error, after so many seconds."""

    step: str
    seconds: float


@dataclass(frozen=True)
class Progress:
    """What the current step is busy with; total is None where nobody knows how much there is."""

    text: str
    done: int = 0
    total: int | None = None


@dataclass(frozen=True)
class Note:
    """A fact worth a line."""

    text: str


@dataclass(frozen=True)
class Warned:
    """Something that the user should know although the work goes on."""

    text: str


@dataclass(frozen=True)
class CommandRun:
    """Another program is about to run."""

    argv: tuple[str, ...]


@dataclass(frozen=True)
class OutputLine:
    """A line that another program printed."""

    text: str


Event = StepStarted | StepFinished | Progress | Note | Warned | CommandRun | OutputLine
Observer = Callable[[Event], None]


class Log:
    """Hands every event to every observer. With none it is silent."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def emit(self, event: Event) -> None:
        """Show one event to all observers, in their order."""
        for observer in self._observers:
            observer(event)

    def also(self, observer: Observer) -> Log:
        """A log that tells one observer more."""
        return Log((*self._observers, observer))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step of the pipeline: started now, finished when the block ends without an error."""
        self.emit(StepStarted(name))
        began = time.monotonic()
        yield
        self.emit(StepFinished(name, time.monotonic() - began))

    def progress(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Say what the current step is busy with."""
        self.emit(Progress(text, done, total))

    def note(self, text: str) -> None:
        """State a fact."""
        self.emit(Note(text))

    def warn(self, text: str) -> None:
        """Tell the user about something that does not stop the work."""
        self.emit(Warned(text))

    def command(self, argv: Sequence[str]) -> None:
        """Say which program is about to run."""
        self.emit(CommandRun(tuple(argv)))

    def output(self, line: str) -> None:
        """Pass on a line that another program printed."""
        self.emit(OutputLine(line))
