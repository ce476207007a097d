"""U-Boot's legacy image header: 64 bytes, big endian (U-Boot, include/image.h).

Some vendors' boot loaders want another magic (`mkimage -M`; NETGEAR's have the device's number). The header's
own checksum tells it then, and the part is of another kind: a boot loader takes only its own.
"""

from __future__ import annotations

import zlib

from imagebuilder.firmware.checks import hexadecimal, holds, same_number
from imagebuilder.firmware.formats.padding import followed, kernel_area
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View
from imagebuilder.model.firmware import Check, Field, Part

MAGIC = bytes.fromhex("27051956")
HEADER_BYTES = 64
SYSTEMS = {5: "Linux"}
MACHINES = {2: "arm", 3: "x86", 5: "mips", 7: "powerpc", 22: "aarch64", 24: "x86_64"}
KERNEL_TYPE = 2
TYPES = {
    1: "standalone",
    KERNEL_TYPE: "kernel",
    3: "ramdisk",
    4: "several files",
    5: "firmware",
    6: "script",
    7: "file system",
}
COMPRESSIONS = {0: "none", 1: "gzip", 2: "bzip2", 3: "lzma", 4: "lzo", 5: "lz4", 6: "zstd"}


def detect(view: View) -> bool:
    """The magic."""
    return view.has(MAGIC) and view.size >= HEADER_BYTES


def detect_vendor(view: View) -> bool:
    """Another magic, and the right checksum."""
    return (
        view.size >= HEADER_BYTES
        and not view.has(MAGIC)
        and view.u32(0) != 0
        and header_crc(view) == view.u32(0x04)
    )


def _fields(view: View) -> dict[str, Field]:
    load, entry = view.u32(0x10), view.u32(0x14)
    magic = {} if view.has(MAGIC) else {"magic": Field(view.u32(0), hexadecimal(view.u32(0)))}
    return magic | {
        "name": Field(view.text(0x20, 32)),
        "time": Field(view.u32(0x08), "seconds since 1970"),
        "data length": Field(view.u32(0x0C)),
        "load address": Field(load, hexadecimal(load)),
        "entry point": Field(entry, hexadecimal(entry)),
        "system": Field(view.u8(0x1C), SYSTEMS.get(view.u8(0x1C), "unknown")),
        "machine": Field(view.u8(0x1D), MACHINES.get(view.u8(0x1D), "unknown")),
        "type": Field(view.u8(0x1E), TYPES.get(view.u8(0x1E), "unknown")),
        "compression": Field(view.u8(0x1F), COMPRESSIONS.get(view.u8(0x1F), "unknown")),
        "header crc": Field(view.u32(0x04), hexadecimal(view.u32(0x04))),
        "data crc": Field(view.u32(0x18), hexadecimal(view.u32(0x18))),
    }


def header_crc(view: View) -> int:
    """CRC-32 of the header with its own place zeroed."""
    return zlib.crc32(view.take(0, 4) + bytes(4) + view.take(8, HEADER_BYTES - 8))


def _checks(view: View, data: View) -> tuple[Check, ...]:
    machine = view.u8(0x1D)
    return (
        same_number("checksum of the uImage header (CRC)", view.u32(0x04), header_crc(view)),
        same_number("checksum of the kernel data (CRC)", view.u32(0x18), zlib.crc32(data.raw)),
        holds(
            "machine of the uImage",
            machine in MACHINES,
            expected="a machine that is known",
            found=str(machine),
            level="warning",
        ),
    )


def parse(view: View, reading: Reading) -> Part:
    """The header and its data: the part ends with them."""
    length = view.u32(0x0C)
    if HEADER_BYTES + length > view.size:
        raise ImageFormatError(
            f"the kernel is cut: its header says {length} bytes, {view.size - HEADER_BYTES} are there"
        )
    data = view.part(HEADER_BYTES, length, "the kernel data")
    header = view.first(HEADER_BYTES).to_part("uimage-header", "uImage header")
    inner = kernel_area(data, reading)
    if len(inner) == 1:
        inner = (inner[0].renamed("kernel data"),)
    whole = view.first(HEADER_BYTES + length)
    return whole.to_part(
        UIMAGE.kind if view.has(MAGIC) else VENDOR_UIMAGE.kind,
        "uImage",
        _fields(view),
        (header, *inner),
        _checks(view, data),
    )


def parse_with_rootfs(view: View, reading: Reading) -> Part:
    """A uImage and what an image file has behind it: padding, a root file system (squashfs or UBI), end
    markers."""
    return followed(parse(view, reading), view, reading)


UIMAGE = Format(
    "uimage",
    "U-Boot's legacy image",
    detect,
    parse_with_rootfs,
    steps="uImage multiImage MultiImage MuImage-initramfs uImage-tplink-c9 uImageHiWiFi "
    "create-uImage-dtb prepend-dtb-uImage",
)
VENDOR_UIMAGE = Format(
    "vendor-uimage",
    "uImage with a vendor's magic",
    detect_vendor,
    parse_with_rootfs,
    steps="loader-okli append-loader-okli append-loader-okli-uimage netgear-uImage uImageArcher",
)
