"""Modules of apps and requirements as they are shipped: bytecode, sources, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.log import Log
from imagebuilder.model.app import Optimize, SourceKind
from imagebuilder.model.filetree import Entry, FileTree
from imagebuilder.python.bytecode import (
    CompileError,
    Form,
    Interpreter,
    Validity,
    compile_sources,
    shipped_tree,
    usual_validity,
)
from imagebuilder.python.bytecode_check import cached_path


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
        if source == "only":
            return tree.without_empty_folders()
        sources = {
            path: entry for path, entry in tree.items() if entry.kind == "file" and path.endswith(".py")
        }
        form = Form(optimize, self.validity or usual_validity(self.python))
        try:
            bytecode = self._compile(name, sources, form)
        except CompileError as error:
            if not lenient:
                raise
            failed = dict(error.failures)
            self.log.warn(f"{name}: not compiled, for it does not compile: {', '.join(failed)}")
            good = {path: entry for path, entry in sources.items() if path not in failed}
            bytecode = self._compile(name, good, form)
        if source == "both":
            cached = {cached_path(path, self.python): entry for path, entry in bytecode.items()}
            return tree.merged(cached).without_empty_folders()
        left = {path: entry for path, entry in sources.items() if path not in bytecode}
        return shipped_tree(tree.without(left), bytecode).merged(left)

    def _compile(self, name: str, sources: Mapping[str, Entry], form: Form) -> dict[str, Entry]:
        place = self.into / f"{name}-{form.optimize}"
        return compile_sources(sources, self.interpreter, place, epoch=self.epoch, log=self.log, form=form)
