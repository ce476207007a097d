"""The local feed: packages made here, from apps, wheels, recipes, and feed packages with filespecs."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagebuilder.config.app import SourceKind, source_kind
from imagebuilder.config.board import Board
from imagebuilder.config.model_config import Config
from imagebuilder.config.python_package import PythonPackageUse
from imagebuilder.errors import UserError
from imagebuilder.model.filespec import FilespecRecord, package_rules, with_python
from imagebuilder.model.package import Package
from imagebuilder.model.release import Release
from imagebuilder.own.own import Own, Sources
from imagebuilder.packages.apk.file import identity_of
from imagebuilder.packages.apk.lists import for_apk
from imagebuilder.packages.apk.reader import read_apk
from imagebuilder.packages.apk.writer import write_apk
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.ipk_reader import read_ipk
from imagebuilder.packages.repack import content_of, declare, repack
from imagebuilder.packages.supply import LOCAL, Job
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.apps.launcher import maintainer_scripts
from imagebuilder.python.apps.package import app_package, wheel_package
from imagebuilder.python.build.host_build import Bench
from imagebuilder.python.build.recipe import build
from imagebuilder.python.bytecode.bytecode import Interpreter, source_tree
from imagebuilder.python.bytecode.interpreter import choose_interpreter, emulator, host_interpreter, sandboxed
from imagebuilder.python.catalogue.catalogue import Catalogue, load_micropython
from imagebuilder.python.catalogue.variants import catalogue_series
from imagebuilder.python.micropython import micropython
from imagebuilder.python.micropython.micropython import find_mpy_cross
from imagebuilder.python.wheels.wheels import reads_sources
from imagebuilder.rootfs.files import read_tree
from imagebuilder.rootfs.local_package import LocalPackage
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.rootfs.trim import recipe_tree
from imagebuilder.tree.plan import Plan, PlannedPackage
from imagebuilder.tree.reproducible import source_date_epoch

_SINCE_UNPACKED_SIZES = "24.10"


class FilespecUseError(UserError):
    """A filespec of a config for a package that it cannot be applied to."""


@dataclass(frozen=True)
class Original:
    """A feed package that is repacked. feed: where it comes from, "" for the tree; rules: filled in."""

    feed: str
    package: Package
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Local:
    """What is made here for one image. originals: by the name of the package; ready: feeds' packages that
    were compiled or shaken at plan time, and dropped: the modules that were shaken off. made, contents: what
    is in packages of one's own, and in those of feeds, as far as that is known at plan time. taken: what the
    plan took before packages got another form."""

    own: Own
    originals: Mapping[str, Original] = field(default_factory=dict)
    ready: Mapping[str, LocalPackage] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    made: Mapping[str, LocalPackage] = field(default_factory=dict)
    contents: Mapping[str, LocalPackage] = field(default_factory=dict)
    taken: tuple[PlannedPackage, ...] = ()

    def known(self) -> dict[str, FileTree]:
        """What packages will hold, by their names, as far as that is known at plan time."""
        return {name: each.tree for name, each in {**self.contents, **self.made, **self.ready}.items()}

    def packages(self, manager: str) -> tuple[Package, ...]:
        """All packages of the local feed, as a plan knows them."""
        repacked = (
            declare(each.package, each.rules, "apk" if manager == "apk" else "opkg")
            for each in self.originals.values()
        )
        ready = (each.package for each in self.ready.values())
        return (*self.own.declared.values(), *repacked, *ready)


def with_originals(
    local: Local, plan: Plan, config: Config, offers: Mapping[str, Sequence[Package]]
) -> Local:
    """What is made here, with the packages that filespecs are for, as the plan took them from feeds.
    FilespecUseError for one that is not in the image."""
    rules = package_rules(config.filespec)
    planned = {each.name: each for each in plan.install}
    sources = local.own.sources
    python = sources.catalogue.python if sources is not None else _python_of(plan)
    originals = {}
    for name, lines in rules.items():
        each = planned.get(name)
        if each is None or each.feed == LOCAL:
            what = "is not in the image" if each is None else "is one of your own: say filespec in its recipe"
            raise FilespecUseError(
                f"config {config.name}: [[filespec]] names the package '{name}', which {what}",
                hint=f"python3 build.py plan {config.name} lists what is in it",
            )
        package = next(
            found for found in offers[each.feed] if (found.name, found.version) == (name, each.version)
        )
        originals[name] = Original(each.feed, package, with_python(lines, python))
    return replace(local, originals=originals)


def _python_of(plan: Plan) -> str:
    """`3.11`, of the interpreter in the plan; "" where there is none."""
    version = next((each.version for each in plan.install if each.name == "python3-base"), "")
    return ".".join(version.split(".")[:2])


@dataclass(frozen=True)
class Made:
    """folder: with the package files. packages: with sizes and hashes, by name; records: what filespecs
    did."""

    folder: Path
    packages: Mapping[str, Package]
    records: tuple[FilespecRecord, ...]


def make_local(
    job: Job,
    local: Local,
    plan: Plan,
    config: Config,
    *,
    originals: Callable[[Package], Path],
    unpack: Callable[[Path], None],
) -> Made:
    """Make the planned packages of the local feed. originals: the checked file of a feed's package that is
    repacked; unpack: lays the packages of the plan that others made into a folder.

    CompileError, InterpreterError, HostBuildError, FilespecError and what else the makers raise.
    """
    folder = job.work / LOCAL
    folder.mkdir()
    maker = Maker(job, local, plan, config, unpack)
    wanted = [each.name for each in plan.install if each.feed == LOCAL]
    packages, records = {}, []
    for name in wanted:
        job.log.progress(f"making {name}")
        content, record = maker.content(name, originals)
        packages[name] = maker.write(folder, content)
        records += [record] if record is not None else []
    return Made(folder, packages, tuple(records))


def emulation(board: Board, root: Path) -> tuple[str, ...]:
    """What runs the board's programs on this machine; empty where it does so itself, and where the board's
    file does not say. root: as the emulator sees the root file system. HostError without the emulator."""
    user = board.emulation.user
    native = user is None or user.binary == platform.machine()
    return () if user is None or native else emulator(user.binary, user.cpu, root)


class Maker:
    """Makes the packages of one image."""

    def __init__(
        self, job: Job, local: Local, plan: Plan, config: Config, unpack: Callable[[Path], None]
    ) -> None:
        self._job, self._local, self._plan, self._config = job, local, plan, config
        self._unpack = unpack
        self._epoch = source_date_epoch(Path(plan.tree.folder))
        self._series = catalogue_series(plan.tree.release)
        self._compiler: Compiler | None = None
        self._recipes: dict[str, LocalPackage] = {}

    def content(
        self, name: str, originals: Callable[[Package], Path]
    ) -> tuple[LocalPackage, FilespecRecord | None]:
        """A package and, for a repacked one, what its rules did."""
        found = self._local.ready.get(name) or self._local.made.get(name)
        if found is not None:
            return found, None
        manager = self._plan.tree.package_manager
        original = self._local.originals.get(name)
        if original is not None:
            file = originals(original.package)
            content = read_apk(file, original.package) if manager == "apk" else content_of(read_ipk(file))
            repacked = repack(content, original.rules, manager)
            return repacked.content, repacked.record
        own = self._local.own
        for small in own.micropython:
            if small.name == name:
                mpy_cross = find_mpy_cross(load_micropython(self._series).upstream, self._job.log)
                return micropython.app_package(small, own.declared[name], "opkg", mpy_cross), None
        sources = own.sources
        if sources is None:
            raise LookupError(f"nothing makes the package {name}")
        return self._own(sources, name), None

    def _own(self, sources: Sources, name: str) -> LocalPackage:
        """An app's, a requirement's or a recipe's package."""
        package, python = self._local.own.declared[name], self._config.python
        kind, compiler = self._source_kind(sources), self.compiler(sources.catalogue)
        app = next((app for app in sources.apps if app.name == name), None)
        if app is not None:
            return app_package(
                app, package, sources.target, compiler, "opkg", source=kind, optimize=python.optimize
            )
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
        kind = source_kind(self._config.python.source)
        readers = [str(wheel.name) for wheel in sources.wheels.values() if reads_sources(wheel)]
        if kind == "bytecode" and readers:
            self._job.log.note(
                f"{', '.join(readers)} reads source code at work: apps and requirements keep theirs"
            )
            return "both"
        return kind

    def _follow(self, sources: Sources, use: PythonPackageUse, compiler: Compiler) -> None:
        """Build a recipe's package and its twin."""
        job, declared = self._job, self._local.own.declared
        scratch = job.work / f"build-{use.name}"
        scratch.mkdir()
        bench = Bench(job.request.cache, scratch, self._epoch, offline=job.request.offline)
        root = job.request.library.root
        built = build(use, root, sources.target, bench, job.log, read_tree=read_tree)
        trimmed = recipe_tree(use, built, root, python=sources.catalogue.python)
        shipped = compiler.ship(use.name, trimmed.tree, "bytecode", self._config.python.optimize)
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
                self._epoch,
                catalogue.python,
                job.log,
                self._config.python.pyc,
            )
        return self._compiler

    def shut_in(self, interpreter: Interpreter, folder: str) -> Interpreter:
        """An interpreter in the sandbox, unless the user wants none: it may write into one folder below the
        image's own."""
        job = self._job
        return sandboxed(interpreter, job.work / folder) if job.view.sandboxed else interpreter

    def _targets_own(self, catalogue: Catalogue) -> Interpreter:
        """The interpreter that goes into the image, run as the board's file says that it can be."""
        root, request = self._job.work / "interpreter", self._job.request
        self._unpack(root)
        emulated = emulation(request.library.board(request.board), root) or None
        return choose_interpreter(
            catalogue.python, catalogue.magic_number, root=root, emulated=emulated, programs=()
        )

    def write(self, folder: Path, made: LocalPackage) -> Package:
        """Write a package's file; its facts with size and hash."""
        job, tree = self._job, self._plan.tree
        if tree.package_manager == "apk":
            theirs = made.package.name in self._local.originals or made.package.name in self._local.ready
            wanted = made if theirs else for_apk(made)
            written = write_apk(folder, wanted, job.view, job.work, job.log, epoch=self._epoch)
            return replace(written.package, identity=identity_of(written.path))
        unpacked = Release(tree.release).since(_SINCE_UNPACKED_SIZES)
        return write_ipk(
            folder,
            made.package,
            made.tree,
            epoch=self._epoch,
            scripts=made.scripts,
            conffiles=made.conffiles,
            installed_size="unpacked" if unpacked else "compressed",
        ).package
