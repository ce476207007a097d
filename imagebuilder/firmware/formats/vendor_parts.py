"""Vendors' files of several parts, each with its place or length: kernel, root file system, scripts.

Sources: OpenWrt's scripts/combined-image.sh and combined-ext-image.sh (CI, CE01), firmware-utils' seama.c,
fw.h and mkfwimage.c (Ubiquiti), xiaomifw.c, myloader.h with mkmylofw.c (Compex), mkzcfw.c (ZComax), and
images that OpenWrt 17.01 made. TP-Link's SafeLoader is tplink.py's.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.checks import equal, hexadecimal, holds, same_number
from imagebuilder.firmware.formats.jffs2 import crc as crc_from_zero
from imagebuilder.firmware.formats.padding import filled, padding
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, begins_with, printable
from imagebuilder.model.firmware import Check, Field, Part

_BLOCK = 0x10000
_MOST_FILES = 64


def _md5(view: View) -> str:
    return hashlib.md5(view.raw, usedforsecurity=False).hexdigest()


def _head(kind: str, view: View, size: int) -> Part:
    return view.first(size).to_part(f"{kind}-header", f"{kind} header")


def _zeros(what: str, rest: View) -> Check:
    """Whether the rest of a header is empty."""
    empty = rest.filled_with(0)
    return holds(what, empty, expected="zeros behind what it says", found="zeros" if empty else "other bytes")


def _file(name: str, view: View) -> Part:
    return view.to_part("vendor-file", name)


_CI = re.compile(rb"CI([0-9a-f]{8})([0-9a-f]{8})([0-9a-f]{32})")


def detect_combined(view: View) -> bool:
    """`CI`, two lengths and an MD5 in hex."""
    return view.size > _BLOCK and _CI.match(view.take(0, 50)) is not None


def parse_combined(view: View, reading: Reading) -> Part:
    """A header of 64 KiB, kernel and root file system, whose MD5 is over both. Some recipes count all as the
    kernel."""
    found = _CI.match(view.take(0, 50))
    if found is None:
        raise ImageFormatError("the combined image has no lengths in its header")
    kernel, rootfs = int(found[1], 16), int(found[2], 16)
    if _BLOCK + kernel + rootfs > view.size:
        raise ImageFormatError(
            f"the combined image is cut: its header says {kernel} and {rootfs} bytes, "
            f"{view.size - _BLOCK} are there"
        )
    body = view.part(_BLOCK, kernel + rootfs, "the image")
    checks = (
        equal("checksum in the header (MD5)", found[3].decode(), _md5(body)),
        _zeros("header of the combined image", view.part(50, _BLOCK - 50)),
    )
    children = [_head("combined", view, _BLOCK), *filled(body.first(kernel), reading, "kernel")]
    if rootfs:
        children += filled(body.part(kernel), reading, "rootfs")
    children += padding(view.part(_BLOCK + kernel + rootfs))
    fields = {"kernel length": Field(kernel), "rootfs length": Field(rootfs)}
    return view.to_part("combined", "combined image", fields, children, checks)


COMBINED = Format("combined", "combined image (CI)", detect_combined, parse_combined, steps="combined-image")


_CE = re.compile(rb"CE01(.{32})([0-9a-f]{2})", re.DOTALL)
_CE_FILE = re.compile(rb"(.{32})([0-9a-f]{8})([0-9a-f]{32})", re.DOTALL)
_CE_HEAD, _CE_ENTRY = 38, 72


def detect_openmesh(view: View) -> bool:
    """`CE01`, a type, and how many files."""
    return view.size > _BLOCK and _CE.match(view.take(0, _CE_HEAD)) is not None


def parse_openmesh(view: View, reading: Reading) -> Part:
    """A header of 64 KiB that lists files with lengths and MD5s, and the files."""
    found = _CE.match(view.take(0, _CE_HEAD))
    if found is None or not 0 < int(found[2], 16) <= _MOST_FILES:
        raise ImageFormatError("the OpenMesh header does not say how many files follow")
    children, checks, names, at = [_head("openmesh", view, _BLOCK)], [], [], _BLOCK
    for number in range(int(found[2], 16)):
        entry = _CE_FILE.match(view.take(_CE_HEAD + number * _CE_ENTRY, _CE_ENTRY))
        if entry is None:
            raise ImageFormatError(f"the OpenMesh header is damaged at its file {number}")
        name, size = printable(entry[1].rstrip(b" \0")), int(entry[2], 16)
        data = view.part(at, size, f"the file {name}")
        checks.append(equal(f"checksum of the file {name} (MD5)", entry[3].decode(), _md5(data)))
        names.append(f"{name} {size}")
        if size:
            children += filled(data, reading, name) if name in ("kernel", "rootfs") else [_file(name, data)]
        at += size
    end = _CE_HEAD + len(names) * _CE_ENTRY
    checks.append(_zeros("header of the OpenMesh image", view.part(end, _BLOCK - end)))
    children += padding(view.part(at))
    fields = {"type": Field(printable(found[1].rstrip(b" \0"))), "files": Field(tuple(names))}
    return view.to_part("openmesh", "OpenMesh image", fields, children, checks)


OPENMESH = Format("openmesh", "OpenMesh (CE01)", detect_openmesh, parse_openmesh, steps="openmesh-image")


_SEAMA_MAGIC, _SEAMA_BYTES, _MD5_BYTES, _MOST_META = bytes.fromhex("5ea3a417"), 12, 16, 1 << 12


def _seama_meta(view: View, head: int = _SEAMA_BYTES) -> tuple[tuple[str, ...], int]:
    """The texts of a SEAMA header that lie behind its first bytes, and where what they describe begins."""
    size = view.u16(6)
    if size > _MOST_META:
        raise ImageFormatError(f"the SEAMA header states {size} bytes of texts")
    return _texts(view.take(head, size)), head + size


def _texts(data: bytes) -> tuple[str, ...]:
    """NUL-terminated texts, the empty ones left out."""
    return tuple(printable(text) for text in data.split(b"\0") if text)


def parse_seama(view: View, reading: Reading) -> Part:
    """D-Link's and others' SEAMA (binwalk calls it DLOB): one image with an MD5, or a seal around some."""
    texts, at = _seama_meta(view)
    fields = {"texts": Field(texts)}
    children: list[Part] = [_head("seama", view, at)]
    checks: list[Check] = []
    if view.u32(8) == 0:  # the seal: each image has a header of its own
        while view.has(_SEAMA_MAGIC, at):
            inner, used = _seama_image(view.part(at), reading)
            children.append(inner)
            at += used
        checks.append(
            holds(
                "images in the SEAMA",
                len(children) > 1,
                expected="one at least",
                found=str(len(children) - 1),
            )
        )
        children += padding(view.part(at))
        return view.to_part("seama", "SEAMA image", fields, children, checks)
    part, used = _seama_image(view, reading)
    # what OpenWrt's recipes append behind it: the root file system, which the boot loader does not check
    rest = filled(view.part(used), reading, "rootfs") if used < view.size else ()
    return view.to_part("seama", part.name, part.fields, (*part.children, *rest), part.checks)


def _seama_image(view: View, reading: Reading) -> tuple[Part, int]:
    """One image with its header, in which the MD5 comes before the texts; and the bytes that it takes."""
    texts, at = _seama_meta(view, _SEAMA_BYTES + _MD5_BYTES)
    size = view.u32(8)
    if at + size > view.size or not size:
        raise ImageFormatError(f"the SEAMA image is cut: its header says {size} bytes, {view.size} are there")
    stored = view.take(_SEAMA_BYTES, _MD5_BYTES).hex()
    body = view.part(at, size, "the image")
    check = equal("checksum of the SEAMA image (MD5)", stored, _md5(body))
    used = at + size
    children = (_head("seama", view, at), *filled(body, reading, "image"))
    fields = {"texts": Field(texts), "length": Field(size)}
    whole = view.first(used)
    return whole.to_part("seama-image", "SEAMA image", fields, children, (check,)), used


SEAMA = Format(
    "seama", "SEAMA", begins_with(_SEAMA_MAGIC, least=_SEAMA_BYTES + 1), parse_seama, steps="seama seama-seal"
)


_UBIQUITI_MAGICS, _UBIQUITI_BYTES, _UBIQUITI_PART, _UBIQUITI_CRC = (b"OPEN", b"UBNT"), 268, 56, 8
_UBIQUITI_END, _UBIQUITI_SIGNED, _UBIQUITI_RSA = b"END.", b"ENDS", 264


def detect_ubiquiti(view: View) -> bool:
    """The magic and the header's CRC, or a first part where the CRC says otherwise."""
    if view.size <= _UBIQUITI_BYTES or not any(view.has(magic) for magic in _UBIQUITI_MAGICS):
        return False
    return view.has(b"PART", _UBIQUITI_BYTES) or view.u32(260) == zlib.crc32(view.raw[:260])


