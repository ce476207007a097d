"""Who compiles for the target, and which bytecode comes out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.python.bytecode.bytecode import (
    Form,
    Interpreter,
    InterpreterError,
    Validity,
    compile_sources,
)
from imagebuilder.python.bytecode.interpreter import (
    choose_interpreter,
    emulator,
    host_interpreter,
    sandboxed,
    target_interpreter,
)
from imagebuilder.rootfs.tree import FileTree, file_of
from tests.support.wheel_maker import make_elf

EPOCH = 1_700_000_000
MAGIC = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
OURS = Interpreter((sys.executable,), VERSION, MAGIC)
SOURCE = b'"""Doc."""\nassert not WRONG\n'


def compiled(into: Path, form: Form, interpreter: Interpreter = OURS) -> bytes:
    made = compile_sources({"/m.py": file_of(SOURCE)}, interpreter, into, epoch=EPOCH, form=form)
    source = made["/m.py"].source
    assert source is not None
    return source.read_bytes()


@pytest.mark.parametrize(("level", "doc", "asserts"), [(0, True, True), (1, True, False), (2, False, False)])
def test_optimized_bytecode(tmp_path: Path, level: int, doc: bool, asserts: bool) -> None:
    data = compiled(tmp_path, Form(level))  # type: ignore[arg-type]
    assert (b"Doc." in data, b"WRONG" in data) == (doc, asserts)


@pytest.mark.parametrize(
    ("validity", "flags"), [("checked-hash", 3), ("unchecked-hash", 1), ("timestamp", 0)]
)
def test_how_bytecode_is_tied_to_its_source(tmp_path: Path, validity: Validity, flags: int) -> None:
    header = compiled(tmp_path, Form(validity=validity))[:16]
    assert header[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(header[4:8], "little") == flags
    if validity == "timestamp":
        assert int.from_bytes(header[8:12], "little") == EPOCH
        assert int.from_bytes(header[12:], "little") == len(SOURCE)
    else:
        assert header[8:] == importlib.util.source_hash(SOURCE)


def test_a_python_of_this_machine_with_the_same_magic_number_compiles() -> None:
    assert host_interpreter(VERSION, MAGIC, [sys.executable]) == OURS
    assert host_interpreter(VERSION, MAGIC + 1, [sys.executable]) is None
    assert host_interpreter(VERSION, MAGIC, ["/bin/false", "no-such-python", "/bin/echo"]) is None


def test_without_any_the_version_that_is_needed_is_said(tmp_path: Path) -> None:
    with pytest.raises(InterpreterError, match=r"for Python 3\.99 \(magic number 4999\)") as caught:
        choose_interpreter("3.99", 4999)
    assert "install Python 3.99" in (caught.value.hint or "")
    with pytest.raises(InterpreterError, match="is no interpreter"):
        choose_interpreter("3.99", 4999, root=tmp_path)


def test_a_foreign_interpreter_needs_emulation(tmp_path: Path) -> None:
    program = tmp_path / "usr/bin/python3.99"
    program.parent.mkdir(parents=True)
    program.write_bytes(make_elf(machine=8, bits=32, little=False))
    with pytest.raises(InterpreterError, match="for another processor"):
        target_interpreter(tmp_path, "3.99", 4999)
    found = target_interpreter(tmp_path, "3.99", 4999, ("qemu-mips", "-L", str(tmp_path)))
    assert found.argv == ("qemu-mips", "-L", str(tmp_path), str(program))
    with pytest.raises(HostError, match="qemu-pdp11-static is on this machine: .*qemu-user brings"):
        emulator("pdp11", None, tmp_path)


def test_in_the_sandbox_nothing_but_its_folder_is_written_to(tmp_path: Path) -> None:
    inside = sandboxed(OURS, tmp_path / "pyc")
    assert compiled(tmp_path / "pyc", Form(), inside) == compiled(tmp_path / "other", Form())
    with pytest.raises(InterpreterError, match="did not compile"):
        compiled(tmp_path / "elsewhere", Form(), inside)


def test_a_tree_is_the_same_whoever_compiles(tmp_path: Path) -> None:
    tree = FileTree({"/a.py": file_of(b"x = {1, 2}\n")})
    one = compile_sources(tree, OURS, tmp_path / "1", epoch=EPOCH)["/a.py"].source
    two = compile_sources(tree, sandboxed(OURS, tmp_path / "2"), tmp_path / "2", epoch=EPOCH)["/a.py"].source
    assert one is not None
    assert two is not None
    assert one.read_bytes() == two.read_bytes()
