"""A running guest, through the shell on its serial console."""

from __future__ import annotations

import base64
import itertools
import re
import secrets
import time
from dataclasses import dataclass

from imagebuilder.log import Log
from imagebuilder.trial.console import Console
from imagebuilder.trial.errors import TrialError

# a shell's prompt, after which busybox may ask the terminal where its cursor is
_PROMPT = re.compile(r"[#$] (\x1b\[6n)?$")
_ACTIVATE = "Please press Enter to activate this console"
_PROMPT_OR_ACTIVATE = re.compile(f"{_PROMPT.pattern}|{_ACTIVATE}")
# Read without line editing, so that what is typed is neither echoed nor changed; one line is one command.
_LISTEN = (
    "stty -echo -onlcr; dmesg -n 1; printf '@%s@\\n' listening; "
    'while IFS= read -r trial; do eval "$trial"; done\n'
)
_LISTENING = re.compile("@listening@\n")
# a terminal takes lines of up to 4095 characters
_CHUNK = 2000
_FILE = "/tmp/.trial"  # noqa: S108 - in the guest, which has no other users
_SHUTDOWN_SECONDS = 60.0
_SHOWN = 60  # characters of a command in messages


def _shown(command: str) -> str:
    """The beginning of a command, for messages."""
    line = command.strip().partition("\n")[0]
    return line if line == command.strip() and len(line) <= _SHOWN else line[:_SHOWN] + " ..."


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
        self._console.wait_for(_LISTENING, self._limit, "an answer of the guest's shell")

    def _ask(self, command: str, seconds: float, shown: str = "an errand") -> CommandResult:
        """Run one line of shell, called `shown` in errors.

        Its marks cannot be guessed, so that no output can be taken for them.
        """
        mark = f"{next(self._numbers)}.{secrets.token_hex(8)}"
        # the marks never stand in what is typed as they will in the answer: an echo is no answer
        begin, end = f"@{mark}<", re.compile(rf"\n@{re.escape(mark)}>(\d+)\n")
        line = f"printf '@%s<' {mark}; {command}; printf '\\n@%s>%d\\n' {mark} $?\n"
        self._console.send(line, seconds)
        self._console.wait_for(re.compile(re.escape(begin)), seconds, "an answer of the guest's shell")
        found = self._console.wait_for(end, seconds, f"the end of {shown}")
        text = found.string[: found.start()]
        return CommandResult(int(found[1]), text[text.rindex(begin) + len(begin) :])

    def run(self, command: str, *, seconds: float = 60.0) -> CommandResult:
        """Run a shell script in the guest, of any length and with any characters.

        Its standard input is empty. Raises TrialError when it does not end in time (it goes on in the guest
        all the same), or the guest does first.
        """
        self._log.progress(f"guest: {_shown(command)}")
        coded = base64.b64encode(command.encode()).decode("ascii")
        self._ask(f": > {_FILE}", seconds)
        for at in range(0, len(coded), _CHUNK):
            self._ask(f"printf %s {coded[at : at + _CHUNK]} >> {_FILE}", seconds)
        script = f"base64 -d {_FILE} > {_FILE}.sh; sh {_FILE}.sh < /dev/null 2>&1"
        return self._ask(script, seconds, f"`{_shown(command)}`")

    def check(self, command: str, *, seconds: float = 60.0) -> str:
        """The output of a script that must succeed. Raises TrialError as run() does, and for any exit code
        but 0."""
        result = self.run(command, seconds=seconds)
        if result.code != 0:
            raise TrialError(f"`{_shown(command)}` exited with {result.code} in the guest", result.output)
        return result.output

    def poweroff(self, *, seconds: float = _SHUTDOWN_SECONDS) -> None:
        """Shut the guest down and wait for the machine's end. TrialError when it does not end in time."""
        self._console.send("poweroff\n", seconds)
        self._console.wait_for_end(seconds)

    def reboot(self) -> None:
        """Restart the guest and wait for its shell, as long as for the first start."""
        self._console.send("reboot\n", _SHUTDOWN_SECONDS)
        self._listen()
