"""The only door to other programs: an argv list, a clean environment, output that is never lost."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sh

from imagebuilder.errors import HostError, UserError
from imagebuilder.host.limits import Watch
from imagebuilder.log import Log

TAIL_LINES = 40
TERMINATE_SECONDS = 5.0
CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

LineHandler = Callable[[str], None]


def clean_environment(**extra: str) -> dict[str, str]:
    """An environment that holds nothing of the user's: PATH, a C locale, and what is given."""
    return {"PATH": CLEAN_PATH, "LC_ALL": "C", "LANG": "C", "TZ": "UTC", **extra}


@dataclass(frozen=True)
class Completed:
    """A program that ended: what was called, its exit code, its standard output (or all of its
    output's last TAIL_LINES lines where the output was streamed), its standard error."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str = ""


# what a program dies of that does something impossible, or that is stopped by force
_DEADLY = (
    *(signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE),
    *(signal.SIGKILL, signal.SIGSEGV, signal.SIGSYS),
)


def killed_by(code: int) -> signal.Signals | None:
    """The signal that ended a program, by its exit code; None if it ended by itself. Shells and bubblewrap,
    which stand between it and us, say 128 and the signal's number."""
    number = -code if code < 0 else code - 128
    if code < 0 and number in {each.value for each in signal.Signals}:
        return signal.Signals(number)
    return next((each for each in _DEADLY if each.value == number), None)


def how_it_ended(code: int) -> str:
    """`exited with 2`, or `was killed by signal 4 (SIGILL)`."""
    by = killed_by(code)
    return f"exited with {code}" if by is None else f"was killed by signal {by.value} ({by.name})"


class ProgramError(UserError):
    """A program ended with an exit code other than 0 (negative: the signal that killed it)."""

    def __init__(self, argv: Sequence[str], code: int, tail: str) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.tail = tail
        last = f", saying last:\n{tail}" if tail else " and said nothing"
        super().__init__(f"{argv[0]} {how_it_ended(code)}{last}", hint=f"run by hand: {shlex.join(argv)}")


class ProgramTimeoutError(UserError):
    """A program did not end within its time and was killed."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        super().__init__(f"{argv[0]} did not end within {seconds:g} s and was stopped")
        self.argv = tuple(argv)


def find_program(name: str, path: str | None = None) -> str:
    """The absolute path of a host program. HostError if it is not there."""
    found = shutil.which(name, path=path or CLEAN_PATH)
    if found is None:
        raise HostError(
            f"the program '{name}' is not on this machine",
            hint="python3 build.py doctor --fix installs what is missing",
        )
    return found


def _prepare(
    argv: Sequence[str], cwd: Path | None, env: Mapping[str, str], watch: Watch | None = None
) -> tuple[Any, dict[str, Any]]:
    program = find_program(argv[0], env.get("PATH"))

    def before_exec() -> None:
        os.umask(0o022)  # any other umask would reach the modes of files in an image
        if watch is not None:
            watch.restrict()

    options: dict[str, Any] = {
        "_cwd": str(cwd) if cwd is not None else None,
        "_env": dict(env),
        "_tty_out": False,
        "_decode_errors": "replace",
        "_new_session": True,  # so that the whole group can be stopped, and a terminal's Ctrl-C is ours alone
        "_preexec_fn": before_exec,
        "_bg": True,
        "_bg_exc": False,
    }
    return sh.Command(program), options


def _begun(command: Any, argv: Sequence[str], **options: Any) -> Any:
    """The program, running. Its process tells sh which session it has before it becomes the program.
    HostError where it was killed before it could, by a machine that is short of memory for one."""
    try:
        return command(*argv[1:], **options)
    except ValueError as error:
        if "values to unpack" not in str(error):
            raise
        raise HostError(
            f"{argv[0]} was killed before it began", hint="is this machine short of memory? then run it again"
        ) from error


def _stop(process: Any) -> None:
    """End a program's whole process group, gently first; also what is left of it when its leader is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + TERMINATE_SECONDS
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < until:
                process.is_alive()  # a leader that ended is there until somebody has asked for its exit code
                time.sleep(0.01)
                os.killpg(process.pid, 0)
        except ProcessLookupError:
            return


