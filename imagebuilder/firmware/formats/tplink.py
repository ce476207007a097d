"""TP-Link's firmware: the headers of version 1 to 3 before a kernel, and the SafeLoader of newer devices. Big
endian.

A header has 512 bytes (OpenWrt's mktplinkfw; mktplinkfw2 for the other layout, of version 2 and 3). A few
devices write 2 as the version and keep the layout of version 1 (WDR6500 v2). SafeLoader (tplink-safeloader)
has length, MD5 and vendor text; at 0x1014 a text table of the parts, whose offsets count from there.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass

from imagebuilder.firmware.checks import at_most, equal, hexadecimal, holds
from imagebuilder.firmware.formats.padding import behind, filled, kernel_area, run_length
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, begins_with, printable
from imagebuilder.firmware.squashfs.squashfs import is_squashfs
from imagebuilder.model.firmware import FLASH_LAYOUTS, Check, Field, Level, Part

HEADER_BYTES = 0x200
SALT = bytes.fromhex("dcd73aa5c39598fbddf9e7f40eae4738")
_V2_SALT = bytes.fromhex("dcd73aa5c39598fbdcf9e7f40eae4737")
BOOT_SALT = bytes.fromhex("8cef335bd5c5cefaa79c28dab2e90f42")  # for images that hold a boot loader
MD5_AT, MD5_BYTES = 0x4C, 16
_V2_MD5_AT = 0x40
ERASE_BLOCK = 0x10000
_FIRST_FIXED_ROOTFS = 0x80000
_LARGEST_AREA = 64 << 20
_ZEROS = ((0x5C, 4), (0x60, 16), (0x70, 4), (0x90, 4), (0x9E, 130), (0x160, 160))
_REGIONS = {0: "universal, Europe or Brazil", 1: "United States"}


def detect_v1(view: View) -> bool:
    """Version 1 or 2, and a kernel right behind the header."""
    return (
        view.size >= HEADER_BYTES
        and view.u32(0) in (0x01000000, 0x02000000)
        and view.u32(0x80) == HEADER_BYTES
    )


def detect_v2(view: View) -> bool:
    """The other layout of TP-Link's header."""
    return (
        view.size >= HEADER_BYTES
        and view.u32(0) in (0x02000000, 0x03000000)
        and view.u32(0x74) == HEADER_BYTES
    )


def checksum(view: View, salt: bytes, at: int = MD5_AT) -> str:
    """The MD5 over all bytes, in hex, with the salt in the place of the MD5 itself, which is at."""
    digest = hashlib.md5(view.raw[:at], usedforsecurity=False)
    digest.update(salt)
    digest.update(view.raw[at + MD5_BYTES :])
    return digest.hexdigest()


def _v1_fields(view: View) -> dict[str, Field]:
    number = view.u32
    return {
        "header version": Field(number(0), str(number(0) >> 24)),
        "vendor": Field(view.text(0x04, 24)),
        "version": Field(view.text(0x1C, 36)),
        "hardware id": Field(number(0x40), hexadecimal(number(0x40))),
        "hardware revision": Field(number(0x44)),
        "region": Field(number(0x48), _REGIONS.get(number(0x48), "unknown")),
        "region text": Field(view.text(0x120, 32) + view.text(0x140, 32)),
        "md5": Field(view.take(MD5_AT, MD5_BYTES).hex(), "over all bytes, salted"),
        "kernel load address": Field(number(0x74), hexadecimal(number(0x74))),
        "kernel entry point": Field(number(0x78), hexadecimal(number(0x78))),
        "firmware length": Field(number(0x7C), "bytes that the flash layout gives to firmware"),
        "kernel offset": Field(number(0x80)),
        "kernel length": Field(number(0x84)),
        "rootfs offset": Field(number(0x88), "17.01 leaves the layout's default here"),
        "rootfs length": Field(number(0x8C)),
        "boot loader length": Field(number(0x94), "0: no boot loader inside"),
        "firmware version": Field(".".join(str(view.u16(at)) for at in (0x98, 0x9A, 0x9C))),
    }


