"""ELF files: what a program, a library or a kernel is made for, where its parts lie, what it is linked with.

From the System V ABI (gABI 4.1, chapters 4 and 5); nothing is run. The one reader of them here, and not
pyelftools: what is asked is the header, two tables and three tags of a third, of files that nobody vouches
for, in bounded time; of a damaged one pyelftools raises errors of many kinds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from imagebuilder.errors import UserError

ELF_MAGIC = b"\x7fELF"
HEADER_BYTES, SEGMENT_BYTES, SECTION_BYTES = {32: 52, 64: 64}, {32: 32, 64: 56}, {32: 40, 64: 64}
MAX_ENTRIES = 4096  # of a table; real ones have some thirty
MAX_NEEDED = 512
# e_machine, to the names that uImage and OpenWrt have for the processor (93 and 195 are two ARCs)
MACHINES = {
    3: "x86",
    8: "mips",
    20: "powerpc",
    40: "arm",
    62: "x86_64",
    93: "arc",
    183: "aarch64",
    195: "arc",
    243: "riscv",
    258: "loongarch",
}
Layouts = Mapping[int, str]  # for struct, by the file's bits
_HEADER = {32: "HHIIIIIHHHHH", 64: "HHIQQQIHHHHH"}
_SEGMENT = {32: "III4xII", 64: "I4xQQ8xQQ"}
_SECTION = {32: "4xI8xII", 64: "4xI16xQQ"}
_DYNAMIC = {32: "iI", 64: "qQ"}
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
# the last: MIPS ABI supplement of binutils (include/elf/mips.h), Elf_Internal_ABIFlags_v0
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_MIPS_ABIFLAGS = 1, 2, 3, 0x70000003
_ABIFLAGS_BYTES, _ABIFLAGS_FLOAT = 24, 7
SHT_NOBITS = 8
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 14, 15, 29


class ElfError(UserError):
    """A file that begins as ELF and is none that can be read."""


class Segment(NamedTuple):
    """An entry of the program header table. kind: p_type; offset and size in the file, address and memory
    when it is loaded, in bytes."""

    kind: int
    offset: int
    address: int
    size: int
    memory: int


class Section(NamedTuple):
    """An entry of the section header table. kind: sh_type; offset and size in bytes."""

    kind: int
    offset: int
    size: int


class Table(NamedTuple):
    """Where a table lies: its offset and an entry's size in bytes, and the number of entries."""

    offset: int
    entry_size: int
    entries: int

    @property
    def end(self) -> int:
        """The offset behind its last entry."""
        return self.offset + self.entry_size * self.entries

    def places(self) -> range:
        """The offsets of its entries, of the first MAX_ENTRIES where it says that it has more."""
        step = max(self.entry_size, 1)
        return range(self.offset, self.offset + min(self.entries, MAX_ENTRIES) * step, step)


@dataclass(frozen=True, slots=True)
class ElfHeader:
    """An ELF file's header. kind: e_type; bits: 32 or 64; machine: e_machine; flags: e_flags; entry: an
    address; size: e_ehsize, in bytes."""

    kind: int
    machine: int
    bits: int
    little_endian: bool
    flags: int
    entry: int
    size: int
    segment_table: Table
    section_table: Table

    @property
    def order(self) -> str:
        """The byte order, for people."""
        return "little endian" if self.little_endian else "big endian"

    def rows(self, data: bytes | memoryview, table: Table, layouts: Layouts) -> Iterator[tuple[int, ...]]:
        """The entries of a table. ElfError where the file ends before."""
        layout = ("<" if self.little_endian else ">") + layouts[self.bits]
        try:
            for place in table.places():
                yield struct.unpack_from(layout, data, place)
        except (struct.error, OverflowError) as error:  # the latter: a place beyond all memory
            raise ElfError(f"it ends too early: {error}") from error

    def segments(self, data: bytes | memoryview) -> list[Segment]:
        """The program header table. ElfError where the file ends before."""
        return [Segment(*row) for row in self.rows(data, self.segment_table, _SEGMENT)]

    def sections(self, data: bytes | memoryview) -> list[Section]:
        """The section header table. ElfError where the file ends before."""
        return [Section(*row) for row in self.rows(data, self.section_table, _SECTION)]


