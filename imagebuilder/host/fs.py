"""Paths, digests and copies of files, where the cache is, and what a disk's errors mean."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import platformdirs

from imagebuilder.called import typed
from imagebuilder.errors import HostError
from imagebuilder.host.files import read_plain_text

CHUNK_BYTES = 1 << 20
_NAME = "openwrt-python-imagebuilder"
_FICLONE = 0x40049409
_LONG_PATH = 300  # characters of a path that are shown


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex. OSError where it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_of(path: Path) -> str:
    """A file's text, what is no UTF-8 replaced; "" where there is no such file. PlainFileError for one that
    cannot be read or has more than MAX_TEXT_BYTES."""
    return read_plain_text(path, errors="replace") if path.is_file() else ""


def is_inside(root: Path, path: Path) -> bool:
    """Whether path, its symbolic links followed, lies in root or is root itself."""
    return path.resolve().is_relative_to(root.resolve())


def expand_home(path: str | Path) -> Path:
    """The path with a ~ or ~user that it starts with as that user's home folder; as it is where there is no
    such user or home, as a shell leaves it."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def user_cache() -> Path:
    """Where finished downloads, trees and kits are kept: below $XDG_CACHE_HOME or ~/.cache. HostError for a
    user without a home folder."""
    return _at_home(platformdirs.user_cache_path, "XDG_CACHE_HOME")


def user_data() -> Path:
    """Where what cannot be made again is kept: below $XDG_DATA_HOME or ~/.local/share. HostError for a user
    without a home folder."""
    return _at_home(platformdirs.user_data_path, "XDG_DATA_HOME")


def _at_home(find: Callable[[str], Path], variable: str) -> Path:
    if not os.environ.get(variable) and expand_home("~") == Path("~"):
        raise HostError(
            f"this user (number {os.geteuid()}) has no home folder",
            hint=f"set HOME, or {variable} to a folder that may be written to",
        )
    return find(_NAME)


_TIMES = 100  # nobody is as unlucky as often, and what stays wrong is told at once all the same


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there: also while others take away those that hold
    nothing, between two looks at them. OSError."""
    for again in reversed(range(_TIMES)):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, FileNotFoundError):  # there, and gone when it was looked at; or one above
            if not again:
                raise
        else:
            return


@contextmanager
def disk_errors_explained(where: Path) -> Iterator[None]:
    """Turn a full disk or a missing right into an error that the user can act on. where: the folder that is
    written to, for errors that name no file; see naming()."""
    try:
        yield
    except OSError as error:
        explained = explained_error(error, where)
        if explained is None:
            raise
        raise explained from error


_FULL = (errno.ENOSPC, errno.EDQUOT)
# what is wrong with this machine, or with a path that somebody gave, and not with this program
_NOT_OURS = (
    *(errno.EACCES, errno.EROFS, errno.EPERM, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EFBIG, errno.EMFILE, errno.ENFILE),
)


def explained_error(error: OSError, where: Path | None = None) -> HostError | None:
    """What the system's error says to the user: the file, the reason and, for a full disk, how much is free
    where that file lies. where: the folder that was written to, for an error that names no file. None for
    what may be a fault of this program, and where nobody knows which file it is about."""
    place = _named(error) or where
    if place is None:
        return None
    if error.errno in _FULL:
        folder = next(each for each in (place, *place.absolute().parents) if each.is_dir())
        return HostError(
            f"no space left below {folder}: {free_bytes(folder) // 1024} KiB are free",
            hint="free some space there, or choose another place: --output for results, --cache for what is "
            "fetched and unpacked, TMPDIR for what is gone at the end",
        )
    if error.errno in _NOT_OURS or (error.errno == errno.EEXIST and where is not None):
        doing = "write" if where is not None else "use"
        return HostError(f"cannot {doing} {_shown(place)}: {error.strerror}")
    return None


def _named(error: OSError) -> Path | None:
    """The file that an error names: the second one where something was copied or moved to it."""
    name = error.filename2 or error.filename
    return Path(os.fsdecode(name)) if isinstance(name, str | bytes) else None


def _shown(place: Path) -> str:
    """A path for a message; the middle of a very long one says nothing."""
    text = str(place)
    return text if len(text) <= _LONG_PATH else f"{text[: _LONG_PATH // 2]}…{text[-_LONG_PATH // 2 :]}"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error of writing to an open file say which one: write(2) knows its number only."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def free_bytes(folder: Path) -> int:
    """Room on the file system of an existing folder."""
    return shutil.disk_usage(folder).free


def require_room(folder: Path, needed: int, what: str) -> None:
    """HostError where the file system of a folder, which need not be there yet, has fewer than `needed` bytes
    left. what: what they are for."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = free_bytes(there)
    if free < needed:
        raise HostError(
            f"{what} needs {needed >> 20} MiB below {folder}, where {free >> 20} MiB are free",
            hint=f"free some space ({typed('clean --fetched')}), or choose another place with --cache",
        )


def copy_file(file: Path, place: Path) -> None:
    """Copy a file's content, sharing its blocks where the file system can. Never a hard link: that would
    change the time of the original's status, by which make (find -cnewer) and others tell what is new.

    Source: ioctl_ficlonerange(2).
    """
    with file.open("rb") as source:
        copy_opened(source, place)


def copy_opened(source: BinaryIO, place: Path) -> None:
    """The same of a file that is open, at its beginning: what is copied is what was opened."""
    with place.open("wb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
        except (
            OSError
        ):  # another file system, or one that shares no blocks; what else is wrong shows here too
            shutil.copyfileobj(source, copy, CHUNK_BYTES)
