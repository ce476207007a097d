"""Progress for people: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType

from rich.console import Console
from rich.status import Status

from imagebuilder.cli.terminal import harmless
from imagebuilder.log import (
    CommandRun,
    Event,
    Log,
    Note,
    OutputLine,
    Progress,
    StepFinished,
    StepStarted,
    Warned,
)


def shown_command(argv: Sequence[str]) -> str:
    """A command line to read: in place of a program that is given as a word of it, how long that is."""
    words: list[str] = []
    for before, word in pairwise(("", *argv)):
        is_source = "\n" in word or (before == "-c" and len(word.split()) > 1)
        lines = len(word.strip().splitlines())
        source = f"[a program of {lines} line{'' if lines == 1 else 's'}]"
        words.append(source if is_source else shlex.quote(word))
    return " ".join(words)


class Reporter:
    """Shows events on standard error while its block runs. quiet: warnings only. verbose: also every
    command and its output."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._verbose = verbose
        self._status: Status | None = None
        self._step = ""

    def __enter__(self) -> Log:
        if self._console.is_terminal and not self._quiet and not self._verbose:
            self._status = self._console.status("starting")
            self._status.start()
        return Log([self.show])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Warned):
            self._line(f"warning: {event.text}")
        elif self._quiet:
            return
        elif isinstance(event, StepStarted):
            self._step = event.step
            self._live(event.step)
        elif isinstance(event, StepFinished):
            self._line(f"{event.step}: {event.seconds:.1f} s")
        elif isinstance(event, Note):
            self._line(event.text)
        elif isinstance(event, Progress):
            counted = "" if event.total is None else f" ({event.done}/{event.total})"
            self._live(f"{self._step}: {event.text}{counted}")
        elif self._verbose and isinstance(event, CommandRun):
            self._line(f"$ {shown_command(event.argv)}")
        elif self._verbose and isinstance(event, OutputLine):
            self._line(f"  {event.text}")

    def _line(self, text: str) -> None:
        self._console.print(harmless(text), markup=False)

    def _live(self, text: str) -> None:
        if self._status is not None:
            self._status.update(harmless(text).replace("[", "\\["))
