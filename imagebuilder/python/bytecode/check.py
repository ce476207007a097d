"""What the device would compile itself, each time that it starts, because bytecode is not written there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from imagebuilder.rootfs.tree import Entry, FileTree

Why = Literal["none", "hidden", "program"]
PROGRAM_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/libexec")
_HEAD_BYTES = 128


@dataclass(frozen=True, slots=True, order=True)
class Uncompiled:
    """A source that is compiled whenever it is used. why: it has no bytecode; its bytecode lies beside it,
    where the source hides it (OpenWrt's -src packages do that); or it is a program, which never has any."""

    path: str
    why: Why


def cached_path(path: str, python: str) -> str:
    """Where the interpreter ("3.11") looks for the bytecode of a source that is there (PEP 3147)."""
    source = PurePosixPath(path)
    tag = python.replace(".", "")
    return str(source.parent / "__pycache__" / f"{source.stem}.cpython-{tag}.pyc")


def _head(entry: Entry) -> bytes:
    if entry.source is None:
        return (entry.data or b"")[:_HEAD_BYTES]
    with entry.source.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def is_program(path: str, entry: Entry) -> bool:
    """Whether a file among programs is a source for CPython, by its first line."""
    if str(PurePosixPath(path).parent) not in PROGRAM_FOLDERS or entry.kind != "file":
        return False
    first = _head(entry).partition(b"\n")[0]
    return first.startswith(b"#!") and b"python" in first and b"micropython" not in first


def uncompiled(tree: FileTree, python: str) -> tuple[Uncompiled, ...]:
    """Every source in a root file system, or in a package, that Python ("3.11") would compile on the device,
    by path. Modules: all *.py below /usr/lib/pythonX.Y."""
    return tuple(sorted(_uncompiled(tree, python)))


def _uncompiled(tree: FileTree, python: str) -> Iterator[Uncompiled]:
    for path in tree.below(f"/usr/lib/python{python}"):
        entry = tree[path]
        if entry.kind == "file" and path.endswith(".py") and cached_path(path, python) not in tree:
            yield Uncompiled(path, "hidden" if path + "c" in tree else "none")
    for folder in PROGRAM_FOLDERS:
        for path in tree.children(folder):
            if is_program(path, tree[path]):
                yield Uncompiled(path, "program")


def magic_of(entry: Entry) -> int:
    """The magic number of a file of bytecode."""
    return int.from_bytes(_head(entry)[:2], "little")
