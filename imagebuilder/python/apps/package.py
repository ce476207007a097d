"""Apps and requirements as packages: what a plan declares of them, and their content.

open_app() reads an app, declare_app() says what its package will be, app_package() makes it. Wheels of
requirements take the same way: declare_wheel(), wheel_package().
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from imagebuilder.config.app import (
    AppUse,
    Optimize,
    PinnedRequirement,
    ResolvedRequirements,
    SourceKind,
    source_kind,
)
from imagebuilder.config.requirement import parse_requirement_line
from imagebuilder.errors import Fault, FaultsError, UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.model.control import parse_depends, parse_names
from imagebuilder.model.filespec import site_packages
from imagebuilder.model.package import LOCAL, Package
from imagebuilder.python.apps.apps import is_flat, program_name
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.apps.flat import FlatApp, read_flat
from imagebuilder.python.apps.launcher import (
    PROGRAMS,
    MainCode,
    Service,
    StartOptions,
    bytecode_program,
    folder_program,
    init_script,
    maintainer_scripts,
    source_program,
)
from imagebuilder.python.apps.script import Script, read_script
from imagebuilder.python.apps.warm import (
    LAUNCHER,
    LAUNCHER_SOURCE,
    WarmUser,
    warm_programs,
    warm_services,
)
from imagebuilder.python.bytecode.bytecode import APPS_FOLDER, cached_path
from imagebuilder.python.bytecode.versions import version_facts
from imagebuilder.python.catalogue.package_version import PackageWords
from imagebuilder.python.requirements.index import PackageIndex, project_digest
from imagebuilder.python.requirements.requirements import counting
from imagebuilder.python.requirements.requirements_file import NOTHING_STATED, Stated, StatedRequirements
from imagebuilder.python.wheels.target import WheelTarget
from imagebuilder.python.wheels.tree import (
    NativeFiles,
    WheelTree,
    check_native,
    natives_in,
    natives_of,
    wheel_tree,
)
from imagebuilder.python.wheels.wheels import Wheel, read_wheel
from imagebuilder.rootfs.tree import Entry, FileTree, LocalPackage, file_of

SECTION = "lang"
APP_PREFIX, WHEEL_PREFIX, OTHER_PREFIX = "app-", "python3-", "pypi-"
ALWAYS = ("libc",)  # every package of OpenWrt's depends on it
# OpenWrt's base-files has these users; others are made when a package is installed that asks for them
_KNOWN_USERS = frozenset({"root", "daemon", "ftp", "network", "nobody"})


class AppPackageError(UserError):
    """An app that cannot be packaged as asked."""


@dataclass(frozen=True, slots=True)
class App:
    """An app that was read. name: its package's; service: its init script's, which is its own. wheel: of a
    project or a wheel, else script or flat. requires: requirements of its metadata that count on the target;
    files: of a file of requirements beside it; warm: of python-launcher, for whom it runs programs."""

    use: AppUse
    path: Path
    name: str
    service: str
    version: Version
    summary: str
    requires: tuple[str, ...]
    wheel: Wheel | None = None
    script: Script | None = None
    flat: FlatApp | None = None
    files: StatedRequirements = NOTHING_STATED
    warm: tuple[WarmUser, ...] = ()

    @property
    def is_warm(self) -> bool:
        """Whether python-launcher runs its programs."""
        return self.use.service == "launcher"

    @property
    def taken(self) -> str:
        """What was taken of a flat app, in words."""
        program = f"{PROGRAMS}/{self.service}"
        return f"{self.use.path}: {self.flat.taken(program)}" if self.flat is not None else ""

    @property
    def stated(self) -> StatedRequirements:
        """What the app requires, and the constraints on it; paths in its own metadata count from the folder
        that it is in. FaultsError."""
        place = self.path if self.flat is None else self.flat.file
        own = tuple(_stated(text, place) for text in self.requires)
        return replace(self.files, requirements=(*own, *self.files.requirements))


def launcher_app(users: tuple[WarmUser, ...], target: WheelTarget) -> App:
    """python-launcher, for users whose apps it runs."""
    path = LAUNCHER_SOURCE
    script = read_script(path, target.version_pair)
    use = AppUse(path=str(path), name=LAUNCHER, service=True)
    return App(use, path, LAUNCHER, LAUNCHER, script.version, script.summary, (), script=script, warm=users)


def _stated(text: str, app: Path) -> Stated:
    try:
        return Stated(parse_requirement_line(text), app.parent, str(app))
    except ValueError as error:
        raise FaultsError([Fault(str(app), None, "", f"its requirements: {error}")]) from None


def open_app(use: AppUse, project: Path, target: WheelTarget, index: PackageIndex) -> App:
    """Read an app; a project's folder is built (and not again while it stays as it is). project: what its
    path counts from.

    AppPackageError, ScriptError, SourceError, WheelError, HostBuildError, and NativeSourceError for a project
    with C code; OfflineError.
    """
    path = project / expand_home(use.path)
    if path.is_file() and not path.name.endswith(".whl"):
        script = read_script(path, target.version_pair)
        own = app_name(use, path, path.name.removesuffix(".py"))
        _check_python(path, script.requires_python, target)
        return _named(App(use, path, "", own, script.version, script.summary, script.requires, script=script))
    if not path.exists():
        raise AppPackageError(f"{path}: no such script, folder or wheel", hint="python.apps names it")
    wheel = path
    if path.is_dir() and is_flat(path):
        return _open_flat(use, path, target)
    if path.is_dir():
        name = path.resolve().name.replace(" ", "-")  # which ends at a space
        wheel = index.wheel_of(path, f"{name} project {project_digest(path)}", target)
    read = read_wheel(wheel)
    _check_python(path, read.requires_python, target)
    requires = tuple(str(each) for each in counting(read.requires, target))
    return _named(App(use, path, "", read.name, read.version, read.summary, requires, wheel=read))


def _open_flat(use: AppUse, path: Path, target: WheelTarget) -> App:
    flat = read_flat(path, target.version_pair)
    own, script = app_name(use, path, path.resolve().name), flat.script
    _check_python(flat.file, script.requires_python, target)
    facts = App(use, path, "", own, script.version, script.summary, script.requires)
    return _named(replace(facts, flat=flat, files=flat.stated))


def app_name(use: AppUse, path: Path, stem: str) -> str:
    """The name of an app's program and service, made of its file's or folder's."""
    name = program_name(stem) or (use.name or "").removeprefix(APP_PREFIX)
    if not name:
        raise AppPackageError(
            f"{path}: no name of a program can be made of {stem!r}: it has no letter or digit of ASCII",
            hint=f'name the package: {{ path = "{use.path}", name = "{APP_PREFIX}…" }}',
        )
    return name


