"""What an ELF file is made for, and which libraries it wants: enough to tell whether a wheel's native module
fits a target. From the System V ABI (gABI 4.1, chapters 4 and 5); nothing is run."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from imagebuilder.errors import UserError

ELF_MAGIC = b"\x7fELF"
MAX_DYNAMIC = 4096  # entries; real ones have some thirty
MAX_NEEDED = 512
MAX_PROGRAM_HEADERS = 4096
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 14, 15, 29


class ElfError(UserError):
    """A file that begins as ELF and is none that can be read."""


@dataclass(frozen=True, slots=True)
class Elf:
    """An ELF file's header and dynamic section. machine: e_machine; bits: 32 or 64; flags: e_flags; runpath:
    folders, `$ORIGIN` unexpanded."""

    machine: int
    bits: int
    little_endian: bool
    flags: int
    needed: tuple[str, ...] = ()
    soname: str = ""
    runpath: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the words of one class are laid out, for struct."""

    order: str
    bits: int

    def header(self, data: bytes) -> tuple[int, int, int, int, int]:
        """e_machine, e_phoff, e_flags, e_phentsize, e_phnum."""
        word = "Q" if self.bits == 64 else "I"
        found = struct.unpack_from(f"{self.order}HHI{word}{word}{word}IHHH", data, 16)
        return found[1], found[4], found[6], found[8], found[9]

    def program_header(self, data: bytes, at: int) -> tuple[int, int, int, int]:
        """p_type, p_offset, p_vaddr, p_filesz."""
        if self.bits == 64:
            kind, _, offset, address, _, size = struct.unpack_from(f"{self.order}IIQQQQ", data, at)
        else:
            kind, offset, address, _, size = struct.unpack_from(f"{self.order}IIIII", data, at)
        return kind, offset, address, size

    def dynamic(self, data: bytes, start: int, size: int) -> list[tuple[int, int]]:
        """(tag, value) up to DT_NULL."""
        word = "qQ" if self.bits == 64 else "iI"
        step = self.bits // 4
        found: list[tuple[int, int]] = []
        for at in range(start, start + min(size, MAX_DYNAMIC * step) - step + 1, step):
            tag, value = struct.unpack_from(self.order + word, data, at)
            if tag == _DT_NULL:
                break
            found.append((tag, value))
        return found


def _text(data: bytes, strings: int, size: int, at: int) -> str:
    if not 0 <= at < size:
        raise ElfError("its dynamic section names a string outside of its table")
    end = data.find(b"\0", strings + at, strings + size)
    if end < 0:
        raise ElfError("a name in its dynamic section has no end")
    return data[strings + at : end].decode("utf-8", "replace")


def _read(data: bytes) -> Elf:
    classes, orders = {1: 32, 2: 64}, {1: "<", 2: ">"}
    if len(data) < 20 or data[4] not in classes or data[5] not in orders:
        raise ElfError("its header is damaged")
    layout = _Layout(orders[data[5]], classes[data[4]])
    machine, table, flags, entry_size, count = layout.header(data)
    headers = [
        layout.program_header(data, table + number * entry_size)
        for number in range(min(count, MAX_PROGRAM_HEADERS))
    ]
    loads = [header for header in headers if header[0] == _PT_LOAD]
    tags = [
        tag
        for kind, offset, _, size in headers
        if kind == _PT_DYNAMIC
        for tag in layout.dynamic(data, offset, size)
    ]
    plain = Elf(machine, layout.bits, layout.order == "<", flags)
    values = dict(tags)
    if _DT_STRTAB not in values:
        return plain
    address, size = values[_DT_STRTAB], values.get(_DT_STRSZ, 0)
    place = next((o + address - a for _, o, a, s in loads if a <= address < a + s), None)
    if place is None:
        raise ElfError("its string table lies outside of it")

    def texts(*wanted: int) -> tuple[str, ...]:
        found = [value for tag, value in tags if tag in wanted][:MAX_NEEDED]
        return tuple(_text(data, place, size, value) for value in found)

    runpath = tuple(part for text in texts(_DT_RPATH, _DT_RUNPATH) for part in text.split(":") if part)
    soname = next(iter(texts(_DT_SONAME)), "")
    return Elf(machine, layout.bits, plain.little_endian, flags, texts(_DT_NEEDED), soname, runpath)


def is_elf(data: bytes) -> bool:
    """Whether a file begins as an ELF file does."""
    return data.startswith(ELF_MAGIC)


def read_elf(data: bytes) -> Elf:
    """An ELF file's facts. ElfError for what is none, or damaged."""
    if not is_elf(data):
        raise ElfError("it is no ELF file")
    try:
        return _read(data)
    except (struct.error, OverflowError) as error:  # the latter: a place beyond all memory
        raise ElfError(f"it ends too early: {error}") from error
