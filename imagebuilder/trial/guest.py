"""A running guest: its serial console, a unix socket that QEMU offers, read and written under time limits;
the shell on it; and what can go wrong while something is tried out."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.log import Log

TAIL_LINES = 30
MARK = re.compile(r"@\d+\.[0-9a-f]{16}(<|>\d+)")  # what the guest's shell says around an answer


class TrialError(UserError):
    """A guest that did not start, did not answer, or ended too early. tail: what its console said last."""

    def __init__(self, message: str, console: str = "") -> None:
        lines = MARK.sub("", console.replace("\r", "")).splitlines()
        self.tail = "\n".join([line for line in lines if line][-TAIL_LINES:])
        said = f"; its console said last:\n{self.tail}" if self.tail.strip() else ""
        super().__init__(message + said)


POLL_SECONDS = 0.05
_LONGEST_WAIT = 3600.0  # seconds for one call: sockets know no infinite ones
READ_BYTES = 65536
KEPT_CHARACTERS = 1 << 18
PANIC = re.compile(r"(Kernel panic - not syncing[^\r\n]*)\r?\n")


Keep = Callable[[bytes], object]


class ConsoleClosedError(TrialError):
    """The guest's console is gone: the machine ended."""


class Console:
    """Text to and from a guest. `alive` says whether the machine still runs; asked before each wait. `keep`
    gets all that the guest says, as it says it."""

    def __init__(
        self, path: Path, alive: Callable[[], bool], seconds: float, keep: Keep | None = None
    ) -> None:
        self._alive, self._keep = alive, keep
        self._text = ""  # all that was said, up to KEPT_CHARACTERS
        self._read = 0  # how much of it wait_for() is through with
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._socket = self._connect(path, time.monotonic() + seconds)

    def _connect(self, path: Path, until: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        short = f"/proc/self/fd/{folder}/{path.name}"  # a socket's path has 108 bytes at most, unix(7)
        try:
            while True:
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    connection.connect(short)
                    return connection
                if not self._alive() or time.monotonic() > until:
                    connection.close()
                    raise ConsoleClosedError("the machine offers no console")
                time.sleep(POLL_SECONDS)
        finally:
            os.close(folder)

    @property
    def text(self) -> str:
        """What the guest said so far, or the end of it."""
        return self._text

    def send(self, text: str | bytes, seconds: float) -> None:
        """Type a text. TrialError where the guest does not take it in time."""
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(text.encode() if isinstance(text, str) else text)
        except TimeoutError:
            raise TrialError(f"the guest took no input for {seconds:g} s", self._text) from None
        except OSError as error:
            raise ConsoleClosedError(f"the machine ended: {error.strerror}", self._text) from error

    def fileno(self) -> int:
        """For select()."""
        return self._socket.fileno()

    def receive(self, seconds: float) -> bytes:
        """What the guest says next; nothing where it says nothing in that time. ConsoleClosedError."""
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return b""
        except OSError as error:
            raise ConsoleClosedError(f"the machine ended: {error.strerror}", self._text) from error
        if not data:
            raise ConsoleClosedError("the machine ended", self._text)
        if self._keep is not None:
            self._keep(data)
        return data

    def _receive(self, seconds: float) -> None:
        self._text += self._decode(self.receive(seconds))
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
        """Read until the machine has closed the console. seconds: may be infinite. TrialError when it does
        not in time."""
        until = time.monotonic() + seconds
        with contextlib.suppress(ConsoleClosedError):
            while (left := until - time.monotonic()) > 0:
                self._read = len(self._text)  # nobody looks for anything in it
                self._receive(min(left, _LONGEST_WAIT))
            raise TrialError(f"the guest did not end within {seconds:g} s", self._text)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


# a shell's prompt, after which busybox may ask the terminal where its cursor is
_PROMPT = re.compile(r"[#$] (\x1b\[6n)?$")
_ACTIVATE = "Please press Enter to activate this console"
_PROMPT_OR_ACTIVATE = re.compile(f"{_PROMPT.pattern}|{_ACTIVATE}")
# Read without line editing, so that what is typed is not changed; one line is one command. OpenWrt's busybox
# has no stty: then what is typed is echoed, and a terminal's line ends with a carriage return besides.
_LISTEN = (
    "stty -echo -onlcr 2>/dev/null; dmesg -n 1; printf '@%s@\\n' listening; "
    'while IFS= read -r trial; do eval "$trial"; done\n'
)
_LISTENING = re.compile("@listening@(\r?)\n")
# a terminal takes lines of up to 4095 characters
_CHUNK = 2000
_PLAIN = re.compile(rb"[A-Za-z0-9 _./:=,+@-]")
_FILE = "/tmp/.trial"  # noqa: S108 - in the guest, which has no other users
_SHUTDOWN_SECONDS = 60.0
_SHOWN = 60  # characters of a command in messages


def _shown(command: str) -> str:
    """The beginning of a command, for messages."""
    line = command.strip().partition("\n")[0]
    return line if line == command.strip() and len(line) <= _SHOWN else line[:_SHOWN] + " ..."


def _typed(data: bytes) -> Iterator[str]:
    """Bytes as words that the shell's printf turns back into them (%b), in pieces that a terminal takes."""
    piece, length = list[str](), 0
    for byte in data:
        word = chr(byte) if _PLAIN.match(bytes([byte])) else f"\\0{byte:03o}"
        if length + len(word) > _CHUNK:
            yield "".join(piece)
            piece, length = [], 0
        piece.append(word)
        length += len(word)
    if piece:
        yield "".join(piece)


@dataclass(frozen=True)
class CommandResult:
    """A command that ended in the guest: its exit code, and its output with standard error in it."""

    code: int
    output: str


class Guest:
    """A booted machine. boot_seconds: from QEMU's start to the shell's answer."""

    def __init__(self, console: Console, log: Log, began: float, boot_seconds: float) -> None:
        self._console = console
        self._log = log
        self._limit = boot_seconds
        self._numbers = itertools.count(1)
        self._line_end = "\n"  # of the guest's terminal
        self._listen()
        self.boot_seconds = time.monotonic() - began

    @property
    def console_text(self) -> str:
        """What the console showed so far, the end of it if that is much."""
        return self._console.text

    def _listen(self) -> None:
        """Wait for a shell and make it take commands."""
        found = self._console.wait_for(_PROMPT_OR_ACTIVATE, self._limit, "a shell on the console")
        if found[0] == _ACTIVATE:
            self._console.send("\n", self._limit)
            self._console.wait_for(_PROMPT, self._limit, "a shell on the console")
        self._console.send(_LISTEN, self._limit)
        # nothing is typed ahead: the shell changes the terminal's mode between the two
        found = self._console.wait_for(_LISTENING, self._limit, "an answer of the guest's shell")
        self._line_end = f"{found[1]}\n"

    def _ask(self, command: str, seconds: float, shown: str = "an errand") -> CommandResult:
        """Run one line of shell, called `shown` in errors.

        Its marks cannot be guessed, so that no output can be taken for them.
        """
        mark = f"{next(self._numbers)}.{secrets.token_hex(8)}"
        # the marks never stand in what is typed as they will in the answer: an echo is no answer
        begin, end = f"@{mark}<", re.compile(rf"\r?\n@{re.escape(mark)}>(\d+)\r?\n")
        line = f"printf '@%s<' {mark}; {command}; printf '\\n@%s>%d\\n' {mark} $?\n"
        self._console.send(line, seconds)
        self._console.wait_for(re.compile(re.escape(begin)), seconds, "an answer of the guest's shell")
        found = self._console.wait_for(end, seconds, f"the end of {shown}")
        text = found.string[: found.start()]
        said = text[text.rindex(begin) + len(begin) :]
        return CommandResult(int(found[1]), said.replace(self._line_end, "\n"))

    def run(self, command: str, *, seconds: float = 60.0) -> CommandResult:
        """Run a shell script in the guest, of any length and with any characters.

        Its standard input is empty. Raises TrialError when it does not end in time (it goes on in the guest
        all the same), or the guest does first.
        """
        self._log.progress(f"guest: {_shown(command)}")
        self._ask(f": > {_FILE}", seconds)
        for piece in _typed(command.encode()):
            self._ask(f"printf %b '{piece}' >> {_FILE}", seconds)
        return self._ask(f"sh {_FILE} < /dev/null 2>&1", seconds, f"`{_shown(command)}`")

    def check(self, command: str, *, seconds: float = 60.0) -> str:
        """The output of a script that must succeed. Raises TrialError as run() does, and for any exit code
        but 0."""
        result = self.run(command, seconds=seconds)
        if result.code != 0:
            raise TrialError(f"`{_shown(command)}` exited with {result.code} in the guest", result.output)
        return result.output

    def wait_for_end(self, seconds: float) -> bool:
        """Whether the machine ends by itself in that time; what its console says meanwhile is kept."""
        try:
            self._console.wait_for_end(seconds)
        except TrialError:
            return False
        return True

    def poweroff(self, *, seconds: float = _SHUTDOWN_SECONDS) -> None:
        """Shut the guest down and wait for the machine's end. TrialError when it does not end in time."""
        self._console.send("poweroff\n", seconds)
        self._console.wait_for_end(seconds)

    def reboot(self) -> None:
        """Restart the guest and wait for its shell, as long as for the first start."""
        self._console.send("reboot\n", _SHUTDOWN_SECONDS)
        self._listen()
