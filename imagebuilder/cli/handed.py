"""The terminal, handed to a guest's console until somebody wants it back."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from imagebuilder.errors import UserError
from imagebuilder.trial.guest import Console, ConsoleClosedError

LEAVE = b"\x1d"
LEAVE_TOLD = "Ctrl-]"
_INPUT_SECONDS = 10.0
_READ_BYTES = 4096


def require_terminal() -> None:
    """UserError where nobody can type, or see what is said."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(
            "--interactive wants a terminal, and standard input or output is none",
            hint="without --interactive the image is booted, tried and shut down by itself",
        )


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Each key goes on as it is typed, Ctrl-C too; the terminal is as it was when the block ends, however it
    does."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def hand_over(console: Console, terminal: int = 0, screen: int = 1) -> bool:
    """Carry what is typed to the guest, and what it says to the screen. True when LEAVE was typed, or nobody
    can type any more; False when the machine ended. terminal, screen: descriptors."""
    with _raw(terminal):
        while True:
            ready, _, _ = select.select([terminal, console.fileno()], [], [])
            if terminal in ready:
                typed = os.read(terminal, _READ_BYTES)
                before, leave, _ = typed.partition(LEAVE)
                if before:
                    console.send(before, _INPUT_SECONDS)
                if leave or not typed:
                    return True
            if console.fileno() in ready:
                try:
                    said = console.receive(_INPUT_SECONDS)
                except ConsoleClosedError:
                    return False
                _write(screen, said)


def _write(screen: int, data: bytes) -> None:
    while data:
        data = data[os.write(screen, data) :]
