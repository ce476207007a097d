"""The files of a squashfs 4.0 and how many of its bytes each takes, from its tables: inodes, listings of
folders, fragments (Linux, fs/squashfs/squashfs_fs.h). Contents are firmware/rootfs.py's.

Little endian, in metadata blocks of at most 8 KiB, each compressed for itself. Unpacked only as they are
asked for. Every name is checked, so that none can lead out of a folder that the files are unpacked into.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import zstandard

from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.firmware.squashfs.squashfs import COMPRESSIONS, SUPERBLOCK_BYTES, superblock
from imagebuilder.model.firmware import RootFile

METADATA_BYTES = 8192
MOST_METADATA = 64 << 20
MOST_CONTENTS = 1 << 30
BLOCK_BYTES = (1 << 24) - 1  # the stored size in a block's word; the bit above: not compressed
_STORED, _SIZE_MASK = 0x8000, 0x7FFF
_BLOCK_BITS = 25
_NO_FRAGMENT = 0xFFFFFFFF
_DECODER_BYTES = 64 << 20
_LONGEST_LINK = 4096
_FRAGMENT_BYTES, _OWNER_BYTES, _REFERENCE_BYTES = 16, 4, 8
_COMMON = struct.Struct("<HHHHII")  # type, mode, owner, group, time, number
# what follows, by type; 8 to 14 are the long forms of 1 to 7
_LAYOUTS = {
    1: struct.Struct("<IIHHI"),  # block of the listing, links, size, offset in it, parent
    2: struct.Struct("<IIII"),  # first block, fragment, offset in it, size
    3: struct.Struct("<II"),  # links, size of the target
    8: struct.Struct("<IIIIHHI"),  # links, size, block of the listing, parent, indexes, offset, attributes
    9: struct.Struct("<QQQIIII"),  # first block, size, holes, links, fragment, offset in it, attributes
    10: struct.Struct("<II"),
}
_KINDS = ("folder", "file", "link", "block device", "device", "pipe", "socket")


@dataclass(frozen=True, slots=True)
class Inode:
    """A file, folder or other thing. reference: where it stands in the table. ids: the places of owner and
    group in the table of them. size: bytes. start: of its first data block; blocks: the stored bytes of
    each. fragment: the block that holds its end, and where in it. listing: block and offset of a folder's
    names."""

    kind: str
    mode: int
    number: int
    reference: int
    ids: tuple[int, int]
    size: int = 0
    start: int = 0
    blocks: tuple[int, ...] = ()
    fragment: tuple[int, int] | None = None
    target: str = ""
    listing: tuple[int, int] = (0, 0)


_DECODERS: dict[int, Callable[[], Any]] = {
    1: zlib.decompressobj,
    2: lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_DECODER_BYTES),
    4: lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_DECODER_BYTES),
}


def _damaged(reason: str) -> ImageFormatError:
    return ImageFormatError(f"the squashfs is damaged: {reason}")


def _unpack(data: bytes, compression: int) -> bytes:
    """A metadata block, whole. One byte more than it may have tells that it has too many."""
    most = METADATA_BYTES + 1
    try:
        if compression == 6:
            decoder = zstandard.ZstdDecompressor(max_window_size=_DECODER_BYTES)
            with decoder.stream_reader(data) as stream:
                unpacked: bytes = stream.read(most)
            if len(unpacked) != zstandard.frame_content_size(data):
                raise _damaged("a table is incomplete")
            return unpacked
        if compression not in _DECODERS:
            name = COMPRESSIONS[compression]
            raise ImageFormatError(f"the squashfs is compressed with {name}, which is not read here")
        other = _DECODERS[compression]()
        unpacked = other.decompress(data, most)
    except (zlib.error, lzma.LZMAError, EOFError, zstandard.ZstdError) as error:
        raise _damaged(f"a table cannot be unpacked ({error})") from error
    if not other.eof or other.unused_data:
        raise _damaged("a table is incomplete, or has bytes too many")
    return unpacked


def _words(data: bytes, what: str) -> str:
    """A name or a link's target. ImageFormatError for bytes that a listing could not show."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _damaged(f"{what} is no UTF-8") from error
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
        raise _damaged(f"{what} holds a control character")
    return text


