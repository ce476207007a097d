"""Which names an ELF file has for others, and which it wants of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imagebuilder.host.elf import ElfError, read_elf
from imagebuilder.host.elf_symbols import Symbols, read_symbols
from tests.support.wheel_maker import make_elf


@pytest.mark.parametrize("gnu_hash", [False, True])
@pytest.mark.parametrize(("machine", "bits", "little"), [(62, 64, True), (8, 32, False), (40, 32, True)])
def test_what_a_library_has_and_wants(machine: int, bits: int, little: bool, gnu_hash: bool) -> None:
    data = make_elf(
        ["libc.so"],
        machine=machine,
        bits=bits,
        little=little,
        wants=["malloc", "PyErr_Clear"],
        has=["PyInit_fast", "helper"],
        gnu_hash=gnu_hash,
    )
    found = read_symbols(data)
    assert found == Symbols(frozenset({"PyInit_fast", "helper"}), frozenset({"malloc", "PyErr_Clear"}))


def test_a_program_of_this_machine_wants_what_its_library_has() -> None:
    wanted = read_symbols(Path("/usr/bin/env").resolve().read_bytes()).wanted
    assert {"setlocale", "exit"} & wanted


def test_a_file_without_dynamic_symbols_has_none() -> None:
    assert read_symbols(make_elf(["libc.so"])) == Symbols(frozenset(), frozenset())


def test_how_a_mips_file_passes_floating_point_numbers() -> None:
    soft = make_elf(["libc.so"], machine=8, bits=32, little=False, flags=0x70001007, mips_float=3)
    assert read_elf(soft).mips_float == 3
    assert read_elf(make_elf(machine=8, bits=32, little=False)).mips_float is None
    assert read_elf(make_elf(machine=40, bits=32, mips_float=3)).mips_float is None
    at = soft.rindex(b"\3" + bytes(16))
    with pytest.raises(ElfError, match="too early"):
        read_elf(soft[: at - 4])


@example(b"", 200, b"\xff" * 8, False)
@settings(max_examples=500)
@given(st.binary(max_size=400), st.integers(0, 500), st.binary(min_size=1, max_size=8), st.booleans())
def test_any_bytes_have_symbols_or_one_clear_error(
    junk: bytes, at: int, change: bytes, gnu_hash: bool
) -> None:
    data = bytearray(make_elf(["libc.so"], wants=["a", "b"], has=["c", "d"], gnu_hash=gnu_hash))
    data[at : at + len(change)] = change
    for each in (b"\x7fELF" + junk, bytes(data), junk):
        try:
            assert len(read_symbols(each).defined) <= len(each)
        except ElfError as error:
            assert error.message
