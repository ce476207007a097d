"""The only door to other programs: an argv list, a clean environment, output that is never lost."""

from __future__ import annotations

import os
import selectors
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

from imagebuilder.called import typed
from imagebuilder.errors import HostError, UserError
from imagebuilder.host.limits import Watch
from imagebuilder.log import Log

TAIL_LINES = 40
MAX_LINE = 64 << 10  # bytes of a line that are kept; the longest known, a linker's call, has some 20 KiB
MAX_RESULT_BYTES = 64 << 20  # of what run() keeps of a program's output
MAX_LOG_BYTES = 16 << 20  # of what stream() takes of one; build.log is that, and is read as a whole
MAX_LOG_LINES = 200_000  # a build.log has some thousand
_CHUNK = 1 << 16
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


class ProgramOutputError(UserError):
    """A program said more than is kept, and was stopped."""

    def __init__(self, argv: Sequence[str], most: str) -> None:
        super().__init__(
            f"{argv[0]} said more than {most} and was stopped",
            hint=f"run by hand: {shlex.join(argv)}",
        )


class ProgramTimeoutError(UserError):
    """A program did not end within its time and was killed. said: what it said until then, where that is
    kept."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        super().__init__(f"{argv[0]} did not end within {seconds:g} s and was stopped")
        self.argv = tuple(argv)
        self.said = ""


class _Lines:
    """Lines out of pieces of a program's output, as they come, each of MAX_LINE bytes at most; what is behind
    that is left out, with a note of how much that was."""

    def __init__(self, on_line: LineHandler) -> None:
        self._on_line = on_line
        self._line = bytearray()
        self._lost = 0
        self.count = 0

    def add(self, piece: bytes) -> None:
        """Take the next piece; nothing: there is no more to come."""
        *ended, rest = piece.split(b"\n")
        for part in ended:
            self._keep(part)
            self._end()
        self._keep(rest)
        if not piece and (self._line or self._lost):
            self._end()

    def _keep(self, part: bytes) -> None:
        room = MAX_LINE - len(self._line)
        self._line += part[:room]
        self._lost += max(len(part) - room, 0)

    def _end(self) -> None:
        note = f" [{self._lost} more bytes of this line are left out]" if self._lost else ""
        text = self._line.decode("utf-8", "replace")
        self._line.clear()
        self._lost = 0
        self.count += 1
        self._on_line(text + note)


class _Output:
    """Pipes that a program writes into, read here: sh would keep a line without an end in memory, whole and
    several times. takers: what takes the pieces of each pipe, the last of which is empty."""

    def __init__(self, *takers: Callable[[bytes], None]) -> None:
        pipes = [os.pipe() for _ in takers]
        self.write_ends = tuple(write for _, write in pipes)
        self._takers = {read: taker for (read, _), taker in zip(pipes, takers, strict=True)}

    def started(self) -> None:
        """The program has its ends, or there is none: those here are closed."""
        for handle in self.write_ends:
            os.close(handle)
        self.write_ends = ()

    def read(self, argv: Sequence[str], most: int | None = None) -> None:
        """Read until the program has closed all. ProgramOutputError where it says more than `most` bytes."""
        whole = most or 0
        with selectors.DefaultSelector() as selector:
            for handle in self._takers:
                selector.register(handle, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    piece = os.read(key.fd, _CHUNK)
                    if most is not None:
                        most -= len(piece)
                        if most < 0:
                            raise ProgramOutputError(argv, f"{whole >> 20} MiB")
                    self._takers[key.fd](piece)
                    if not piece:
                        selector.unregister(key.fd)

    def close(self) -> None:
        """Close what is read from."""
        for handle in self._takers:
            os.close(handle)
        self._takers = {}


def find_program(name: str, path: str | None = None) -> str:
    """The absolute path of a host program. HostError if it is not there."""
    found = shutil.which(name, path=path or CLEAN_PATH)
    if found is None:
        raise HostError(
            f"the program '{name}' is not on this machine",
            hint=f"{typed('doctor --fix')} installs what is missing",
        )
    return found


def check_words(argv: Sequence[str]) -> None:
    """HostError for a word that a program cannot be given; sh hands them over as UTF-8."""
    for word in argv:
        if "\0" in word or any("\ud800" <= character <= "\udfff" for character in word):
            raise HostError(
                f"{argv[0]} cannot be given {word[-200:]!a}: it is not UTF-8, or holds a zero byte",
                hint="if it is a file's or a folder's name: give it another one",
            )


def _prepare(
    argv: Sequence[str], cwd: Path | None, env: Mapping[str, str], watch: Watch | None = None
) -> tuple[Any, dict[str, Any]]:
    check_words(argv)
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


def _ended(
    process: Any,
    argv: Sequence[str],
    timeout: float | None,
    read: Callable[[], None],
    watch: Watch | None = None,
) -> int:
    """Read what the program says, and wait for it; its exit code. Stops it when interrupted, out of time or
    where reading fails."""
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
            read()
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

    Raises ProgramError for an exit code other than 0 (unless check is False), ProgramTimeoutError,
    ProgramOutputError for one that says more than MAX_RESULT_BYTES, what Watch.check() raises, and HostError
    when the program is not on this machine.
    """
    command, options = _prepare(argv, cwd, env if env is not None else clean_environment(), watch)
    if log is not None:
        log.command(argv)
    stdout, stderr = bytearray(), bytearray()
    output = _Output(stdout.extend, stderr.extend)
    try:
        try:
            out, err = output.write_ends
            process = _begun(command, argv, _in=stdin, _out=out, _err=err, **options)
        finally:
            output.started()
        code = _ended(process, argv, timeout, lambda: output.read(argv, MAX_RESULT_BYTES), watch)
    except ProgramTimeoutError as error:
        error.said = (stdout + stderr).decode("utf-8", "replace")
        raise
    finally:
        output.close()
    completed = Completed(
        tuple(argv), code, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace")
    )
    if watch is not None:
        for line in (*completed.stdout.splitlines(), *completed.stderr.splitlines()):
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
    begun: Callable[[], None] | None = None,
) -> Completed:
    """Run a program and hand each line of its output, standard error included, to on_line. begun: called once
    it runs.

    Keeps the last TAIL_LINES lines for the error; a line is handed over with MAX_LINE bytes at most and a
    note of what is left out. watch and errors: as of run(); ProgramOutputError beyond MAX_LOG_BYTES or
    MAX_LOG_LINES.
    """
    command, options = _prepare(argv, None, env if env is not None else clean_environment(), watch)
    if log is not None:
        log.command(argv)
    tail: deque[str] = deque(maxlen=TAIL_LINES)

    def keep(line: str) -> None:
        if lines.count > MAX_LOG_LINES:
            raise ProgramOutputError(argv, f"{MAX_LOG_LINES} lines")
        tail.append(line)
        if watch is not None:
            watch.hear(line)
        on_line(line)

    lines = _Lines(keep)
    output = _Output(lines.add)
    try:
        try:
            process = _begun(command, argv, _in=b"", _out=output.write_ends[0], _err_to_out=True, **options)
        finally:
            output.started()
        if begun is not None:
            begun()
        code = _ended(process, argv, None, lambda: output.read(argv, MAX_LOG_BYTES), watch)
    finally:
        output.close()
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
        self._output = _Output(_Lines(on_line).add)
        try:
            self._process = _begun(
                command, argv, _in=b"", _out=self._output.write_ends[0], _err_to_out=True, **options
            )
        finally:
            self._output.started()
        self._reader = threading.Thread(target=self._output.read, args=(argv,), daemon=True)
        self._reader.start()

    def alive(self) -> bool:
        """Whether it still runs."""
        return bool(self._process.is_alive())

    def stop(self) -> None:
        """End it and everything it started."""
        _stop(self._process)
        self._reader.join()
        self._output.close()

    def __enter__(self) -> BackgroundProgram:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