@dataclass(frozen=True, slots=True)
class _UbiquitiPart:
    """A part: its flash address, the bytes that the flash has for it, its data, and where it ends."""

    name: str
    address: int
    room: int
    data: View
    end: int


def _ubiquiti_parts(view: View) -> Iterator[tuple[_UbiquitiPart, tuple[Check, ...]]]:
    at = _UBIQUITI_BYTES
    for _ in range(_MOST_FILES):
        if not view.has(b"PART", at):
            return
        name, size, room = view.text(at + 4, 16), view.u32(at + 48), view.u32(at + 52)
        whole = _UBIQUITI_PART + size
        if at + whole + _UBIQUITI_CRC > view.size:
            raise ImageFormatError(f"the Ubiquiti image is cut: a part of {size} bytes at {at:#x}")
        found = zlib.crc32(view.raw[at : at + whole])
        checks = (
            same_number(f"checksum of the part {name} (CRC)", view.u32(at + whole), found),
            holds(f"size of the part {name}", size <= room, expected=f"at most {room}", found=str(size)),
        )
        end = at + whole + _UBIQUITI_CRC
        yield (
            _UbiquitiPart(name, view.u32(at + 40), room, view.part(at + _UBIQUITI_PART, size, name), end),
            checks,
        )
        at = end


