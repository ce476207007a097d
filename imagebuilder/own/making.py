"""The packages of the local feed, made: apps and wheels compiled, recipes built, feed packages repacked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.app import PythonPackageUse, SourceKind, source_kind
from imagebuilder.model.filespec import FilespecRecord
from imagebuilder.model.package import LOCAL, Package
from imagebuilder.own.local import Local
from imagebuilder.own.own import Own, Sources
from imagebuilder.packages.repack import repack
from imagebuilder.packages.supply import Job
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.apps.launcher import maintainer_scripts
from imagebuilder.python.apps.package import app_package, wheel_package
from imagebuilder.python.build.host_build import Bench
from imagebuilder.python.build.recipe import build
from imagebuilder.python.bytecode.bytecode import Interpreter, source_tree
from imagebuilder.python.bytecode.interpreter import (
    choose_interpreter,
    emulation,
    host_interpreter,
    sandboxed,
)
from imagebuilder.python.catalogue.catalogue import Catalogue
from imagebuilder.python.micropython import micropython
from imagebuilder.python.micropython.micropython import find_mpy_cross
from imagebuilder.rootfs.files import read_tree
from imagebuilder.rootfs.tree import LocalPackage
from imagebuilder.rootfs.trim import recipe_tree
from imagebuilder.tree.reproducible import source_date_epoch


@dataclass(frozen=True)
class LocalFeed:
    """folder: with the package files. packages: with sizes and hashes, by name; records: what filespecs
    did."""

    folder: Path
    packages: Mapping[str, Package]
    records: tuple[FilespecRecord, ...]


def make_local(
    job: Job,
    local: Local,
    names: Iterable[str],
    *,
    originals: Mapping[str, LocalPackage],
    unpack: Callable[[Path], None],
) -> LocalFeed:
    """Make packages of the local feed. originals: the content of those that are repacked; unpack: lays the
    packages of the image that others made into a folder.

    CompileError, InterpreterError, HostBuildError, FilespecError and what else the makers raise.
    """
    folder = job.work / LOCAL
    folder.mkdir()
    maker = Maker(job, local.own, local.remade.known, unpack)
    packages, records = {}, []
    for name in names:
        job.log.progress(f"making {name}")
        theirs = name in local.originals or name in local.remade.ready
        if name in local.originals and name not in local.remade.known:
            repacked = repack(originals[name], local.originals[name].rules, job.manager)
            content = repacked.content
            records.append(repacked.record)
        else:
            content = maker.content(name)
        packages[name] = job.manager.write(job, folder, content, epoch=maker.epoch, theirs=theirs)
    return LocalFeed(folder, packages, tuple(records))


class Maker:
    """Makes the user's own packages of one image. known: content that was made already, by the packages'
    names; unpack: lays the packages of the image that others made into a folder."""

    def __init__(
        self, job: Job, own: Own, known: Mapping[str, LocalPackage], unpack: Callable[[Path], None]
    ) -> None:
        self._job, self._own_python, self._known, self._unpack = job, own, known, unpack
        self.epoch = source_date_epoch(Path(job.tree.folder))
        self._compiler: Compiler | None = None
        self._noted = False
        self._recipes: dict[str, LocalPackage] = {}

    def content(self, name: str) -> LocalPackage:
        """A package's facts and files."""
        if name in self._known:
            return self._known[name]
        own = self._own_python
        for small in own.micropython:
            if small.name == name:
                version = micropython.load_modules(self._job.tree.release).upstream
                mpy_cross = find_mpy_cross(version, self._job.log)
                return micropython.app_package(small, own.declared[name], mpy_cross)
        sources = own.sources
        if sources is None:
            raise LookupError(f"nothing makes the package {name}")
        return self._own(sources, name)

    def _own(self, sources: Sources, name: str) -> LocalPackage:
        """An app's, a requirement's or a recipe's package."""
        package, python = self._own_python.declared[name], self._job.config.python
        kind, compiler = self._source_kind(sources), self.compiler(sources.catalogue)
        app = next((app for app in sources.apps if app.name == name), None)
        if app is not None:
            return app_package(app, package, sources.target, compiler, source=kind, optimize=python.optimize)
        for distribution, wheel in sources.wheels.items():
            if sources.names[distribution] == name:
                return wheel_package(
                    wheel, package, sources.target, compiler, source=kind, optimize=python.optimize
                )
        if name not in self._recipes:
            use = next(each for each in sources.recipes if name in (each.name, each.source_name))
            self._follow(sources, use, compiler)
        return self._recipes[name]

    def _source_kind(self, sources: Sources) -> SourceKind:
        """Bytecode alone, unless the config says otherwise, or a library reads sources as it works."""
        wanted = source_kind(self._job.config.python.source)
        kept = sources.kept(wanted)
        if kept != wanted and not self._noted:
            self._noted = True
            self._job.log.note(
                f"{', '.join(sources.readers)} reads source code at work: apps and requirements keep theirs"
            )
        return kept

    def _follow(self, sources: Sources, use: PythonPackageUse, compiler: Compiler) -> None:
        """Build a recipe's package and its twin."""
        job, declared = self._job, self._own_python.declared
        scratch = job.work / f"build-{use.name}"
        scratch.mkdir()
        bench = Bench(job.cache, scratch, self.epoch, offline=job.offline)
        built = build(use, job.root, sources.target, bench, job.log, read_tree=read_tree)
        trimmed = recipe_tree(use, built, job.root, python=sources.catalogue.python)
        shipped = compiler.ship(use.name, trimmed.tree, "bytecode", job.config.python.optimize)
        scripts = maintainer_scripts() if shipped.children("/etc/init.d") else {}
        self._recipes[use.name] = LocalPackage(declared[use.name], shipped, scripts, use.conffiles)
        if use.src:
            twin = LocalPackage(declared[use.source_name], source_tree(trimmed.tree))
            self._recipes[use.source_name] = twin

    def interpreter(self, catalogue: Catalogue) -> Interpreter:
        """A Python whose bytecode is the target's."""
        found = host_interpreter(catalogue.python, catalogue.magic_number)
        return found if found is not None else self._targets_own(catalogue)

    def compiler(self, catalogue: Catalogue) -> Compiler:
        """Who compiles for the target, found once."""
        if self._compiler is None:
            job = self._job
            into = job.work / "bytecode"
            self._compiler = Compiler(
                self.shut_in(self.interpreter(catalogue), into.name),
                into,
                self.epoch,
                catalogue.python,
                job.log,
                job.config.python.pyc,
            )
        return self._compiler

    def shut_in(self, interpreter: Interpreter, folder: str) -> Interpreter:
        """An interpreter in the sandbox, unless the user wants none: it may write into one folder below the
        image's own."""
        job = self._job
        return sandboxed(interpreter, job.work / folder) if job.view.sandboxed else interpreter

    def _targets_own(self, catalogue: Catalogue) -> Interpreter:
        """The interpreter that goes into the image, run as the board's file says that it can be."""
        root = self._job.work / "interpreter"
        self._unpack(root)
        emulated = emulation(self._job.board, root) or None
        return choose_interpreter(
            catalogue.python, catalogue.magic_number, root=root, emulated=emulated, programs=()
        )
