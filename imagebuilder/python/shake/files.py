"""Which files stay with the modules that stay, and about what the others took of an image."""

from __future__ import annotations

import lzma
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from imagebuilder.python.shake.closure import Closure, Read
from imagebuilder.python.shake.hidden import LANDMARK
from imagebuilder.python.shake.index import Index
from imagebuilder.python.shake.read import content
from imagebuilder.rootfs.tree import EMPTY, Entry, FileTree, parent_of

BLOCK_BYTES = 256 << 10  # of OpenWrt's squashfs
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 3, "dict_size": BLOCK_BYTES}]
_INTERPRETER = re.compile(r"/usr/(bin/python[0-9.]+|lib/libpython[0-9.]+\.so[0-9.]*)\Z")
_FROZEN = re.compile(rb"<frozen ([A-Za-z0-9_.]+)>")
_BUILTIN = re.compile(rb"\0PyInit_([A-Za-z0-9_]+)(?=\0)")
_APK_LISTS = "/lib/apk/packages/"


def frozen_modules(trees: Iterable[FileTree]) -> frozenset[str]:
    """The modules that an interpreter carries as bytecode inside, by the names in it (`<frozen os>`): read
    from its program and library, for any processor."""
    return _named_in(trees, _FROZEN)


def builtin_modules(trees: Iterable[FileTree]) -> frozenset[str]:
    """The C modules inside an interpreter that have a name to be called by (PyInit_time); a few have none,
    and stand in every catalogue."""
    return _named_in(trees, _BUILTIN)


def _named_in(trees: Iterable[FileTree], pattern: re.Pattern[bytes]) -> frozenset[str]:
    found: set[str] = set()
    for tree in trees:
        for path, entry in tree.items():
            if entry.kind == "file" and _INTERPRETER.match(path):
                found.update(name.decode() for name in pattern.findall(content(entry)))
    return frozenset(found)


@dataclass(slots=True)
class Kept:
    """Which files stay. frozen: modules inside the interpreter; keep: patterns that were asked for; read: as
    for the closure, of programs too, by their paths."""

    index: Index
    closure: Closure
    frozen: Collection[str]
    keep: Sequence[str]
    read: Read

    def tree(self, tree: FileTree) -> FileTree:
        """A package's tree with what is left of it."""
        owners = self.index.owners
        if not any(path in owners for path in tree):
            return tree
        modules = [path for path in tree if path in owners and self._module(owners[path])]
        if not modules and not any(_INTERPRETER.match(path) for path in tree):
            return EMPTY
        gone = [path for path, entry in tree.items() if entry.kind != "dir" and not self._stays(path)]
        left = tree.without(gone)
        return left.without(_dangling(tree, left)).without_empty_folders()

    def _module(self, name: str) -> bool:
        """Whether a module's files stay."""
        if name not in self.closure.reasons:
            return False
        if name not in self.frozen or name == LANDMARK:
            return True
        return any(fnmatchcase(name, pattern) for pattern in self.keep)

    def _stays(self, path: str) -> bool:
        if path in self.index.owners:
            return self._module(self.index.owners[path]) and not self._unread(path)
        if path in self.index.programs:
            facts = self.read([path])[path]
            wanted = {each.module for unit in facts.units[:1] for each in unit.imports}
            return all(name in self.closure.reasons for name in wanted if name in self.index.modules)
        return self._data(path)

    def _unread(self, path: str) -> bool:
        """Whether it is bytecode in __pycache__ of a module without a source: Python does not look at it
        (PEP 3147)."""
        if PurePosixPath(path).parent.name != "__pycache__":
            return False
        places = self.index.modules[self.index.owners[path]].places
        return not any(place.path.endswith(".py") for place in places)

    def _data(self, path: str) -> bool:
        """Other files stay with the package that they lie in: Grammar.txt with lib2to3."""
        inner = PurePosixPath(path)
        library = PurePosixPath(self.index.library)
        if not inner.is_relative_to(library):
            return True
        names = inner.relative_to(library).parts[:-1]
        for end in range(len(names), 0, -1):
            name = ".".join(names[:end])
            if name in self.index.modules:
                return name in self.closure.reasons
        return True


def _dangling(before: FileTree, after: FileTree) -> list[str]:
    """Links that led to something in their package, and do not any more."""
    found = []
    for path, entry in after.items():
        if entry.kind == "symlink":
            target = posixpath.normpath(posixpath.join(parent_of(path), entry.target))
            if target in before and target not in after:
                found.append(path)
    return found


def files_of(tree: FileTree) -> set[str]:
    """Files and links of a package, without apk's own lists of them."""
    return {path for path, entry in tree.items() if entry.kind != "dir" and not path.startswith(_APK_LISTS)}


def size_of(tree: FileTree) -> int:
    """Bytes of its files, unpacked."""
    return sum(len(content(entry)) for entry in tree.values() if entry.kind == "file")


def compressed_sizes(groups: Mapping[str, Sequence[Entry]]) -> dict[str, int]:
    """About how many bytes files take in a squashfs with xz: packed together in its blocks."""

    def packed(entries: Sequence[Entry]) -> int:
        data = b"".join(map(content, entries))
        blocks = (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))
        return sum(len(lzma.compress(block, lzma.FORMAT_RAW, filters=_XZ)) for block in blocks)

    with ThreadPoolExecutor() as pool:  # lzma works outside of the interpreter's lock
        return dict(zip(groups, pool.map(packed, groups.values()), strict=True))