class Tables:
    """The tables of the file system at the beginning of a view. Every method raises ImageFormatError for
    damage."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.block = superblock(view)
        self._inodes = self.block.tables["inodes"] or 0
        self._folders = self.block.tables["directories"] or 0
        self._unpacked: dict[int, tuple[bytes, int]] = {}
        self._left = MOST_METADATA
        self.fragments = tuple(self._fragments())
        self.owners = tuple(
            int.from_bytes(one, "little") for one in self._lookup("ids", self.block.ids, _OWNER_BYTES)
        )

    def _metadata(self, at: int) -> tuple[bytes, int]:
        """The block at a place, unpacked, and where the next one is."""
        if at not in self._unpacked:
            head = self._view.le16(at)
            size = head & _SIZE_MASK
            data = self._view.take(at + 2, size)
            unpacked = data if head & _STORED else _unpack(data, self.block.compression)
            self._left -= len(unpacked)
            if self._left < 0 or not 0 < len(unpacked) <= METADATA_BYTES:
                raise _damaged("a table is too large, or empty")
            self._unpacked[at] = (unpacked, at + 2 + size)
        return self._unpacked[at]

    def _take(self, at: int, offset: int, size: int) -> bytes:
        """So many bytes from an offset in the block at a place, going on in the blocks behind it."""
        if size > MOST_METADATA:
            raise _damaged(f"an entry of {size} bytes")
        data, following = self._metadata(at)
        while offset >= len(data) and size:
            offset -= len(data)
            data, following = self._metadata(following)
        pieces = [data[offset : offset + size]]
        have = len(pieces[0])
        while have < size:
            data, following = self._metadata(following)
            pieces.append(data[: size - have])
            have += len(pieces[-1])
        return b"".join(pieces)

    def _lookup(self, name: str, count: int, size: int) -> Iterator[bytes]:
        """The entries of a table that is found by a list of its blocks' places."""
        table = self.block.tables[name]
        if count and table is None:
            raise _damaged(f"it has {count} {name} and no table of them")
        per_block = METADATA_BYTES // size
        for index in range(-(-count // per_block)):
            place = self._view.le64((table or 0) + 8 * index)
            number = min(per_block, count - index * per_block)
            data, _ = self._metadata(place)
            if len(data) != number * size:
                raise _damaged(f"its table of {name} has another length than the superblock says")
            yield from (data[at : at + size] for at in range(0, len(data), size))

    def _fragments(self) -> Iterator[tuple[int, int]]:
        """Place and stored bytes of each fragment block."""
        for entry in self._lookup("fragments", self.block.fragments, _FRAGMENT_BYTES):
            start, word, unused = struct.unpack("<QII", entry)
            if unused or word >> _BLOCK_BITS:
                raise _damaged(f"the entry of the fragment at {start}")
            self._stored(start, word & BLOCK_BYTES)
            yield start, word & BLOCK_BYTES

    def exports(self) -> tuple[int, ...]:
        """The references of all inodes in the order of their numbers, from 1; empty where there is no such
        table."""
        if self.block.tables["exports"] is None:
            return ()
        found = self._lookup("exports", self.block.inodes, _REFERENCE_BYTES)
        return tuple(int.from_bytes(one, "little") for one in found)

    def _stored(self, start: int, size: int) -> None:
        """Data lies between the superblock and the tables."""
        if not SUPERBLOCK_BYTES <= start <= start + size <= self._inodes or size > self.block.block_size:
            raise _damaged(f"data of {size} bytes would lie at {start}")

    def root(self) -> Inode:
        """The folder that all others lie in."""
        inode = self.inode(self.block.root)
        if inode.kind != "folder":
            raise _damaged("its root is no folder")
        return inode

    def inode(self, reference: int) -> Inode:
        """The inode at a reference: a block's place in the table, and an offset in it."""
        at, offset = self._inodes + (reference >> 16), reference & 0xFFFF
        if at >= self._folders:
            raise _damaged("an inode lies outside of its table")
        kind, mode, owner, group, _, number = _COMMON.unpack(self._take(at, offset, _COMMON.size))
        common = (mode, number, reference, (owner, group))
        if not 1 <= kind <= 2 * len(_KINDS):
            raise _damaged(f"it has an inode of type {kind}")
        name = _KINDS[(kind - 1) % len(_KINDS)]
        layout = _LAYOUTS.get(kind)
        if layout is None:
            return Inode(name, *common)
        values = layout.unpack(self._take(at, offset + _COMMON.size, layout.size))
        behind = offset + _COMMON.size + layout.size
        if name == "folder":
            start, size, begin = (
                (values[0], values[2], values[3]) if kind == 1 else (values[2], values[1], values[5])
            )
            return Inode(name, *common, size, listing=(start, begin))
        if name == "link":
            if values[1] > _LONGEST_LINK:
                raise _damaged(f"a link's target has {values[1]} bytes")
            target = _words(self._take(at, behind, values[1]), "a link's target")
            return Inode(name, *common, values[1], target=target)
        if kind == 2:
            start, fragment, begin, size = values
        else:
            start, size, _, _, fragment, begin, _ = values
        blocks = self._blocks(size, fragment, at, behind)
        self._check_data(start, blocks, size, fragment, begin)
        end = None if fragment == _NO_FRAGMENT else (fragment, begin)
        return Inode(name, *common, size, start, blocks, end)

    def _blocks(self, size: int, fragment: int, at: int, behind: int) -> tuple[int, ...]:
        if size > MOST_CONTENTS:
            raise _damaged(f"a file of {size} bytes")
        whole, rest = divmod(size, self.block.block_size)
        count = whole + 1 if fragment == _NO_FRAGMENT and rest else whole
        words = struct.unpack(f"<{count}I", self._take(at, behind, 4 * count))
        if any(word >> _BLOCK_BITS for word in words):
            raise _damaged("the size of a file's block")
        return tuple(word & BLOCK_BYTES for word in words)

    def _check_data(self, start: int, blocks: tuple[int, ...], size: int, fragment: int, begin: int) -> None:
        at = start
        for stored in blocks if any(blocks) else ():
            self._stored(at, stored)
            at += stored
        if fragment != _NO_FRAGMENT:
            rest = size % self.block.block_size
            if fragment >= len(self.fragments) or begin + rest > self.block.block_size:
                raise _damaged(f"the end of a file would lie in the fragment {fragment} at {begin}")

    def listing(self, folder: Inode) -> Iterator[tuple[str, Inode]]:
        """What is in a folder, by names."""
        size = folder.size - 3  # the format counts . and .. as three bytes
        if size <= 0:
            return
        start, offset = folder.listing
        if self._folders + start >= self.block.bytes_used:
            raise _damaged("a folder lies outside of its table")
        names = View(self._take(self._folders + start, offset, size), what="a folder of the squashfs")
        at = 0
        while at < size:
            count, block = names.le32(at) + 1, names.le32(at + 4)
            at += 12
            if count > 256:
                raise _damaged(f"a folder counts {count} names in a row")
            for _ in range(count):
                length = names.le16(at + 6) + 1
                yield _words(names.take(at + 8, length), "a name"), self.inode(block << 16 | names.le16(at))
                at += 8 + length


MOST_FILES = 100_000
_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class SquashfsIndex:
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


def read_index(view: View) -> SquashfsIndex:
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
    return SquashfsIndex(files, stored, stored - sum(shares.values()))
