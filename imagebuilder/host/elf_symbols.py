"""Which names an ELF file has for others, and which it wants of them: its dynamic symbol table.

From the System V ABI (gABI 4.1, chapters 4 and 5); how many symbols there are, the hash tables say, DT_HASH
by a number, DT_GNU_HASH by its chains (binutils' documentation), so that files without section headers, as
OpenWrt's are after sstrip, are read too.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from imagebuilder.host.elf import PT_LOAD, ElfError, ElfHeader, Segment, read_header

_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_GNU_HASH = 4, 5, 6, 10, 0x6FFFFEF5
_DT_NULL, _PT_DYNAMIC = 0, 2
MAX_SYMBOLS = 1 << 17  # of a file; libpython has some three thousand
# name, info, shndx of an entry
_SYMBOL = {32: "I8xBxH", 64: "IBxH16x"}
_WEAK, _LOCAL = 2, 0


@dataclass(frozen=True, slots=True)
class Symbols:
    """The dynamic symbols of a file. defined: names that it has; wanted: names that another file must have
    for it to be loaded, weak ones left out."""

    defined: frozenset[str]
    wanted: frozenset[str]


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    header: ElfHeader
    segments: Sequence[Segment]

    def unpack(self, layout: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(("<" if self.header.little_endian else ">") + layout, self.data, at)
        except (struct.error, OverflowError) as error:  # the latter: a place beyond all memory
            raise ElfError(f"it ends too early: {error}") from error

    def place(self, address: int) -> int:
        """Where in the file lies what is loaded at an address."""
        for each in self.segments:
            if each.kind == PT_LOAD and each.address <= address < each.address + each.size:
                return each.offset + address - each.address
        raise ElfError("a table of its dynamic section lies outside of it")


def read_symbols(data: bytes) -> Symbols:
    """The dynamic symbols of a program or library; of a static one none. ElfError for what is no ELF file, or
    damaged, or has more than MAX_SYMBOLS."""
    header = read_header(data)
    file = _File(data, header, header.segments(data))
    tags = _tags(file)
    if _DT_SYMTAB not in tags or _DT_STRTAB not in tags:
        return Symbols(frozenset(), frozenset())
    symbols, strings = file.place(tags[_DT_SYMTAB]), file.place(tags[_DT_STRTAB])
    end = strings + tags.get(_DT_STRSZ, 0)
    count, layout = _count(file, tags), _SYMBOL[header.bits]
    if count > MAX_SYMBOLS:
        raise ElfError(f"it has more than {MAX_SYMBOLS} symbols")
    size = struct.calcsize("<" + layout)
    defined, wanted = set[str](), set[str]()
    for index in range(1, count):
        name_at, info, section = file.unpack(layout, symbols + index * size)
        start = strings + name_at
        stop = data.find(b"\0", start, end)
        if stop < 0:
            raise ElfError("the name of a symbol has no end")
        name = data[start:stop].decode("utf-8", "replace")
        if section:
            defined.add(name)
        elif name and info >> 4 not in (_WEAK, _LOCAL):
            wanted.add(name)
    return Symbols(frozenset(defined), frozenset(wanted))


def _tags(file: _File) -> dict[int, int]:
    step, word = file.header.bits // 4, {32: "II", 64: "QQ"}[file.header.bits]
    found: dict[int, int] = {}
    for segment in file.segments:
        if segment.kind != _PT_DYNAMIC:
            continue
        for at in range(segment.offset, segment.offset + min(segment.size, len(file.data)) - step + 1, step):
            tag, value = file.unpack(word, at)
            if tag == _DT_NULL:
                break
            found.setdefault(tag, value)
    return found


def _count(file: _File, tags: dict[int, int]) -> int:
    if _DT_HASH in tags:
        return file.unpack("4xI", file.place(tags[_DT_HASH]))[0]
    if _DT_GNU_HASH not in tags:
        raise ElfError("it does not say how many symbols it has")
    table = file.place(tags[_DT_GNU_HASH])
    buckets, first, words = file.unpack("III", table)
    starts_at = table + 16 + words * file.header.bits // 8
    if buckets > MAX_SYMBOLS or words > MAX_SYMBOLS:
        raise ElfError("its hash table is damaged")
    last = max(file.unpack(f"{buckets}I", starts_at), default=0)
    if last < first:
        return first
    chains = starts_at + 4 * buckets
    while not file.unpack("I", chains + 4 * (last - first))[0] & 1:
        last += 1
        if last > MAX_SYMBOLS:
            raise ElfError(f"it has more than {MAX_SYMBOLS} symbols")
    return last + 1
