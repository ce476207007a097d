"""The user's own Python, read: apps, the wheels of requirements, recipes, and the packages that these will
be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from imagebuilder.config.app import ResolvedRequirements
from imagebuilder.config.model_config import Python
from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.package import Package
from imagebuilder.own.data import DataSources, at_paths, chosen_data, data_uses
from imagebuilder.own.libraries import brought_by, find_libraries
from imagebuilder.own.native import compiler_for
from imagebuilder.own.own import ChosenPython, FromOverlays, Own, Sources, choose_python, in_words
from imagebuilder.packages.lock import check_same, requirement_changes
from imagebuilder.packages.supply import Job, Supply
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
from imagebuilder.python.catalogue.package_version import PackageWords
from imagebuilder.python.catalogue.variants import catalogue_series, family_of
from imagebuilder.python.micropython import micropython
from imagebuilder.python.micropython.micropython import check_imports
from imagebuilder.python.requirements.index import PackageIndex
from imagebuilder.python.requirements.requirements import (
    feed_distributions,
    resolve_requirements,
    wanted_distributions,
    wheels_of,
)
from imagebuilder.python.wheels.target import WheelTarget, wheel_target


class OwnPythonError(UserError):
    """Apps or requirements for an image whose Python cannot run them."""


def read_own(
    job: Job,
    supply: Supply,
    offered: Collection[str],
    locked: ResolvedRequirements | None,
    laid: FromOverlays,
) -> Own:
    """As open_own(), for a config that has something of its own. offered: the names of all packages."""
    python, root, tree = job.config.python, job.root, job.tree
    if python.variant == "micropython" and not (python.requirements or python.package):
        return _micropython(job, choose_python(python, root, tree.release, offered))
    _check_family(python, job.config.name)
    series = catalogue_series(tree.release)
    catalogue = load_catalogue(series)
    glibc = EDITIONS[tree.release].glibc if tree.release in EDITIONS else None
    target = wheel_target(catalogue.version, tree.arch, series, glibc=glibc)
    compiler = compiler_for(job, supply, target)
    index = PackageIndex(Cache(job.cache), job.log, offline=job.offline, compiler=compiler)
    apps = tuple(open_app(use, root, target, index) for use in python.apps)
    own_wheels = [app.wheel for app in apps if app.wheel is not None]
    resolved = _resolved(job, supply, apps, target=target, index=index, locked=locked)
    wheels = {str(name): wheel for name, wheel in wheels_of(resolved, target, index).items()}
    named = (*job.config.packages.add, *laid.packages)
    libs = find_libraries(
        job,
        supply,
        target,
        [*own_wheels, *wheels.values()],
        laid={**dict.fromkeys(laid.libraries, ""), **brought_by(python.package)},
        asked=named,
    )
    target = replace(target, libraries={each.library: each.package for each in libs})
    distributions = (*resolved.feed, *wheels, *(str(each.name) for each in own_wheels))
    scans = [_scan(app, catalogue) for app in apps]
    scanned = [scan_app(wheel.path, python=catalogue.version_pair) for wheel in wheels.values()]
    chosen = choose_python(
        python, root, tree.release, offered, apps=scans, libraries=scanned, distributions=distributions
    )
    names = local_names(resolved.pins, offered)
    sources = Sources(catalogue, target, apps, wheels, python.package, resolved, names)
    uses = data_uses(
        (use for scan in scans for use in scan.uses), lambda file, line: in_words(file, line, root)
    )
    data: Mapping[str, str] = {}
    if python.variant == "auto":
        there = data_sources(job, (*named, *tree.default_packages), distributions, laid)
        data = chosen_data(uses, there, offered, job.config.packages.remove)
    own = _declared(sources, chosen, root, job.manager)
    return replace(own, libraries=libs, uses=uses, data=data, distributions=distributions)


def _resolved(
    job: Job,
    supply: Supply,
    apps: Sequence[App],
    *,
    target: WheelTarget,
    index: PackageIndex,
    locked: ResolvedRequirements | None,
) -> ResolvedRequirements:
    """What the config's requirements and the apps' come to; locked: and have to come to."""
    python = job.config.python
    texts = [*(each.name for each in python.requirements), *(text for app in apps for text in app.requires)]
    if locked is not None:
        asked = locked.model_copy(update={"wanted": wanted_distributions(texts, target)})
        check_same(job.config.name, requirement_changes(locked, asked))
        return locked
    feed = feed_distributions(
        supply.offers.packages, without=load_catalogue(catalogue_series(job.tree.release)).packages
    )
    pure = [Requirement(each.name).name for each in python.requirements if each.pure]
    own = [app.wheel for app in apps if app.wheel is not None]
    return resolve_requirements(texts, target, feed, index, own=own, pure=pure)


def data_sources(
    job: Job, packages: Collection[str], distributions: Collection[str], laid: FromOverlays
) -> DataSources:
    """What may bring data to an image with these packages and distributions."""
    files = (path for recipe in job.config.python.package for path in recipe.files)
    return DataSources(packages, distributions, at_paths(laid.folders, files))


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
