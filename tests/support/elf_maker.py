"""ELF files as a linker writes them, as far as a dynamic linker reads them: no code is in them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

BASE = 0x10000  # the address that a file is loaded at
EM_386, EM_MIPS, EM_ARM, EM_X86_64 = 3, 8, 40, 62
Hashes = Literal["sysv", "gnu"]


@dataclass(frozen=True)
class ElfPlan:
    """What a file is to say. wants: symbols named by relocations, weakly: those of them that may lack; calls:
    by those of its procedure linkage table; gives: that it defines; needed_versions: (library, version), of
    which weak_versions may lack; versions: that it defines. runpath, rpath: as they are written."""

    loader: str = ""
    needed: tuple[str, ...] = ()
    soname: str = ""
    rpath: str = ""
    runpath: str = ""
    wants: tuple[str, ...] = ()
    weakly: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    needed_versions: tuple[tuple[str, str], ...] = ()
    weak_versions: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    machine: int = EM_MIPS
    bits: int = 32
    little: bool = False
    hashes: Hashes = "sysv"
    bind_now: bool = False


class _Writer:
    def __init__(self, plan: ElfPlan) -> None:
        self.plan = plan
        self.order = "<" if plan.little else ">"
        self.wide = plan.bits == 64
        self.strings = bytearray(b"\0")
        self.body = bytearray()
        self.tags: list[tuple[int, int]] = []
        self.start = (64 if self.wide else 52) + 3 * (56 if self.wide else 32)

    def pack(self, layout: str, *values: int) -> bytes:
        return struct.pack(self.order + layout, *values)

    def text(self, text: str) -> int:
        """The place of a string in the string table."""
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def put(self, data: bytes) -> int:
        """The address of what is added."""
        self.body += bytes(-len(self.body) % 8)
        at = self.start + len(self.body)
        self.body += data
        return BASE + at

    def symbol(self, name: str, info: int, section: int) -> bytes:
        at = self.text(name) if name else 0
        if self.wide:
            return self.pack("IBBHQQ", at, info, 0, section, 0, 0)
        return self.pack("IIIBBH", at, 0, 0, info, 0, section)

    def relocation(self, number: int) -> bytes:
        if not self.wide:
            return self.pack("II", 0, number << 8 | 2)
        if self.plan.machine == EM_MIPS:  # the symbol comes first, whatever the byte order
            return self.pack("QIIQ", 0, number, 0, 0)
        return self.pack("QQQ", 0, number << 32 | 2, 0)

    def symbols(self) -> None:
        plan = self.plan
        names = [*plan.wants, *plan.weakly, *plan.calls]
        rows = [self.symbol("", 0, 0)]
        rows += [
            self.symbol(name, 0x21 if name in plan.weakly else 0x11, 0)
            for name in (*plan.wants, *plan.weakly)
        ]
        rows += [self.symbol(name, 0x12, 0) for name in plan.calls]
        first = len(rows)
        rows += [self.symbol(name, 0x12, 1) for name in plan.gives]
        self.tags.append((6, self.put(b"".join(rows))))
        if plan.machine == EM_MIPS and not self.wide:
            self.tags += [(0x70000011, len(rows)), (0x70000013, 1)]
            return
        named = [self.relocation(each) for each in range(1, 1 + len(plan.wants) + len(plan.weakly))]
        called = [self.relocation(each) for each in range(1 + len(named), 1 + len(names))]
        table, size, kind = (7, 8, 7) if self.wide else (17, 18, 17)
        if named:
            self.tags += [(table, self.put(b"".join(named))), (size, len(b"".join(named)))]
        if called:
            self.tags += [(23, self.put(b"".join(called))), (2, len(b"".join(called))), (20, kind)]
        self.hashes(first, len(rows))

    def hashes(self, first: int, count: int) -> None:
        if self.plan.hashes == "sysv":
            self.tags.append((4, self.put(self.pack("II", 1, count))))
            return
        bloom = bytes(8 if self.wide else 4)
        head = self.pack("IIII", 1, first, 1, 0) + bloom
        given = count - first
        chain = b"".join(self.pack("I", int(each == given - 1)) for each in range(given))
        self.tags.append((0x6FFFFEF5, self.put(head + self.pack("I", first if given else 0) + chain)))

    def versions(self) -> None:
        plan = self.plan
        by_library = [(name, list(rows)) for name, rows in groupby(plan.needed_versions, lambda row: row[0])]
        needs = b""
        for number, (library, rows) in enumerate(by_library):
            step = 16 + 16 * len(rows) if number < len(by_library) - 1 else 0
            needs += self.pack("HHIII", 1, len(rows), self.text(library), 16, step)
            for place, (_, version) in enumerate(rows):
                further = 16 if place < len(rows) - 1 else 0
                flags = 2 if version in plan.weak_versions else 0
                needs += self.pack("IHHII", 0, flags, 2, self.text(version), further)
        if needs:
            self.tags.append((0x6FFFFFFE, self.put(needs)))
        defined = [(1, plan.soname or "self"), *((0, version) for version in plan.versions)]
        given = b""
        for number, (flags, version) in enumerate(defined):
            step = 28 if number < len(defined) - 1 else 0
            given += self.pack("HHHHIII", 1, flags, number + 1, 1, 0, 20, step)
            given += self.pack("II", self.text(version), 0)
        if plan.versions:
            self.tags.append((0x6FFFFFFC, self.put(given)))

    def whole(self) -> bytes:
        plan = self.plan
        interp = self.put(plan.loader.encode() + b"\0") if plan.loader else 0
        self.tags += [(1, self.text(name)) for name in plan.needed]
        for tag, text in ((14, plan.soname), (15, plan.rpath), (29, plan.runpath)):
            self.tags += [(tag, self.text(text))] if text else []
        if plan.bind_now:
            self.tags.append((30, 8))
        self.symbols()
        self.versions()
        self.tags += [(5, self.put(bytes(self.strings))), (10, len(self.strings))]
        word = "Q" if self.wide else "I"
        rows = b"".join(self.pack(word * 2, tag, value) for tag, value in (*self.tags, (0, 0)))
        dynamic = self.put(rows)
        end = self.start + len(self.body)
        segments = [(1, BASE, end), (2, dynamic, len(rows))]
        segments += [(3, interp, len(plan.loader) + 1)] if interp else []
        return (self._header(len(segments)) + b"".join(self._segment(*each) for each in segments)).ljust(
            self.start, b"\0"
        ) + bytes(self.body)

    def _header(self, segments: int) -> bytes:
        ident = b"\x7fELF" + bytes([2 if self.wide else 1, 1 if self.plan.little else 2, 1])
        size = 64 if self.wide else 52
        layout = "HHIQQQIHHHHHH" if self.wide else "HHIIIIIHHHHHH"
        entry = 56 if self.wide else 32
        return ident.ljust(16, b"\0") + self.pack(
            layout, 3, self.plan.machine, 1, 0, size, 0, 0, size, entry, segments, 0, 0, 0
        )

    def _segment(self, kind: int, address: int, size: int) -> bytes:
        offset = address - BASE
        if self.wide:
            return self.pack("IIQQQQQQ", kind, 5, offset, address, address, size, size, 8)
        return self.pack("IIIIIIII", kind, offset, address, address, size, size, 5, 8)


def make_elf(plan: ElfPlan) -> bytes:
    """The file."""
    return _Writer(plan).whole()
