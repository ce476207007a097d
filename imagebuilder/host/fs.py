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

import platformdirs

from imagebuilder.errors import HostError

CHUNK_BYTES = 1 << 20
_NAME = "openwrt-python-imagebuilder"
_FICLONE = 0x40049409


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_of(path: Path) -> str:
    """A file's text, what is no UTF-8 replaced; "" where there is no such file."""
    return path.read_text("utf-8", "replace") if path.is_file() else ""


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


@contextmanager
def disk_errors_explained(where: Path) -> Iterator[None]:
    """Turn a full disk or a missing right into an error that the user can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(where if where.exists() else where.parent).free
            raise HostError(
                f"no space left below {where}: {free // 1024} KiB are free",
                hint="free some space, or choose another place with --output",
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise HostError(f"cannot write {error.filename or where}: {error.strerror}") from error
        raise


def require_room(folder: Path, needed: int, what: str) -> None:
    """HostError where the file system of a folder, which need not be there yet, has fewer than `needed` bytes
    left. what: what they are for."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise HostError(
            f"{what} needs {needed >> 20} MiB below {folder}, where {free >> 20} MiB are free",
            hint="free some space (build.py clean --fetched), or choose another place with --cache",
        )


def copy_file(file: Path, place: Path) -> None:
    """Copy a file's content, sharing its blocks where the file system can. Never a hard link: that would
    change the time of the original's status, by which make (find -cnewer) and others tell what is new.

    Source: ioctl_ficlonerange(2).
    """
    try:
        with file.open("rb") as source, place.open("wb") as copy:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
    except OSError:  # another file system, or one that shares no blocks; what else is wrong shows here too
        shutil.copyfile(file, place)
