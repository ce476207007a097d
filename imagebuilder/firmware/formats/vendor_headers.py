"""Vendors' headers before one ordinary image: what OpenWrt's factory recipes put before kernel and squashfs.

Each is opened, and what lies behind it is read as it would be without the header. Sources: OpenWrt's
firmware-utils (mkchkimg.c, mkdniimg.c, addpattern.c, add_header.c, mkedimaximg.c, buffalo-tag.c,
buffalo-lib.c, buffalo-tftp.c), and images that OpenWrt 17.01 and libreCMC made with them. TP-Link's headers
are tplink.py's; those that list several parts vendor_parts.py's.
"""

from __future__ import annotations

import re
import sys
import zlib
from array import array
from collections.abc import Mapping

from imagebuilder.firmware.checks import equal, hexadecimal, holds, same_number
from imagebuilder.firmware.formats.padding import filled
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, begins_with, printable
from imagebuilder.model.firmware import Check, Field, Part


def _container(
    kind: str,
    about: str,
    view: View,
    header: int,
    children: tuple[Part, ...],
    *,
    fields: Mapping[str, Field],
    checks: tuple[Check, ...] = (),
) -> Part:
    """A part whose first child is the header. header: its bytes. What it holds may be a vendor's own: a
    warning, since the header has no checksum of it, or one of whatever it is."""
    known = all(child.kind != "data" for child in children)
    found = "known" if known else "unknown"
    inside = holds("contents of the image", known, expected="known", found=found, level="warning")
    head = view.first(header).to_part(f"{kind}-header", f"{about} header")
    every, every_check = (head, *children), (*checks, inside)
    return view.to_part(kind, f"{about} image", fields, every, every_check)


_CHK_MAGIC, _CHK_BYTES, _MOST_CHK = b"*#$^", 40, 1 << 10
_ROW = 4096


def chk_checksum(low: int, high: int) -> int:
    """NETGEAR's checksum of all bytes' sum and of the sum of all their sums, each folded to 16."""
    folded = []
    for number in (low & 0xFFFFFFFF, high & 0xFFFFFFFF):
        once = (number & 0xFFFF) + (number >> 16)
        folded.append(((once >> 16) + once) & 0xFFFF)
    return folded[1] << 16 | folded[0]


def chk_sums(data: bytes | memoryview) -> tuple[int, int]:
    """The sum of all bytes, and of each byte times its distance to the end, by rows and columns: Python adds
    slices many times faster than single bytes."""
    view = memoryview(data)
    size, low = len(view), 0
    distances = 0
    for row, at in enumerate(range(0, size, _ROW)):
        total = sum(view[at : at + _ROW])
        low += total
        distances += row * _ROW * total
    distances += sum(column * sum(view[column::_ROW]) for column in range(1, min(_ROW, size)))
    return low, size * low - distances


def parse_chk(view: View, reading: Reading) -> Part:
    """The header with the board's id, kernel and root file system one behind the other."""
    header, kernel, rootfs = view.u32(4), view.u32(24), view.u32(28)
    if not _CHK_BYTES < header <= _MOST_CHK or header + kernel + rootfs > view.size:
        raise ImageFormatError(
            f"the NETGEAR image is cut: its header says {header}, {kernel} and {rootfs} bytes, "
            f"{view.size} are there"
        )
    body = view.part(header, kernel + rootfs, "the image")
    low, high = chk_sums(body.raw[:kernel])
    blank = view.take(0, 36) + bytes(4) + view.take(_CHK_BYTES, header - _CHK_BYTES)
    checks = [
        same_number("checksum of the NETGEAR header", view.u32(36), chk_checksum(*chk_sums(blank))),
        same_number("checksum of the kernel", view.u32(16), chk_checksum(low, high)),
    ]
    children = filled(body.first(kernel), reading, "image")
    if rootfs:
        root_low, root_high = chk_sums(body.raw[kernel:])
        checks.append(
            same_number("checksum of the root filesystem", view.u32(20), chk_checksum(root_low, root_high))
        )
        children = (*children, *filled(body.part(kernel), reading, "rootfs"))
        low, high = low + root_low, high + rootfs * low + root_high
    checks.append(same_number("checksum of the NETGEAR image", view.u32(32), chk_checksum(low, high)))
    checks.append(equal("length in the NETGEAR header", header + kernel + rootfs, view.size))
    fields = {
        "board": Field(view.text(_CHK_BYTES, header - _CHK_BYTES)),
        "region": Field(view.u8(8), {1: "world", 2: "North America"}.get(view.u8(8), "unknown")),
        "kernel length": Field(kernel),
        "rootfs length": Field(rootfs),
    }
    return _container("netgear-chk", "NETGEAR", view, header, children, fields=fields, checks=tuple(checks))