def _v1_checks(view: View) -> list[Check]:
    stored, length = view.take(MD5_AT, MD5_BYTES), view.u32(0x7C)
    zeros = [at for at, size in _ZEROS if not view.part(at, size).filled_with(0)]
    checks = [
        holds(
            "unused bytes of the TP-Link header",
            not zeros,
            expected="zeros",
            found="zeros" if not zeros else f"other bytes at {zeros[0]:#x}",
        )
    ]
    if length == 0 and not any(stored):  # "combined": a kernel alone, without a checksum
        return checks
    salt = BOOT_SALT if view.u32(0x94) else SALT
    checks.append(equal("checksum in the TP-Link header (MD5)", stored.hex(), checksum(view, salt)))
    known = length in FLASH_LAYOUTS.values()
    areas = " or ".join(hex(area) for area in sorted(set(FLASH_LAYOUTS.values())))
    # a fork's tool may know more layouts (32Mlzma, seen); whether it is the board's is another check
    level: Level = "warning" if length % ERASE_BLOCK == 0 and length <= _LARGEST_AREA else "error"
    what = "firmware length of a known flash layout"
    checks.append(holds(what, known, expected=areas, found=hex(length), level=level))
    whole = f"at most {length} bytes"
    checks.append(
        holds("image fits the firmware length", view.size <= length, expected=whole, found=f"{view.size}")
    )
    return checks


def find_rootfs(view: View, kernel_bytes: int, stated: int) -> int:
    """Where the root file system begins: where the header says, right behind the kernel (17.01, whose header
    is wrong), or at a fixed place that is a whole erase block. Raises ImageFormatError where there is none.
    """
    behind_kernel = _behind_kernel(kernel_bytes)
    places: list[int] = [stated, behind_kernel, *range(_FIRST_FIXED_ROOTFS, view.size, ERASE_BLOCK)]
    for at in places:
        if at >= behind_kernel and is_squashfs(view, at):
            return at
    raise ImageFormatError("there is no root filesystem where the TP-Link header says, nor behind the kernel")


def _behind_kernel(kernel_bytes: int) -> int:
    return (HEADER_BYTES + kernel_bytes + 3) & ~3


def _rootfs_checks(at: int, rootfs: Part, kernel_bytes: int, stated: int, length: int) -> list[Check]:
    generation = (stated, _behind_kernel(kernel_bytes))
    checks = [
        holds(
            "place of the root filesystem",
            at in generation,
            expected=f"at {generation[0]:#x} (header) or {generation[1]:#x} (behind the kernel)",
            found=f"{at:#x}",
            level="warning",
        )
    ]
    if length:
        checks.append(equal("length of the root filesystem in the header", length, rootfs.size))
    return checks


def with_header(
    view: View, reading: Reading, kernel_bytes: int, stated: int, length: int
) -> tuple[tuple[Part, ...], list[Check]]:
    """The header, the kernel, the root file system and what pads them, and the checks of their places; for
    both layouts of the header. stated, length: of the root file system, in bytes, as the header has them."""
    if HEADER_BYTES + kernel_bytes > view.size:
        raise ImageFormatError(
            f"the image is truncated: its header promises a kernel of {kernel_bytes} bytes, "
            f"the file has {view.size}"
        )
    checks: list[Check] = []
    header = view.first(HEADER_BYTES).to_part("tplink-header", "TP-Link header")
    children = [header, *kernel_area(view.part(HEADER_BYTES, kernel_bytes, "the kernel"), reading)]
    after = HEADER_BYTES + kernel_bytes
    if length or run_length(view.part(after)) < view.size - after:
        at = find_rootfs(view, kernel_bytes, stated)
        tail = behind(view.part(at, what="the root filesystem"), reading, "rootfs")
        checks = _rootfs_checks(at, tail[0], kernel_bytes, stated, length)
        gap = at - after
        if gap:
            children.append(view.part(after, gap).to_part("padding", "padding"))
        children += tail
    return tuple(children), checks