def _named(app: App) -> App:
    return replace(app, name=app.use.name or APP_PREFIX + app.service)


def _check_python(path: Path, requires: str, target: WheelTarget) -> None:
    try:
        fits = SpecifierSet(requires).contains(target.python, prereleases=True)
    except InvalidSpecifier:
        fits = True  # pip takes such for none as well
    if not fits:
        raise AppPackageError(
            f"{path} wants Python {requires}, and the target has {target.python}",
            hint="take another release of it, or another release of OpenWrt",
        )


def declare_app(
    app: App,
    depends: Iterable[str],
    words: PackageWords,
    target: WheelTarget,
    *,
    instead: Iterable[str] = (),
) -> Package:
    """The app's package as a plan knows it. depends: names of the interpreter's packages, and of those that
    its requirements became; instead: packages of feeds that it stands for, see places_taken().

    AppPackageError for a service without a program; NativeCodeError for a wheel that does not fit the target.
    """
    if app.use.service is True:
        _command(app, _start(app.use, target))
    if app.is_warm:
        _check_warm(app)
        depends = (*depends, LAUNCHER)
    facts = Package(app.name, words.version(app.version, 1), description=app.summary or app.name)
    natives = natives_of_app(app)
    package = _standing_for(
        instead,
        declared(facts, (*depends, *check_native(natives, target)), _users(app), words),
    )
    native = bool(natives.elves) if app.wheel is None else not app.wheel.pure
    return replace(package, architecture=target.arch) if native else package


def _users(app: App) -> list[str]:
    """As whom an app's services run."""
    return [each.user for each in app.warm] or ([app.use.user] if app.use.service else [])


def _check_warm(app: App) -> None:
    if LAUNCHER in {app.service, app.name}:
        raise AppPackageError(
            f'{app.path}: {LAUNCHER} is what runs the programs of apps with service = "launcher"',
            hint="give the app another name",
        )
    if not _programs(app):
        raise AppPackageError(
            f'{app.path}: service = "launcher" runs its programs, and it has no console entry points',
            hint="add one to its [project.scripts]",
        )


def natives_of_app(app: App) -> NativeFiles:
    """What native code an app brings; a script none. WheelError for a damaged file."""
    if app.wheel is not None:
        return natives_of(app.wheel)
    return natives_in(app.path, app.flat.entries if app.flat is not None else {}, app.service)