NETGEAR_CHK = Format(
    "netgear-chk",
    "NETGEAR CHK",
    begins_with(_CHK_MAGIC, least=_CHK_BYTES + 1),
    parse_chk,
    steps="netgear-chk",
)


_DNI_BYTES, _DNI_SUM = 128, 0xFF
_DNI_FIELDS = {"device": "device", "version": "version", "region": "region", "hd_id": "hardware id"}


def parse_dni(view: View, reading: Reading) -> Part:
    """128 bytes of `key:value` lines, the image, and one byte that makes the sum right: all that there is."""
    text = bytes(view.take(0, _DNI_BYTES)).partition(b"\0")[0]
    values = dict(printable(line).split(":", 1) for line in text.split(b"\n") if b":" in line)
    header = view.first(_DNI_BYTES).to_part("dni-header", "NETGEAR header")
    last = view.part(view.size - 1)
    tail = last.to_part("dni-checksum", "checksum")
    body = filled(view.part(_DNI_BYTES, view.size - _DNI_BYTES - 1), reading, "image")
    check = equal("checksum of the NETGEAR image (sum of its bytes)", _DNI_SUM, sum(view.raw) & _DNI_SUM)
    fields = {name: Field(values[key]) for key, name in _DNI_FIELDS.items() if key in values}
    return view.to_part("dni", "NETGEAR image", fields, (header, *body, tail), (check,))


NETGEAR_DNI = Format(
    "dni",
    "NETGEAR's factory header",
    begins_with(b"device:", least=_DNI_BYTES + 2),
    parse_dni,
    steps="netgear-dni",
)


_CYBERTAN_ID, _CYBERTAN_ID_AT, _CYBERTAN_BYTES = b"U2ND", 14, 32


def parse_cybertan(view: View, reading: Reading) -> Part:
    """Linksys' BIN header; its pattern is the device's. It has no checksum: a TRX follows, which has."""
    year, month, day = view.take(8, 3)
    fields = {
        "pattern": Field(view.text(0, 8)),
        "date": Field(f"20{year:02}-{month:02}-{day:02}"),
        "version": Field(".".join(str(number) for number in view.take(11, 3))),
        "hardware version": Field(view.u8(18)),
        "flags": Field(view.take(20, 2).hex()),
    }
    children = filled(view.part(_CYBERTAN_BYTES), reading, "image")
    return _container("cybertan", "Linksys", view, _CYBERTAN_BYTES, children, fields=fields)


CYBERTAN = Format(
    "cybertan",
    "Linksys BIN header",
    begins_with(_CYBERTAN_ID, at=_CYBERTAN_ID_AT, least=_CYBERTAN_BYTES + 1),
    parse_cybertan,
    steps="linksys-bin usrobotics-bin addpattern cybertan-trx",
)


_MODEL_BYTES = 20
_MODEL = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{2,15}\0*")


def _model_crc(view: View) -> int:
    return zlib.crc32(view.raw[_MODEL_BYTES:], zlib.crc32(view.take(0, 16) + bytes(4)))


def detect_model(view: View) -> bool:
    """A model's name, and the CRC of the whole; where NETGEAR's names stand, the name alone."""
    if view.size <= _MODEL_BYTES or _MODEL.fullmatch(view.take(0, 16)) is None:
        return False
    return view.has(b"NG_") or view.u32(16) == _model_crc(view)


def parse_model(view: View, reading: Reading) -> Part:
    """Sixteen bytes of model and a CRC (NG_WNR854T, TERASTATION_PRO2)."""
    check = same_number("checksum of the image (CRC)", view.u32(16), _model_crc(view))
    children = filled(view.part(_MODEL_BYTES), reading, "image")
    fields = {"model": Field(view.text(0, 16))}
    return _container("model-header", "model", view, _MODEL_BYTES, children, fields=fields, checks=(check,))


MODEL = Format("model-header", "model and checksum", detect_model, parse_model)


_EDIMAX_SIGNS, _EDIMAX_BYTES = (b"CSYS", b"RNRA"), 20


def _edimax_order(view: View) -> str:
    """The order of the header's numbers, which the stated size tells; empty where neither fits."""
    sizes = {"big": view.u32(16), "little": view.le32(16)}
    return next((name for name, size in sizes.items() if size + _EDIMAX_BYTES <= view.size and size > 1), "")


def detect_edimax(view: View) -> bool:
    """The sign, and a size that lies in the file."""
    return (
        view.size > _EDIMAX_BYTES
        and any(view.has(sign) for sign in _EDIMAX_SIGNS)
        and _edimax_order(view) != ""
    )


