"""A process that runs commands of the builder in children of its own, and kills them where it is told.

It has loaded the builder once, and every command is a fork of it: some hundred are tried in the time that
starting them anew would take alone. Whatever a killed command started comes to it (PR_SET_CHILD_SUBREAPER),
so what goes on living is seen. One line of JSON in, one out; see support.Victim.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from imagebuilder.cli import run_and_leave
from imagebuilder.errors import UserError
from tests.torture import kit_of_tests, service_of_tests
from tests.torture.points import Points

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
GRACE_SECONDS = 20.0  # in which what a killed command started has to end
COMMAND_SECONDS = 120.0
PROJECT = Path(__file__).resolve().parents[2]
_LOADED = (
    *("ask", "build", "cli.app", "cli.progress", "cli.show", "firmware.extract", "firmware.verify"),
    *("kit.debian.fetch", "kit.prepare", "made", "own.making", "server.obtain", "service.builds"),
    *("site.publish", "trial.load"),
)


def _load() -> None:
    """What commands load, and that loads the rest. What is not named is loaded anew by every command."""
    for name in _LOADED:
        importlib.import_module(f"imagebuilder.{name}")


def _become(asked: dict[str, Any]) -> None:
    """Run the command in this process, which ends with it."""
    os.setsid()
    os.chdir(asked["folder"])
    os.environ.update(asked["environment"])
    tempfile.tempdir = None
    said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for number in (1, 2):
        os.dup2(said, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if asked["program"]:
        os.chdir(PROJECT)
        os.execvp(asked["program"][0], [*asked["program"], *asked["argv"]])
    record = os.open(asked["record"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    Points(asked["below"], record, asked["at"]).watch()
    if asked["argv"][0] == "kit":
        try:
            kit_of_tests.make_kit(Path(asked["argv"][1]), asked["argv"][2])
        except UserError as error:  # as cli/guard.py does, for what is no command of the user's
            print(error.message, error.hint, file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)
    if asked["argv"][0] == "service":
        try:
            service_of_tests.serve_once(*map(Path, asked["argv"][1:]))
        except UserError as error:
            print(error.message, error.hint, file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)
    sys.argv = ["build.py", *asked["argv"]]
    run_and_leave()


def _ended(child: int, seconds: float) -> int | None:
    """The exit code of a child, or minus the signal that ended it; None where it does not end in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def _left() -> list[str]:
    """What lives on below this process after GRACE_SECONDS, by its command line; it is ended then."""
    until = time.monotonic() + GRACE_SECONDS
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return []
        if time.monotonic() > until:
            break
        time.sleep(0.002)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode() for child in children]
    for child in children:
        os.kill(int(child), signal.SIGKILL)
        os.waitpid(int(child), 0)
    return names


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    child = os.fork()
    if child == 0:
        try:
            _become(asked)
        except SystemExit as error:
            os._exit(error.code if isinstance(error.code, int) else 1)
        finally:
            os._exit(99)
    code = _ended(child, asked["after"] or COMMAND_SECONDS)
    if code is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        code = -signal.SIGKILL if asked["after"] else None
    return {"code": code, "left": _left()}


def main() -> None:
    """Read what is asked from standard input until it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _load()
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