def declared(facts: Package, depends: Iterable[str], users: Iterable[str], words: PackageWords) -> Package:
    """A package of no certain processor, with what all of them have. users: as whom its services run, whom
    the device may not have yet."""
    new = " ".join(f"{user}:{user}" for user in dict.fromkeys(users) if user not in _KNOWN_USERS)
    return replace(
        facts,
        feed=LOCAL,
        architecture=words.any_architecture,
        depends=parse_depends(", ".join(dict.fromkeys((*ALWAYS, *depends)))),
        section=SECTION,
        extra={"Require-User": new} if new else {},
    )


def declare_wheel(
    name: str,
    wheel: Wheel,
    depends: Iterable[str],
    words: PackageWords,
    target: WheelTarget,
    *,
    instead: Iterable[str] = (),
) -> Package:
    """The package of a requirement's wheel as a plan knows it. name: see local_names(); depends and instead
    as in declare_app(). NativeCodeError."""
    facts = Package(name, words.version(wheel.version, 1), description=wheel.summary or name)
    package = declared(facts, (*depends, *check_native(natives_of(wheel), target)), (), words)
    if not wheel.pure:
        package = replace(package, architecture=target.arch)
    return _standing_for(instead, package)


def _standing_for(instead: Iterable[str], package: Package) -> Package:
    """What other packages of the feeds may want, what has the same files, and what must not be installed over
    it on the device."""
    names = tuple(name for name in instead if name != package.name)
    foes = parse_names(", ".join(names))
    versions = tuple((name, package.version) for name in names)
    return replace(package, provides=names, conflicts=foes, replaces=foes, provided_versions=versions)


