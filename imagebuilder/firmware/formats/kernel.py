"""Kernels as they lie in images: ELF, ARM zImage, arm64 Image, x86 bzImage, and bare code that names its
version.

Linux: arch/arm/boot/compressed/head.S, Documentation/arch/arm64/booting.rst,
Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

import re

from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.formats.fdt import MAGIC as TREE_MAGIC
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, begins_with, printable
from imagebuilder.host.elf import (
    ELF_MAGIC,
    HEADER_BYTES,
    MACHINES,
    MAX_ENTRIES,
    PT_LOAD,
    SECTION_BYTES,
    SEGMENT_BYTES,
    SHT_NOBITS,
    ElfError,
    ElfHeader,
    Section,
    Segment,
    read_header,
)
from imagebuilder.model.firmware import Field, Part

KERNEL_KINDS = ("kernel", "elf", "zimage", "arm64-image", "bzimage")
ZIMAGE_MAGIC = 0x016F2818
_VERSION = re.compile(rb"Linux version ([0-9][!-~]{2,80}) \(")
# ar71xx names its device in the built-in command line
_BOARD = re.compile(rb"CMDLINE:board=([A-Za-z0-9._-]{2,40})")
_MTDPARTS = re.compile(rb"CMDLINE:[ -~]{0,400}?mtdparts=([!-~]{2,400})")
_SECTOR = 512
_TREE = re.compile(re.escape(TREE_MAGIC))


def code_fields(code: memoryview) -> dict[str, Field]:
    """What unpacked kernel code says of itself: version, the board of its command line."""
    fields = {}
    found = _VERSION.search(code)
    if found is not None:
        fields["version"] = Field(printable(found[1]))
    board = _BOARD.search(code)
    if board is not None:
        fields["board"] = Field(printable(board[1]), "in the built-in command line")
    parts = _MTDPARTS.search(code)
    if parts is not None:
        fields["mtdparts"] = Field(printable(parts[1]), "in the built-in command line")
    return fields


def _last_tree(code: memoryview) -> int:
    """Where the last device tree in it begins, as far as its magic tells; -1 for none."""
    return max((found.start() for found in _TREE.finditer(code)), default=-1)


def appended_tree(view: View, reading: Reading) -> View | None:
    """The device tree that ends a kernel, as ath79 and ramips append it: its total size reaches the end."""
    at = reading.kernels.told(view.raw, _last_tree)
    if at < 0 or at + 8 > view.size or view.u32(at + 4) > view.size - at:
        return None
    return view.part(at, view.u32(at + 4), "the appended device tree")


def loose_kernel(view: View, reading: Reading) -> Part:
    """Unpacked code without a header of its own, and the device tree at its end."""
    fields = reading.kernels.told(view.raw, code_fields)
    tree = appended_tree(view, reading) if "version" in fields else None
    children = () if tree is None else (reading.inside(tree, "device tree"),)
    kind = "kernel" if "version" in fields else "data"
    return view.to_part(kind, "kernel code", fields, children)


def _elf_tables(view: View) -> tuple[ElfHeader, list[Segment], list[Section]]:
    bits, order, version = view.u8(4), view.u8(5), view.u8(6)
    if bits not in (1, 2) or order not in (1, 2) or version != 1:
        raise ImageFormatError(f"the ELF header is damaged: class {bits}, order {order}, version {version}")
    try:
        header = read_header(view.raw)
        size, segments, sections = header.size, header.segment_table, header.section_table
        if size != HEADER_BYTES[header.bits] or max(segments.entries, sections.entries) > MAX_ENTRIES:
            raise ImageFormatError(f"the ELF header is damaged: it says it has {size} bytes")
        if (segments.entries and segments.entry_size != SEGMENT_BYTES[header.bits]) or (
            sections.entries and sections.entry_size != SECTION_BYTES[header.bits]
        ):
            raise ImageFormatError("the ELF header is damaged: sizes of its tables")
        return header, header.segments(view.raw), header.sections(view.raw)
    except ElfError as error:
        raise ImageFormatError(f"{view.what} is no whole ELF file: {error.message}") from error


def parse_elf(view: View, _reading: Reading) -> Part:
    """An ELF kernel or loader: ends with the last of its headers and contents."""
    header, segments, sections = _elf_tables(view)
    # contents may lie behind the tables that list them
    end = max(
        *(header.size, header.segment_table.end, header.section_table.end),
        *(segment.offset + segment.size for segment in segments),
        *(section.offset + section.size for section in sections if section.kind != SHT_NOBITS),
    )
    if end > view.size:
        raise ImageFormatError(f"the ELF file is cut: it needs {end} bytes, {view.size} are there")
    loaded = [(part.address, part.address + part.memory) for part in segments if part.kind == PT_LOAD]
    # kernels may state a physical entry for virtual addresses; their last bits agree
    mask, entry = 0x1FFFFFFF, header.entry
    starts = any(low <= entry < high or low & mask <= entry & mask < high & mask for low, high in loaded)
    checks = (
        holds("entry point of the ELF", starts, expected="in a part that is loaded", found=hex(entry)),
        holds(
            "machine of the ELF",
            header.machine in MACHINES,
            expected="one that is known",
            found=str(header.machine),
            level="warning",
        ),
    )
    whole = view.first(end)
    fields = {
        "machine": Field(header.machine, MACHINES.get(header.machine, "unknown")),
        "entry point": Field(entry, hex(entry)),
        "order": Field(view.u8(5), header.order),
        "loaded": Field(tuple(f"{low:#x}-{high:#x}" for low, high in loaded)),
        **code_fields(whole.raw),
    }
    return whole.to_part("elf", "ELF", fields, (), checks)


def detect_zimage(view: View) -> bool:
    """The magic of an ARM zImage."""
    return view.size >= 0x30 and view.le32(0x24) == ZIMAGE_MAGIC


def parse_zimage(view: View, reading: Reading) -> Part:
    """An ARM zImage, and the device tree that may be appended to it."""
    size = view.le32(0x2C) - view.le32(0x28)
    if not 0x30 <= size <= view.size:
        raise ImageFormatError(f"the zImage is cut: it needs {size} bytes, {view.size} are there")
    children: tuple[Part, ...] = ()
    rest = view.part(size, what="the appended device tree")
    if rest.has(TREE_MAGIC):
        children = (reading.inside(rest, "device tree"),)
    end = size + sum(child.size for child in children)
    return view.first(end).to_part("zimage", "ARM zImage", {"zImage": Field(size, "bytes")}, children)


def parse_arm64(view: View, _reading: Reading) -> Part:
    """An arm64 Image; its stated size counts memory that the file need not have."""
    stated = view.le64(0x10)
    if not 0 < stated <= 1 << 32:
        raise ImageFormatError(f"the arm64 Image states a size of {stated} bytes")
    fields = {"image size": Field(stated, "bytes of memory"), **code_fields(view.raw)}
    return view.to_part("arm64-image", "arm64 Image", fields)


def detect_bzimage(view: View) -> bool:
    """The boot sector's signature and the setup header's magic."""
    return view.has(b"HdrS", 0x202) and view.has(b"\x55\xaa", 0x1FE)


def parse_bzimage(view: View, _reading: Reading) -> Part:
    """An x86 bzImage. A signature for Secure Boot may follow what its header counts."""
    sectors, paragraphs = view.u8(0x1F1) or 4, view.le32(0x1F4)
    needed = (sectors + 1) * _SECTOR + paragraphs * 16
    if needed > view.size:
        raise ImageFormatError(f"the bzImage is cut: it needs {needed} bytes, {view.size} are there")
    at = view.le16(0x20E) + 0x200
    text = view.text(at, min(128, view.size - at)) if view.le16(0x20E) else ""
    fields = {
        "version": Field(text.split(" ")[0]),
        "protocol": Field(view.le16(0x206), f"{view.u8(0x207)}.{view.u8(0x206):02}"),
        "code": Field(needed, "bytes"),
    }
    return view.to_part("bzimage", "x86 bzImage", fields)


ELF = Format(
    "elf",
    "ELF kernel or loader",
    begins_with(ELF_MAGIC),
    parse_elf,
    steps="loader-kernel loader-lzma loader-kernel-cmdline lzma-loader-elf prepend-with-elf elf-kernel "
    "rt-loader",
)
ZIMAGE = Format("zimage", "ARM zImage", detect_zimage, parse_zimage)
ARM64 = Format("arm64-image", "arm64 Image", begins_with(b"ARM\x64", at=0x38), parse_arm64)
BZIMAGE = Format("bzimage", "x86 bzImage", detect_bzimage, parse_bzimage)