def parse_edimax(view: View, reading: Reading) -> Part:
    """Edimax' header: sign, addresses, model, size; a sum of 16-bit words ends what it counts. OpenWrt's
    recipes put it before the kernel alone, and the root file system behind what it counts."""
    little = _edimax_order(view) == "little"
    number = view.le32 if little else view.u32
    size = number(16)
    counted = view.part(_EDIMAX_BYTES, size, "the image")
    words = array("H", bytes(counted.raw[: size & ~1]))
    if little != (sys.byteorder == "little"):
        words.byteswap()
    check = same_number("checksum of the Edimax image (sum of its words)", 0, sum(words) & 0xFFFF)
    fields = {
        "model": Field(view.text(12, 4)),
        "flash address": Field(number(8), hexadecimal(number(8))),
        "start address": Field(number(4), hexadecimal(number(4))),
        "length": Field(size),
    }
    inner = filled(counted.part(0, size - 2), reading, "image")
    tail = view.part(_EDIMAX_BYTES + size - 2, 2)
    summed = tail.to_part("edimax-checksum", "checksum")
    rest = view.part(_EDIMAX_BYTES + size)
    children = (*inner, summed, *(filled(rest, reading, "rootfs") if rest.size else ()))
    return _container("edimax", "Edimax", view, _EDIMAX_BYTES, children, fields=fields, checks=(check,))


EDIMAX = Format(
    "edimax", "Edimax header", detect_edimax, parse_edimax, steps="edimax-header edimax-headers edimax-bin"
)


_TAG_BYTES, _TAG_CRC_AT, _TAG_LENGTH_AT, _TAG_DATA_AT = 160, 140, 136, 152
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def buffalo_crc(data: bytes, length: int) -> int:
    """CRC-32 with the highest bit first, over the data and then its length's bytes, lowest first."""
    ending = length.to_bytes((length.bit_length() + 7) // 8, "little")
    found = zlib.crc32((data + ending).translate(_REVERSED), 0xFFFFFFFF)
    return int(f"{found:032b}"[::-1], 2)


def detect_buffalo(view: View) -> bool:
    """Product and brand as text, and the lengths that fit the file."""
    if view.size <= _TAG_BYTES or _MODEL.fullmatch(view.take(0, 32).rstrip(b"\0")) is None:
        return False
    return view.u32(_TAG_LENGTH_AT) == view.size and view.u32(_TAG_DATA_AT) + _TAG_BYTES == view.size


def parse_buffalo(view: View, reading: Reading) -> Part:
    """Buffalo's tag; what it is before is encrypted in factory images (buffalo-enc)."""
    blank = bytes(view.raw[:_TAG_CRC_AT]) + bytes(4) + bytes(view.raw[_TAG_CRC_AT + 4 :])
    stored = view.u32(_TAG_CRC_AT)
    check = same_number("checksum of the Buffalo image", stored, buffalo_crc(blank, view.size))
    fields = {
        "product": Field(view.text(0, 32)),
        "brand": Field(view.text(32, 32)),
        "version": Field(f"{view.text(64, 8)} {view.text(72, 8)}".strip()),
        "region": Field(view.text(80, 2)),
        "language": Field(view.text(88, 8)),
        "platform": Field(view.text(96, 8)),
    }
    children = filled(view.part(_TAG_BYTES), reading, "image")
    return _container("buffalo", "Buffalo", view, _TAG_BYTES, children, fields=fields, checks=(check,))


BUFFALO = Format("buffalo", "Buffalo tag", detect_buffalo, parse_buffalo, steps="buffalo-tag")


_TFTP_TEXT, _TFTP_BYTES = b"# Airstation Public Fmt", 32


def parse_tftp(view: View, reading: Reading) -> Part:
    """What Buffalo's boot loader takes over TFTP: a line of text before the image."""
    fields = {"text": Field(view.text(0, _TFTP_BYTES))}
    children = filled(view.part(_TFTP_BYTES), reading, "image")
    return _container("buffalo-tftp", "Buffalo TFTP", view, _TFTP_BYTES, children, fields=fields)


BUFFALO_TFTP = Format(
    "buffalo-tftp",
    "Buffalo TFTP header",
    begins_with(_TFTP_TEXT, least=_TFTP_BYTES + 1),
    parse_tftp,
    steps="buffalo-tftp-header",
)


_ALFA_BYTES = 33
_ALFA = re.compile(rb"[A-Z0-9]{4,31}\n?\0*\xfe")


def is_alfa(view: View) -> bool:
    """Whether it is what ends ALFA's factory archives: 32 bytes with a name, and one of 0xfe."""
    return view.size == _ALFA_BYTES and _ALFA.fullmatch(view.take(0, _ALFA_BYTES)) is not None


def alfa_trailer(view: View) -> tuple[Part, ...]:
    """The name of the hardware that ALFA's web page asks for, behind a tar.gz with kernel and root file
    system (OpenWrt 17.01, ar71xx, Image/Build/ALFA)."""
    fields = {"hardware": Field(view.text(0, 32).strip("?"))}
    return (view.to_part("alfa-trailer", "ALFA's trailer", fields),)
