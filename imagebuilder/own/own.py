"""The Python of an image: which packages of it go in, and which line of which app wants each of them; and the
user's own: apps, the wheels of requirements, recipes. Read and declared for the plan; made later
(own.local)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from imagebuilder.config.app import PythonPackageUse, ResolvedRequirements
from imagebuilder.config.model_config import Python
from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache
from imagebuilder.host.fs import expand_home, sha256_of
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.package import Package
from imagebuilder.packages.supply import Job, Offers
from imagebuilder.python.apps.apps import AppScan, scan_app
from imagebuilder.python.apps.package import (
    App,
    declare_app,
    declare_wheel,
    local_names,
    open_app,
    packages_of,
)
from imagebuilder.python.build import recipe
from imagebuilder.python.catalogue.catalogue import Catalogue, load_catalogue
from imagebuilder.python.catalogue.choose import Choice, Want, choose_packages
from imagebuilder.python.catalogue.package_version import PackageWords
from imagebuilder.python.catalogue.variants import catalogue_series, family_of, python_packages
from imagebuilder.python.micropython import micropython
from imagebuilder.python.micropython.micropython import MicroPythonApp, check_imports
from imagebuilder.python.requirements.index import PackageIndex, project_digest
from imagebuilder.python.requirements.requirements import feed_distributions, resolve_requirements, wheels_of
from imagebuilder.python.wheels.target import WheelTarget, wheel_target
from imagebuilder.python.wheels.wheels import Wheel
from imagebuilder.tree.plan import Imports

_WHEEL = re.compile(r"([^/]+\.whl/.*)$")


@dataclass(frozen=True)
class ChosenPython:
    """packages: in order; asked_by: for each, the config's key that asks for it, or the first import that
    wants it. imports: what the apps want, and choice the same for programs; warnings: to be shown."""

    packages: tuple[str, ...] = ()
    asked_by: Mapping[str, str] = field(default_factory=dict)
    imports: Imports = field(default_factory=Imports)
    warnings: tuple[str, ...] = ()
    choice: Choice | None = None

    def wanted_by(self, place: Path) -> tuple[str, ...]:
        """The packages that the imports of one app or wheel want; place: its file or folder."""
        if self.choice is None:
            return ()
        own = str(place)
        return tuple(
            name
            for name, wants in self.choice.wanted.items()
            if any(want.file == own or want.file.startswith(f"{own}/") for want in wants)
        )


def choose_python(
    wanted: Python,
    root: Path,
    release: str,
    offered: Collection[str],
    *,
    apps: Sequence[AppScan] = (),
    libraries: Sequence[AppScan] = (),
) -> ChosenPython:
    """The packages for what a config says of Python.

    root: the project, for words; release: the tree's; offered: names of all packages that feeds and tree
    have, for third-party modules; libraries: the wheels of requirements. Raises
    CatalogueError, VariantError, and FaultsError with file and line of every module that no package brings.
    """
    series = catalogue_series(release)
    imports, choice = Imports(), None
    if apps or libraries or wanted.variant == "auto":
        book = load_catalogue(series)
        choice = choose_packages(book, apps, feed_packages=offered, libraries=libraries)
        imports = _imports(choice, root)
    if wanted.variant == "none" and not (wanted.source or wanted.pip or wanted.setuptools):
        return ChosenPython()
    found = python_packages(
        series,
        wanted.variant,
        source=wanted.source is not False,
        pip=wanted.pip,
        setuptools=wanted.setuptools,
        scanned=choice.packages if choice and wanted.variant == "auto" else (),
    )
    asked_by = dict(found.reasons)
    asked_by |= {name: lines[0] for name, lines in imports.wanted.items() if lines and name in asked_by}
    return ChosenPython(found.packages, asked_by, imports, found.warnings, choice)


def _imports(choice: Choice, root: Path) -> Imports:
    return Imports(
        wanted={
            name: tuple(_words(want, root) for want in wants)
            for name, wants in choice.wanted.items()
            if wants
        },
        left_out=tuple(
            f"{_words(each.want, root)}, which may be missing; "
            + (f"{each.package} would bring it" if each.package else "no package brings it")
            for each in choice.left_out
        ),
        lazy=tuple(
            f"{each.module} (imported in {_place(each.file, each.line, root)}) may need {each.missing} later,"
            f" which {each.package} would bring"
            for each in choice.lazy
        ),
        computed=tuple(_place(each.file, each.line, root) for each in choice.computed),
    )


def _words(want: Want, root: Path) -> str:
    chain = "".join(f", which imports {module}" for module in want.via[1:])
    return f"{_place(want.file, want.line, root)} imports {want.module}{chain}"


def _place(file: str, line: int, root: Path) -> str:
    wheel = _WHEEL.search(file)
    if wheel is not None:  # where it is kept says nothing to anybody
        return f"{wheel[1]}:{line}"
    path = Path(file)
    return f"{path.relative_to(root) if path.is_relative_to(root) else path}:{line}"


class OwnPythonError(UserError):
    """Apps or requirements for an image whose Python cannot run them."""


@dataclass(frozen=True)
class Sources:
    """What packages are made from. wheels: of requirements, by their distributions; names: of the packages
    that they become."""

    catalogue: Catalogue
    target: WheelTarget
    apps: tuple[App, ...]
    wheels: Mapping[str, Wheel]
    recipes: tuple[PythonPackageUse, ...]
    resolved: ResolvedRequirements
    names: Mapping[str, str]


@dataclass(frozen=True)
class Own:
    """python: what goes in of feeds' Python, and which import wants what. sources: None where there is
    nothing of one's own. declared: the packages that will be made, by name; wanted: those of them that were
    asked for, with the key that asks."""

    python: ChosenPython
    sources: Sources | None = None
    micropython: tuple[MicroPythonApp, ...] = ()
    declared: Mapping[str, Package] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)

    @property
    def resolved(self) -> ResolvedRequirements:
        """What the requirements came to."""
        return self.sources.resolved if self.sources is not None else ResolvedRequirements()

    def digests(self, root: Path) -> dict[str, str]:
        """The SHA-256 of each app and of each recipe's source, by its path in the config."""
        if self.sources is None:
            return {app.use.path: _digest(app.path) for app in self.micropython}
        places = {app.use.path: app.path for app in self.sources.apps}
        recipes = [use for use in self.sources.recipes if use.source]
        places |= {use.source: root / expand_home(use.source) for use in recipes}
        return {name: _digest(path) for name, path in places.items()}


