"""Progress for people: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
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
        return self.log()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def log(self, about: str = "") -> Log:
        """What is emitted there is shown. about: what each line begins with, one of several boards."""
        return Log([partial(self.show, about=about)])

    def show(self, event: Event, about: str = "") -> None:
        """Show one event."""
        if isinstance(event, Warned):
            self.say(f"warning: {event.text}", about)
        elif self._quiet:
            return
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
            self.say(f"$ {shown_command(event.argv)}", about)
        elif self._verbose and isinstance(event, OutputLine):
            self.say(f"  {event.text}", about)

    def say(self, text: str, about: str = "") -> None:
        """Show a text, each line of it with what it is about."""
        for line in harmless(text).split("\n") if about else [harmless(text)]:
            self._console.print(f"{harmless(about)}: {line}" if about else line, markup=False)

    def _live(self, text: str, about: str) -> None:
        if self._status is not None:
            whole = f"{about}: {text}" if about else text
            self._status.update(harmless(whole).replace("[", "\\["))