def _ubiquiti_firmware(parts: list[_UbiquitiPart], reading: Reading) -> Iterator[Part]:
    """What the flash will hold: parts that lie one behind the other there are one. OpenWrt's recipe cuts
    an image into `kernel` and `rootfs` after 1 MiB, wherever that is."""
    joined: list[list[_UbiquitiPart]] = []
    for part in parts:
        if joined and joined[-1][-1].address + joined[-1][-1].data.size == part.address:
            joined[-1].append(part)
        else:
            joined.append([part])
    for group in joined:
        size = sum(part.data.size for part in group)
        if 0 < size <= reading.unpack_left:
            data = b"".join(bytes(part.data.raw) for part in group)
            inner = filled(reading.unpacked(data, "what the flash will hold"), reading, group[0].name)
            names = " and ".join(part.name for part in group)
            yield Part("ubiquiti-flash", names, group[0].data.start, 0, {}, inner, unpacked_size=size)


def parse_ubiquiti(view: View, reading: Reading) -> Part:
    """Ubiquiti's firmware: a version, parts with their flash addresses and a CRC each, and an end with the
    CRC of all before it, or with Ubiquiti's signature, which is not checked here."""
    checks = [same_number("checksum of the header (CRC)", view.u32(260), zlib.crc32(view.raw[:260]))]
    children: list[Part] = [_head("ubiquiti", view, _UBIQUITI_BYTES)]
    parts = []
    for part, found in _ubiquiti_parts(view):
        parts.append(part)
        checks += found
        children.append(_file(part.name, part.data))
    checks.append(
        holds("parts of the Ubiquiti image", bool(parts), expected="one at least", found=str(len(parts)))
    )
    at = parts[-1].end if parts else _UBIQUITI_BYTES
    end, more = _ubiquiti_end(view, at)
    rest = padding(view.part(at + end.size))
    lines = (
        f"{part.name} {part.data.size} at {hexadecimal(part.address)}, {part.room} of flash" for part in parts
    )
    fields = {"version": Field(view.text(4, 256)), "parts": Field(tuple(lines))}
    inside = (*children, *_ubiquiti_firmware(parts, reading), end, *rest)
    return view.to_part("ubiquiti", "Ubiquiti image", fields, inside, (*checks, *more))


