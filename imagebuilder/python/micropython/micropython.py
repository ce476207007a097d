"""Apps for MicroPython: their modules in /usr/lib/micropython, as sources or, where mpy-cross of the very
version is at hand, as its bytecode; a program in /usr/bin; perhaps a service. And which modules a release's
MicroPython can import, from data/micropython.json, which names its source."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from packaging.version import Version

from imagebuilder.config.app import AppUse
from imagebuilder.config.toml import read_toml
from imagebuilder.errors import Fault, FaultsError, HostError, UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import ProgramError, clean_environment, find_program, run
from imagebuilder.log import Log
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.package import Package
from imagebuilder.model.python_source import EncodingError, source_as_utf8
from imagebuilder.python.apps.apps import AppFile, AppKind, app_files, scan_app
from imagebuilder.python.apps.launcher import PROGRAM_MODE, PROGRAMS
from imagebuilder.python.apps.package import APP_PREFIX, AppPackageError, app_name, declared, service_files
from imagebuilder.python.catalogue.catalogue import CatalogueError, load_micropython
from imagebuilder.python.catalogue.package_version import PackageWords
from imagebuilder.python.catalogue.variants import catalogue_series
from imagebuilder.python.imports.imports import NEEDED, Import, SourceError, with_parents
from imagebuilder.python.micropython.mpy import LIBRARY
from imagebuilder.python.wheels.entry_points import EntryPoint, EntryPointError, parse_entry_point
from imagebuilder.rootfs.tree import Entry, FileTree, LocalPackage, file_of

INTERPRETER = "/usr/bin/micropython"
MPY_SECONDS = 60.0
_MPY_VERSION = re.compile(r"MicroPython v([0-9][0-9.]*)")
SYNTAX = (3, 11)  # what sources are read by; MicroPython itself knows less, and says so
IMPLEMENTATION = "micropython"
_SOURCES = "-src"


class MpyCrossError(UserError):
    """A source that mpy-cross does not compile."""


@dataclass(frozen=True, slots=True)
class MicroPythonApp:
    """An app that was read. name: its package's; program: its own, and its service's."""

    use: AppUse
    path: Path
    kind: AppKind
    name: str
    program: str
    files: tuple[AppFile, ...]


@dataclass(frozen=True, slots=True)
class MpyCross:
    """mpy-cross of the target's version."""

    program: str
    version: str
    log: Log

    def compile(self, path: str, data: bytes, optimize: int) -> bytes:
        """One source's bytecode; path: on the target, for messages there. MpyCrossError."""
        with temporary_folder("scratch") as folder:
            source, out = folder / "source.py", folder / "out.mpy"
            source.write_bytes(data)
            argv = [self.program, f"-O{optimize}", "-s", path, "-o", str(out), str(source)]
            try:
                run(argv, env=clean_environment(), timeout=MPY_SECONDS, log=self.log)
            except ProgramError as error:
                raise MpyCrossError(
                    f"{path} does not compile for MicroPython {self.version}:\n{error.tail}",
                    hint="put it right, or leave it out",
                ) from error
            return out.read_bytes()


def find_mpy_cross(version: str, log: Log, programs: Sequence[str] = ("mpy-cross",)) -> MpyCross | None:
    """mpy-cross of exactly this version of MicroPython; None if there is none. Versions before 1.12 do not
    say which they are."""
    for name in programs:
        try:
            program = find_program(name)
        except HostError:
            continue
        done = run([program, "--version"], env=clean_environment(), timeout=MPY_SECONDS, check=False)
        found = _MPY_VERSION.search(done.stdout)
        if found is not None and Version(found[1].rstrip(".")) == Version(version):
            return MpyCross(program, version, log)
    return None


def open_app(use: AppUse, project: Path) -> MicroPythonApp:
    """Read an app for MicroPython. AppError; check_imports() says what it lacks there. AppPackageError where
    it is to be run warm."""
    path = project / expand_home(use.path)
    if use.service == "launcher":
        raise AppPackageError(
            f'{path}: service = "launcher" is for CPython 3, and MicroPython starts soon enough',
            hint='leave it out, or say variant = "auto"',
        )
    kind, files = app_files(path)
    stem = path.resolve().name
    stem = stem.partition("-")[0] if kind == "wheel" else stem.removesuffix(".py")
    program = app_name(use, path, stem)
    sources = tuple(replace(file, data=_as_utf8(file)) for file in files if file.data is not None)
    return MicroPythonApp(use, path, kind, use.name or APP_PREFIX + program, program, sources)


