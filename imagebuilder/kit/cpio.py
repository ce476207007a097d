"""Initramfs archives: cpio in the `newc` form, as the kernel's documentation (buffer-format) describes it."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterator

from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import Entry, FileTree

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 4
_TYPES = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
# without it, init could not say anything before /dev is mounted
_CONSOLE = ("dev/console", stat.S_IFCHR | 0o600, (5, 1))


def _member(number: int, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    text = name.encode("utf-8", "surrogateescape") + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(text), 0)
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + text
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)


def _data(entry: Entry) -> bytes:
    if entry.kind == "file":
        return content(entry)
    return entry.target.encode("utf-8", "surrogateescape")


def _members(tree: FileTree) -> Iterator[bytes]:
    number = 0
    for number, (path, entry) in enumerate(tree.items(), 1):
        yield _member(number, path[1:], _TYPES[entry.kind] | entry.mode, _data(entry))
    name, mode, device = _CONSOLE
    yield _member(number + 1, name, mode, device=device)
    yield _member(0, _TRAILER, 0)


def initramfs(tree: FileTree) -> bytes:
    """A gzip-compressed initramfs of the tree and /dev/console, all owned by root and dated 1970:
    equal trees, equal bytes. The tree must hold /dev."""
    return gzip.compress(b"".join(_members(tree)), 9, mtime=0)
