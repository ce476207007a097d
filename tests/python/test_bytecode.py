"""Python packages in OpenWrt's shipped form. The numbers are those of OpenWrt's rules in the project's notes.
The compiler is the Python that runs the tests."""

from __future__ import annotations

import argparse
import importlib.util
import marshal
import os
import subprocess
import sys
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.errors import UserError
from imagebuilder.log import CommandRun, Event, Log
from imagebuilder.python.bytecode.bytecode import (
    CompileError,
    Interpreter,
    InterpreterError,
    compile_sources,
    ship,
    shipped_tree,
    source_tree,
)
from imagebuilder.rootfs.files import digest, write_tree
from imagebuilder.rootfs.tree import EMPTY, FileTree, file_at, file_of, folder, symlink

EPOCH = 1_700_000_000
MAGIC = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
OURS = Interpreter((sys.executable,), VERSION, MAGIC)
LIB = "/usr/lib/python3.11"
SOURCE = b'"""Doc."""\nassert not WRONG\ndef f(x):\n    return {x, "a", "b"} | {1.5}\n'


def shipped(tree: FileTree, into: Path, **options: int) -> FileTree:
    return ship({"x": tree}, OURS, into, epoch=EPOCH, **options)["x"]


def code_of(tree: FileTree, path: str) -> tuple[bytes, CodeType]:
    """The header and the code of a .pyc in a tree."""
    source = tree[path].source
    assert source is not None
    data = source.read_bytes()
    return data[:16], marshal.loads(data[16:])


def test_40_the_example_of_a_package_and_its_twin(tmp_path: Path) -> None:
    m = f"{LIB}/m"
    tree = FileTree(
        {f"{m}/__init__.py": file_of(SOURCE), f"{m}/data.txt": file_of(b"d"), f"{m}/_fast.so": file_of(b"e")}
    )
    assert [path for path in shipped(tree, tmp_path) if path.startswith(m + "/")] == [
        *[f"{m}/__init__.pyc", f"{m}/_fast.so", f"{m}/data.txt"]
    ]
    assert source_tree(tree).below(m) == [f"{m}/__init__.py"]
    assert source_tree(tree)[f"{m}/__init__.py"].data == SOURCE


def test_41_43_46_level_name_and_header(tmp_path: Path) -> None:
    source = tmp_path / "somewhere.py"
    source.write_bytes(SOURCE)
    tree = shipped(FileTree({f"{LIB}/a/b.py": file_at(source)}), tmp_path / "pyc")
    header, code = code_of(tree, f"{LIB}/a/b.pyc")
    assert header[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(header[4:8], "little") == 3
    assert header[8:] == importlib.util.source_hash(SOURCE)
    assert code.co_filename == f"{LIB}/a/b.py"
    functions = [each for each in code.co_consts if isinstance(each, CodeType)]
    assert [each.co_filename for each in functions] == [f"{LIB}/a/b.py"]
    # docstrings and asserts stay: level 0
    exec(code, names := {"WRONG": False})
    assert names["__doc__"] == "Doc."
    with pytest.raises(AssertionError):
        exec(code, {"WRONG": True})


def test_the_bytes_are_those_of_py_compile(tmp_path: Path) -> None:
    name = f"{LIB}/argparse.py"
    tree = shipped(FileTree({name: file_at(Path(argparse.__file__))}), tmp_path / "pyc")
    script = "import py_compile, sys; py_compile.compile(*sys.argv[1:], doraise=True, optimize=0)"
    # as OpenWrt has it: SOURCE_DATE_EPOCH makes CPython choose the checked hash by itself
    subprocess.run(
        [sys.executable, "-c", script, argparse.__file__, str(tmp_path / "a.pyc"), name],
        env={"SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONHASHSEED": str(EPOCH)},
        check=True,
    )
    source = tree[name + "c"].source
    assert source is not None
    assert source.read_bytes() == (tmp_path / "a.pyc").read_bytes()


def test_42_47_it_runs_without_its_source(tmp_path: Path) -> None:
    tree = shipped(
        FileTree({"/p/__init__.py": file_of(b"x = 1\n"), "/p/q.py": file_of(b"y = 2\n")}), tmp_path
    )
    assert sorted(tree) == ["/p", "/p/__init__.pyc", "/p/q.pyc"]
    write_tree(tree, tmp_path / "root")
    script = "from p import q, x; print(x, q.y, q.__cached__ or q.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "root", capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("1 2 ")


def test_45_what_does_not_compile_is_named_all_at_once(tmp_path: Path) -> None:
    sources = {"/a.py": b"def", "/b.py": b"x = 1\n", "/c.py": b"\0", "/d.py": b"# coding: none\n"}
    with pytest.raises(CompileError) as caught:
        shipped(FileTree((path, file_of(data)) for path, data in sources.items()), tmp_path)
    assert [path for path, _ in caught.value.failures] == ["/a.py", "/c.py", "/d.py"]
    assert "/a.py: SyntaxError: " in caught.value.message
    assert "filespec" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o700, 0o600), (0o644, 0o644), (0o755, 0o644), (0o444, 0o644), (0o4666, 0o666)]
)
def test_49_modes(tmp_path: Path, mode: int, expected: int) -> None:
    assert shipped(FileTree({"/a.py": file_of(b"", mode)}), tmp_path)["/a.pyc"].mode == expected