def _as_utf8(file: AppFile) -> bytes:
    """MicroPython reads nothing else. SourceError."""
    try:
        return source_as_utf8(file.data or b"")
    except EncodingError as error:
        raise SourceError(f"{file.name}:{error.line}: {error.problem}", hint=error.hint) from error


def declare_app(app: MicroPythonApp, depends: Iterable[str], words: PackageWords) -> Package:
    """The app's package as a plan knows it. depends: the interpreter's package, and micropython-lib's."""
    facts = Package(app.name, words.version(Version("0"), 1), description=app.name)
    return declared(facts, depends, [app.use.user] if app.use.service else [], words)


def _program(app: MicroPythonApp) -> tuple[str, Entry]:
    """Name and content of the app's program."""
    if app.kind == "script":
        data = app.files[0].data or b""
        body = data.partition(b"\n")[2] if data.startswith(b"#!") else data
        return app.program, file_of(f"#!{INTERPRETER}\n".encode() + body, PROGRAM_MODE)
    entry = _entry_point(app)
    if entry is not None:
        top = entry.attribute.partition(".")[0]
        lines = [f"#!{INTERPRETER}", "import sys", f"from {entry.module} import {top}"]
        lines.append(f"sys.exit({entry.attribute}())")
        return entry.program, file_of(("\n".join(lines) + "\n").encode(), PROGRAM_MODE)
    return app.program, _module_program(_main_module(app))


def _module_program(module: str) -> Entry:
    text = f'#!/bin/sh\nexec {INTERPRETER} -m {shlex.quote(module)} "$@"\n'
    return file_of(text.encode(), PROGRAM_MODE)


def _main_module(app: MicroPythonApp) -> str:
    """The module that is run: the only package with __main__, or main.py."""
    places = [file.place.as_posix() for file in app.files]
    packages = [place.removesuffix("/__main__.py") for place in places if place.endswith("/__main__.py")]
    top = [name for name in packages if "/" not in name]
    if len(top) == 1:
        return f"{top[0]}.__main__"
    if "main.py" in places:
        return "main"
    raise AppPackageError(
        f"{app.path}: there is no telling which of its modules is run",
        hint="state a program in pyproject.toml's [project.scripts], or call the module main.py",
    )


def _entry_point(app: MicroPythonApp) -> EntryPoint | None:
    """What pyproject.toml's [project.scripts] names; of several the one that the app's program is."""
    file = app.path / "pyproject.toml"
    if app.kind != "project" or not file.is_file():
        return None
    project = read_toml(file).values.get("project", {})
    table = project.get("scripts", {}) if isinstance(project, dict) else None
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise EntryPointError(f"{file}: [project.scripts] is none", hint='one reads name = "module:function"')
    found = [parse_entry_point(file, name, text) for name, text in table.items()]
    chosen = app.use.program or app.program
    return found[0] if len(found) == 1 else next((each for each in found if each.program == chosen), None)


def app_package(app: MicroPythonApp, package: Package, mpy_cross: MpyCross | None = None) -> LocalPackage:
    """An app's package with its content; with mpy-cross its modules, and a script, are bytecode.

    AppPackageError where there is no telling what to run, EntryPointError, MpyCrossError.
    """
    entries: dict[str, Entry] = {}
    level = app.use.optimize or 0
    as_bytecode = mpy_cross is not None and app.use.source is not True and app.use.source != "only"
    for file in app.files:
        place = f"{LIBRARY}/{file.place.as_posix()}"
        if app.kind == "script":
            place = f"{LIBRARY}/{app.program.replace('-', '_')}.py"
            if not as_bytecode:
                continue  # the program is the source itself
        data = file.data or b""
        if mpy_cross is not None and as_bytecode:
            compiled = mpy_cross.compile(place, data, level)
            entries[place.removesuffix(".py") + ".mpy"] = file_of(compiled)
        else:
            entries[place] = file_of(data)
    program, content = _program(app)
    if app.kind == "script" and as_bytecode:
        content = _module_program(app.program.replace("-", "_"))
    entries[f"{PROGRAMS}/{program}"] = content
    more, scripts = service_files(app.use, app.program, [f"{PROGRAMS}/{program}"])
    return LocalPackage(package, FileTree({**entries, **more}), scripts)