def _wait(process: Any, argv: Sequence[str], timeout: float | None, watch: Watch | None = None) -> int:
    """Wait for the program; its exit code. Stops it when interrupted or out of time."""
    ran_out = threading.Event()

    def stop_late() -> None:
        ran_out.set()
        _stop(process)

    # not sh's own waiting with a limit: it looks every 0.1 s only, and does not wait for the last output
    timer = threading.Timer(timeout, stop_late) if timeout is not None else None
    if timer is not None:
        timer.start()
    watched = watch.over(process.pid, lambda: _stop(process)) if watch is not None else nullcontext()
    try:
        with watched:
            process.wait()
        code = int(process.exit_code)
    except sh.ErrorReturnCode as error:
        code = int(error.exit_code)
    except BaseException:
        _stop(process)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if ran_out.is_set():
        raise ProgramTimeoutError(argv, timeout or 0.0)
    return code


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float | None = None,
    check: bool = True,
    log: Log | None = None,
    watch: Watch | None = None,
) -> Completed:
    """Run a program to its end and keep its output. timeout in seconds. watch: holds a program in the sandbox
    to its limits.

    Raises ProgramError for an exit code other than 0 (unless check is False), ProgramTimeoutError, what
    Watch.check() raises, and HostError when the program is not on this machine.
    """
    command, options = _prepare(argv, cwd, env if env is not None else clean_environment(), watch)
    if log is not None:
        log.command(argv)
    stdout: list[str] = []
    stderr: list[str] = []
    process = _begun(command, argv, _in=stdin, _out=stdout.append, _err=stderr.append, **options)
    code = _wait(process, argv, timeout, watch)
    completed = Completed(tuple(argv), code, "".join(stdout), "".join(stderr))
    if watch is not None:
        for line in (*stdout, *stderr):
            watch.hear(line)
        watch.check(failed=code != 0)
    if check and code != 0:
        lines = (completed.stderr or completed.stdout).splitlines()
        raise ProgramError(argv, code, "\n".join(lines[-TAIL_LINES:]))
    return completed


def stream(
    argv: Sequence[str],
    on_line: LineHandler,
    *,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    log: Log | None = None,
    watch: Watch | None = None,
) -> Completed:
    """Run a program and hand each line of its output, standard error included, to on_line.

    Keeps the last TAIL_LINES lines for the error. watch and errors: as of run().
    """
    command, options = _prepare(argv, None, env if env is not None else clean_environment(), watch)
    if log is not None:
        log.command(argv)
    tail: deque[str] = deque(maxlen=TAIL_LINES)

    def keep(chunk: str) -> None:
        line = chunk.rstrip("\n")
        tail.append(line)
        if watch is not None:
            watch.hear(line)
        on_line(line)

    process = _begun(command, argv, _in=b"", _out=keep, _err_to_out=True, _out_bufsize=1, **options)
    code = _wait(process, argv, None, watch)
    if watch is not None:
        watch.check(failed=code != 0)
    if check and code != 0:
        raise ProgramError(argv, code, "\n".join(tail))
    return Completed(tuple(argv), code, "\n".join(tail))


class BackgroundProgram:
    """A program that runs beside us until stop(). Use it as a context manager."""

    def __init__(self, argv: Sequence[str], on_line: LineHandler, *, log: Log | None = None) -> None:
        command, options = _prepare(argv, None, clean_environment())
        if log is not None:
            log.command(argv)
        self.argv = tuple(argv)
        self._process = _begun(
            command,
            argv,
            _in=b"",
            _out=lambda chunk: on_line(chunk.rstrip("\n")),
            _err_to_out=True,
            _out_bufsize=1,
            **options,
        )

    def alive(self) -> bool:
        """Whether it still runs."""
        return bool(self._process.is_alive())

    def stop(self) -> None:
        """End it and everything it started."""
        _stop(self._process)

    def __enter__(self) -> BackgroundProgram:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
