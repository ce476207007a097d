"""TP-Link SafeLoader: the factory image of newer TP-Link devices (OpenWrt's tplink-safeloader).

Length, MD5, vendor text; at 0x1014 a text table of the parts, whose offsets count from there. Big endian.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass

from imagebuilder.firmware.checks import at_most, equal, holds
from imagebuilder.firmware.formats.padding import behind, filled
from imagebuilder.firmware.reader import ImageFormatError, Reading, View, printable
from imagebuilder.model.firmware import Check, Field, Part

KIND = "safeloader"
SALT = bytes.fromhex("7a2b15ed9b98596de504ab44ac2a9f4e")
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


def detect(view: View) -> bool:
    """The table of parts."""
    return view.has(b"fwup-ptn ", TABLE_AT)


def checksum(view: View) -> bytes:
    """The MD5 over the salt and everything behind the MD5."""
    digest = hashlib.md5(SALT, usedforsecurity=False)
    digest.update(view.raw[0x14:])
    return digest.digest()


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


def _checks(view: View, slots: tuple[Slot, ...]) -> list[Check]:
    ends = sorted((slot.base, slot.base + slot.size, slot.name) for slot in slots)
    clash = [second[2] for first, second in itertools.pairwise(ends) if second[0] < first[1]]
    checks = [
        equal("length in the SafeLoader header", view.u32(0), view.size),
        equal("checksum in the SafeLoader header (MD5)", view.take(4, 16).hex(), checksum(view).hex()),
        holds("parts do not overlap", not clash, expected="none", found=", ".join(clash) or "none"),
    ]
    for slot in slots:
        inside = TABLE_AT + slot.base + slot.size <= view.size
        end = TABLE_AT + slot.base + slot.size
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


def _content(view: View, slot: Slot, reading: Reading) -> tuple[Part, ...]:
    place = view.part(TABLE_AT + slot.base, slot.size, slot.name)
    if slot.name == "os-image":
        return filled(place, reading, "kernel")
    if slot.name == "file-system":
        return behind(place, reading, "rootfs")
    return (place.to_part("safeloader-part", slot.name),)


def parse(view: View, reading: Reading) -> Part:
    """The header, the table, and the parts; all of the view is the image."""
    slots = _slots(_text_of(view.part(TABLE_AT, TABLE_BYTES)), _LINE, "table of parts")
    checks = _checks(view, slots)
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
    head = view.first(6164).to_part("safeloader-header", "SafeLoader header")
    ordered = sorted(slots, key=lambda slot: slot.base)
    inside = tuple(part for slot in ordered for part in _content(view, slot, reading))
    return view.to_part(KIND, "TP-Link SafeLoader image", fields, (head, *inside), checks)
