"""The files of a squashfs and how many of its bytes each takes. Contents are firmware/rootfs.py's.

Every name is checked, so that none can lead out of a folder that the files are unpacked into.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.firmware.squashfs.tables import MOST_CONTENTS, Inode, Tables
from imagebuilder.model.firmware import RootFile

MOST_FILES = 100_000
_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class Index:
    """The files of a file system, sorted by path. stored: the bytes of all of it; the files' own bytes and
    `tables`, what the superblock and the tables take, sum to it."""

    files: tuple[RootFile, ...]
    stored: int
    tables: int

    def get(self, path: str) -> RootFile | None:
        """The file at an absolute path, or None."""
        return next((file for file in self.files if file.path == path), None)

    def resolve(self, path: str) -> RootFile | None:
        """The file at an absolute path, links followed as the device does; None where they lead nowhere."""
        by_path = {file.path: file for file in self.files}
        rest, place = [part for part in path.split("/") if part], ""
        for _ in range(_DEEPEST):
            if not rest:
                return by_path.get(place or "/")
            part = rest.pop(0)
            if part in (".", ".."):
                place = place.rpartition("/")[0] if part == ".." else place
                continue
            found = by_path.get(f"{place}/{part}")
            if found is None:
                return None
            if found.kind != "link":
                place = found.path
                continue
            rest = [one for one in found.target.split("/") if one] + rest
            place = "" if found.target.startswith("/") else place
        return None


def _check_name(name: str, path: str, seen: set[str]) -> None:
    if name in ("", ".", "..") or "/" in name or name in seen:
        raise ImageFormatError(
            f"the squashfs has the name {name!r} in {path or '/'}, which no folder may have",
            hint="do not unpack this image by other means either",
        )
    seen.add(name)


def _walk(tables: Tables) -> Iterator[tuple[str, Inode]]:
    """All that is in the file system, the root first."""
    root = tables.root()
    yield "/", root
    waiting = [("", root, 0)]
    count, size, folders = 1, 0, {root.number}
    while waiting:
        path, folder, depth = waiting.pop()
        seen: set[str] = set()
        for name, inode in tables.listing(folder):
            _check_name(name, path, seen)
            count, size = count + 1, size + inode.size
            if count > MOST_FILES or size > MOST_CONTENTS or depth > _DEEPEST:
                raise ImageFormatError(f"the squashfs holds more than {MOST_FILES} files, or too large ones")
            yield f"{path}/{name}", inode
            if inode.kind == "folder":
                if inode.number in folders:
                    raise ImageFormatError(
                        f"the squashfs is damaged: the folder {path}/{name} is in two places"
                    )
                folders.add(inode.number)
                waiting.append((f"{path}/{name}", inode, depth + 1))


def _shares(tables: Tables, found: list[tuple[str, Inode]]) -> dict[str, int]:
    """The stored bytes of each file: its own blocks, and its share of the fragment block that holds its end.

    Data that several files have in common (duplicates, hard links) counts for the first of them.
    """
    own: dict[str, int] = {}
    ends: dict[int, list[tuple[str, int, int]]] = {}
    taken: set[tuple[int, int]] = set()
    for path, inode in found:
        own[path] = 0
        if any(inode.blocks) and (inode.start, -1) not in taken:
            taken.add((inode.start, -1))
            own[path] = sum(inode.blocks)
        rest = inode.size % tables.block.block_size
        if inode.fragment is not None and rest and inode.fragment not in taken:
            taken.add(inode.fragment)
            ends.setdefault(inode.fragment[0], []).append((path, inode.fragment[1], rest))
    for number, members in ends.items():
        stored, total = tables.fragments[number][1], sum(rest for _, _, rest in members)
        given = 0
        for index, (path, _, rest) in enumerate(members):
            share = stored - given if index == len(members) - 1 else stored * rest // total
            own[path] += share
            given += share
    return own


def read_index(view: View) -> Index:
    """All files of the squashfs at the beginning of a view. ImageFormatError for damage, for a name that a
    folder may not have, and for counts that differ from the superblock's."""
    tables = Tables(view)
    found = sorted(_walk(tables), key=lambda pair: pair[0])
    numbers = {inode.number: inode.reference for _, inode in found}
    if len(numbers) != tables.block.inodes:
        raise ImageFormatError(
            f"the squashfs is damaged: its superblock counts {tables.block.inodes} inodes, "
            f"{len(numbers)} are there"
        )
    exports = tables.exports()
    owners = len(tables.owners)
    if any(max(inode.ids) >= owners for _, inode in found):
        raise ImageFormatError("the squashfs is damaged: a file's owner is not in the table of owners")
    if exports and [numbers.get(number) for number in range(1, len(exports) + 1)] != list(exports):
        raise ImageFormatError(
            "the squashfs is damaged: its table of exported inodes does not fit the inodes"
        )
    shares = _shares(tables, found)
    files = tuple(
        RootFile(
            path,
            inode.kind,
            inode.mode & 0o7777,
            inode.size if inode.kind == "file" else 0,
            shares[path],
            inode.target,
            (tables.owners[inode.ids[0]], tables.owners[inode.ids[1]]),
        )
        for path, inode in found
    )
    stored = tables.block.bytes_used
    return Index(files, stored, stored - sum(shares.values()))