def _digest(path: Path) -> str:
    return project_digest(path) if path.is_dir() else sha256_of(path)


def open_own(job: Job, offers: Offers, locked: ResolvedRequirements | None) -> Own:
    """Read apps, resolve requirements, and find out what all of it needs. locked: requirements as a lock
    resolved them.

    OwnPythonError; what open_app(), resolve_requirements(), scan_app() and choose_python() raise.
    """
    python, root, tree = job.config.python, job.root, job.tree
    offered = {each.name for each in offers.packages}
    if not (python.apps or python.requirements or python.package):
        return Own(choose_python(python, root, tree.release, offered))
    if python.variant == "micropython" and not (python.requirements or python.package):
        return _micropython(job, choose_python(python, root, tree.release, offered))
    _check_family(python, job.config.name)
    series = catalogue_series(tree.release)
    catalogue = load_catalogue(series)
    glibc = EDITIONS[tree.release].glibc if tree.release in EDITIONS else None
    target = wheel_target(catalogue.version, tree.arch, series, glibc=glibc)
    index = PackageIndex(Cache(job.cache), job.log, offline=job.offline)
    apps = tuple(open_app(use, root, target, index) for use in python.apps)
    feed = feed_distributions(offers.packages, without=catalogue.packages)
    texts = [*python.requirements, *(text for app in apps for text in app.requires)]
    own_wheels = [app.wheel for app in apps if app.wheel is not None]
    resolved = locked or resolve_requirements(texts, target, feed, index, own=own_wheels)
    wheels = {str(name): wheel for name, wheel in wheels_of(resolved, target, index).items()}
    scans = [_scan(app, catalogue) for app in apps]
    libraries = [scan_app(wheel.path, python=catalogue.version_pair) for wheel in wheels.values()]
    chosen = choose_python(python, root, tree.release, offered, apps=scans, libraries=libraries)
    names = local_names(resolved.pins, offered)
    sources = Sources(catalogue, target, apps, wheels, python.package, resolved, names)
    return _declared(sources, chosen, root, job.manager)


def _micropython(job: Job, chosen: ChosenPython) -> Own:
    """Apps for MicroPython, their imports checked against what it has."""
    apps = tuple(micropython.open_app(use, job.root) for use in job.config.python.apps)
    check_imports([app.path for app in apps], catalogue_series(job.tree.release), chosen.packages)
    declared = {app.name: micropython.declare_app(app, chosen.packages, job.manager) for app in apps}
    wanted = {app.name: "python.apps" for app in apps}
    return Own(chosen, micropython=apps, declared=declared, wanted=wanted)


def _check_family(python: Python, config: str) -> None:
    if family_of(python.variant) != "python3":
        raise OwnPythonError(
            f"config {config}: python.apps, requirements and package need Python 3, and python.variant is"
            f' "{python.variant}"',
            hint='say variant = "auto": the smallest Python that runs them',
        )


def _scan(app: App, catalogue: Catalogue) -> AppScan:
    """What an app imports: a project's sources where they stand, so that messages name the user's files."""
    return scan_app(app.path, python=catalogue.version_pair)


def _declared(sources: Sources, python: ChosenPython, root: Path, manager: PackageWords) -> Own:
    """All that will be made, as a plan knows it."""
    target, resolved, names = sources.target, sources.resolved, sources.names
    apps = {str(app.wheel.name): app.name for app in sources.apps if app.wheel is not None}

    def needs(place: Path, distributions: Iterable[str]) -> tuple[str, ...]:
        """The interpreter's packages that imports want, and those of other distributions."""
        base = sources.catalogue.variants["base"]
        others = packages_of(distributions, resolved, names, apps)
        return tuple(dict.fromkeys((base, *python.wanted_by(place), *others)))

    declared: dict[str, Package] = {}
    for pin in resolved.pins:
        wheel, name = sources.wheels[pin.name], names[pin.name]
        declared[name] = declare_wheel(name, wheel, needs(wheel.path, pin.requires), manager, target)
    for app in sources.apps:
        declared[app.name] = declare_app(app, needs(app.path, _distributions(app.requires)), manager, target)
    wanted = {app.name: "python.apps" for app in sources.apps}
    for name in packages_of(resolved.wanted.values(), resolved, names, apps):
        wanted.setdefault(name, "python.requirements")
    for use in sources.recipes:
        package = recipe.declare(use, root, manager)
        declared[use.name] = package
        wanted[use.name] = "python.package"
        if use.src:
            declared[use.source_name] = recipe.declare_source(use, package)
            wanted[use.source_name] = "python.package"
    return Own(python, sources, declared=declared, wanted=wanted)


def _distributions(requires: Iterable[str]) -> Sequence[str]:
    return [canonicalize_name(Requirement(text).name) for text in requires]
