"""Where a process changes something below some folders, counted, and killed at one of these points.

This works in every process that runs Python, with no tracer and no compiler: names are changed through
functions that Python reports to its audit hooks (os.rename, os.mkdir, …), files are opened through `os.open`
and `io.open`, and written through os.write or through the file objects that these give, all of which are
replaced here. What goes past all of them, a system call through ctypes, is seen at ctypes. What programs do
that the process starts is not seen: for these processes are killed after some time, and by strace.

A point lies before its call, so the state between any two calls is tried. Of a write, the first half is done.
"""

from __future__ import annotations

import builtins
import ctypes
import io
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# the events of Python's audit hooks: which of their arguments are paths, and which the folders of these
_EVENTS: Mapping[str, Sequence[tuple[int, int | None]]] = {
    "os.rename": ((1, 3), (0, 2)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.truncate": ((0, None),),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CALLS = {"x86_64": {316: "renameat2"}, "aarch64": {276: "renameat2"}}  # <asm/unistd.h>


class Point(NamedTuple):
    """A call that changes something. call: its name, without what it belongs to; path: what it changes."""

    call: str
    path: str


class Points:
    """What this process does below some folders, written to a record, a line each. at: the number of the
    point, from 1, at which the process is killed; 0 for none."""

    def __init__(self, below: Sequence[str], record: int, at: int) -> None:
        self._below = tuple(os.path.realpath(folder) for folder in below)
        self._record, self._at = record, at
        self._count, self._lock = 0, threading.RLock()
        self._write, self._inside = os.write, threading.local()

    def reach(self, call: str, path: str, first: Callable[[], object] = lambda: None) -> bool:
        """Count a call, if it is one below the folders; whether it is. At its point do `first`, and end here
        as kill -9 ends a process."""
        if getattr(self._inside, "here", False) or not self._counts(path):
            return False
        self._inside.here = True
        try:
            with self._lock:
                self._count += 1
                self._write(self._record, f"{call} {path}\n".encode("utf-8", "replace"))
                if self._count == self._at:
                    first()
                    os.kill(os.getpid(), signal.SIGKILL)
                    signal.pause()
            return True
        finally:
            self._inside.here = False

    def _counts(self, path: str) -> bool:
        return any(path == folder or path.startswith(f"{folder}/") for folder in self._below)

    def watch(self) -> None:
        """Begin. There is no end: the process is given to this."""
        sys.addaudithook(self._audit)
        self._replace_opening()
        self._replace_writing()
        self._replace_ctypes()

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        for place, folder in _EVENTS.get(event, ()):
            path = _path(arguments[place], None if folder is None else arguments[folder])
            if self.reach(event.removeprefix("os."), path):
                return  # one point, though it changes two names

    def _replace_opening(self) -> None:
        real_open, points = os.open, self

        def os_open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if flags & _WRITES and not flags & os.O_DIRECTORY:
                points.reach("open", _path(path, dir_fd))
            return real_open(path, flags, mode, dir_fd=dir_fd)

        class File(io.FileIO):
            """A file whose every write is a point."""

            def write(self, data: Any, /) -> int:
                piece = bytes(data)
                half = piece[: len(piece) // 2]
                points.reach("write", _path(self.fileno(), None), lambda: super(File, self).write(half))
                return super().write(piece)

        def io_open(  # noqa: PLR0917 - open()'s own
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            if not set(mode) & set("wax+"):
                return _IO_OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
            if not isinstance(file, int) and opener is None:
                points.reach("open", _path(file, None))
            raw = File(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            if buffering == 0:
                return raw
            size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
            whole = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
            if "b" in mode:
                return whole
            text = io.TextIOWrapper(whole, encoding, errors, newline, line_buffering=buffering == 1)
            text.mode = mode  # type: ignore[misc]
            return text

        os.open = os_open
        io.open = builtins.open = io_open

    def _replace_writing(self) -> None:
        """os's functions that write to a descriptor, which stands first among their arguments."""
        for name in ("write", "pwrite", "writev", "sendfile", "ftruncate", "posix_fallocate"):
            self._replace_writer(name, getattr(os, name))

    def _replace_writer(self, name: str, real: Callable[..., Any]) -> None:
        def writer(handle: int, *arguments: Any, **named: Any) -> Any:
            def half() -> None:
                if name in ("write", "pwrite"):
                    real(handle, bytes(arguments[0])[: len(arguments[0]) // 2], *arguments[1:])

            self.reach(name, _path(handle, None), half)
            return real(handle, *arguments, **named)

        setattr(os, name, writer)

    def _replace_ctypes(self) -> None:
        real, points = ctypes.CDLL.__getattr__, self
        numbers = _CALLS.get(platform.machine(), {})

        def found(library: ctypes.CDLL, name: str) -> Any:
            function = real(library, name)
            if name not in ("syscall", "renameat2"):
                return function
            seen = _Seen(function, name, numbers, points)
            setattr(library, name, seen)  # as ctypes does: it is asked for a function once
            return seen

        ctypes.CDLL.__getattr__ = found  # type: ignore[method-assign]


_IO_OPEN = io.open


class _Seen:
    """A function of the C library as ctypes gives it, whose calls are points where they change names."""

    def __init__(self, function: Any, name: str, numbers: Mapping[int, str], points: Points) -> None:
        self.__dict__.update(_function=function, _name=name, _numbers=numbers, _points=points)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._function, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __call__(self, *arguments: Any) -> Any:
        plain = [getattr(each, "value", each) for each in arguments]
        name, rest = self._name, plain
        if name == "syscall":
            name, rest = self._numbers.get(plain[0], ""), plain[1:]
        if name == "renameat2":
            self._points.reach(name, _path(rest[3], rest[2])) or self._points.reach(
                name, _path(rest[1], rest[0])
            )
        return self._function(*arguments)


def _path(given: Any, folder: int | None) -> str:
    """The absolute path of a path, below an open folder perhaps, or of an open file."""
    if isinstance(given, int):
        return _of_descriptor(given)
    path = Path(os.fsdecode(given))
    if not path.is_absolute():
        path = (Path.cwd() if folder is None or folder < 0 else Path(_of_descriptor(folder))) / path
    return str(Path(os.path.realpath(path.parent), path.name))


def _of_descriptor(handle: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{handle}").readlink())
    except OSError:
        return ""


def read_points(record: Path) -> list[Point]:
    """What a record says, in order."""
    lines = record.read_text("utf-8", "replace").splitlines()
    return [Point(*line.split(" ", 1)) for line in lines]