def places_taken(
    wheel: Wheel, providers: Mapping[str, Sequence[str]], modules: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """The packages of feeds whose place a wheel takes, since they are the same distribution or have the same
    modules. providers: see feed_providers(); modules: of packages that have a part of a distribution, their
    top-level modules, as python3-pkg-resources has one of setuptools."""
    tops = {path.partition("/")[0].removesuffix(".py") for path in wheel.files}
    parts = [name for name, theirs in modules.items() if theirs and tops.issuperset(theirs)]
    return tuple(dict.fromkeys((*providers.get(wheel.name, ()), *parts)))


def local_names(
    pins: Iterable[PinnedRequirement], feed_packages: Iterable[str], providers: Container[str] = ()
) -> dict[str, str]:
    """Names of the packages that requirements become, by their distributions: python3-NAME, or pypi-NAME
    where a feed has a package of that name, or the distribution, with another version. providers:
    distributions that feeds have."""
    taken = frozenset(feed_packages)
    return {
        pin.name: (
            OTHER_PREFIX if WHEEL_PREFIX + pin.name in taken or pin.name in providers else WHEEL_PREFIX
        )
        + pin.name
        for pin in pins
    }


def packages_of(
    distributions: Iterable[str],
    resolved: ResolvedRequirements,
    names: Mapping[str, str],
    own: Mapping[str, str],
) -> tuple[str, ...]:
    """The packages that bring distributions. names: of local_names(); own: packages of the user's apps by
    their distributions."""
    found = {**resolved.feed, **names, **own}
    return tuple(sorted({found[name] for name in distributions if name in found}))


def _start(use: AppUse, target: WheelTarget) -> StartOptions:
    python = "{}.{}".format(*target.version_pair)
    return StartOptions(site_packages(python), site=use.site, isolated=use.isolated)


def _programs(app: App) -> list[str]:
    """The names of an app's programs."""
    if app.wheel is None:
        return [app.service]
    return [entry.program for entry in app.wheel.entry_points]


def _command(app: App, start: StartOptions) -> list[str]:
    """What an app's service runs, without its arguments."""
    programs = _programs(app)
    chosen = app.use.program
    if chosen is None and len(programs) == 1:
        chosen = programs[0]
    if chosen in programs:
        return [f"{PROGRAMS}/{chosen}"]
    if not programs and chosen is None and app.wheel is not None:
        mains = [path for path in app.wheel.files if path.count("/") == 1 and path.endswith("/__main__.py")]
        if len(mains) == 1 and start.site:  # without it site-packages would not be found
            module = mains[0].partition("/")[0]
            return [start.interpreter, start.flags(), "-m", module]
    there = f"its programs are {', '.join(programs)}" if programs else "it has no console entry points"
    raise AppPackageError(
        f"{app.path}: which program the service runs is not clear: {there}",
        hint="name it: program = …" if programs else "add one to its [project.scripts]",
    )


def _script_tree(app: App, script: Script, start: StartOptions, source: SourceKind) -> WheelTree:
    """A script's module and program."""
    program = f"{PROGRAMS}/{app.service}"
    if source == "only":
        return WheelTree(FileTree(), FileTree({program: source_program(script.data, start)}))
    stem = app.service.replace("-", "_")
    place = f"{start.site_packages}/{stem}.py"
    return WheelTree(FileTree({place: file_of(script.data)}), FileTree())


def _flat_tree(app: App, flat: FlatApp) -> WheelTree:
    """A flat app's files; its program wants to know where its main module's code is."""
    folder = _flat_folder(app)
    files = {f"{folder}/{path}": entry for path, entry in flat.entries.items()}
    return WheelTree(FileTree(files), FileTree())


def _flat_folder(app: App) -> str:
    return f"{APPS_FOLDER}/{app.service}"


def _main_program(app: App, shipped: FileTree, start: StartOptions, target: WheelTarget) -> Entry:
    """The program that runs the code of a script's or flat app's main module."""
    python = "{}.{}".format(*target.version_pair)
    header = version_facts(python).header_bytes
    if app.flat is None:
        (bytecode,) = (path for path in shipped if path.endswith(".pyc"))
        return bytecode_program(bytecode, start, header)
    folder = _flat_folder(app)
    source = f"{folder}/{app.flat.main}"
    code = next((path for path in (f"{source}c", cached_path(source, python)) if path in shipped), source)
    return folder_program(folder, app.flat.package, MainCode(source, code, header), start)


def app_package(
    app: App,
    package: Package,
    target: WheelTarget,
    compiler: Compiler,
    *,
    source: SourceKind = "bytecode",
    optimize: Optimize = 0,
) -> LocalPackage:
    """An app's package with its content, its scripts as opkg's. package: of declare_app(); source, optimize:
    where the app says nothing of its own. CompileError and its like, WheelError, NativeCodeError,
    FileTreeError."""
    kind = source_kind(app.use.source) if app.use.source is not None else source
    level = app.use.optimize if app.use.optimize is not None else optimize
    # bytecode is optimized already; told of -O, Python would look for it under another name
    start = replace(_start(app.use, target), optimize=level if kind == "only" else 0)
    if app.wheel is not None:
        made = wheel_tree(app.wheel, target, start)
    elif app.script is not None:
        made = _script_tree(app, app.script, start, kind)
    elif app.flat is not None:
        made = _flat_tree(app, app.flat)
    else:
        raise AppPackageError(f"{app.path}: an app is a wheel or a script", hint="read it with open_app()")
    shipped = compiler.ship(app.name, made.tree, kind, level)
    more: dict[str, Entry] = dict(made.programs)
    if app.flat is not None or (app.script is not None and kind != "only"):
        more[f"{PROGRAMS}/{app.service}"] = _main_program(app, shipped, start, target)
    if app.warm:
        more[f"/etc/init.d/{LAUNCHER}"] = warm_services(app.warm)
        return LocalPackage(package, shipped.merged(more), maintainer_scripts())
    if app.is_warm:
        more = warm_programs({**shipped, **more}, _programs(app), app.use.user)
    command = _command(app, start) if app.use.service is True else ()
    files, scripts = service_files(app.use, app.service, command)
    return LocalPackage(package, shipped.merged({**more, **files}), scripts)


def service_files(
    use: AppUse, name: str, command: Sequence[str]
) -> tuple[dict[str, Entry], dict[str, bytes]]:
    """The init script of an app's service, and the package's scripts, as opkg's, that enable it; nothing
    without one. command: of the program, without the app's arguments."""
    if use.service is not True:
        return {}, {}
    service = Service((*command, *use.arguments), use.user, use.environment, use.respawn_seconds)
    return {f"/etc/init.d/{name}": init_script(service)}, maintainer_scripts()


def wheel_package(
    wheel: Wheel,
    package: Package,
    target: WheelTarget,
    compiler: Compiler,
    *,
    source: SourceKind = "bytecode",
    optimize: Optimize = 0,
) -> LocalPackage:
    """The package of a requirement's wheel with its content, as app_package(). Sources in it that do not
    compile go in as they are, with a warning."""
    start = StartOptions(site_packages("{}.{}".format(*target.version_pair)))
    made = wheel_tree(wheel, target, start)
    shipped = compiler.ship(package.name, made.tree, source, optimize, lenient=True)
    return LocalPackage(package, shipped.merged(made.programs))
