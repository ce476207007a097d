"""Broadcom's TRX header: 28 bytes (version 1) or 32 (version 2), little endian (Linux, parser_trx.c)."""

from __future__ import annotations

import zlib

from imagebuilder.firmware.checks import hexadecimal, holds, same_number
from imagebuilder.firmware.formats.padding import filled, padding
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, begins_with
from imagebuilder.model.firmware import Field, Part

MAGIC = b"HDR0"
_CHECKED_FROM = 12
_HEADERS = {1: 28, 2: 32}
_NO_INVERSION = 0xFFFFFFFF


def parse(view: View, reading: Reading) -> Part:
    """The header and its parts; the image ends where the header says."""
    length, version = view.le32(4), view.le16(14)
    if version not in _HEADERS:
        raise ImageFormatError(f"the TRX header has version {version}; 1 and 2 are known")
    header = _HEADERS[version]
    if not header <= length <= view.size:
        raise ImageFormatError(f"the TRX image is cut: its header says {length} bytes, {view.size} are there")
    offsets = [view.le32(at) for at in range(16, header, 4)]
    begins = [at for at in offsets if at]
    # a recipe may count the kernel alone, and say where the root file system lies behind it (WRT160NL)
    inside = [at for at in begins if at < length]
    in_order = begins == sorted(set(begins)) and all(header <= at < view.size for at in begins)
    stored = view.le32(8)
    # Linux' crc32: no inversion at the end
    found = zlib.crc32(view.part(_CHECKED_FROM, length - _CHECKED_FROM).raw) ^ _NO_INVERSION
    checks = (
        same_number("checksum in the TRX header (CRC)", stored, found),
        holds(
            "offsets in the TRX header",
            in_order and bool(inside),
            expected="rising, inside of the image",
            found=", ".join(hex(at) for at in offsets),
        ),
    )
    children = [view.first(header).to_part("trx-header", "TRX header")]
    end = length
    if inside and in_order:
        for at, to in zip(inside, [*inside[1:], length], strict=True):
            children += filled(view.part(at, to - at), reading, f"part at {at:#x}")
        if len(inside) < len(begins):
            end = view.size
            first = begins[len(inside)]
            children += padding(view.part(length, first - length))
            children += filled(view.part(first), reading, f"part at {first:#x}")
    fields = {
        "version": Field(version),
        "length": Field(length),
        "crc": Field(stored, hexadecimal(stored)),
        "flags": Field(view.le16(12)),
        "offsets": Field(tuple(hex(at) for at in offsets)),
    }
    return view.first(end).to_part(TRX.kind, "TRX image", fields, children, checks)


TRX = Format(
    "trx",
    "TRX",
    begins_with(MAGIC, least=_HEADERS[1]),
    parse,
    steps="trx trx-nand trx-serial trx-with-loader trx-without-loader trx-v2-with-loader kernel-trx "
    "buffalo-trx asus-trx buffalo-kernel-trx",
)
