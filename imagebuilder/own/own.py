"""The user's own Python for an image: apps, the wheels of requirements, recipes. Read and declared for
the plan; made later (own.local)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from imagebuilder.config.app import ResolvedRequirements
from imagebuilder.config.model_config import Config, Python
from imagebuilder.config.python_package import PythonPackageUse
from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache
from imagebuilder.host.fs import expand_home, sha256_of
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.package import Package
from imagebuilder.model.tree import Tree
from imagebuilder.own.choice import ChosenPython, choose_python
from imagebuilder.packages.install import Offers
from imagebuilder.packages.supply import Job
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
from imagebuilder.python.catalogue.package_version import PackageManager
from imagebuilder.python.catalogue.variants import catalogue_series, family_of
from imagebuilder.python.micropython import micropython
from imagebuilder.python.micropython.micropython import MicroPythonApp, check_imports
from imagebuilder.python.requirements.index import PackageIndex, project_digest
from imagebuilder.python.requirements.requirements import feed_distributions, resolve_requirements, wheels_of
from imagebuilder.python.wheels.target import WheelTarget, wheel_target
from imagebuilder.python.wheels.wheels import Wheel


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


def open_own(
    job: Job, config: Config, tree: Tree, offers: Offers, locked: ResolvedRequirements | None
) -> Own:
    """Read apps, resolve requirements, and find out what all of it needs. locked: requirements as a lock
    resolved them.

    OwnPythonError; what open_app(), resolve_requirements(), scan_app() and choose_python() raise.
    """
    python, root = config.python, job.request.library.root
    offered = {each.name for packages in offers.packages.values() for each in packages}
    if not (python.apps or python.requirements or python.package):
        return Own(choose_python(python, root, tree.release, offered))
    if python.variant == "micropython" and not (python.requirements or python.package):
        return _micropython(python, root, tree, choose_python(python, root, tree.release, offered))
    _check_family(python, config.name)
    series = catalogue_series(tree.release)
    catalogue = load_catalogue(series)
    glibc = EDITIONS[tree.release].glibc if tree.release in EDITIONS else None
    target = wheel_target(catalogue.version, tree.arch, series, glibc=glibc)
    index = PackageIndex(Cache(job.request.cache), job.log, offline=job.request.offline)
    apps = tuple(open_app(use, root, target, index) for use in python.apps)
    everything = [each for packages in offers.packages.values() for each in packages]
    feed = feed_distributions(everything, without=catalogue.packages)
    texts = [*python.requirements, *(text for app in apps for text in app.requires)]
    own_wheels = [app.wheel for app in apps if app.wheel is not None]
    resolved = locked or resolve_requirements(texts, target, feed, index, own=own_wheels)
    wheels = {str(name): wheel for name, wheel in wheels_of(resolved, target, index).items()}
    scans = [_scan(app, catalogue) for app in apps]
    libraries = [scan_app(wheel.path, python=catalogue.version_pair) for wheel in wheels.values()]
    chosen = choose_python(python, root, tree.release, offered, apps=scans, libraries=libraries)
    names = local_names(resolved.pins, offered)
    sources = Sources(catalogue, target, apps, wheels, python.package, resolved, names)
    return _declared(sources, chosen, root, tree.package_manager)


def _micropython(python: Python, root: Path, tree: Tree, chosen: ChosenPython) -> Own:
    """Apps for MicroPython, their imports checked against what it has."""
    apps = tuple(micropython.open_app(use, root) for use in python.apps)
    check_imports([app.path for app in apps], catalogue_series(tree.release), chosen.packages)
    manager = tree.package_manager
    declared = {app.name: micropython.declare_app(app, chosen.packages, manager) for app in apps}
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


def _declared(sources: Sources, python: ChosenPython, root: Path, manager: PackageManager) -> Own:
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
