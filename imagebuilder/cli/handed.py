"""The terminal, handed to a guest's console until somebody wants it back."""

from __future__ import annotations

import errno
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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
    does. One that is gone has no mode."""
    before = None
    try:
        with suppress(termios.error):
            before = termios.tcgetattr(terminal)
            tty.setraw(terminal)
        yield
    finally:
        if before is not None:
            with suppress(termios.error):
                termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def hand_over(console: Console, terminal: int = 0, screen: int = 1) -> bool:
    """Carry what is typed to the guest, and what it says to the screen. True when LEAVE was typed, or nobody
    can type or see any more; False when the machine ended. terminal, screen: descriptors."""
    with _raw(terminal):
        try:
            while _carried(console, terminal, screen):
                pass
        except ConsoleClosedError:
            return False
    return True


def _carried(console: Console, terminal: int, screen: int) -> bool:
    """Wait for either to say something, and carry it; False where the terminal has no more to say or hear."""
    ready, _, _ = select.select([terminal, console.fileno()], [], [])
    if terminal in ready:
        typed = _read(terminal)
        before, leave, _ = typed.partition(LEAVE)
        if before:
            console.send(before, _INPUT_SECONDS)
        if leave or not typed:
            return False
    return console.fileno() not in ready or _written(screen, console.receive(_INPUT_SECONDS))


def _read(terminal: int) -> bytes:
    """What was typed; nothing where the terminal is gone."""
    try:
        return os.read(terminal, _READ_BYTES)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def _written(screen: int, data: bytes) -> bool:
    """Write it all; False where the terminal is gone."""
    try:
        while data:
            data = data[os.write(screen, data) :]
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False
    return True
