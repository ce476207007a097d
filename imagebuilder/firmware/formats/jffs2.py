"""JFFS2 as mkfs.jffs2 writes it: nodes one behind the other, and the files that they hold.

Linux, include/uapi/linux/jffs2.h. All numbers have the order of the device; all CRCs begin with zero and are
not inverted. RouterStation, WNR854T and others keep their kernel in such a file system, and the squashfs
lies behind it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.formats.padding import run_length
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, printable
from imagebuilder.model.firmware import Field, Part

_MAGICS = {b"\x19\x85": "big", b"\x85\x19": "little"}
_DIRENT, _INODE = 0xE001, 0xE002
_OTHERS = (0x2003, 0x2004, 0x2006, 0xE008, 0xE009)  # clean marker, padding, summary, attributes
_HEAD, _DIRENT_HEAD, _INODE_HEAD = 12, 40, 68
_PLAIN, _ZEROS, _ZLIB = 0, 1, 6
_REGULAR = 8
_MOST_FILES, _LARGEST_FILE, _LARGEST_PIECE = 64, 64 << 20, 1 << 20


def crc(data: bytes | memoryview) -> int:
    """CRC-32 as JFFS2 stores it."""
    return zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Node:
    """A node. little: its order. kind: its type."""

    view: View
    little: bool
    kind: int

    def number(self, at: int, size: int = 4) -> int:
        return self.view.number(at, size, little=self.little)


def _node(view: View, little: bool) -> _Node | None:
    """The node at the beginning of a view; None where there is none, or its header's checksum is wrong."""
    if view.size < _HEAD or view.take(0, 2) != (b"\x85\x19" if little else b"\x19\x85"):
        return None
    kind, length, stored = (view.number(at, size, little=little) for at, size in ((2, 2), (4, 4), (8, 4)))
    sane = kind in (_DIRENT, _INODE, *_OTHERS) and _HEAD <= length <= view.size
    if not sane or stored != crc(view.raw[:8]):
        return None
    return _Node(view.first(length), little, kind)


def detect(view: View) -> bool:
    """A node with the right checksum, of either order."""
    return any(_node(view, order == "little") is not None for order in _MAGICS.values())


def _nodes(view: View, little: bool) -> Iterator[_Node]:
    """The nodes in their order; what fills the gaps between them is 0xff or zeros."""
    at = 0
    while at < view.size:
        node = _node(view.part(at), little)
        if node is None:
            gap = run_length(view.part(at)) & ~3
            at += gap
            if not gap or _node(view.part(at), little) is None:
                return
        else:
            yield node
            at += (node.view.size + 3) & ~3


def _sound(node: _Node) -> bool:
    """Whether the checksums of a node's fields, name and data are right."""
    raw = node.view.raw
    if node.kind == _DIRENT:
        name = raw[_DIRENT_HEAD : _DIRENT_HEAD + node.number(28, 1)] if len(raw) >= _DIRENT_HEAD else raw
        return (
            len(raw) >= _DIRENT_HEAD
            and node.number(32) == crc(raw[:32])
            and len(name) == node.number(28, 1)
            and node.number(36) == crc(name)
        )
    if node.kind == _INODE:
        if len(raw) < _INODE_HEAD or node.number(64) != crc(raw[:60]):
            return False
        data = raw[_INODE_HEAD : _INODE_HEAD + node.number(48)]
        return len(data) == node.number(48) and node.number(60) == crc(data)
    return True


def _piece(node: _Node) -> bytes | None:
    """What an inode's node adds to its file; None where it is compressed as this program does not unpack."""
    size, stored = node.number(52), node.view.raw[_INODE_HEAD : _INODE_HEAD + node.number(48)]
    compression = node.number(56, 1)
    if size > _LARGEST_PIECE:
        return None
    if compression == _ZEROS:
        return bytes(size)
    if compression == _PLAIN:
        return bytes(stored)
    if compression != _ZLIB:
        return None
    try:
        data = zlib.decompressobj().decompress(bytes(stored), size + 1)
    except zlib.error:
        return None
    return data if len(data) == size else None


def _contents(nodes: list[_Node], most: int) -> bytes | None:
    """A file of so many bytes at most; None where a part of it lacks or cannot be unpacked."""
    data = bytearray()
    for node in sorted(nodes, key=lambda one: one.number(16)):
        piece = _piece(node)
        offset = node.number(44)
        if piece is None or offset > len(data) or offset + len(piece) > most:
            return None
        data[offset : offset + len(piece)] = piece
    size = max((node.number(28) for node in nodes), default=0)
    return bytes(data) if len(data) == size else None


def _files(nodes: list[_Node], reading: Reading, start: int) -> Iterator[Part]:
    """The files, with what lies in each."""
    names = {
        node.number(20): printable(bytes(node.view.raw[_DIRENT_HEAD : _DIRENT_HEAD + node.number(28, 1)]))
        for node in nodes
        if node.kind == _DIRENT and node.number(29, 1) == _REGULAR
    }
    if len(names) > _MOST_FILES:  # a root file system: it is only named
        return
    of_file: dict[int, list[_Node]] = {}
    for node in nodes:
        if node.kind == _INODE:
            of_file.setdefault(node.number(12), []).append(node)
    for number, name in sorted(names.items()):
        pieces = of_file.get(number, [])
        size = sum(node.number(48) for node in pieces)
        data = _contents(pieces, min(_LARGEST_FILE, reading.unpack_left))
        if not data:
            yield Part("jffs2-file", name, start, 0, {"stored": Field(size, "bytes, not opened")})
            continue
        content = reading.inside(reading.unpacked(data, f"the file {name}"), name)
        fields = {"stored": Field(size, "bytes")}
        yield Part("jffs2-file", name, start, 0, fields, (content,), unpacked_size=len(data))


def parse(view: View, reading: Reading) -> Part:
    """The nodes, and the files where there are few. Ends with the last node; what pads it is its caller's."""
    little = _node(view, little=True) is not None
    nodes = list(_nodes(view, little))
    if not nodes:
        raise ImageFormatError("the JFFS2 has no node with a right checksum")
    last = nodes[-1].view
    end = min(view.size, (last.start - view.start + last.size + 3) & ~3)
    wrong = [node for node in nodes if not _sound(node)]
    found = f"{len(wrong)} of {len(nodes)} wrong, first at {wrong[0].view.start:#x}" if wrong else "right"
    check = holds("checksums of the JFFS2's nodes", not wrong, expected="right", found=found)
    fields = {"order": Field("little endian" if little else "big endian"), "nodes": Field(len(nodes))}
    children = () if wrong else tuple(_files(nodes, reading, view.start))
    return view.first(end).to_part(JFFS2.kind, "JFFS2", fields, children, (check,))


JFFS2 = Format(
    "jffs2",
    "JFFS2",
    detect,
    parse,
    steps="jffs2 cfe-jffs2 cfe-jffs2-kernel buffalo-kernel-jffs2 zyxel-buildkerneljffs",
)
