"""Modules of apps and requirements as they are shipped: bytecode, sources, or both."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.app import Optimize, SourceKind
from imagebuilder.log import Log
from imagebuilder.model.python_source import EncodingError, source_as_utf8
from imagebuilder.python.bytecode.bytecode import (
    Form,
    Interpreter,
    Validity,
    cached_path,
    compile_sources,
    is_source,
    shipped_tree,
    usual_validity,
)
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import Entry, FileTree, file_of


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles for the target. into: a folder for bytecode, which must stay as long as results are used;
    epoch: SOURCE_DATE_EPOCH in seconds since 1970; python: the target's, '3.11'; validity: of bytecode that
    has its source beside it, None for what the version is best at."""

    interpreter: Interpreter
    into: Path
    epoch: int
    python: str
    log: Log
    validity: Validity | None = None

    def ship(
        self, name: str, tree: FileTree, source: SourceKind, optimize: Optimize, *, lenient: bool = False
    ) -> FileTree:
        """A package's tree as it is shipped. Bytecode alone lies where the sources were, as in OpenWrt's
        packages. With its source there Python looks for bytecode in __pycache__ only, so there it goes then.

        lenient: sources that do not compile (other people's, for other Pythons) go in as they are, with a
        warning. CompileError, InterpreterError, HostError.
        """
        return self.ship_all({name: tree}, source, optimize, lenient=lenient)[name]

    def ship_all(
        self, trees: Mapping[str, FileTree], source: SourceKind, optimize: Optimize, *, lenient: bool = False
    ) -> dict[str, FileTree]:
        """The trees of several packages as they are shipped, by their names: compiled together, for an
        interpreter under emulation takes long to start. Sources become UTF-8: for another encoding both the
        interpreter that compiles and the device would need a codec."""
        trees = {name: _as_utf8(tree) for name, tree in trees.items()}
        if source == "only":
            return {name: tree.without_empty_folders() for name, tree in trees.items()}
        sources = {
            path: entry for tree in trees.values() for path, entry in tree.items() if is_source(path, entry)
        }
        name = next(iter(trees)) if len(trees) == 1 else "packages"
        form = Form(optimize, self.validity or usual_validity(self.python))
        place = self.into / f"{name}-{form.optimize}"
        bytecode = compile_sources(
            sources, self.interpreter, place, epoch=self.epoch, log=self.log, form=form, lenient=lenient
        )
        if failed := sorted(sources.keys() - bytecode.keys()):
            self.log.warn(f"{name}: not compiled, for it does not compile: {', '.join(failed)}")
        return {name: self._shipped(tree, bytecode, source) for name, tree in trees.items()}

    def _shipped(self, tree: FileTree, bytecode: Mapping[str, Entry], source: SourceKind) -> FileTree:
        """A tree with its bytecode, and with sources where they are asked for, or do not compile."""
        if source == "both":
            cached = {cached_path(path, self.python): bytecode[path] for path in tree if path in bytecode}
            return tree.merged(cached).without_empty_folders()
        left = {
            path: entry for path, entry in tree.items() if is_source(path, entry) and path not in bytecode
        }
        return shipped_tree(tree.without(left), bytecode).merged(left)


def _as_utf8(tree: FileTree) -> FileTree:
    """A tree with its sources as UTF-8; those that are no text stay as they are, and do not compile."""
    changed = {}
    for path, entry in tree.items():
        if is_source(path, entry):
            data = content(entry)
            with suppress(EncodingError):
                if (text := source_as_utf8(data)) is not data:
                    changed[path] = file_of(text, entry.mode)
    return tree.merged(changed) if changed else tree
