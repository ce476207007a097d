"""Folders that others made, looked through and removed however deep they are and whatever is in them.

A package's script or a Makefile can nest folders until no path reaches them (PATH_MAX is 4096 bytes), there
are more of them than descriptors, and a function that calls itself for each runs out of stack. So nothing
here recurses, one or two folders are open at a time, names are looked up in an open folder, and no symbolic
link is followed below the folder that was given. Sources: path_resolution(7), openat(2), unlinkat(2).
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from imagebuilder.host.beneath import FOLDER, BeneathError, open_beneath

PATH_MAX = 4096
MOST_ENTRIES = 250_000  # files, folders and links below one folder; a root file system has some thousands
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Item(NamedTuple):
    """Something below a folder. path: from that folder, with / between names; status: its own, where it is a
    link the link's; name: its own; handle: the open folder that it is in. Its content and its target can be
    read until the walk goes on. (A tuple, since thousands are made in each build.)"""

    path: str
    status: os.stat_result
    name: str
    handle: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a real folder."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, and no link to one."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_readable(self) -> bool:
        """Whether this user may read it and, where it is a folder, enter it."""
        wanted = os.R_OK | os.X_OK if self.is_folder else os.R_OK
        return os.access(self.name, wanted, dir_fd=self.handle, effective_ids=True)

    def target(self) -> str:
        """What a symbolic link says."""
        return os.readlink(self.name, dir_fd=self.handle)

    def sha256(self) -> str:
        """The SHA-256, in hex, of a regular file's content."""
        handle = os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.handle)
        with os.fdopen(handle, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def walk(
    top: Path, name: str = "", *, enter: Callable[[str], bool] | None = None, bounded: bool = False
) -> Iterator[Item]:
    """All that is in a folder: by name, a folder before what is in it; a link is not followed.

    top: a folder, and no link to one; name: one below it, where only that is looked through. enter: whether
    to go into the folder of that path, by default into all. bounded: what is found is to be kept, or opened
    by its path: at most MOST_ENTRIES, and no path that no program, here or on a device, can open.

    OSError for what cannot be read; BeneathError for a link in top's place or on the way, and out of bounds.
    """
    handle = open_beneath(top, name, FOLDER)
    start, count = len(os.fsencode(top)) + 1, 0
    try:
        levels: list[tuple[str, Iterator[str]]] = [(f"{name}/" if name else "", _names(handle))]
        while levels:
            prefix, names = levels[-1]
            entry = next(names, None)
            if entry is None:
                levels.pop()
                if levels:
                    handle = _moved(handle, "..")
                continue
            item = Item(prefix + entry, os.stat(entry, dir_fd=handle, follow_symlinks=False), entry, handle)
            if bounded:
                count += 1
                _check_bounds(top, count, start + len(os.fsencode(item.path)), item)
            yield item
            if item.is_folder and (enter is None or enter(item.path)):
                handle = _moved(handle, entry)
                levels.append((f"{item.path}/", _names(handle)))
    finally:
        os.close(handle)


def _check_bounds(top: Path, count: int, length: int, item: Item) -> None:
    if count > MOST_ENTRIES:
        raise BeneathError(f"more than {MOST_ENTRIES} files and folders lie below {top}")
    if length >= PATH_MAX:
        raise _too_long(top, item)


def _too_long(top: Path, item: Item) -> BeneathError:
    return BeneathError(
        f"a path below {top} is longer than {PATH_MAX} bytes: it begins {item.path[:80]}",
        hint="no program can open it, and no device: have fewer folders in each other",
    )


def listed(top: Path, name: str = "") -> list[Item]:
    """What lies in the folder top, or in one below it, by name. Raises as walk(), bounded."""
    return list(walk(top, name, enter=lambda _: False, bounded=True))


def files_below(top: Path, enter: Callable[[str], bool]) -> list[Item]:
    """All that is no folder in a folder, which may be given by a link to it: the files of a folder come
    before those of folders in it. enter, and what is raised, as for walk(), bounded."""
    found = [item for item in walk(top.resolve(), enter=enter, bounded=True) if not item.is_folder]

    def order(item: Item) -> list[tuple[bool, str]]:
        *above, name = item.path.split("/")
        return [*((True, part) for part in above), (False, name)]

    return sorted(found, key=order)


def copy_tree(top: Path, place: Path, enter: Callable[[str], bool]) -> None:
    """Copy a folder, which may be given by a link to it, to a place where nothing is: files with modes and
    times, and links as they are; sockets, pipes and devices are left out. enter, and what is raised, as for
    walk(), bounded; BeneathError also where a path of the copy would be too long."""
    room = PATH_MAX - len(os.fsencode(place.absolute())) - 1
    top = top.resolve()
    place.mkdir(parents=True)
    for item in walk(top, enter=enter, bounded=True):
        copy = f"{place}/{item.path}"
        if len(os.fsencode(item.path)) >= room:
            raise _too_long(top, item)
        if item.is_folder:
            if enter(item.path):
                os.mkdir(copy)  # noqa: PTH102 (paths are deep here, and pathlib slow)
        elif item.is_link:
            os.symlink(item.target(), copy)  # noqa: PTH211
        elif item.is_file:
            shutil.copy2(f"{top}/{item.path}", copy, follow_symlinks=False)


def _names(handle: int) -> Iterator[str]:
    return iter(sorted(os.listdir(handle)))


def _moved(handle: int, name: str) -> int:
    there = os.open(name, _FOLDER, dir_fd=handle)
    os.close(handle)
    return there


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it, or a file or link; also where a folder's mode forbids it. OSError for
    what is not ours to remove.

    What is in a folder of the folder is moved up beside it, so that nothing is ever more than two deep.
    """
    try:
        kind = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(kind):
        path.unlink()
        return
    with _unlocked(str(path), None) as top:
        waiting = _without_files(top)
        taken = frozenset(waiting)
        free = (name for name in map(str, itertools.count()) if name not in taken)
        while waiting:
            name = waiting.pop()
            with _unlocked(name, top) as inner:
                for below in _without_files(inner):
                    _unlock(below, inner)  # a folder that is moved is written to: its `..` is another one
                    fresh = next(free)
                    os.rename(below, fresh, src_dir_fd=inner, dst_dir_fd=top)
                    waiting.append(fresh)
            os.rmdir(name, dir_fd=top)
    path.rmdir()


def _without_files(handle: int) -> list[str]:
    """Unlink all in an open folder that is no folder; the names of those that are."""
    folders = []
    for name in _names(handle):
        try:
            os.unlink(name, dir_fd=handle)
        except OSError as error:  # unlink(2): EISDIR for a folder; POSIX, and some file systems, say EPERM
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if error.errno not in (errno.EISDIR, errno.EPERM) or not stat.S_ISDIR(status.st_mode):
                raise
            folders.append(name)
    return folders


@contextmanager
def _unlocked(name: str, folder: int | None) -> Iterator[int]:
    """A folder, open, and writable for its owner."""
    _unlock(name, folder)
    handle = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def _unlock(name: str, folder: int | None) -> None:
    """Give a folder's owner all rights, not going through a link: chmod(2) would. Source: proc(5)."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(handle).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            Path(f"/proc/self/fd/{handle}").chmod(stat.S_IRWXU)
    finally:
        os.close(handle)
