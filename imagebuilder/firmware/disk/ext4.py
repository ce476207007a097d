"""Files of an ext2, ext3 or ext4 file system, found by their paths: superblock, inodes, extents, folders.

Linux, Documentation/filesystems/ext4/ (little endian). OpenWrt's make_ext4fs writes blocks of 4 KiB with
extents (tools/make-ext4fs); its predecessors wrote lists of blocks. Checksums are not looked at: Linux looks
at them where it starts from what is read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.formats.named import EXT4_SUPERBLOCK, detect_ext4
from imagebuilder.firmware.reader import ImageFormatError, View

ROOT_INODE = 2
MOST_BYTES = 256 << 20  # of one file: kernels have a tenth of it
_FOLDER, _FILE, _LINK = 0x4000, 0x8000, 0xA000
_FAST_LINK = 60  # bytes: shorter targets stand in the inode
_EXTENTS, _INLINE, _ENCRYPTED = 0x80000, 0x10000000, 0x800
_INCOMPAT_64BIT, _INCOMPAT_META_GROUPS = 0x80, 0x10
_EXTENT_MAGIC = 0xF30A
_DEEPEST_EXTENTS, _DIRECT = 5, 12
_MOST_LINKS = 8
_UNWRITTEN = 0x8000  # an extent's length above it is of blocks that hold zeros


@dataclass(frozen=True, slots=True)
class _Inode:
    """mode: type and rights. size: bytes. block: the 60 bytes that say where the contents are."""

    mode: int
    size: int
    flags: int
    block: View

    @property
    def kind(self) -> int:
        return self.mode & 0xF000


class Ext4:
    """A file system, whose files are read when they are asked for."""

    def __init__(self, view: View) -> None:
        """ImageFormatError where its superblock is damaged, or of a kind that is not known here."""
        if not detect_ext4(view):
            raise ImageFormatError(f"{view.what} is no ext4")
        block = view.part(EXT4_SUPERBLOCK, EXT4_SUPERBLOCK, f"the superblock of {view.what}")
        log, self._inodes_each = block.le32(0x18), block.le32(0x28)
        modern = block.le32(0x4C) > 0
        self._inode_bytes = block.le16(0x58) if modern else 128
        incompat = block.le32(0x60) if modern else 0
        self._group_bytes = (block.le16(0xFE) if incompat & _INCOMPAT_64BIT else 0) or 32
        sane = log <= 6 and self._inodes_each and 128 <= self._inode_bytes <= 1024 << log
        if not sane or not 32 <= self._group_bytes <= 1024:
            raise ImageFormatError(f"the superblock of {view.what} is damaged")
        if incompat & _INCOMPAT_META_GROUPS:
            raise ImageFormatError(f"{view.what} has its groups in a place that is not known here (meta_bg)")
        self._view = view
        self._block = 1024 << log
        self._groups_at = (block.le32(0x14) + 1) * self._block

    def read(self, path: str) -> bytes | None:
        """A file's contents, links followed; None where there is no such file.

        ImageFormatError where what leads to it is damaged, or it has more than MOST_BYTES.
        """
        inode = self._find([name for name in path.split("/") if name], 0)
        if inode is None or inode.kind != _FILE:
            return None
        return b"".join(self._content(inode, path))

    def _find(self, names: list[str], links: int) -> _Inode | None:
        inode, passed = self._inode(ROOT_INODE), list[str]()
        for number, name in enumerate(names):
            if inode.kind != _FOLDER:
                return None
            found = self._entry(inode, name)
            if found is None:
                return None
            inode = self._inode(found)
            if inode.kind == _LINK:
                if links >= _MOST_LINKS:
                    raise ImageFormatError(f"the links of {self._view.what} lead in a circle")
                target = self._target(inode)
                above = [] if target.startswith("/") else passed
                return self._find(_joined([*above, *target.split("/"), *names[number + 1 :]]), links + 1)
            passed.append(name)
        return inode

    def _target(self, inode: _Inode) -> str:
        fast = inode.size < _FAST_LINK and not inode.flags & _EXTENTS
        data = inode.block.take(0, inode.size) if fast else b"".join(self._content(inode, "a link"))
        return data.decode("utf-8", "replace")

    def _inode(self, number: int) -> _Inode:
        group, index = divmod(number - 1, self._inodes_each)
        at = self._groups_at + group * self._group_bytes
        table = self._view.le32(at + 8)
        if self._group_bytes >= 64:
            table |= self._view.le32(at + 0x28) << 32
        inode = self._view.part(table * self._block + index * self._inode_bytes, 128)
        size = inode.le32(4) | inode.le32(0x6C) << 32
        return _Inode(inode.le16(0), size, inode.le32(0x20), inode.part(0x28, 60))

    def _entry(self, folder: _Inode, name: str) -> int | None:
        """The inode of that name in a folder; in the blocks of an index no entry has a name."""
        wanted = name.encode("utf-8", "surrogateescape")
        for piece in self._content(folder, "a folder"):
            block, at = View(piece, what=f"a folder of {self._view.what}"), 0
            while at + 8 <= block.size:
                number, length, letters = block.le32(at), block.le16(at + 4), block.u8(at + 6)
                if length < 8:
                    raise ImageFormatError(f"{block.what} is damaged")
                if number and block.take(at + 8, min(letters, block.size - at - 8)) == wanted:
                    return number
                at += length
        return None

    def _content(self, inode: _Inode, name: str) -> Iterator[bytes]:
        """The contents in pieces of a block, the last one cut."""
        if inode.flags & (_INLINE | _ENCRYPTED):
            raise ImageFormatError(f"{name} in {self._view.what} is kept in a way that is not known here")
        if inode.size > MOST_BYTES:
            raise ImageFormatError(f"{name} in {self._view.what} has {inode.size} bytes: too many")
        blocks = -(-inode.size // self._block)
        places: dict[int, int] = {}
        if inode.flags & _EXTENTS:
            self._extents(inode.block, blocks, places, _DEEPEST_EXTENTS, set())
        else:
            self._mapped(inode.block, blocks, places)
        for number in range(blocks):
            size = min(self._block, inode.size - number * self._block)
            place = places.get(number, 0)
            yield self._view.take(place * self._block, size) if place else bytes(size)

    def _extents(self, node: View, blocks: int, places: dict[int, int], depth: int, passed: set[int]) -> None:
        """Put down where the blocks of a tree of extents are; a hole is none. passed: blocks of the tree that
        were read, each once, which bounds what a damaged one costs."""
        count, level = node.le16(2), node.le16(6)
        if node.le16(0) != _EXTENT_MAGIC or level > depth or 12 * (count + 1) > node.size:
            raise ImageFormatError(f"the extents of a file in {self._view.what} are damaged")
        for index in range(count):
            entry = node.part(12 * (index + 1), 12)
            first = entry.le32(0)
            if level == 0:
                length, place = entry.le16(4), entry.le32(8) | entry.le16(6) << 32
                held = length if length <= _UNWRITTEN else 0
                for number in range(first, min(first + held, blocks)):
                    self._put(places, number, place + number - first)
            elif first < blocks:
                place = entry.le32(4) | entry.le16(8) << 32
                below = self._view.part(place * self._block, self._block)
                if below.le16(6) != level - 1 or place in passed:
                    raise ImageFormatError(f"the extents of a file in {self._view.what} are damaged")
                passed.add(place)
                self._extents(below, blocks, places, level - 1, passed)

    def _put(self, places: dict[int, int], number: int, place: int) -> None:
        if number in places:
            raise ImageFormatError(f"the extents of a file in {self._view.what} are damaged")
        places[number] = place

    def _mapped(self, block: View, blocks: int, places: dict[int, int]) -> None:
        """Put down where the blocks of the older map are: 12, then three lists of lists."""
        number = 0
        for index in range(_DIRECT):
            if number < blocks:
                places[number] = block.le32(4 * index)
            number += 1
        for depth in (1, 2, 3):
            number = self._list(block.le32(4 * (_DIRECT + depth - 1)), depth, number, blocks, places)

    def _list(self, at: int, depth: int, number: int, blocks: int, places: dict[int, int]) -> int:
        """One list; the number of the first block behind it."""
        entries = self._block // 4
        if number >= blocks or at == 0:
            return int(number + entries**depth)
        table = self._view.part(at * self._block, self._block)
        for index in range(entries):
            place = table.le32(4 * index)
            if depth > 1:
                number = self._list(place, depth - 1, number, blocks, places)
            else:
                places[number] = place
                number += 1
            if number >= blocks:
                break
        return number


def _joined(names: list[str]) -> list[str]:
    """The names of a path without `.` and `..`."""
    path: list[str] = []
    for name in names:
        if name == "..":
            path = path[:-1]
        elif name not in ("", "."):
            path.append(name)
    return path
