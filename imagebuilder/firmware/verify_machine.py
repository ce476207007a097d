"""The processor and byte order that an image is for, by what its kernel really is.

A uImage's field for the processor proves nothing: whoever called mkimage wrote it. What it unpacks to does:
headers that only one processor's kernels have, or the instruction that functions return by, which bare code
has thousands of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.checks import equal, holds
from imagebuilder.firmware.formats.uimage import KERNEL_TYPE
from imagebuilder.firmware.reader import Kernels
from imagebuilder.firmware.subject import Subject, in_image, of_kind, on_boot_partition
from imagebuilder.host.processor import processor_of
from imagebuilder.model.firmware import Check, Part

# how functions return: MIPS `jr $ra`, ARM `bx lr` and `mov pc, lr`, AArch64 `ret`, PowerPC `blr`
_RETURNS = (
    ("mips", "big endian", "03e00008"),
    ("mips", "little endian", "0800e003"),
    ("arm", "little endian", "1eff2fe1"),
    ("arm", "little endian", "0ef0a0e1"),
    ("arm", "big endian", "e12fff1e"),
    ("arm", "big endian", "e1a0f00e"),
    ("aarch64", "little endian", "c0035fd6"),
    ("powerpc", "big endian", "4e800020"),
)
_LEAST_RETURNS = 32
_CLEARLY_MORE = 16
_BZIMAGE_PROTOCOL, _BZIMAGE_FLAGS = 0x206, 0x236  # Linux, Documentation/arch/x86/boot.rst
_FLAGS_SINCE = 0x020C
_KERNEL_64 = 1
_KERNELS = ("elf", "zimage", "arm64-image", "bzimage", "kernel")
_UIMAGES = ("uimage", "vendor-uimage")


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor and its byte order, as uImage and ELF call them."""

    name: str
    order: str

    def __str__(self) -> str:
        return f"{self.name}, {self.order}"


def code_machine(code: bytes | memoryview) -> Machine | None:
    """The processor that bare code is for; None where it does not tell."""
    data = bytes(code)
    counts: dict[Machine, int] = {}
    for name, order, instruction in _RETURNS:
        machine = Machine(name, order)
        counts[machine] = counts.get(machine, 0) + data.count(bytes.fromhex(instruction))
    (most, count), (_, next_count) = sorted(counts.items(), key=lambda one: -one[1])[:2]
    return most if count >= max(_LEAST_RETURNS, _CLEARLY_MORE * next_count) else None


def kernel_machine(part: Part, kernels: Kernels) -> Machine | None:
    """The processor that a kernel's part is for; None where it is no kernel or does not tell. kernels: with
    which its image was read."""
    if part.kind == "zimage":  # its magic is read in this order
        return Machine("arm", "little endian")
    if part.kind == "arm64-image":
        return Machine("aarch64", "little endian")
    if part.kind == "elf" and {"machine", "order"} <= part.fields.keys():
        return Machine(part.fields["machine"].meaning, part.fields["order"].meaning)
    if part.data is None:
        return None
    if part.kind == "bzimage" and len(part.data) >= _BZIMAGE_FLAGS + 2:
        protocol = int.from_bytes(part.data[_BZIMAGE_PROTOCOL : _BZIMAGE_PROTOCOL + 2], "little")
        flags = int.from_bytes(part.data[_BZIMAGE_FLAGS : _BZIMAGE_FLAGS + 2], "little")
        wide = protocol >= _FLAGS_SINCE and flags & _KERNEL_64
        return Machine("x86_64" if wide else "x86", "little endian")
    return kernels.told(part.data, code_machine) if part.kind == "kernel" else None


def machine_checks(subject: Subject) -> Iterator[Check]:
    """The processor that kernel and packages are for. Parts that could not be read say nothing here."""
    processor = processor_of(subject.profile.arch)
    machine = processor.name if processor is not None else ""
    yield from _header_checks(subject, machine)
    if processor is not None:
        yield from _kernel_checks(subject, Machine(processor.name, processor.order))
    if subject.facts is not None and "ARCH" in subject.facts.release:
        yield equal("architecture of the packages", subject.profile.arch, subject.facts.release["ARCH"])


def _header_checks(subject: Subject, machine: str) -> Iterator[Check]:
    files = tuple(on_boot_partition(subject.part, *_UIMAGES))
    for part in of_kind(subject.part, *_UIMAGES):
        stated = part.fields.get("machine")
        if stated is None or (part in files and part.value("type") != KERNEL_TYPE):
            continue  # of a boot script U-Boot reads no machine; all of sunxi's say arm
        fits = stated.meaning == machine or {stated.meaning, machine} == {"x86", "x86_64"}
        expected = machine or subject.profile.arch
        yield holds(f"machine of {part.name}", fits, expected=expected, found=stated.meaning)


def _kernel_checks(subject: Subject, machine: Machine) -> Iterator[Check]:
    for part in in_image(subject.part, *_KERNELS):
        found = kernel_machine(part, subject.read.kernels)
        if found is not None:
            yield _is_for(f"processor of the {part.name}", machine, (found,))
    # a boot partition may have a kernel for each of several processors; the loader takes its own
    told = [kernel_machine(part, subject.read.kernels) for part in on_boot_partition(subject.part, *_KERNELS)]
    kernels = tuple(dict.fromkeys(found for found in told if found is not None))
    if kernels:
        yield _is_for("processor of the kernel on the boot partition", machine, kernels)


def _is_for(what: str, machine: Machine, found: tuple[Machine, ...]) -> Check:
    shown = " and ".join(str(one) for one in found)
    return holds(what, machine in found, expected=str(machine), found=shown, proves="processor")
