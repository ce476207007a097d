"""File trees from and to folders of the host: the I/O beside the pure rootfs.tree."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imagebuilder.errors import UserError
from imagebuilder.host.fs import CHUNK_BYTES, disk_errors_explained, sha256_of
from imagebuilder.host.walk import Item, walk
from imagebuilder.rootfs.tree import Entry, FileTree, file_at, folder, symlink

PERMISSION_BITS = 0o7777


@dataclass(frozen=True)
class Written:
    """What write_tree wrote: number of files, folders and links together, and the files' bytes."""

    entries: int
    bytes: int


@contextmanager
def opened(entry: Entry) -> Iterator[BinaryIO]:
    """The content of a file entry as a stream. OSError if its source cannot be read."""
    if entry.source is not None:
        with entry.source.open("rb") as stream:
            yield stream
    else:
        yield io.BytesIO(entry.data or b"")


def content(entry: Entry) -> bytes:
    """The content of a file entry in memory. OSError if its source cannot be read."""
    return entry.source.read_bytes() if entry.source is not None else entry.data or b""


def content_size(entry: Entry) -> int:
    """The size of a file entry's content in bytes; 0 for folders and links."""
    return entry.source.stat().st_size if entry.source is not None else len(entry.data or b"")


def entry_digest(entry: Entry) -> str:
    """SHA-256 in hex of a file entry's content."""
    return sha256_of(entry.source) if entry.source else hashlib.sha256(entry.data or b"").hexdigest()


def digest(tree: FileTree) -> str:
    """SHA-256 in hex over paths, kinds, modes, link texts and contents: equal trees, equal digests,
    wherever their contents are kept."""
    whole = hashlib.sha256()
    for path, entry in tree.items():
        inner = entry_digest(entry) if entry.kind == "file" else ""
        fields = (path, entry.kind, f"{entry.mode:o}", entry.target, inner)
        whole.update("\0".join(fields).encode("utf-8", "surrogateescape") + b"\0\0")
    return whole.hexdigest()


def _entry_of(root: Path, item: Item) -> Entry:
    mode = item.status.st_mode & PERMISSION_BITS
    if item.is_link:
        return symlink(item.target())
    if item.is_folder:
        return folder(mode)
    if item.is_file:
        return file_at(root / item.path, mode)
    raise UserError(
        f"{root / item.path} is neither a file, a folder nor a symbolic link",
        hint="devices, sockets and pipes cannot go into an image this way: remove it",
    )


def read_tree(root: Path) -> FileTree:
    """The folder `root` as a tree, with modes; links stay links, files are kept by reference.

    Raises UserError for a device, a socket or a pipe, and where the folder cannot be read; BeneathError where
    root itself is a link, for a path too long to be opened, and for more entries than MOST_ENTRIES.
    """
    try:
        return FileTree({f"/{item.path}": _entry_of(root, item) for item in walk(root, bounded=True)})
    except OSError as error:
        raise UserError(f"cannot read the folder {root}: {error.filename}: {error.strerror}") from error


def _clear(place: Path, kind: str) -> None:
    """Make room for an entry. A folder that is there stays; a folder in place of a file is refused."""
    try:
        there = place.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(there):
        if kind != "dir":
            raise UserError(f"{place} is a folder, where a {kind} is to be written")
    else:
        place.unlink()


def _write_entry(place: Path, entry: Entry, mtime: int | None) -> int:
    """Write one entry below a folder that is known to be real; the bytes written."""
    _clear(place, entry.kind)
    size = 0
    if entry.kind == "symlink":
        place.symlink_to(entry.target)
    elif entry.kind == "dir":
        place.mkdir(0o700, exist_ok=True)
        place.chmod(0o700)  # until all is in it: its final mode may forbid writing
    else:
        # O_EXCL: what was there is gone, so that nothing is ever written through a link or a hard link
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as out, opened(entry) as stream:
            shutil.copyfileobj(stream, out, CHUNK_BYTES)
            size = out.tell()
        place.chmod(entry.mode)
    if mtime is not None and entry.kind != "dir":
        os.utime(place, (mtime, mtime), follow_symlinks=False)
    return size


def write_tree(tree: FileTree, root: Path, *, mtime: int | None = None) -> Written:
    """Write a tree into a folder, which is made if it is not there, over what is in it.

    Never outside: a link in the way of a folder or a file is replaced, not followed. mtime: the time of
    all that is written, in seconds since 1970; None leaves the present time.
    Raises UserError where a folder stands in place of a file or link, HostError for a full disk.
    """
    total = 0
    with disk_errors_explained(root):
        root.mkdir(parents=True, exist_ok=True)
        for path, entry in tree.items():
            total += _write_entry(root / path[1:], entry, mtime)
        for path in reversed(list(tree)):
            if tree[path].kind == "dir":
                place = root / path[1:]
                place.chmod(tree[path].mode)
                if mtime is not None:
                    os.utime(place, (mtime, mtime))
    return Written(len(tree), total)