def parse_v1(view: View, reading: Reading) -> Part:
    """The header, the kernel, the root file system, and what pads them. All of the view is the image."""
    children, checks = with_header(view, reading, view.u32(0x84), view.u32(0x88), view.u32(0x8C))
    checks = [*_v1_checks(view), *checks]
    return view.to_part("tplink-v1", "TP-Link image", _v1_fields(view), children, checks)


V1 = Format(
    "tplink-v1",
    "TP-Link header, version 1",
    detect_v1,
    parse_v1,
    steps="tplink-v1-header tplink-v1-image tplink-v1-okli-image mktplinkfw mktplinkfw-combined "
    "mktplinkfw-kernel tplink-header tplink-fw",
)


def parse_v2(view: View, reading: Reading) -> Part:
    """TP-Link's header of version 2 and 3: other places than version 1, and another salt."""
    number = view.u32
    fields = {
        "header version": Field(number(0), str(number(0) >> 24)),
        "version": Field(view.text(0x04, 48)),
        "hardware id": Field(number(0x34), hexadecimal(number(0x34))),
        "hardware revision": Field(number(0x38), hexadecimal(number(0x38))),
        "additional hardware version": Field(number(0x3C), hexadecimal(number(0x3C))),
        "firmware length": Field(number(0x70), "bytes that the flash layout gives to firmware"),
        "kernel length": Field(number(0x78)),
        "rootfs offset": Field(number(0x7C)),
        "rootfs length": Field(number(0x80)),
        "boot loader length": Field(number(0x88), "0: no boot loader inside"),
    }
    stored, salt = view.take(_V2_MD5_AT, MD5_BYTES).hex(), BOOT_SALT if number(0x88) else _V2_SALT
    check = equal("checksum in the TP-Link header (MD5)", stored, checksum(view, salt, _V2_MD5_AT))
    children, checks = with_header(view, reading, number(0x78), number(0x7C), number(0x80))
    return view.to_part("tplink-v2", "TP-Link image", fields, children, (check, *checks))


V2 = Format(
    "tplink-v2",
    "TP-Link header, version 2 and 3",
    detect_v2,
    parse_v2,
    steps="tplink-v2-header tplink-v2-image mktplinkfw2",
)


_SAFELOADER_SALT = bytes.fromhex("7a2b15ed9b98596de504ab44ac2a9f4e")
TABLE_AT, TABLE_BYTES = 0x1014, 0x800
_NO_VENDOR = 0xFFFFFFFF
_LINE = re.compile(r"fwup-ptn (\S{1,64}) base (0x[0-9a-fA-F]{1,8}) size (0x[0-9a-fA-F]{1,8})\t\r\n")
_FLASH_LINE = re.compile(r"partition (\S{1,64}) base (0x[0-9a-fA-F]{1,8}) size (0x[0-9a-fA-F]{1,8})\n?")
_WRAPPED = ("soft-version", "support-list", "extra-para")  # length, zero, data


@dataclass(frozen=True, slots=True)
class Slot:
    """A line of the table: offset from TABLE_AT, and bytes."""

    name: str
    base: int
    size: int


def safeloader_checksum(view: View) -> str:
    """The MD5 over the salt and everything behind the MD5, in hex."""
    digest = hashlib.md5(_SAFELOADER_SALT, usedforsecurity=False)
    digest.update(view.raw[0x14:])
    return digest.hexdigest()


def _text_of(view: View) -> str:
    return bytes(view.raw).partition(b"\0")[0].rstrip(b"\xff").decode("ascii", "replace")


def _slots(text: str, line: re.Pattern[str], what: str) -> tuple[Slot, ...]:
    slots, at = [], 0
    while at < len(text):
        found = line.match(text, at)
        if found is None:
            raise ImageFormatError(f"the {what} cannot be read at {printable(text[at : at + 40].encode())!r}")
        slots.append(Slot(found[1], int(found[2], 16), int(found[3], 16)))
        at = found.end()
    if len({slot.name for slot in slots}) != len(slots):
        raise ImageFormatError(f"the {what} names a part twice")
    return tuple(slots)


