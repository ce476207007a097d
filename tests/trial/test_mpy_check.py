"""MicroPython's bytecode in a root: what its interpreter reads passes, and nothing else."""

from __future__ import annotations

import pytest

from imagebuilder.rootfs.tree import FileTree, file_of, symlink
from imagebuilder.trial.mpy_check import mpy_check
from tests.support.elf_maker import ElfPlan, make_elf

LIB = "/usr/lib/micropython"
BANNER = b"\0MicroPython v1.12 on 2020-01-01; linux version\0"
PROGRAM = make_elf(ElfPlan()) + BANNER
GOOD, OLD = b"M\x05\x03\x1fcode", b"M\x02\x03\x1fcode"


def tree(program: bytes = PROGRAM, **files: bytes) -> FileTree:
    named = {path: file_of(data) for path, data in files.items()}
    return FileTree({"/usr/bin/micropython": file_of(program, 0o755), **named})


def told(found: FileTree, **versions: str) -> tuple[str, str]:
    check = mpy_check(found, {f"{LIB}/a.mpy": "own"}, versions)
    assert check is not None
    return check.outcome, check.found or check.why


def test_files_of_the_interpreters_version_pass() -> None:
    found = tree(**{f"{LIB}/a.mpy": GOOD, f"{LIB}/b/c.mpy": GOOD})
    assert told(found) == ("ok", "2 files of version 5")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (OLD, "version 2 of .mpy files, where MicroPython 1.12 reads 5"),
        (b"C" + GOOD[1:], "bytecode of CircuitPython"),
        (b"", "0 bytes hold no code"),
        (b"M\x05\x03\x40code", "it needs small integers of 64 bits, where MicroPython 1.12 has 31"),
    ],
)
def test_what_it_does_not_read_is_named(data: bytes, words: str) -> None:
    outcome, text = told(tree(**{f"{LIB}/a.mpy": data, f"{LIB}/b.mpy": GOOD}))
    assert outcome == "failed"
    assert text.startswith(f"{LIB}/a.mpy: ")
    assert words in text
    assert told(tree(**{"/root/a.mpy": data}))[0] == "warned"


def test_a_source_beside_it_is_read_in_its_place() -> None:
    assert mpy_check(tree(**{f"{LIB}/a.mpy": OLD, f"{LIB}/a.py": b""}), {}, {}) is None


def test_a_vendors_build_is_known_by_its_package() -> None:
    """Its banner names the tag of the vendor's own repository."""
    found = tree(b"MicroPython release-18.08-611-g93f2639a7-dirty on 2019-02-01", **{f"{LIB}/a.mpy": OLD})
    assert told(found, micropython="1.9.2-1f78e7a4-1") == ("ok", "1 file of version 2")
    assert told(found, micropython="7") == (
        "not run",
        "nobody knows which .mpy files /usr/bin/micropython reads: nothing says its release",
    )


def test_two_releases_of_which_one_must_be_wrong_are_not_chosen_from() -> None:
    outcome, why = told(tree(**{f"{LIB}/a.mpy": GOOD}), micropython="1.9.2-1")
    assert outcome == "not run"
    assert "v1.12 and 1.9.2-1 says its release" in why
    assert told(tree(**{f"{LIB}/a.mpy": GOOD}), micropython="1.13-1")[0] == "ok"


def test_a_root_without_one_of_both_has_no_such_check() -> None:
    assert mpy_check(tree(), {}, {}) is None
    assert mpy_check(FileTree({f"{LIB}/a.mpy": file_of(GOOD)}), {}, {}) is None
    linked = FileTree(
        {
            "/usr/bin/micropython": symlink("micropython-mbedtls"),
            "/usr/bin/micropython-mbedtls": file_of(PROGRAM, 0o755),
            f"{LIB}/a.mpy": file_of(OLD),
            f"{LIB}/b.mpy": symlink("a.mpy"),
        }
    )
    assert told(linked)[0] == "failed"