def test_51_a_link_named_like_a_source_stays(tmp_path: Path) -> None:
    tree = FileTree({"/a/link.py": symlink("real.py"), "/a/real.py": file_of(b"")})
    assert shipped(tree, tmp_path) == FileTree(
        {"/a/link.py": symlink("real.py"), "/a/real.pyc": file_at(tmp_path / "000000.pyc")}
    )


def test_5_7_52_windows_programs_and_empty_folders_go(tmp_path: Path) -> None:
    tree = FileTree({"/a/b/w.exe": file_of(b"MZ"), "/c/d": folder(), "/e/x": file_of(b"")})
    assert list(shipped(tree, tmp_path)) == ["/e", "/e/x"]


def test_53_first_lines_of_scripts(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_bytes(b"#!/usr/local/bin/python3.11 -E\nprint()\n")
    scripts = {
        "/usr/bin/one": file_at(program, 0o755),
        "/usr/bin/two": file_of(b"#! /usr/bin/env python\r\nx", 0o700),
        "/usr/bin/sh": file_of(b"#!/bin/sh\n# python\n"),
        "/usr/bin/elf": file_of(b"\x7fELF python"),
        "/usr/bin/link": symlink("one"),
        "/usr/bin/sub/three": file_of(b"#!/opt/python\n"),
        "/usr/sbin/four": file_of(b"#!/opt/python\n"),
    }
    tree = shipped_tree(FileTree(scripts), {})
    assert tree["/usr/bin/one"] == file_of(b"#!/usr/bin/python3\nprint()\n", 0o755)
    assert tree["/usr/bin/two"] == file_of(b"#!/usr/bin/python3\nx", 0o700)
    for path in ("/usr/bin/sh", "/usr/bin/elf", "/usr/bin/link", "/usr/bin/sub/three", "/usr/sbin/four"):
        assert tree[path] == scripts[path]


def test_54_the_twin_holds_sources_alone_and_keeps_modes() -> None:
    tree = FileTree(
        {
            "/usr/bin/x.py": file_of(b"#!/opt/python\n", 0o755),
            "/p": folder(0o750),
            "/p/a.py": file_of(b""),
            "/p/l.py": symlink("a.py"),
            "/p/data": file_of(b""),
            "/q/data": file_of(b""),
        }
    )
    twin = source_tree(tree)
    assert list(twin) == ["/p", "/p/a.py", "/p/l.py", "/usr", "/usr/bin", "/usr/bin/x.py"]
    assert all(twin[path] == tree[path] for path in twin)


def test_another_version_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    other = Interpreter((sys.executable,), "3.6", 3379)
    with pytest.raises(InterpreterError) as caught:
        compile_sources({"/a.py": file_of(b"")}, other, tmp_path, epoch=EPOCH)
    assert f"whose bytecode has magic number {MAGIC}" in caught.value.message
    assert caught.value.hint == "Python 3.6 (magic number 3379) is needed"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv", [("/bin/true",), ("/bin/false",), ("/bin/sh", "-c", "echo '[]'; exit 3", "x")]
)
def test_a_program_that_is_no_python_is_refused(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with pytest.raises(InterpreterError, match="did not compile"):
        compile_sources({"/a.py": file_of(b"")}, Interpreter(argv, "3.11", 3495), tmp_path, epoch=EPOCH)


@pytest.mark.parametrize("how", ["kill -ILL $$", "sh -c 'kill -SEGV $$'; exit $?"])
def test_an_interpreter_that_dies_of_a_signal_is_told_apart(tmp_path: Path, how: str) -> None:
    """Such as one that is emulated on a processor without its instructions."""
    died = Interpreter(("/bin/sh", "-c", how, "python3.11"), "3.11", 3495)
    with pytest.raises(InterpreterError, match=r"was killed by signal .* instead of compiling") as caught:
        compile_sources({"/a.py": file_of(b"")}, died, tmp_path, epoch=EPOCH)
    assert "[emulation]" in str(caught.value.hint)


def test_modules_in_the_way_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "marshal", "base64"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert compile_sources({"/a.py": file_of(b"")}, OURS, tmp_path / "pyc", epoch=EPOCH)


def test_several_packages_are_compiled_together(tmp_path: Path) -> None:
    events: list[Event] = []
    packages = {
        "a": FileTree({f"/a/{number}.py": file_of(b"%d\n" % number) for number in range(10)}),
        "b": FileTree({"/b/x.py": file_of(b""), "/a/1.py": file_of(b"1\n")}),
        "none": EMPTY,
    }
    result = ship(packages, OURS, tmp_path, epoch=EPOCH, jobs=2, log=Log([events.append]))
    assert len([event for event in events if isinstance(event, CommandRun)]) == 2
    assert result["a"]["/a/1.pyc"] == result["b"]["/a/1.pyc"]
    assert result["none"] == EMPTY
    assert compile_sources({}, OURS, tmp_path, epoch=EPOCH) == {}
    packages["b"] = FileTree({"/a/1.py": file_of(b"2\n")})
    with pytest.raises(UserError, match=r"package b and one before it hold different files /a/1\.py"):
        ship(packages, OURS, tmp_path, epoch=EPOCH)


def test_the_result_depends_neither_on_batches_nor_on_company(tmp_path: Path) -> None:
    names = ["json/decoder", "argparse", "enum", "typing", "dataclasses", "re/_parser", "tokenize"]
    library = Path(os.__file__).parent
    tree = FileTree((f"{LIB}/{name}.py", file_at(library / f"{name}.py")) for name in names)
    one = digest(shipped(tree, tmp_path / "1", jobs=1))
    assert digest(shipped(tree, tmp_path / "3", jobs=3)) == one
    alone = shipped(FileTree({f"{LIB}/enum.py": tree[f"{LIB}/enum.py"]}), tmp_path / "alone")
    together = shipped(tree, tmp_path / "4", jobs=2)
    contents = [each[f"{LIB}/enum.pyc"].source for each in (alone, together)]
    assert contents[0] != contents[1]
    assert len({path.read_bytes() for path in contents if path is not None}) == 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), st.text(max_size=30).map(str.encode)), max_size=5))
def test_any_sources_compile_or_are_named(
    tmp_path_factory: pytest.TempPathFactory, sources: list[bytes]
) -> None:
    tree = FileTree((f"/{number}.py", file_of(data)) for number, data in enumerate(sources))
    try:
        result = shipped(tree, tmp_path_factory.mktemp("any"))
    except CompileError as error:
        assert {path for path, _ in error.failures} <= set(tree)
    else:
        assert list(result) == [f"/{number}.pyc" for number in range(len(sources))]