@dataclass(frozen=True, slots=True)
class Elf:
    """What a program or library is made for, and its dynamic section: needed: names of libraries; runpath:
    folders, `$ORIGIN` unexpanded. mips_float: how it passes floating point numbers (Tag_GNU_MIPS_ABI_FP: 0
    none at all, 1 in double registers, 3 soft float), None where it does not say, as on other processors."""

    header: ElfHeader
    needed: tuple[str, ...] = ()
    soname: str = ""
    runpath: tuple[str, ...] = ()
    mips_float: int | None = None


def is_elf(data: bytes | memoryview) -> bool:
    """Whether a file begins as an ELF file does."""
    return data[: len(ELF_MAGIC)] == ELF_MAGIC


def read_header(data: bytes | memoryview) -> ElfHeader:
    """An ELF file's header, of its first 64 bytes. ElfError for what is none, or damaged."""
    if not is_elf(data):
        raise ElfError("it is no ELF file")
    classes, orders = {1: 32, 2: 64}, {1: "<", 2: ">"}
    if len(data) < 20 or data[4] not in classes or data[5] not in orders:
        raise ElfError("its header is damaged")
    bits = classes[data[4]]
    try:
        numbers = struct.unpack_from(orders[data[5]] + _HEADER[bits], data, 16)
    except struct.error as error:
        raise ElfError(f"it ends too early: {error}") from error
    kind, machine, _, entry, segments, sections, flags, size, *tables = numbers
    return ElfHeader(
        kind,
        machine,
        bits,
        data[5] == 1,
        flags,
        entry,
        size,
        Table(segments, tables[0], tables[1]),
        Table(sections, tables[2], tables[3]),
    )


def _text(data: bytes, strings: int, size: int, at: int) -> str:
    if not 0 <= at < size:
        raise ElfError("its dynamic section names a string outside of its table")
    end = data.find(b"\0", strings + at, strings + size)
    if end < 0:
        raise ElfError("a name in its dynamic section has no end")
    return data[strings + at : end].decode("utf-8", "replace")


def _tags(header: ElfHeader, data: bytes, segment: Segment) -> Iterator[tuple[int, ...]]:
    """(tag, value) up to DT_NULL of a dynamic section."""
    step = header.bits // 4
    rows = header.rows(data, Table(segment.offset, step, segment.size // step), _DYNAMIC)
    return takewhile(lambda row: row[0] != _DT_NULL, rows)


def _mips_float(header: ElfHeader, data: bytes, segments: Iterable[Segment]) -> int | None:
    for segment in segments if MACHINES.get(header.machine) == "mips" else ():
        if segment.kind == PT_MIPS_ABIFLAGS:
            flags = data[segment.offset : segment.offset + segment.size]
            if len(flags) < _ABIFLAGS_BYTES:
                raise ElfError("its ABI flags end too early")
            return flags[_ABIFLAGS_FLOAT]
    return None


def read_elf(data: bytes) -> Elf:
    """What a program or library wants. ElfError for what is no ELF file, or damaged."""
    header = read_header(data)
    segments = header.segments(data)
    mips_float = _mips_float(header, data, segments)
    dynamic = [segment for segment in segments if segment.kind == PT_DYNAMIC]
    tags = [(tag, value) for segment in dynamic for tag, value in _tags(header, data, segment)]
    values = dict(tags)
    if _DT_STRTAB not in values:
        return Elf(header, mips_float=mips_float)
    address, size = values[_DT_STRTAB], values.get(_DT_STRSZ, 0)
    place = next(
        (
            segment.offset + address - segment.address
            for segment in segments
            if segment.kind == PT_LOAD and segment.address <= address < segment.address + segment.size
        ),
        None,
    )
    if place is None:
        raise ElfError("its string table lies outside of it")

    def texts(*wanted: int) -> tuple[str, ...]:
        found = [value for tag, value in tags if tag in wanted][:MAX_NEEDED]
        return tuple(_text(data, place, size, value) for value in found)

    runpath = tuple(part for text in texts(_DT_RPATH, _DT_RUNPATH) for part in text.split(":") if part)
    return Elf(header, texts(_DT_NEEDED), next(iter(texts(_DT_SONAME)), ""), runpath, mips_float)
