"""TP-Link's firmware header, version 1: 512 bytes before the kernel, big endian (OpenWrt's mktplinkfw).

A few devices write 2 as the version and keep this layout (WDR6500 v2). The other layout, of version 2 and 3,
is `tplink-v2`, see vendor.py.
"""

from __future__ import annotations

import hashlib

from imagebuilder.firmware.checks import equal, hexadecimal, holds
from imagebuilder.firmware.formats.padding import behind, kernel_area, run_length
from imagebuilder.firmware.reader import ImageFormatError, Reading, View
from imagebuilder.firmware.squashfs.squashfs import is_squashfs
from imagebuilder.model.firmware import Check, Field, Level, Part
from imagebuilder.model.tplink import FLASH_LAYOUTS

KIND = "tplink-v1"
HEADER_BYTES = 0x200
SALT = bytes.fromhex("dcd73aa5c39598fbddf9e7f40eae4738")
BOOT_SALT = bytes.fromhex("8cef335bd5c5cefaa79c28dab2e90f42")  # for images that hold a boot loader
MD5_AT, MD5_BYTES = 0x4C, 16
ERASE_BLOCK = 0x10000
_FIRST_FIXED_ROOTFS = 0x80000
_ERASE_BLOCK, _LARGEST_AREA = 0x10000, 64 << 20
_ZEROS = ((0x5C, 4), (0x60, 16), (0x70, 4), (0x90, 4), (0x9E, 130), (0x160, 160))
_REGIONS = {0: "universal, Europe or Brazil", 1: "United States"}


def detect(view: View) -> bool:
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


def checksum(view: View, salt: bytes) -> bytes:
    """The MD5 over all bytes, with the salt in the place of the MD5 itself."""
    digest = hashlib.md5(view.raw[:MD5_AT], usedforsecurity=False)
    digest.update(salt)
    digest.update(view.raw[MD5_AT + MD5_BYTES :])
    return digest.digest()


def _fields(view: View) -> dict[str, Field]:
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


def _checks(view: View) -> list[Check]:
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
    checks.append(equal("checksum in the TP-Link header (MD5)", stored.hex(), checksum(view, salt).hex()))
    known = length in FLASH_LAYOUTS.values()
    areas = " or ".join(hex(area) for area in sorted(set(FLASH_LAYOUTS.values())))
    # a fork's tool may know more layouts (32Mlzma, seen); whether it is the board's is another check
    level: Level = "warning" if length % _ERASE_BLOCK == 0 and length <= _LARGEST_AREA else "error"
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
            children += [Part("padding", "padding", view.start + after, gap, data=view.part(after, gap).raw)]
        children += tail
    return tuple(children), checks


def parse(view: View, reading: Reading) -> Part:
    """The header, the kernel, the root file system, and what pads them. All of the view is the image."""
    children, checks = with_header(view, reading, view.u32(0x84), view.u32(0x88), view.u32(0x8C))
    checks = [*_checks(view), *checks]
    return view.to_part(KIND, "TP-Link image", _fields(view), children, checks)
