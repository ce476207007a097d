"""What the dynamic linker of a device does with an ELF file: which loader starts it, which libraries it wants
and where they are looked for, which symbols it takes from them and gives, and in which versions.

From the System V ABI (gABI 4.1, chapter 5), the MIPS supplement of it (chapter 5: the global offset table),
glibc's and binutils' documentation of DT_GNU_HASH, and the Linux Standard Base 5.0, chapter 10 (symbol
versions). The dynamic section alone is read, not the sections: OpenWrt strips their table from small images.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from imagebuilder.host.elf import (
    MACHINES,
    PT_DYNAMIC,
    PT_INTERP,
    PT_LOAD,
    ElfError,
    ElfHeader,
    Segment,
    read_header,
)

MAX_SYMBOLS = 1 << 19
MAX_RELOCATIONS = 1 << 22
MAX_VERSIONS = 4096
MAX_TAGS = 4096
_LONGEST_NAME = 1 << 16
_MOST_NAMES = 64 << 20  # bytes of all names that are told; those of a large library in C++ have some 2 MiB
_LONGEST_LOADER = 4096  # PATH_MAX
_NULL, _NEEDED, _PLTRELSZ, _HASH, _STRTAB, _SYMTAB, _RELA, _RELASZ = 0, 1, 2, 4, 5, 6, 7, 8
_STRSZ, _SONAME, _RPATH, _REL, _RELSZ, _PLTREL, _JMPREL, _RUNPATH = 10, 14, 15, 17, 18, 20, 23, 29
_BIND_NOW, _FLAGS, _FLAGS_1 = 24, 30, 0x6FFFFFFB
_NOW, _NOW_1 = 0x8, 0x1  # DF_BIND_NOW, DF_1_NOW
_GNU_HASH, _VERDEF, _VERNEED = 0x6FFFFEF5, 0x6FFFFFFC, 0x6FFFFFFE
_MIPS_SYMTABNO, _MIPS_GOTSYM = 0x70000011, 0x70000013
_STB_GLOBAL, _STB_WEAK, _STB_UNIQUE = 1, 2, 10
_STT_FUNC = 2
_IN_FILE = (PT_LOAD, PT_DYNAMIC, PT_INTERP)
_WEAK_VERSION = 2  # VER_FLG_WEAK
_BASE_VERSION = 1  # VER_FLG_BASE: the file's own name
# of an entry of the symbol table: name, info, section
_SYMBOL = {32: "I8xBxH", 64: "IBxH16x"}


@dataclass(frozen=True, slots=True)
class NeededVersion:
    """A version of symbols that a file takes from a library: (`libc.so.6`, `GLIBC_2.34`). weak: it can do
    without."""

    library: str
    version: str
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Linking:
    """loader: the program interpreter, "" in a library and in what is linked with nothing; needed: names of
    libraries; rpath, runpath: folders, `$ORIGIN` unexpanded; wants: symbols that it must get from others;
    calls: those of them that a linker may look for when they are first called; gives: those that others may
    take from it; needed_versions, versions: of both."""

    header: ElfHeader
    dynamic: bool = False
    loader: str = ""
    needed: tuple[str, ...] = ()
    soname: str = ""
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    wants: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()
    needed_versions: tuple[NeededVersion, ...] = ()
    versions: frozenset[str] = frozenset()


class _File:
    """A file's bytes, by the addresses that it is loaded at."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.header = read_header(data)
        self.order = "<" if self.header.little_endian else ">"
        self.segments = self.header.segments(data)
        self.loads = [each for each in self.segments if each.kind == PT_LOAD]
        end = max((each.offset + each.size for each in self.segments if each.kind in _IN_FILE), default=0)
        if end > len(data):
            raise ElfError(f"it ends after {len(data)} of {end} bytes")
        dynamic = next((each for each in self.segments if each.kind == PT_DYNAMIC), None)
        self.tags = list(self._read_tags(dynamic)) if dynamic is not None else []
        self.values = dict(self.tags)
        self.strings = self._strings()
        self.told = 0

    def _read_tags(self, segment: Segment) -> Iterator[tuple[int, int]]:
        layout = self.order + {32: "II", 64: "QQ"}[self.header.bits]
        step = struct.calcsize(layout)
        if segment.size // step > MAX_TAGS:
            raise ElfError(f"its dynamic section has {segment.size // step} entries")
        part = self.data[segment.offset : segment.offset + segment.size // step * step]
        rows = struct.iter_unpack(layout, part)
        return ((int(tag), int(value)) for tag, value in takewhile(lambda row: row[0] != _NULL, rows))

    def _strings(self) -> bytes:
        if _STRTAB not in self.values:
            return b""
        return self.at(self.values[_STRTAB], self.values.get(_STRSZ, 0), "string table")

    def at(self, address: int, size: int, what: str) -> bytes:
        """Bytes at an address. ElfError where the file has none there, or fewer."""
        for load in self.loads:
            if load.address <= address < load.address + load.size:
                start = load.offset + address - load.address
                found = self.data[start : start + size]
                if len(found) == size:
                    return found
        raise ElfError(f"its {what} lies outside of it")

    def rest(self, address: int, what: str) -> bytes:
        """All bytes of the segment from an address on. ElfError where there are none."""
        for load in self.loads:
            if load.address <= address < load.address + load.size:
                return self.data[load.offset + address - load.address : load.offset + load.size]
        raise ElfError(f"its {what} lies outside of it")

    def text(self, at: int) -> str:
        """A name of the string table. ElfError where there is none."""
        end = self.strings.find(b"\0", at, at + _LONGEST_NAME) if 0 <= at < len(self.strings) else -1
        if end < 0:
            raise ElfError("its dynamic section names a string outside of its table, or one without an end")
        self.told += end - at
        if self.told > _MOST_NAMES:
            raise ElfError(f"its names have more than {_MOST_NAMES >> 20} MiB")
        return self.strings[at:end].decode("utf-8", "replace")

    def texts(self, *wanted: int) -> tuple[str, ...]:
        """The names that tags have, in their order."""
        return tuple(self.text(value) for tag, value in self.tags if tag in wanted)

    def words(self, data: bytes, count: int, at: int = 0) -> tuple[int, ...]:
        """32-bit words. ElfError where there are fewer."""
        try:
            return struct.unpack_from(f"{self.order}{count}I", data, at)
        except struct.error as error:
            raise ElfError(f"a table of its dynamic section ends too early: {error}") from error


def _symbol_count(file: _File) -> int:
    """How many symbols its table has, as far as others may find them there."""
    if _MIPS_SYMTABNO in file.values:
        return file.values[_MIPS_SYMTABNO]
    if _HASH in file.values:
        return file.words(file.at(file.values[_HASH], 8, "hash table"), 2)[1]
    if _GNU_HASH in file.values:
        return _gnu_hash_count(file, file.rest(file.values[_GNU_HASH], "hash table"))
    return 0


def _gnu_hash_count(file: _File, table: bytes) -> int:
    buckets, first, bloom, _ = file.words(table, 4)
    start = 16 + bloom * file.header.bits // 8
    if buckets > MAX_SYMBOLS or bloom > MAX_SYMBOLS:
        raise ElfError("its hash table has more entries than it can have symbols")
    last = max(file.words(table, buckets, start), default=0)
    if last < first:
        return first
    chains = start + 4 * buckets
    at = chains + 4 * (last - first)
    for number, (word,) in enumerate(
        struct.iter_unpack(f"{file.order}I", table[at : at + _whole(table, at)])
    ):
        if word & 1:
            return last + number + 1
    raise ElfError("its hash table has no end")


def _whole(table: bytes, at: int) -> int:
    return max(len(table) - at, 0) // 4 * 4


@dataclass(frozen=True, slots=True)
class _Used:
    """Numbers of symbols: that its relocations name; that stand in MIPS's global offset table; that its
    procedure linkage table calls, which no other relocation names."""

    named: frozenset[int]
    offsets: frozenset[int]
    called: frozenset[int]


def _used(file: _File) -> _Used:
    plt = file.values.get(_PLTREL, _REL)
    named = {
        *_relocations(file, _REL, file.values.get(_RELSZ, 0), addend=False),
        *_relocations(file, _RELA, file.values.get(_RELASZ, 0), addend=True),
    }
    called = frozenset(_relocations(file, _JMPREL, file.values.get(_PLTRELSZ, 0), addend=plt == _RELA))
    offsets = frozenset[int]()
    if _MIPS_GOTSYM in file.values and _MIPS_SYMTABNO in file.values:
        first, end = file.values[_MIPS_GOTSYM], file.values[_MIPS_SYMTABNO]
        offsets = frozenset(range(first, min(end, MAX_SYMBOLS)))
    return _Used(frozenset(named), offsets, called)


def _binds_now(file: _File) -> bool:
    flags, more = file.values.get(_FLAGS, 0), file.values.get(_FLAGS_1, 0)
    return _BIND_NOW in file.values or bool(flags & _NOW or more & _NOW_1)


def _relocations(file: _File, tag: int, size: int, *, addend: bool) -> Iterator[int]:
    if tag not in file.values or size == 0:
        return
    bits = file.header.bits
    step = (bits // 4) + (bits // 8 if addend else 0)
    number = size // step
    if number > MAX_RELOCATIONS:
        raise ElfError(f"it has {number} relocations")
    data = file.at(file.values[tag], number * step, "relocation table")
    tail = f"{bits // 8}x" if addend else ""
    if bits == 32:
        yield from (info >> 8 for (info,) in struct.iter_unpack(f"{file.order}4xI{tail}", data))
    elif MACHINES.get(file.header.machine) == "mips":  # two numbers, not one: the symbol comes first
        yield from (number for (number,) in struct.iter_unpack(f"{file.order}8xI4x{tail}", data))
    else:
        yield from (info >> 32 for (info,) in struct.iter_unpack(f"{file.order}8xQ{tail}", data))


@dataclass(frozen=True, slots=True)
class _Symbols:
    """See Linking."""

    wants: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()


def _symbols(file: _File) -> _Symbols:
    if _SYMTAB not in file.values:
        return _Symbols()
    used = _used(file)
    every = used.named | used.offsets | used.called
    count = max(_symbol_count(file), max(every, default=-1) + 1)
    layout = file.order + _SYMBOL[file.header.bits]
    if count > MAX_SYMBOLS:
        raise ElfError(f"it has {count} symbols")
    table = file.at(file.values[_SYMTAB], count * struct.calcsize(layout), "symbol table")
    rows = list(struct.iter_unpack(layout, table))
    wanted = {each for each in every if rows[each][2] == 0 and rows[each][1] >> 4 == _STB_GLOBAL}
    # of a global offset table, functions have a stub until they are called
    late = {each for each in used.offsets if rows[each][1] & 0xF == _STT_FUNC} | used.called
    called = (wanted & late) - used.named if not _binds_now(file) else frozenset[int]()
    binds = (_STB_GLOBAL, _STB_WEAK, _STB_UNIQUE)
    gives = {name for name, info, section in rows if section != 0 and info >> 4 in binds}
    return _Symbols(
        frozenset(file.text(rows[each][0]) for each in wanted),
        frozenset(file.text(rows[each][0]) for each in called),
        frozenset(map(file.text, gives - {0})),
    )


def _needed_versions(file: _File) -> Iterator[NeededVersion]:
    """Entries of .gnu.version_r: a chain of libraries, each with a chain of versions."""
    if _VERNEED not in file.values:
        return
    data, at, told = file.rest(file.values[_VERNEED], "table of needed versions"), 0, 0
    while True:
        _, name, first, step = _unpack(file, "HxxIII", data, at)
        place = at + first
        while True:
            told += 1
            if told > MAX_VERSIONS:
                raise ElfError(f"it wants more than {MAX_VERSIONS} versions of symbols")
            flags, version, further = _unpack(file, "4xH2xII", data, place)
            yield NeededVersion(file.text(name), file.text(version), bool(flags & _WEAK_VERSION))
            if not further:
                break
            place += further
        if not step:
            return
        at += step


def _versions(file: _File) -> Iterator[str]:
    """Entries of .gnu.version_d, but for the file's own name."""
    if _VERDEF not in file.values:
        return
    data, at = file.rest(file.values[_VERDEF], "table of versions"), 0
    for _ in range(MAX_VERSIONS):
        flags, names, step = _unpack(file, "2xH8xII", data, at)
        if not flags & _BASE_VERSION:
            yield file.text(_unpack(file, "I", data, at + names)[0])
        if not step:
            return
        at += step
    raise ElfError(f"it has more than {MAX_VERSIONS} versions of symbols")


def _unpack(file: _File, layout: str, data: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(file.order + layout, data, at)
    except struct.error as error:
        raise ElfError(f"a table of its dynamic section ends too early: {error}") from error


def _loader(file: _File) -> str:
    segment = next((each for each in file.segments if each.kind == PT_INTERP), None)
    if segment is None:
        return ""
    path = file.data[segment.offset : segment.offset + min(segment.size, _LONGEST_LOADER)]
    return path.partition(b"\0")[0].decode("utf-8", "replace")


def _folders(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(part for text in texts for part in text.split(":") if part)


def read_linking(data: bytes) -> Linking:
    """What a program or a library wants of others and gives. ElfError for what is no ELF file, or damaged."""
    file = _File(data)
    symbols = _symbols(file)
    return Linking(
        header=file.header,
        dynamic=bool(file.tags),
        loader=_loader(file),
        needed=file.texts(_NEEDED),
        soname=next(iter(file.texts(_SONAME)), ""),
        rpath=_folders(file.texts(_RPATH)),
        runpath=_folders(file.texts(_RUNPATH)),
        wants=symbols.wants,
        calls=symbols.calls,
        gives=symbols.gives,
        needed_versions=tuple(_needed_versions(file)),
        versions=frozenset(_versions(file)),
    )
