"""What lies below a folder that other programs wrote into, or that somebody else made: nothing outside of it.

A link in there can name any place of this machine, and whoever follows it from outside of the sandbox reads
or writes what the sandbox keeps. So nothing here follows one, neither at the end of a path nor on the way:
the kernel opens the path and refuses links and `..` by itself (openat2(2), Linux 5.6) or, where it does not
know how, each folder on the way is opened below the one before. Sizes are bounded. walk.py goes through
what lies below a folder in the same way.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from imagebuilder.errors import UserError

# <linux/openat2.h>; the number is the same on every architecture
_OPENAT2 = 437
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_UNKNOWN_CALL = (errno.ENOSYS, errno.EPERM)  # an older kernel; a container that filters new calls
_REFUSED = (errno.ELOOP, errno.EXDEV)
FOLDER = os.O_RDONLY | os.O_DIRECTORY
_PLAIN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY  # a pipe in a file's place must not stop us


class BeneathError(UserError):
    """Something that leads out of the folder that it lies in, or is not what was looked for there."""


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@cache
def _system_call() -> ctypes._FuncPointer:
    return ctypes.CDLL(None, use_errno=True).syscall


def _openat2(folder: int, name: str, flags: int) -> int:
    """A new descriptor. OSError as openat2(2) says, ENOSYS or EPERM where there is no such call."""
    how = _How(flags | os.O_CLOEXEC, 0, _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH)
    path = ctypes.c_char_p(os.fsencode(name))
    size = ctypes.c_size_t(ctypes.sizeof(how))
    handle = _system_call()(ctypes.c_long(_OPENAT2), ctypes.c_int(folder), path, ctypes.byref(how), size)
    if handle < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return int(handle)


def _open_by_steps(folder: int, parts: tuple[str, ...], flags: int) -> int:
    """The same without that call: one folder after another, and no link."""
    place = os.dup(folder)
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        try:
            if stat.S_ISLNK(os.stat(part, dir_fd=place, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), part)
            inner = os.open(part, (flags if last else FOLDER) | os.O_NOFOLLOW, dir_fd=place)
        finally:
            os.close(place)
        place = inner
    return place


def _parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BeneathError(f"{name!r} is no path below a folder")
    return path.parts


def open_beneath(root: Path, name: str, flags: int) -> int:
    """A descriptor of what lies at `name` below the folder root, which is no link itself; "" is root.
    OSError; BeneathError, naming it, for a link on the way."""
    parts = _parts(name)
    try:
        folder = os.open(root, FOLDER | os.O_NOFOLLOW)
    except OSError as error:
        if root.is_symlink():
            raise _link_error(root, root) from error
        raise
    try:
        return _open_at(folder, parts, flags)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        steps = (root.joinpath(*parts[:number]) for number in range(1, len(parts) + 1))
        raise _link_error(next((each for each in steps if each.is_symlink()), root / name), root) from error
    finally:
        os.close(folder)


def _open_at(folder: int, parts: tuple[str, ...], flags: int) -> int:
    if not parts:
        return os.dup(folder)
    try:
        return _openat2(folder, "/".join(parts), flags)
    except OSError as error:
        if error.errno not in _UNKNOWN_CALL:
            raise
    return _open_by_steps(folder, parts, flags)


def _link_error(place: Path, root: Path) -> BeneathError:
    try:
        where = f" to {place.readlink()}"
    except OSError:  # gone meanwhile, or no link any more
        where = ""
    return BeneathError(
        f"{place} is a symbolic link{where}: it is not followed",
        hint=f"what is wanted must lie below {root} itself: put it there in the link's place",
    )


def real_folder(root: Path, name: str, *, make: bool = False) -> Path | None:
    """The path of a folder below root, on the way to which there is no link; None where there is none. make:
    make it then, and those on the way. BeneathError for a link."""
    if make:
        root.mkdir(parents=True, exist_ok=True)
        for number in range(1, len(_parts(name)) + 1):
            above = str(PurePosixPath(*_parts(name)[:number]))
            if real_folder(root, above) is None:
                (root / above).mkdir()
    try:
        os.close(open_beneath(root, name, FOLDER))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return root / name


def is_plain(root: Path, name: str) -> bool:
    """Whether a file lies there. BeneathError for a link on the way to it."""
    folder = real_folder(root, str(PurePosixPath(name).parent))
    try:
        return folder is not None and stat.S_ISREG((root / name).lstat().st_mode)
    except FileNotFoundError:
        return False


def read_beneath(root: Path, name: str, limit: int) -> bytes:
    """The content of a file below root. limit: bytes that it may have at most.

    FileNotFoundError where there is none; BeneathError for a link, for what is no file, and for a larger one.
    """
    with _opened(root, name) as stream:
        status = os.fstat(stream.fileno())
        data = stream.read(limit + 1) if status.st_size <= limit else b""
        if max(status.st_size, len(data)) > limit:
            raise BeneathError(
                f"{root / name} has {status.st_size} bytes, more than the {limit} that it may have"
            )
        return data


def head_beneath(root: Path, name: str, size: int) -> bytes:
    """The first bytes of a file below root, at most `size` of them. Raises as read_beneath()."""
    with _opened(root, name) as stream:
        return stream.read(size)


def _opened(root: Path, name: str) -> BinaryIO:
    handle = open_beneath(root, name, _PLAIN)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BeneathError(f"{root / name} is no file", hint="a file is expected there")
    return os.fdopen(handle, "rb")


def write_beneath(root: Path, name: str, data: bytes, mode: int = 0o644) -> Path:
    """Write a file below root in place of whatever file or link is there, with the folders that it lies in;
    its path. BeneathError for a link on the way and for a folder in the file's place, OSError."""
    folder = real_folder(root, str(PurePosixPath(name).parent), make=True)
    if folder is None:
        raise BeneathError(f"{(root / name).parent} is no folder", hint="a folder is expected there")
    place = root / name
    try:
        place.unlink(missing_ok=True)
    except IsADirectoryError as error:
        raise BeneathError(f"{place} is a folder", hint="a file is expected there") from error
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
        out.write(data)
        os.fchmod(out.fileno(), mode)
    return place
