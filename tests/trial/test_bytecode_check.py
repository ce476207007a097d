"""Bytecode of a root file system is for an interpreter that is there; what the device compiles is named."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.model.trial import TrialCheck
from imagebuilder.python.bytecode.versions import version_facts
from imagebuilder.rootfs.tree import Entry, FileTree, file_of, symlink
from imagebuilder.trial.bytecode_check import bytecode_check, pythons_of, source_check

LIB = "/usr/lib/python3.11"
SITE = f"{LIB}/site-packages"
BODY = bytes(12) + b"\xe3" + bytes(80)


def pyc(number: int | str) -> Entry:
    """Bytecode with a magic number, or that of a version."""
    magic = version_facts(number).magic_number if isinstance(number, str) else number
    return file_of(magic.to_bytes(2, "little") + b"\r\n" + BODY)


def root(pythons: tuple[str, ...] = ("3.11",), **files: Entry) -> FileTree:
    """A root with interpreters; files: by their paths, `/` written as `__`."""
    programs = {f"/usr/bin/python{python}": file_of(b"\x7fELF", 0o755) for python in pythons}
    return FileTree({**programs, **files})


def checked(tree: FileTree, owners: dict[str, str] | None = None) -> TrialCheck:
    check = bytecode_check(tree, owners or {})
    assert check is not None
    return check


def test_good_bytecode_passes_and_is_counted() -> None:
    tree = root(**{f"{LIB}/os.pyc": pyc("3.11"), f"{SITE}/a/b.pyc": pyc("3.11")})
    check = checked(tree)
    assert (check.outcome, check.findings) == ("ok", ())
    assert check.found == "2 files for Python 3.11"


def test_bytecode_of_a_foreign_feed_fails_by_file_package_and_both_versions() -> None:
    tree = root(**{f"{LIB}/os.pyc": pyc("3.11"), f"{SITE}/bottle.pyc": pyc("3.10")})
    check = checked(tree, {f"{SITE}/bottle.pyc": "python3-bottle"})
    assert check.outcome == "failed"
    (finding,) = check.findings
    assert (finding.file, finding.package) == (f"{SITE}/bottle.pyc", "python3-bottle")
    assert finding.text == "magic number 3439 (Python 3.10), where Python 3.11 reads 3495"
    assert finding.file in check.found


@pytest.mark.parametrize("data", [b"", b"\xa7", b"\xa7\x0d\r\n", b"\xa7\x0d\r\n" + bytes(8)])
def test_bytecode_without_code_fails(data: bytes) -> None:
    check = checked(root(**{f"{SITE}/a.pyc": file_of(data)}))
    assert check.outcome == "failed"
    assert "hold no code" in check.found


def test_a_magic_number_without_its_end_fails() -> None:
    head = version_facts("3.11").magic_number.to_bytes(2, "little") + b"\n\n"
    assert checked(root(**{f"{SITE}/a.pyc": file_of(head + BODY)})).outcome == "failed"


def test_what_no_python_of_the_image_reads_is_no_matter() -> None:
    tree = root(
        **{
            "/usr/lib/python2.7/os.pyc": pyc(62211),  # no Python 2 is there
            f"{SITE}/a.py": file_of(b"x = 1\n"),
            f"{SITE}/a.pyc": pyc("3.9"),  # beside its source
            f"{SITE}/__pycache__/a.cpython-39.pyc": pyc("3.9"),
            f"{SITE}/__pycache__/gone.cpython-311.pyc": pyc("3.9"),  # without its source
        }
    )
    assert (checked(tree).outcome, checked(tree).findings) == ("ok", ())


def test_a_cache_of_another_version_is_a_warning_since_the_source_is_there() -> None:
    tree = root(
        **{f"{SITE}/a.py": file_of(b"x = 1\n"), f"{SITE}/__pycache__/a.cpython-311.opt-1.pyc": pyc("3.12")}
    )
    assert checked(tree).outcome == "warned"


def test_two_pythons_have_each_their_own() -> None:
    files = {"/usr/lib/python2.7/os.pyc": pyc(62211), "/usr/lib/python3.6/os.pyc": pyc("3.6")}
    assert checked(root(("2.7", "3.6"), **files)).outcome == "ok"
    swapped = {"/usr/lib/python2.7/os.pyc": pyc("3.6"), "/usr/lib/python3.6/os.pyc": pyc(62211)}
    assert len(checked(root(("2.7", "3.6"), **swapped)).findings) == 2


def test_python_2_reads_bytecode_beside_its_source() -> None:
    files = {"/usr/lib/python2.7/a.py": file_of(b"x = 1\n"), "/usr/lib/python2.7/a.pyc": pyc("3.6")}
    assert checked(root(("2.7",), **files)).outcome == "warned"


def test_an_app_fails_and_bytecode_anywhere_else_is_worth_a_word() -> None:
    app, other = "/usr/lib/apps/node/main.pyc", "/usr/share/thing/main.pyc"
    check = checked(root(**{app: pyc("3.10"), other: pyc("3.10")}))
    assert [(each.file, each.level) for each in check.findings] == [(app, "error"), (other, "warning")]
    assert checked(root(("2.7", "3.11"), **{other: pyc(62211)})).outcome == "ok"


def test_a_python_that_nothing_is_known_of_is_judged_by_its_own_library() -> None:
    lib = "/usr/lib/python3.99"
    library = {f"{lib}/{name}.pyc": pyc(9999) for name in ("os", "io", "abc")}
    assert checked(root(("3.99",), **library)).outcome == "ok"
    check = checked(root(("3.99",), **library, **{f"{lib}/site-packages/a.pyc": pyc("3.11")}))
    assert "Python 3.99 reads 9999" in check.found


def zipped(**members: Entry) -> Entry:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, entry in members.items():
            archive.writestr(name, entry.data or b"")
    return file_of(out.getvalue())


def test_a_library_in_a_zip_file_is_looked_into() -> None:
    place = "/usr/lib/python311.zip"
    assert checked(root(**{place: zipped(**{"os.pyc": pyc("3.11")})})).outcome == "ok"
    check = checked(root(**{place: zipped(**{"os.pyc": pyc("3.12")})}))
    assert (check.outcome, check.findings[0].file) == ("failed", f"{place}/os.pyc")
    assert "zip file" in checked(root(**{place: file_of(b"no zip")})).found
    assert checked(root(**{"/usr/lib/python39.zip": file_of(b"no zip")})).outcome == "ok"


def test_a_root_without_cpython_has_neither_check() -> None:
    tree = FileTree({"/usr/bin/micropython": file_of(b"\x7fELF"), "/usr/lib/x.pyc": pyc("3.11")})
    assert bytecode_check(tree, {}) is None
    assert source_check(tree, {}) is None


def test_an_interpreter_is_found_through_links_and_not_where_one_dangles() -> None:
    tree = FileTree(
        {
            "/usr/bin/python3.10": symlink("/bin/real"),
            "/bin/real": file_of(b"\x7fELF"),
            "/usr/bin/python3.11": symlink("nowhere"),
            "/usr/bin/python3.9": symlink("python3.9"),
            "/usr/bin/python3": symlink("python3.10"),
            "/usr/bin/python3.10-config": file_of(b"#!/bin/sh"),
        }
    )
    assert pythons_of(tree) == ("3.10",)


def test_sources_that_are_compiled_at_each_start_are_warned_of_and_programs_only_named() -> None:
    tree = root(
        **{
            f"{SITE}/bare.py": file_of(b"x = 1\n"),
            f"{SITE}/hidden.py": file_of(b"x = 1\n"),
            f"{SITE}/hidden.pyc": pyc("3.11"),
            f"{SITE}/good.py": file_of(b"x = 1\n"),
            f"{SITE}/__pycache__/good.cpython-311.pyc": pyc("3.11"),
            "/usr/bin/tool": file_of(b"#!/usr/bin/python3\nx = 1\n", 0o755),
        }
    )
    check = source_check(tree, {f"{SITE}/bare.py": "python3-bare"})
    assert check is not None
    assert check.outcome == "warned"
    assert [(each.file, each.package, each.level) for each in check.findings] == [
        (f"{SITE}/bare.py", "python3-bare", "warning"),
        (f"{SITE}/hidden.py", "", "warning"),
        ("/usr/bin/tool", "", "note"),
    ]
    assert "1 more" in check.found


def test_a_root_with_nothing_but_bytecode_compiles_nothing() -> None:
    check = source_check(root(**{f"{LIB}/os.pyc": pyc("3.11")}), {})
    assert check is not None
    assert (check.outcome, check.found) == ("ok", "none")


@given(st.dictionaries(st.sampled_from(["a.pyc", "b.pyc", "z.zip"]), st.binary(max_size=400)))
def test_any_bytes_give_a_check(files: dict[str, bytes]) -> None:
    places = {"a.pyc": f"{SITE}/a.pyc", "b.pyc": "/usr/lib/apps/b.pyc", "z.zip": "/usr/lib/python311.zip"}
    tree = root(**{places[name]: file_of(data) for name, data in files.items()})
    assert checked(tree).outcome in {"ok", "failed"}


@given(st.data())
def test_a_damaged_zip_file_gives_a_check(data: st.DataObject) -> None:
    whole = bytearray(zipped(**{"os.pyc": pyc("3.11"), "a/b.pyc": pyc("3.11")}).data or b"")
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    tree = root(**{"/usr/lib/python311.zip": file_of(bytes(whole[:cut]))})
    assert checked(tree).outcome in {"ok", "failed"}
