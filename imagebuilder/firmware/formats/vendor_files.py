"""Vendors' headers that list several parts, each with its place or length: kernel, root file system, scripts.

Sources: OpenWrt's scripts/combined-image.sh and combined-ext-image.sh (CI, CE01), firmware-utils' seama.c,
fw.h and mkfwimage.c (Ubiquiti), xiaomifw.c, and images that OpenWrt 17.01 made.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.checks import equal, hexadecimal, holds, same_number
from imagebuilder.firmware.formats.padding import filled, padding
from imagebuilder.firmware.reader import ImageFormatError, Reading, View, printable
from imagebuilder.model.firmware import Check, Field, Part

COMBINED, OPENMESH, SEAMA, UBIQUITI, XIAOMI = "combined", "openmesh", "seama", "ubiquiti", "xiaomi"
_BLOCK = 0x10000
_CI = re.compile(rb"CI([0-9a-f]{8})([0-9a-f]{8})([0-9a-f]{32})")
_CE = re.compile(rb"CE01(.{32})([0-9a-f]{2})", re.DOTALL)
_CE_FILE = re.compile(rb"(.{32})([0-9a-f]{8})([0-9a-f]{32})", re.DOTALL)
_CE_HEAD, _CE_ENTRY, _MOST_FILES = 38, 72, 64
_SEAMA_MAGIC, _SEAMA_BYTES, _MD5_BYTES, _MOST_META = bytes.fromhex("5ea3a417"), 12, 16, 1 << 12
_UBIQUITI_MAGICS, _UBIQUITI_BYTES, _UBIQUITI_PART, _UBIQUITI_CRC = (b"OPEN", b"UBNT"), 268, 56, 8
_UBIQUITI_END, _UBIQUITI_SIGNED, _UBIQUITI_RSA = b"END.", b"ENDS", 264
_XIAOMI_MAGIC, _XIAOMI_BLOB, _XIAOMI_BLOB_BYTES, _XIAOMI_HEAD = b"HDR1", 0x0000BABE, 48, 48


def _md5(view: View) -> str:
    return hashlib.md5(view.raw, usedforsecurity=False).hexdigest()


def _head(kind: str, view: View, size: int) -> Part:
    return view.first(size).to_part(f"{kind}-header", f"{kind} header")


def _zeros(what: str, rest: View) -> Check:
    """Whether the rest of a header is empty."""
    empty = rest.filled_with(0)
    return holds(what, empty, expected="zeros behind what it says", found="zeros" if empty else "other bytes")


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
    children = [_head(COMBINED, view, _BLOCK), *filled(body.first(kernel), reading, "kernel")]
    if rootfs:
        children += filled(body.part(kernel), reading, "rootfs")
    children += padding(view.part(_BLOCK + kernel + rootfs))
    fields = {"kernel length": Field(kernel), "rootfs length": Field(rootfs)}
    return view.to_part(COMBINED, "combined image", fields, children, checks)


def detect_openmesh(view: View) -> bool:
    """`CE01`, a type, and how many files."""
    return view.size > _BLOCK and _CE.match(view.take(0, _CE_HEAD)) is not None


def parse_openmesh(view: View, reading: Reading) -> Part:
    """A header of 64 KiB that lists files with lengths and MD5s, and the files."""
    found = _CE.match(view.take(0, _CE_HEAD))
    if found is None or not 0 < int(found[2], 16) <= _MOST_FILES:
        raise ImageFormatError("the OpenMesh header does not say how many files follow")
    children, checks, names, at = [_head(OPENMESH, view, _BLOCK)], [], [], _BLOCK
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
    return view.to_part(OPENMESH, "OpenMesh image", fields, children, checks)


def _file(name: str, view: View) -> Part:
    return view.to_part("vendor-file", name)


def detect_seama(view: View) -> bool:
    """The magic."""
    return view.has(_SEAMA_MAGIC) and view.size > _SEAMA_BYTES


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
    children: list[Part] = [_head(SEAMA, view, at)]
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
        return view.to_part(SEAMA, "SEAMA image", fields, children, checks)
    part, used = _seama_image(view, reading)
    # what OpenWrt's recipes append behind it: the root file system, which the boot loader does not check
    rest = filled(view.part(used), reading, "rootfs") if used < view.size else ()
    return view.to_part(SEAMA, part.name, part.fields, (*part.children, *rest), part.checks)


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
    children = (_head(SEAMA, view, at), *filled(body, reading, "image"))
    fields = {"texts": Field(texts), "length": Field(size)}
    whole = view.first(used)
    return whole.to_part("seama-image", "SEAMA image", fields, children, (check,)), used


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
    children: list[Part] = [_head(UBIQUITI, view, _UBIQUITI_BYTES)]
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
    return view.to_part(UBIQUITI, "Ubiquiti image", fields, inside, (*checks, *more))


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


def detect_xiaomi(view: View) -> bool:
    """The magic, and a signature's place that lies in the file."""
    return view.has(_XIAOMI_MAGIC) and view.size > _XIAOMI_HEAD and view.le32(4) <= view.size


def _blobs(view: View) -> Iterator[tuple[str, View, View]]:
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
    children: list[Part] = [_head(XIAOMI, view, _XIAOMI_HEAD)]
    names, at = [], _XIAOMI_HEAD
    for name, head, data in sorted(_blobs(view), key=lambda blob: blob[1].start):
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
    return view.to_part(XIAOMI, "Xiaomi image", fields, children, (check,))
