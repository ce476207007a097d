"""Which processor an architecture is, and which ELF files are for it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.processor import MachineCode, processor_of, read_code
from tests.support.wheel_maker import make_elf

MIPS, ARM, X86, X86_64, AARCH64 = 8, 40, 3, 62, 183


def program(
    machine: int, *, bits: int = 32, little: bool = True, flags: int = 0, linked: bool = True
) -> bytes:
    """An ELF file of two bytes of code; linked: with a dynamic section."""
    data = bytearray(make_elf(["libc.so"], machine=machine, bits=bits, little=little, flags=flags))
    if not linked:  # the program headers say PT_LOAD alone
        head, entry = (64, 56) if bits == 64 else (52, 32)
        struct.pack_into("<I" if little else ">I", data, head + entry, 0)
    return bytes(data)


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("mips_24kc", "mips, 32 bits, big endian, soft float"),
        ("mipsel_24kc", "mips, 32 bits, little endian, soft float"),
        ("mipsel_24kc_24kf", "mips, 32 bits, little endian, hard float"),
        ("mips64_octeonplus", "mips, 64 bits, big endian"),
        ("arm_cortex-a9", "arm, 32 bits, little endian, soft float"),
        ("arm_cortex-a9_vfpv3-d16", "arm, 32 bits, little endian, hard float"),
        ("arm_cortex-a7_neon-vfpv4", "arm, 32 bits, little endian, hard float"),
        ("arm_arm1176jzf-s_vfp", "arm, 32 bits, little endian, hard float"),
        ("armeb_xscale", "arm, 32 bits, big endian, soft float"),
        ("aarch64_generic", "aarch64, 64 bits, little endian"),
        ("x86_64", "x86_64, 64 bits, little endian"),
        ("i386_pentium4", "x86, 32 bits, little endian"),
        ("powerpc_8548", "powerpc, 32 bits, big endian"),
        ("riscv64_riscv64", "riscv, 64 bits, little endian"),
        ("loongarch64_generic", "loongarch, 64 bits, little endian"),
        ("arc_archs", "arc, 32 bits, little endian"),
    ],
)
def test_processors_of_architectures(arch: str, words: str) -> None:
    assert str(processor_of(arch)) == words


def test_an_architecture_that_nobody_knows_is_no_processor() -> None:
    assert processor_of("z80") is None


def code_of(data: bytes, name: str = "libx.so.1") -> MachineCode:
    found = read_code(data, name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("data", "arch", "foreign"),
    [
        (program(MIPS, little=False), "mips_24kc", False),
        (program(MIPS, little=True), "mips_24kc", True),
        (program(ARM), "mips_24kc", True),
        (program(ARM, flags=0x5000400), "arm_cortex-a7_neon-vfpv4", False),
        (program(ARM, flags=0x5000400), "arm_cortex-a7", True),
        (program(ARM, flags=0x5000200), "arm_cortex-a7_neon-vfpv4", True),
        (program(ARM, flags=0x5000000), "arm_cortex-a7", False),  # it does not say
        (program(X86_64, bits=64), "x86_64", False),
        (program(X86_64, bits=32), "x86_64", True),  # x32
        (program(X86), "x86_64", True),
        (program(X86, linked=False), "x86_64", False),
        (program(ARM, linked=False), "aarch64_generic", False),
        (program(ARM, flags=0x5000200, linked=False), "arm_cortex-a7_neon-vfpv4", False),
        (program(ARM, linked=False), "x86_64", True),
        (program(AARCH64, bits=64), "arm_cortex-a7", True),
    ],
)
def test_who_runs_what(data: bytes, arch: str, foreign: bool) -> None:
    processor = processor_of(arch)
    assert processor is not None
    assert code_of(data).stranger_to(processor) is foreign


@pytest.mark.parametrize(("abi", "hard"), [(0, None), (1, True), (3, False), (5, True)])
def test_mips_says_its_floating_point_abi(abi: int, hard: bool | None) -> None:
    data = bytearray(program(MIPS, little=False))
    # the second program header becomes PT_MIPS_ABIFLAGS of 24 bytes at the end
    struct.pack_into(">IIIIIIII", data, 52 + 32, 0x70000003, len(data), 0, 0, 24, 24, 4, 8)
    data += struct.pack(">HBBBBBBIIII", 0, 32, 2, 1, 0, 0, abi, 0, 0, 0, 0)
    assert code_of(bytes(data)).hard_float is hard


def test_kernel_modules_are_code_and_other_objects_are_not() -> None:
    module = bytearray(program(MIPS, little=False))
    struct.pack_into(">H", module, 16, 1)
    assert code_of(bytes(module), "/lib/modules/5.15/x.ko").module
    assert read_code(bytes(module), "/lib/bpf/x.o") is None


@given(st.binary(max_size=200), st.integers(0, 150), st.binary(min_size=1, max_size=8))
def test_any_bytes_are_code_or_none(junk: bytes, at: int, change: bytes) -> None:
    data = bytearray(program(MIPS, little=False))
    data[at : at + len(change)] = change
    for each in (junk, b"\x7fELF" + junk, bytes(data)):
        found = read_code(each, "x.so")
        assert found is None or found.bits in (32, 64)
