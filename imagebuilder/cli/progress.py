"""Progress for people: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.status import Status

from imagebuilder.cli.screen import complaint
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

if TYPE_CHECKING:
    from imagebuilder.cli.board_table import BoardTable


def shown_command(argv: Sequence[str]) -> str:
    """A command line to read: in place of a program that is given as a word of it, how long that is."""
    words: list[str] = []
    for before, word in pairwise(("", *argv)):
        is_source = "\n" in word or (before == "-c" and len(word.split()) > 1)
        lines = len(word.strip().splitlines())
        source = f"[a program of {lines} line{'' if lines == 1 else 's'}]"
        words.append(source if is_source else shlex.quote(word))
    return " ".join(words)


def _about(text: str, about: str) -> str:
    return "\n".join(f"{about}: {line}" if about else line for line in text.split("\n"))


class Reporter:
    """Shows events on standard error while its block runs. quiet: warnings only. verbose: also every
    command and its output."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True, emoji=False)
        self._quiet = quiet
        self._verbose = verbose
        self._status: Status | None = None
        self._several: int | None = None
        self._table: BoardTable | None = None
        self._step = ""

    def of_several(self, count: int) -> Reporter:
        """The same for so many images, of which several come along at once: a terminal has a table."""
        self._several = count
        return self

    def __enter__(self) -> Log:
        live = self._console.is_terminal and not self._quiet and not self._verbose
        if live and self._several is not None:
            from imagebuilder.cli.board_table import BoardTable

            self._table = BoardTable(self._console, self._several)
            self._table.start()
        elif live:
            self._status = self._console.status("starting")
            self._status.start()
        return self.log()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
        if self._table is not None:
            self._table.stop()
            self._table = None

    def log(self, about: str = "") -> Log:
        """What is emitted there is shown. about: what each line begins with, one of several boards."""
        return Log([partial(self.show, about=about)])

    def show(self, event: Event, about: str = "") -> None:
        """Show one event."""
        if isinstance(event, Warned):
            self.say(f"warning: {event.text}", about)
        elif self._quiet:
            return
        elif self._table is not None and not isinstance(event, Note):
            self._table.show(event, about)
        elif isinstance(event, StepStarted):
            self._step = event.step
            self._live(event.step, about)
        elif isinstance(event, StepFinished):
            self.say(f"{event.step}: {event.seconds:.1f} s", about)
        elif isinstance(event, Note):
            self.say(event.text, about)
        elif isinstance(event, Progress):
            counted = "" if event.total is None else f" ({event.done}/{event.total})"
            self._live(f"{self._step}: {event.text}{counted}", about)
        elif self._verbose and isinstance(event, CommandRun):
            self._print(f"$ {shown_command(event.argv)}", about)
        elif self._verbose and isinstance(event, OutputLine):
            self._print(f"  {event.text}", about)

    def begun(self, about: str, which: str) -> None:
        """One of several begins. which: `2 of 12`."""
        if self._table is not None:
            self._table.begun(about)
        else:
            self.show(Note(which), about)

    def waits(self, about: str, text: str) -> None:
        """One of several cannot begin yet. text: what it waits for."""
        if self._table is not None:
            self._table.waits(about, text)
        else:
            self.show(Note(f"waits for {text}"), about)

    def ended(self, about: str, state: str, text: str) -> None:
        """One of several has ended. state: a word; text: what is said of it, "" where that has been."""
        if self._table is not None:
            self._table.ended(about, state)
        if text:
            self.show(Note(text), about)

    def say(self, text: str, about: str = "") -> None:
        """Show a text, each line of it with what it is about, folded on a terminal."""
        for line in complaint(_about(text, about)):
            self._console.print(line, markup=False)

    def _print(self, text: str, about: str) -> None:
        """Show what a program is given and says, as it is."""
        self._console.print(harmless(_about(text, about)), markup=False)

    def _live(self, text: str, about: str) -> None:
        if self._status is not None:
            whole = f"{about}: {text}" if about else text
            self._status.update(harmless(whole).replace("[", "\\["))
