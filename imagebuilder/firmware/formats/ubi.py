"""UBI images: erase blocks with an EC and a VID header each, the volume table, and the volumes.

Linux, drivers/mtd/ubi/ubi-media.h; all big endian, all CRCs without inversion at the end. OpenWrt's ubinize
can append blocks whose EC header says EOF: the device erases everything from there on.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.checks import equal, hexadecimal, holds
from imagebuilder.firmware.formats.padding import padding
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, begins_with
from imagebuilder.model.firmware import Check, Field, Part

EC_MAGIC, VID_MAGIC = b"UBI#", b"UBI!"
HEADER_BYTES = 64
TABLE_VOLUME = 0x7FFFEFFF
RECORD_BYTES, MOST_VOLUMES = 172, 128
STATIC, DYNAMIC = 2, 1
_SMALLEST_BLOCK, _LARGEST_BLOCK = 1 << 12, 1 << 24
_END_MARK = b"EOF"
_CRC_AT = 0x3C
_RELEASED = 32  # blocks that are copied between two times of giving the file's memory back


def crc(data: bytes | memoryview) -> int:
    """CRC-32 as UBI stores it."""
    return zlib.crc32(data) ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class EraseBlock:
    """An erase block that belongs to a volume. number: its place in the image; logical: its place in the
    volume."""

    number: int
    volume: int
    logical: int
    kind: int
    data: View
    data_size: int
    used_blocks: int
    data_crc: int


@dataclass(frozen=True, slots=True)
class Volume:
    """A record of the volume table. reserved: blocks."""

    number: int
    name: str
    reserved: int
    kind: int
    autoresize: bool


def block_size(view: View) -> int:
    """Bytes of an erase block: the distance of the first two EC headers, or all of an image of one block."""
    size = _SMALLEST_BLOCK
    while size <= min(_LARGEST_BLOCK, view.size):
        if view.has(EC_MAGIC, size):
            return size
        size *= 2
    raise ImageFormatError("there is no second UBI header within 16 MiB: the UBI image is cut")


def _crc_ok(header: View) -> bool:
    return header.u32(_CRC_AT) == crc(header.raw[:_CRC_AT])


def _block(block: View, number: int) -> EraseBlock | None:
    """What a block holds; None for a free one. ImageFormatError for a damaged header."""
    header = block.part(0, HEADER_BYTES)
    if not header.has(EC_MAGIC) or not _crc_ok(header):
        raise ImageFormatError(f"erase block {number}: the checksum of its EC header does not match")
    vid_at, data_at = header.u32(0x10), header.u32(0x14)
    if not HEADER_BYTES <= vid_at < data_at < block.size:
        raise ImageFormatError(f"erase block {number}: its headers would lie at {vid_at} and {data_at}")
    vid = block.part(vid_at, HEADER_BYTES)
    if vid.filled_with(0xFF):
        return None
    if not vid.has(VID_MAGIC) or not _crc_ok(vid):
        raise ImageFormatError(f"erase block {number}: the checksum of its VID header does not match")
    return EraseBlock(
        number,
        vid.u32(8),
        vid.u32(12),
        vid.u8(5),
        block.part(data_at),
        vid.u32(0x14),
        vid.u32(0x18),
        vid.u32(0x20),
    )


def _records(table: View) -> tuple[Volume, ...]:
    volumes = []
    for number in range(min(MOST_VOLUMES, table.size // RECORD_BYTES)):
        record = table.part(number * RECORD_BYTES, RECORD_BYTES)
        if record.u32(168) != crc(record.raw[:168]):
            raise ImageFormatError(f"volume table: the checksum of record {number} does not match")
        if record.u32(0):
            name = record.text(16, min(record.u16(14), 128)) or f"volume {number}"
            volumes.append(Volume(number, name, record.u32(0), record.u8(12), bool(record.u8(144) & 1)))
    return tuple(volumes)


def _table(blocks: list[EraseBlock]) -> tuple[tuple[Volume, ...], Check]:
    copies = {block.logical: block for block in blocks if block.volume == TABLE_VOLUME}
    if not copies:
        numbers = sorted({block.volume for block in blocks})
        check = holds("volume table", False, expected="two copies, alike", found="none")
        return tuple(_unlisted(number, blocks) for number in numbers), check
    length = RECORD_BYTES * min(MOST_VOLUMES, next(iter(copies.values())).data.size // RECORD_BYTES)
    tables = [copies[key].data.take(0, length) for key in sorted(copies)]
    alike = len(tables) == 2 and tables[0] == tables[1]
    found = f"{len(tables)} copies" + ("" if alike or len(tables) < 2 else ", which differ")
    check = holds("volume table", alike, expected="two copies, alike", found=found)
    return _records(View(tables[0], what="the volume table")), check


def _unlisted(number: int, blocks: list[EraseBlock]) -> Volume:
    """A volume that the table does not have, which only its number names."""
    own = [block for block in blocks if block.volume == number]
    return Volume(number, f"volume {number}", len(own), own[0].kind, False)


def _volume_checks(volume: Volume, blocks: list[EraseBlock]) -> Iterator[Check]:
    numbers = sorted(block.logical for block in blocks)
    missing = sorted(set(range(len(numbers))) - set(numbers))
    name = f"blocks of the volume {volume.name}"
    doubles = [number for number, count in Counter(numbers).items() if count > 1]
    trouble = f"lacks block {missing[0]}" if missing else f"has block {doubles[0]} twice" if doubles else ""
    expected = f"0 to {len(numbers) - 1}, each once"
    yield holds(name, not trouble, expected=expected, found=trouble or f"{len(numbers)}")
    yield holds(
        f"size of the volume {volume.name}",
        len(numbers) <= volume.reserved,
        expected=f"at most {volume.reserved} blocks",
        found=f"{len(numbers)}",
    )
    kinds = {block.kind for block in blocks} | {volume.kind}
    yield holds(
        f"type of the volume {volume.name}",
        kinds <= {STATIC} or kinds <= {DYNAMIC},
        expected="static or dynamic, in the table and in each block",
        found=", ".join(map(str, sorted(kinds))),
    )
    for block in blocks if volume.kind == STATIC else ():
        stored = hexadecimal(block.data_crc)
        size_known = block.data_size <= block.data.size
        found = (
            hexadecimal(crc(block.data.first(block.data_size).raw))
            if size_known
            else "more bytes than a block"
        )
        yield equal(f"data checksum of block {block.logical} of {volume.name} (CRC)", stored, found)
        if block.used_blocks != len(blocks):
            yield equal(
                f"blocks that block {block.logical} of {volume.name} counts", block.used_blocks, len(blocks)
            )


def _volume(volume: Volume, blocks: list[EraseBlock], reading: Reading) -> Part:
    ordered = sorted(blocks, key=lambda block: block.logical)
    checks = tuple(_volume_checks(volume, ordered))
    size = sum(block.data.size for block in ordered)
    fields = {
        "number": Field(volume.number),
        "type": Field(volume.kind, "static" if volume.kind == STATIC else "dynamic"),
        "reserved": Field(volume.reserved, "erase blocks"),
        "blocks": Field(len(ordered), "in the image"),
        "autoresize": Field(
            int(volume.autoresize), "takes what is left of the flash" if volume.autoresize else ""
        ),
    }
    children: tuple[Part, ...] = ()
    start = ordered[0].data.start if ordered else 0
    if ordered and size <= reading.unpack_left:
        static = volume.kind == STATIC and all(block.data_size <= block.data.size for block in ordered)
        data = bytearray()
        for number, block in enumerate(ordered):
            data += block.data.first(block.data_size).raw if static else block.data.raw
            if number % _RELEASED == 0:
                block.data.release()
        joined = reading.unpacked(memoryview(data), f"the volume {volume.name}")
        content = reading.inside(joined, volume.name)
        rest = padding(joined.part(content.size)) if content.kind in ("squashfs", "uimage", "fit") else ()
        children = (content, *rest)
    return Part("ubi-volume", volume.name, start, size, fields, children, checks, size if ordered else None)


@dataclass(frozen=True, slots=True)
class _Scan:
    blocks: list[EraseBlock]
    headers: list[View]
    ends: int


def _scan(view: View, size: int) -> _Scan:
    """The blocks of an image, up to where no block follows."""
    blocks, headers, ends, at = [], [], 0, 0
    while at + size <= view.size:
        whole = view.part(at, size)
        if not whole.has(EC_MAGIC) and whole.filled_with(0xFF):
            break
        found = _block(whole, at // size)
        headers.append(whole.part(0, HEADER_BYTES))
        if whole.has(_END_MARK, 5):
            ends += 1
        elif ends and found is not None:
            raise ImageFormatError(f"erase block {at // size} holds data behind the end mark")
        elif found is not None:
            blocks.append(found)
        at += size
    return _Scan(blocks, headers, ends)


def _consistent(scan: _Scan) -> Iterator[Check]:
    for what, at in (("VID header offset", 0x10), ("data offset", 0x14), ("image sequence", 0x18)):
        values = {header.u32(at) for header in scan.headers}
        yield holds(
            f"{what} of all erase blocks",
            len(values) == 1,
            expected="one and the same",
            found=", ".join(hexadecimal(value) for value in sorted(values)[:4]),
        )


def parse(view: View, reading: Reading) -> Part:
    """All blocks, the volume table, and the volumes with what lies in them; ends with the last block."""
    size = block_size(view)
    scan = _scan(view, size)
    used = len(scan.headers) * size
    if 0 < view.size - used < size:
        raise ImageFormatError(
            f"the UBI image is no whole number of {size}-byte blocks: {view.size - used} are left"
        )
    volumes, table_check = _table(scan.blocks)
    by_volume: dict[int, list[EraseBlock]] = {}
    for block in scan.blocks:
        by_volume.setdefault(block.volume, []).append(block)
    strangers = sorted(by_volume.keys() - {volume.number for volume in volumes} - {TABLE_VOLUME})
    checks = [
        *_consistent(scan),
        table_check,
        holds(
            "volumes of all blocks",
            not strangers,
            expected="in the volume table",
            found=", ".join(map(str, strangers)) or "all in it",
        ),
    ]
    head = scan.headers[0]
    fields = {
        "erase block": Field(size, f"{size >> 10} KiB"),
        "vid header offset": Field(head.u32(0x10)),
        "data offset": Field(head.u32(0x14)),
        "image sequence": Field(head.u32(0x18), hexadecimal(head.u32(0x18))),
        "erase blocks": Field(len(scan.headers)),
        "end marks": Field(scan.ends, "blocks that make the device erase the rest"),
    }
    shown = (*volumes, *(_unlisted(number, scan.blocks) for number in strangers))
    parts = tuple(_volume(volume, by_volume.get(volume.number, []), reading) for volume in shown)
    return view.first(used).to_part(UBI.kind, "UBI image", fields, parts, checks)


UBI = Format(
    "ubi",
    "UBI",
    begins_with(EC_MAGIC, least=HEADER_BYTES),
    parse,
    steps="append-ubi ubinize-image ubinize-kernel",
)