def _wrapped(view: View) -> bytes:
    """The data of a small part: u32 length, u32 zero, data."""
    return view.take(8, view.u32(0))


def _slot_checks(view: View, slots: tuple[Slot, ...]) -> list[Check]:
    ends = sorted((slot.base, slot.base + slot.size, slot.name) for slot in slots)
    clash = [second[2] for first, second in itertools.pairwise(ends) if second[0] < first[1]]
    checks = [
        equal("length in the SafeLoader header", view.u32(0), view.size),
        equal("checksum in the SafeLoader header (MD5)", view.take(4, 16).hex(), safeloader_checksum(view)),
        holds("parts do not overlap", not clash, expected="none", found=", ".join(clash) or "none"),
    ]
    for slot in slots:
        end = TABLE_AT + slot.base + slot.size
        inside = end <= view.size
        checks.append(
            holds(
                f"{slot.name} lies in the file", inside, expected=f"{view.size} bytes", found=f"ends at {end}"
            )
        )
    return checks


def _flash_checks(view: View, slots: tuple[Slot, ...]) -> list[Check]:
    """Each part against the flash map that the image brings along."""
    table = next((slot for slot in slots if slot.name == "partition-table"), None)
    if table is None or table.size < 4:
        return [Check("flash map", "a partition-table", "none", False)]
    text = _text_of(view.part(TABLE_AT + table.base + 4, table.size - 4))
    flash = {slot.name: slot.size for slot in _slots(text, _FLASH_LINE, "flash map")}
    return [
        at_most(f"{slot.name} fits its flash partition", flash[slot.name], slot.size)
        for slot in slots
        if slot.name in flash
    ]


def _slot_content(view: View, slot: Slot, reading: Reading) -> tuple[Part, ...]:
    place = view.part(TABLE_AT + slot.base, slot.size, slot.name)
    if slot.name == "os-image":
        return filled(place, reading, "kernel")
    if slot.name == "file-system":
        return behind(place, reading, "rootfs")
    return (place.to_part("safeloader-part", slot.name),)


def parse_safeloader(view: View, reading: Reading) -> Part:
    """The header, the table, and the parts; all of the view is the image."""
    slots = _slots(_text_of(view.part(TABLE_AT, TABLE_BYTES)), _LINE, "table of parts")
    checks = _slot_checks(view, slots)
    if not all(check.ok for check in checks[2:]):
        raise ImageFormatError(next(f"{one.what}: {one.found}" for one in checks[2:] if not one.ok))
    checks += _flash_checks(view, slots)
    vendor = view.u32(0x14)
    fields = {
        "length": Field(view.u32(0)),
        "md5": Field(view.take(4, 16).hex(), "salt, then all bytes behind it"),
        "vendor": Field("" if vendor == _NO_VENDOR else view.text(0x18, min(vendor, 4092))),
        "parts": Field(tuple(f"{slot.name} {slot.size}" for slot in slots)),
    }
    for slot in slots:
        if slot.name in _WRAPPED:
            place = view.part(TABLE_AT + slot.base, slot.size, slot.name)
            lines = tuple(printable(line) for line in _wrapped(place).splitlines() if line.strip(b"\0\xff"))
            fields[slot.name] = Field(lines)
    devices = fields.get("support-list", Field(())).value
    listed = isinstance(devices, tuple) and len(devices) > 1 and devices[0].startswith("SupportList:")
    checks.append(holds("support list", listed, expected="SupportList: and devices", found=str(devices)[:80]))
    head = view.first(TABLE_AT + TABLE_BYTES).to_part("safeloader-header", "SafeLoader header")
    ordered = sorted(slots, key=lambda slot: slot.base)
    inside = tuple(part for slot in ordered for part in _slot_content(view, slot, reading))
    return view.to_part("safeloader", "TP-Link SafeLoader image", fields, (head, *inside), checks)


SAFELOADER = Format(
    "safeloader",
    "TP-Link SafeLoader",
    begins_with(b"fwup-ptn ", at=TABLE_AT),
    parse_safeloader,
    steps="tplink-safeloader bcm53xx-tplink-safeloader",
)