@dataclass(frozen=True, slots=True)
class MicroPythonModules:
    """Modules by their whole names. series: of the release, or an edition of the kit, whose packages are
    Debian's; upstream: the interpreter's version; tls: of an interpreter with TLS;
    library: of micropython-lib; library_unix: of micropython-lib-unix."""

    series: str
    upstream: str
    builtin: frozenset[str]
    tls: frozenset[str]
    library: frozenset[str]
    library_unix: frozenset[str]

    def importable(self, packages: Collection[str]) -> frozenset[str]:
        """What can be imported with these packages, an interpreter among them or not (then the release's own
        choice of one); parents of modules included."""
        facts = load_micropython(catalogue_series(self.series))
        chosen = next((name for name in facts.interpreters if name in packages), facts.default)
        found = set(self.builtin)
        if facts.interpreters[chosen].tls is not False:
            found |= self.tls
        bare = {name.removesuffix(_SOURCES) for name in packages}
        found |= self.library if "micropython-lib" in bare else set()
        found |= self.library_unix if "micropython-lib-unix" in bare else set()
        return frozenset(parent for name in found for parent in with_parents(name))


@cache
def _facts() -> dict[str, Any]:
    file = resources.files(__package__) / "data" / "micropython.json"
    facts: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return facts


def has_micropython(release: str) -> bool:
    """Whether a release has MicroPython at all: every one of OpenWrt's has, and not every edition of the
    kit."""
    return release not in EDITIONS or release in _facts()


def load_modules(release: str) -> MicroPythonModules:
    """The modules of a release, or of a series. CatalogueError for an unknown one, and for an edition of the
    kit that has no MicroPython."""
    if not has_micropython(release):
        having = (name for name in EDITIONS if has_micropython(name))
        raise CatalogueError(
            f"OpenWrt {release} has no MicroPython", hint=f"of the kit have it: {', '.join(having)}"
        )
    series = release if release in EDITIONS else catalogue_series(release)
    found = _facts().get(series)
    if found is None or series == "about":
        known = ", ".join(name for name in _facts() if name != "about")
        raise CatalogueError(
            f"the modules of MicroPython in OpenWrt {series} are not known", hint=f"known are {known}"
        )
    return MicroPythonModules(
        series,
        found["micropython"],
        *(frozenset(found[key]) for key in ("builtin", "tls", "library", "library_unix")),
    )


def check_imports(apps: Iterable[Path], release: str, packages: Collection[str]) -> None:
    """Refuse apps that import what MicroPython lacks with these packages. Imports whose absence is caught do
    not count. Apps see one another's modules.

    FaultsError naming file and line of each; AppError, SourceError, CatalogueError.
    """
    modules = load_modules(release)
    there = modules.importable(packages)
    scans = [scan_app(path, python=SYNTAX, implementation=IMPLEMENTATION) for path in apps]
    own = {name for scan in scans for name in scan.own}
    faults = [
        _fault(each, modules)
        for scan in scans
        for each in scan.imports
        if not _is_there(each, there, own) and (each.kind in NEEDED or _needed_instead(each, there, own))
    ]
    if faults:
        raise FaultsError(faults)


def _is_there(imported: Import, there: Collection[str], own: Collection[str]) -> bool:
    return imported.top in own or imported.module in there


def _needed_instead(imported: Import, there: Collection[str], own: Collection[str]) -> bool:
    """Whether an import with replacements has none that is there."""
    if imported.kind != "optional" or not imported.instead:
        return False
    return all(name not in there and name.partition(".")[0] not in own for name in imported.instead)


def _fault(imported: Import, modules: MicroPythonModules) -> Fault:
    name = imported.module
    message = f"MicroPython {modules.upstream} of OpenWrt {modules.series} has no module '{name}'"
    if f"u{name}" in modules.builtin | modules.tls:
        hint = f"import u{name}"
    elif name in modules.library:
        hint = "add the package micropython-lib"
    elif name in modules.library_unix:
        hint = "add the package micropython-lib-unix, and run it with micropython-unix"
    elif name in modules.tls:
        hint = "take the interpreter with TLS, micropython-mbedtls"
    else:
        hint = "bring the module with the app, or import it where ImportError is caught"
    return Fault(imported.file, imported.line, "", message, hint)