def _ubiquiti_end(view: View, at: int) -> tuple[Part, tuple[Check, ...]]:
    if view.has(_UBIQUITI_SIGNED, at):
        size = min(_UBIQUITI_RSA, view.size - at)
        part = view.part(at, size)
        fields = {"signed by": Field("Ubiquiti", "an RSA signature, not checked")}
        return part.to_part("ubiquiti-end", "signature", fields), ()
    if not view.has(_UBIQUITI_END, at) or at + 12 > view.size:
        raise ImageFormatError(f"the Ubiquiti image has no end at {at:#x}")
    part = view.part(at, 12)
    check = same_number("checksum of the Ubiquiti image (CRC)", part.u32(4), zlib.crc32(view.raw[:at]))
    return part.to_part("ubiquiti-end", "end"), (check,)


UBIQUITI = Format(
    "ubiquiti",
    "Ubiquiti (OPEN, UBNT)",
    detect_ubiquiti,
    parse_ubiquiti,
    steps="mkubntimage mkubntimage2 mkubntimage-split mkfwimage",
)


_XIAOMI_MAGIC, _XIAOMI_BLOB, _XIAOMI_BLOB_BYTES, _XIAOMI_HEAD = b"HDR1", 0x0000BABE, 48, 48


def detect_xiaomi(view: View) -> bool:
    """The magic, and a signature's place that lies in the file."""
    return view.has(_XIAOMI_MAGIC) and view.size > _XIAOMI_HEAD and view.le32(4) <= view.size


def _xiaomi_blobs(view: View) -> Iterator[tuple[str, View, View]]:
    """Name, header and data of each blob."""
    for number in range(8):
        at = view.le32(16 + 4 * number)
        if not at:
            return
        if at < _XIAOMI_HEAD or view.le32(at) != _XIAOMI_BLOB:
            raise ImageFormatError(f"the Xiaomi image has no blob at {at:#x}")
        size = view.le32(at + 8)
        yield view.text(at + 16, 32), view.part(at), view.part(at + _XIAOMI_BLOB_BYTES, size, "a blob")


def parse_xiaomi(view: View, reading: Reading) -> Part:
    """Xiaomi's HDR1: blobs with flash offsets, a CRC, and their signature, which is not checked here."""
    stored, found = view.le32(8), zlib.crc32(view.raw[12:]) ^ 0xFFFFFFFF
    children: list[Part] = [_head("xiaomi", view, _XIAOMI_HEAD)]
    names, at = [], _XIAOMI_HEAD
    for name, head, data in sorted(_xiaomi_blobs(view), key=lambda blob: blob[1].start):
        if head.start - view.start < at:
            raise ImageFormatError(f"the blob {name} of the Xiaomi image lies in another")
        children.append(head.first(48).to_part("xiaomi-blob", f"{name} header"))
        children += filled(data, reading, name)
        names.append(f"{name} {data.size} at {hexadecimal(head.le32(4))}, type {head.le16(12)}")
        at = data.start - view.start + data.size
    fields = {
        "device": Field(view.le16(14), hexadecimal(view.le16(14))),
        "blobs": Field(tuple(names)),
        "signature": Field(view.le32(4), "where Xiaomi's signature lies, not checked"),
    }
    check = same_number("checksum of the Xiaomi image (CRC)", stored, found)
    return view.to_part("xiaomi", "Xiaomi image", fields, children, (check,))


XIAOMI = Format("xiaomi", "Xiaomi HDR1", detect_xiaomi, parse_xiaomi)


_MYLO_MAGIC, _MYLO_HEAD, _MYLO_BLOCK, _MYLO_MOST = b"\x00MYL", 40, 16, 8
_MYLO_TABLE = bytes.fromhex("03110220")


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
    return view.to_part("myloader", "MyLoader image", fields, children, (check,))


MYLOADER = Format(
    "myloader", "Compex MyLoader", detect_myloader, parse_myloader, steps="mkmylofw mkmylofw_16m mkmylofw_32m"
)


_FIRM, _SECTION, _TAIL = b"firm", 16, 8
_SECTIONS = {b"Kimg": "kernel", b"Rimg": "rootfs"}


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
    return view.to_part("zcomax", "ZComax image", fields, children, checks)


ZCOMAX = Format("zcomax", "ZComax", detect_zcomax, parse_zcomax)
