"""Files that somebody names, opened as what they should be: a plain file of a bounded size.

A path that a user, a config or a tree gives can lead to a pipe that nobody writes into, to a device such as
/dev/zero that never ends, to a sparse file of many gigabytes, to a folder, or nowhere. Opening without
blocking and asking the kernel what was opened (open(2), fstat(2)) tells them apart before anything is read.

Most of what is read so is read more than once, for its hash or for a line's number, and a config may be
written anew. So a pipe (`/dev/stdin`, a shell's `<(...)`) is refused too: it can be read once only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from imagebuilder.errors import UserError

MAX_TEXT_BYTES = 64 << 20  # of a text that a tree has: the largest known, a kernel's .config, is below 1 MiB
MAX_FILE_BYTES = 64 << 30  # of a file that is read piece by piece, or mapped: larger than any image
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class PlainFileError(UserError):
    """Something that cannot be read as a plain file of that size. problem: what is wrong, a predicate without
    the file's name: `is a folder, where a file is expected`."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.problem = problem


@contextmanager
def opened_plain(path: Path, limit: int = MAX_FILE_BYTES, *, follow: bool = True) -> Iterator[BufferedReader]:
    """A plain file's content as a stream. limit: bytes that it may have at most; follow: whether the path may
    be a symbolic link to it.

    PlainFileError where it cannot be opened, is something else, or has more.
    """
    try:
        handle = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    except ValueError as error:  # a zero byte in the path
        raise PlainFileError(path, f"cannot be read: {error}") from error
    except OSError as error:  # ENXIO for a socket
        if not follow and error.errno == errno.ELOOP:
            raise PlainFileError(path, "is a link, where a file is expected") from error
        raise PlainFileError(path, f"cannot be read: {error.strerror}") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        raise PlainFileError(path, f"is {kind}, where a file is expected")
    with os.fdopen(handle, "rb") as stream:
        if status.st_size > limit:
            raise _too_large(path, limit)
        yield stream


def read_plain(path: Path, limit: int = MAX_TEXT_BYTES, *, follow: bool = True) -> bytes:
    """A plain file's whole content. PlainFileError as opened_plain(), and where reading fails."""
    with opened_plain(path, limit, follow=follow) as stream:
        try:
            data = stream.read(limit + 1)
        except OSError as error:
            raise PlainFileError(path, f"cannot be read: {error.strerror}") from error
    if len(data) > limit:  # it grew, or the kernel makes it while it is read
        raise _too_large(path, limit)
    return data


def read_plain_text(path: Path, limit: int = MAX_TEXT_BYTES, *, errors: str = "strict") -> str:
    """The same as text. PlainFileError too for what is no UTF-8, unless errors says how it is replaced."""
    try:
        return read_plain(path, limit).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise PlainFileError(path, "is not UTF-8 text") from error


def _too_large(path: Path, limit: int) -> PlainFileError:
    size = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit} bytes"
    return PlainFileError(path, f"is larger than {size}, which is more than it may have")
