"""What ELF files say to a dynamic linker, read from files of our own making and from this machine's."""

from __future__ import annotations

import random
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.elf import PT_DYNAMIC, ElfError, read_elf, read_header
from imagebuilder.host.elf_linking import MAX_VERSIONS, Linking, NeededVersion, read_linking
from tests.support.elf_maker import BASE, EM_386, EM_ARM, EM_MIPS, EM_X86_64, ElfPlan, make_elf

FULL = ElfPlan(
    loader="/lib/ld-linux.so.2",
    needed=("libc.so.6", "libz.so.1"),
    soname="libown.so.3",
    rpath="/opt/a:/opt/b",
    runpath="$ORIGIN/../lib",
    wants=("stdout", "crc_table"),
    weakly=("__gmon_start__",),
    calls=("printf", "inflate"),
    gives=("own_one", "own_two"),
    needed_versions=(("libc.so.6", "GLIBC_2.34"), ("libc.so.6", "GLIBC_2.4"), ("libz.so.1", "ZLIB_1")),
    weak_versions=("ZLIB_1",),
    versions=("OWN_1", "OWN_2"),
)
EVERY = [
    replace(FULL, machine=EM_MIPS),
    replace(FULL, machine=EM_MIPS, little=True),
    replace(FULL, machine=EM_MIPS, bits=64),
    replace(FULL, machine=EM_MIPS, bits=64, little=True, hashes="gnu"),
    replace(FULL, machine=EM_ARM, little=True),
    replace(FULL, machine=EM_386, little=True, hashes="gnu"),
    replace(FULL, machine=EM_X86_64, bits=64, little=True),
    replace(FULL, machine=EM_X86_64, bits=64, little=True, hashes="gnu"),
]


@pytest.mark.parametrize("plan", EVERY)
def test_all_that_a_file_says_is_read(plan: ElfPlan) -> None:
    data = make_elf(plan)
    found = read_linking(data)
    assert found.dynamic
    assert (found.loader, found.needed, found.soname) == (plan.loader, plan.needed, plan.soname)
    assert (found.rpath, found.runpath) == (("/opt/a", "/opt/b"), ("$ORIGIN/../lib",))
    assert found.wants == {"stdout", "crc_table", "printf", "inflate"}
    assert found.calls == {"printf", "inflate"}
    assert found.gives == {"own_one", "own_two"}
    assert found.versions == {"OWN_1", "OWN_2"}
    assert found.needed_versions == (
        NeededVersion("libc.so.6", "GLIBC_2.34"),
        NeededVersion("libc.so.6", "GLIBC_2.4"),
        NeededVersion("libz.so.1", "ZLIB_1", weak=True),
    )
    other = read_elf(data)
    assert (other.needed, other.soname) == (found.needed, found.soname)


@pytest.mark.parametrize("plan", EVERY)
def test_what_binds_all_at_once_looks_for_nothing_later(plan: ElfPlan) -> None:
    found = read_linking(make_elf(replace(plan, bind_now=True)))
    assert (found.calls, len(found.wants)) == (frozenset(), 4)


@pytest.mark.parametrize("hashes", ["sysv", "gnu"])
def test_a_program_that_gives_nothing_still_wants(hashes: str) -> None:
    plan = ElfPlan(
        machine=EM_ARM, little=True, calls=("printf",), hashes="gnu" if hashes == "gnu" else "sysv"
    )
    found = read_linking(make_elf(plan))
    assert (found.wants, found.gives) == ({"printf"}, frozenset())


def test_this_machines_own_programs_are_read() -> None:
    found = read_linking(Path(sys.executable).resolve().read_bytes())
    assert found.loader
    assert "libc.so.6" in found.needed
    assert any(each.library == "libc.so.6" for each in found.needed_versions)
    shell = read_linking(Path(shutil.which("sh") or "/bin/sh").resolve().read_bytes())
    assert "fork" in shell.wants


def test_a_static_program_is_linked_with_nothing() -> None:
    data = bytearray(make_elf(ElfPlan()))
    assert not read_linking(bytes(data[:52].ljust(200, b"\0"))).dynamic


def test_more_than_any_real_file_has_is_refused() -> None:
    versions = tuple(("libc.so.6", f"V{number}") for number in range(MAX_VERSIONS + 1))
    with pytest.raises(ElfError, match="wants more than 4096 versions"):
        read_linking(make_elf(replace(FULL, needed_versions=versions)))
    with pytest.raises(ElfError, match="has more than 4096 versions"):
        read_linking(make_elf(replace(FULL, versions=tuple(version for _, version in versions))))
    with pytest.raises(ElfError, match="its dynamic section has"):
        read_linking(make_elf(replace(FULL, needed=("libx.so",) * 5000)))


def _never(data: bytes) -> Linking | None:
    try:
        return read_linking(data)
    except ElfError:
        return None


def test_names_that_lie_in_one_another_do_not_fill_the_memory() -> None:
    plan = ElfPlan(machine=EM_ARM, little=True, gives=("x" * 60_000, *(f"a{each}" for each in range(3000))))
    data = bytearray(make_elf(plan))
    table = read_table(bytes(data))
    long = data.index(b"x" * 60_000) - table.strings
    for number in range(2, 3002):  # each name is the end of the long one
        struct.pack_into("<I", data, table.symbols + 16 * number, long + number)
    with pytest.raises(ElfError, match="its names have more than 64 MiB"):
        read_linking(bytes(data))


class Tables(NamedTuple):
    """The offsets of a file's tables."""

    strings: int
    symbols: int


def read_table(data: bytes) -> Tables:
    header = read_header(data)
    dynamic = next(each for each in header.segments(data) if each.kind == PT_DYNAMIC)
    tags = dict(struct.iter_unpack("<II", data[dynamic.offset : dynamic.offset + dynamic.size]))
    return Tables(tags[5] - BASE, tags[6] - BASE)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    _never(b"\x7fELF" + data)


@given(st.sampled_from(EVERY), st.randoms(use_true_random=False), st.integers(1, 12))
def test_a_damaged_file_is_read_or_refused(plan: ElfPlan, chance: random.Random, times: int) -> None:
    data = bytearray(make_elf(plan))
    for _ in range(times):
        data[chance.randrange(len(data))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    found = _never(bytes(data[: chance.choice([len(data), chance.randrange(len(data))])]))
    assert found is None or len(found.needed_versions) <= MAX_VERSIONS


@pytest.mark.parametrize("plan", EVERY[:1] + EVERY[-1:])
def test_no_place_in_a_file_stops_or_breaks_the_reader(plan: ElfPlan) -> None:
    whole = make_elf(plan)
    for place in range(len(whole)):
        for value in (0, 0xFF):
            _never(whole[:place] + bytes([value]) + whole[place + 1 :])
