"""A guest's serial console: a unix socket that QEMU offers, read and written under time limits."""

from __future__ import annotations

import codecs
import contextlib
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from imagebuilder.trial.errors import TrialError

POLL_SECONDS = 0.05
READ_BYTES = 65536
KEPT_CHARACTERS = 1 << 18
PANIC = re.compile(r"(Kernel panic - not syncing[^\r\n]*)\r?\n")


class ConsoleClosedError(TrialError):
    """The guest's console is gone: the machine ended."""


class Console:
    """Text to and from a guest. `alive` says whether the machine still runs; asked before each wait."""

    def __init__(self, path: Path, alive: Callable[[], bool], seconds: float) -> None:
        self._alive = alive
        self._text = ""  # all that was said, up to KEPT_CHARACTERS
        self._read = 0  # how much of it wait_for() is through with
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._socket = self._connect(path, time.monotonic() + seconds)

    def _connect(self, path: Path, until: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                connection.connect(str(path))
                return connection
            if not self._alive() or time.monotonic() > until:
                connection.close()
                raise ConsoleClosedError("the machine offers no console")
            time.sleep(POLL_SECONDS)

    @property
    def text(self) -> str:
        """What the guest said so far, or the end of it."""
        return self._text

    def send(self, text: str, seconds: float) -> None:
        """Type a text. TrialError where the guest does not take it in time."""
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(text.encode())
        except TimeoutError:
            raise TrialError(f"the guest took no input for {seconds:g} s", self._text) from None
        except OSError as error:
            raise ConsoleClosedError(f"the machine ended: {error.strerror}", self._text) from error

    def _receive(self, seconds: float) -> None:
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return
        except OSError as error:
            raise ConsoleClosedError(f"the machine ended: {error.strerror}", self._text) from error
        if not data:
            raise ConsoleClosedError("the machine ended", self._text)
        self._text += self._decode(data)
        surplus = len(self._text) - KEPT_CHARACTERS
        if surplus > 0 and surplus <= self._read:
            self._text = self._text[surplus:]
            self._read -= surplus

    def wait_for(self, pattern: re.Pattern[str], seconds: float, what: str) -> re.Match[str]:
        """Read until the pattern is found after what was found before; the search goes on behind it.

        what: what is waited for, in words. Raises TrialError when it does not come in time or the kernel
        panics, ConsoleClosedError when the machine ends.
        """
        until = time.monotonic() + seconds
        while (found := pattern.search(self._text, self._read)) is None:
            panic = PANIC.search(self._text, self._read)
            if panic is not None:
                raise TrialError(f"the guest's kernel gave up: {panic[1]}", self._text)
            left = until - time.monotonic()
            if left <= 0:
                raise TrialError(f"{what} did not come within {seconds:g} s", self._text)
            self._receive(left)
        self._read = found.end()
        return found

    def wait_for_end(self, seconds: float) -> None:
        """Read until the machine has closed the console. TrialError when it does not in time."""
        until = time.monotonic() + seconds
        with contextlib.suppress(ConsoleClosedError):
            while (left := until - time.monotonic()) > 0:
                self._receive(left)
            raise TrialError(f"the guest did not end within {seconds:g} s", self._text)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
