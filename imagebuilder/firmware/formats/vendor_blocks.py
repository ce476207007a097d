"""Two vendors' factory files, blocks one behind the other: Compex' MyLoader and ZComax. Both little endian.

Sources: OpenWrt's firmware-utils, myloader.h with mkmylofw.c, and mkzcfw.c; images that OpenWrt 17.01 made.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from imagebuilder.firmware.checks import equal, hexadecimal, same_number
from imagebuilder.firmware.formats.jffs2 import crc as crc_from_zero
from imagebuilder.firmware.formats.padding import filled, padding
from imagebuilder.firmware.reader import ImageFormatError, Reading, View
from imagebuilder.model.firmware import Check, Field, Part

MYLOADER, ZCOMAX = "myloader", "zcomax"
_MYLO_MAGIC, _MYLO_HEAD, _MYLO_BLOCK, _MYLO_MOST = b"\x00MYL", 40, 16, 8
_MYLO_TABLE = bytes.fromhex("03110220")
_FIRM, _SECTION, _TAIL = b"firm", 16, 8
_SECTIONS = {b"Kimg": "kernel", b"Rimg": "rootfs"}


def detect_myloader(view: View) -> bool:
    """The magic, and a first block that is used."""
    return view.has(_MYLO_MAGIC) and view.size > _MYLO_HEAD + _MYLO_BLOCK and view.le32(_MYLO_HEAD) == 1


def _mylo_blocks(view: View) -> tuple[list[tuple[int, View]], int]:
    """Flash address and data of each block, and where they end."""
    lines: list[tuple[int, int]] = []
    at = _MYLO_HEAD
    while view.le32(at) != 0:
        if view.le32(at) != 1 or len(lines) >= _MYLO_MOST:
            raise ImageFormatError(f"the MyLoader header has no block at {at:#x}")
        lines.append((view.le32(at + 4), view.le32(at + 8)))
        at += _MYLO_BLOCK
    at += _MYLO_BLOCK
    blocks = []
    for address, size in lines:
        blocks.append((address, view.part(at, size, "a block of the MyLoader image")))
        at += size
    return blocks, at


def parse_myloader(view: View, reading: Reading) -> Part:
    """A header with the device's numbers, blocks with their flash addresses, and a CRC over all."""
    blocks, end = _mylo_blocks(view)
    blank = zlib.crc32(view.take(0, 4) + bytes(4))
    check = same_number("checksum of the MyLoader image (CRC)", view.le32(4), zlib.crc32(view.raw[8:], blank))
    first = blocks[0][1].start - view.start if blocks else _MYLO_HEAD + _MYLO_BLOCK
    children = [view.first(first).to_part("myloader-header", "MyLoader header")]
    for _, data in blocks:
        if data.has(_MYLO_TABLE):
            table = data.to_part("partition-table", "partition table")
            children.append(table)
        elif data.size:
            children += filled(data, reading, "firmware")
    children += padding(view.part(end))
    fields = {
        "vendor": Field(view.le16(16), f"{view.le16(16):#06x}"),
        "device": Field(view.le16(18), f"{view.le16(18):#06x}"),
        "revision": Field(view.le32(24)),
        "blocks": Field(tuple(f"{data.size} at {hexadecimal(address)}" for address, data in blocks)),
    }
    return view.to_part(MYLOADER, "MyLoader image", fields, children, (check,))


def detect_zcomax(view: View) -> bool:
    """The word, and a first section."""
    return view.has(_FIRM) and view.size > 2 * _SECTION and view.take(_SECTION, 4) in _SECTIONS


def _zcomax_sections(view: View, reading: Reading) -> Iterator[tuple[tuple[Part, ...], Check, int]]:
    """The parts of each section, the check of its CRC, and where it ends."""
    at = _SECTION
    while at + _SECTION <= view.size and view.take(at, 4) in _SECTIONS:
        name, size = _SECTIONS[view.take(at, 4)], view.le32(at + 4)
        body = view.part(at + _SECTION, size, f"the {name} of the ZComax image")
        if size <= _TAIL:
            raise ImageFormatError(f"the {name} of the ZComax image has {size} bytes")
        head = view.part(at, _SECTION)
        tail = body.part(size - _TAIL)
        counted = body.raw[: size - 4]
        check = same_number(f"checksum of the {name} (CRC)", tail.u32(4), crc_from_zero(counted))
        inside = (
            head.to_part("zcomax-header", f"{name} header"),
            *filled(body.first(size - _TAIL), reading, name),
            tail.to_part("zcomax-tail", f"{name} checksum"),
        )
        at += _SECTION + size
        yield inside, check, at


def parse_zcomax(view: View, reading: Reading) -> Part:
    """A header, kernel and root file system with a header and a tail each, and a tail over both. A tail has
    the device's number and a CRC."""
    children: list[Part] = [view.first(_SECTION).to_part("zcomax-header", "ZComax header")]
    checks, at = [], _SECTION
    for inside, check, ends in _zcomax_sections(view, reading):
        children += inside
        checks.append(check)
        at = ends
    tail = view.part(at, _TAIL, "the end of the ZComax image")
    found = crc_from_zero(view.raw[_SECTION : at + 4])
    checks += [
        same_number("checksum of the ZComax image (CRC)", tail.u32(4), found),
        equal("length in the ZComax header", view.le32(4), at + _TAIL - _SECTION),
    ]
    children.append(tail.to_part("zcomax-tail", "checksum"))
    children += padding(view.part(at + _TAIL))
    fields = {"hardware id": Field(tail.u32(0), hexadecimal(tail.u32(0))), "length": Field(view.le32(4))}
    return view.to_part(ZCOMAX, "ZComax image", fields, children, checks)
