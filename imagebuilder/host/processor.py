"""Which processor the architecture of packages is, and whether an ELF file is for it.

Sources: OpenWrt's include/target.mk and target/linux/*/Makefile (the names of architectures: processor, type,
and the floating point unit where there is one, without which MIPS and ARM are built for soft float); the ELF
supplements of ARM (IHI 0044, EF_ARM_ABI_FLOAT_*) and MIPS (the section .MIPS.abiflags).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagebuilder.host.elf import (
    ET_DYN,
    ET_EXEC,
    ET_REL,
    MACHINES,
    PT_DYNAMIC,
    PT_INTERP,
    PT_MIPS_ABIFLAGS,
    ElfError,
    is_elf,
    read_header,
)

LITTLE, BIG = "little endian", "big endian"
_ARM_SOFT, _ARM_HARD = 0x200, 0x400  # EF_ARM_ABI_FLOAT_SOFT, _HARD
_MIPS_FP_ABI = 7  # a byte of Elf_MIPS_ABIFLAGS_v0
_MIPS_HARD, _MIPS_SOFT = (1, 2, 5, 6, 7), 3  # Val_GNU_MIPS_ABI_FP_*; 0: any
_MIPS_WITH_UNIT = re.compile(r"_[0-9]+k[a-z]*f$")  # mipsel_24kc_24kf
_ARM_WITH_UNIT = re.compile(r"_(neon|vfp|fp)[a-z0-9-]*$")
# what lies there is data for the device: firmware of other chips, loaders, what is handed to others
_DATA = ("/lib/firmware/", "/usr/share/", "/usr/lib/grub/", "/boot/", "/lib/bpf/", "/usr/lib/bpf/")
# what the other processor of a pair runs too, in programs that want no library of the image
_ALSO_RUNS = {("x86_64", "x86"), ("aarch64", "arm")}


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor as uImage and ELF call it (see MACHINES), its byte order, and the size of its words in
    bits. hard_float: whether numbers are passed in registers of a floating point unit; None where the name of
    the architecture does not tell."""

    name: str
    order: str
    bits: int
    hard_float: bool | None = None

    def __str__(self) -> str:
        return f"{self.name}, {self.bits} bits, {self.order}{_float_words(self.hard_float)}"


# how the names of architectures begin
_BEGINNINGS = (
    ("mips64el", Processor("mips", LITTLE, 64)),
    ("mips64", Processor("mips", BIG, 64)),
    ("mipsel", Processor("mips", LITTLE, 32)),
    ("mips", Processor("mips", BIG, 32)),
    ("armeb", Processor("arm", BIG, 32)),
    ("arm_", Processor("arm", LITTLE, 32)),
    ("aarch64_be", Processor("aarch64", BIG, 64)),
    ("aarch64", Processor("aarch64", LITTLE, 64)),
    ("x86_64", Processor("x86_64", LITTLE, 64)),
    ("i386", Processor("x86", LITTLE, 32)),
    ("powerpc64", Processor("powerpc", BIG, 64)),
    ("powerpc", Processor("powerpc", BIG, 32)),
    ("riscv64", Processor("riscv", LITTLE, 64)),
    ("loongarch64", Processor("loongarch", LITTLE, 64)),
    ("arc_", Processor("arc", LITTLE, 32)),
)


def processor_of(arch: str) -> Processor | None:
    """The processor of an architecture's name (`mips_24kc`); None where it is not known here."""
    found = next((processor for begin, processor in _BEGINNINGS if arch.startswith(begin)), None)
    if found is None or found.bits != 32 or found.name not in ("mips", "arm"):
        return found
    unit = _MIPS_WITH_UNIT if found.name == "mips" else _ARM_WITH_UNIT
    return Processor(found.name, found.order, found.bits, unit.search(arch) is not None)


@dataclass(frozen=True, slots=True)
class MachineCode:
    """What an ELF file that a device may load says of the processor that it is for. machine: e_machine;
    linked: it goes together with shared libraries, or is one; module: of the kernel."""

    machine: int
    bits: int
    little_endian: bool
    linked: bool
    module: bool = False
    hard_float: bool | None = None

    def __str__(self) -> str:
        name = MACHINES.get(self.machine, f"ELF machine {self.machine}")
        order = LITTLE if self.little_endian else BIG
        return f"{name}, {self.bits} bits, {order}{_float_words(self.hard_float)}"

    def stranger_to(self, processor: Processor) -> bool:
        """Whether this processor cannot run or load it. A program that is linked with nothing may be for the
        smaller one of a pair of processors, and have any floating point ABI."""
        name = MACHINES.get(self.machine, "")
        if not self.linked and not self.module and (processor.name, name) in _ALSO_RUNS:
            return (LITTLE if self.little_endian else BIG) != processor.order
        order = LITTLE if self.little_endian else BIG
        if (name, self.bits, order) != (processor.name, processor.bits, processor.order):
            return True
        told = None not in (self.hard_float, processor.hard_float)
        return self.linked and told and self.hard_float != processor.hard_float


def is_data(path: str) -> bool:
    """Whether what lies there is data for the device, whatever it looks like. path: in the image."""
    return path.startswith(_DATA)


def is_foreign(path: str, code: MachineCode, processor: Processor) -> bool:
    """Whether a file of an image is a program, a library or a kernel module that its processor cannot run,
    and nothing that lies there for another one. path: in the image."""
    return not is_data(path) and code.stranger_to(processor)


def read_code(data: bytes | memoryview, name: str) -> MachineCode | None:
    """What a file says of its processor, if it is a program, a shared library or a kernel module; None for
    all else, also for ELF files that are damaged or cut off. name: the file's, which tells kernel modules."""
    if not is_elf(data):
        return None
    try:
        header = read_header(data)
        module = header.kind == ET_REL and name.endswith(".ko")
        if not module and header.kind not in (ET_EXEC, ET_DYN):
            return None
        segments = [] if module else header.segments(data)
    except ElfError:
        return None
    kinds = {segment.kind for segment in segments}
    linked = PT_INTERP in kinds or (PT_DYNAMIC in kinds and ".so" in name)
    hard: bool | None = None
    if MACHINES.get(header.machine) == "arm" and header.flags & (_ARM_SOFT | _ARM_HARD):
        hard = bool(header.flags & _ARM_HARD)
    if MACHINES.get(header.machine) == "mips":
        flags = next((segment for segment in segments if segment.kind == PT_MIPS_ABIFLAGS), None)
        place = -1 if flags is None else flags.offset + _MIPS_FP_ABI
        abi = data[place] if 0 <= place < len(data) else 0
        hard = True if abi in _MIPS_HARD else False if abi == _MIPS_SOFT else None
    return MachineCode(header.machine, header.bits, header.little_endian, linked, module, hard)


def _float_words(hard: bool | None) -> str:
    return "" if hard is None else ", hard float" if hard else ", soft float"
