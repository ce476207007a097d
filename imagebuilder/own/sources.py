"""The user's own Python, read: apps, the wheels of requirements, recipes, and the packages that these will
be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from packaging.utils import NormalizedName

from imagebuilder.config.app import TRIM_KINDS, ResolvedRequirements, TrimKind, source_kind
from imagebuilder.config.model_config import Python
from imagebuilder.config.requirement import parse_requirement_line
from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.package import Package
from imagebuilder.own.data import chosen_data, data_sources, data_uses
from imagebuilder.own.libraries import LibraryUse, brought_by, find_libraries
from imagebuilder.own.native import compiler_for
from imagebuilder.own.own import ChosenPython, FromOverlays, Own, Sources, choose_python, in_words
from imagebuilder.packages.lock import check_same, requirement_changes
from imagebuilder.packages.supply import Job, Supply
from imagebuilder.python.apps.apps import AppScan, app_files, scan_app
from imagebuilder.python.apps.expected import expected_bytes, files_of_app, files_of_wheel
from imagebuilder.python.apps.package import (
    App,
    declare_app,
    declare_wheel,
    launcher_app,
    local_names,
    natives_of_app,
    open_app,
    packages_of,
    places_taken,
)
from imagebuilder.python.apps.warm import WarmUser, modules_to_warm
from imagebuilder.python.build import recipe
from imagebuilder.python.catalogue.catalogue import Catalogue, load_catalogue
from imagebuilder.python.catalogue.variants import catalogue_series, family_of
from imagebuilder.python.micropython import micropython
from imagebuilder.python.micropython.micropython import check_imports
from imagebuilder.python.requirements.asked import Asked
from imagebuilder.python.requirements.direct import DirectSources
from imagebuilder.python.requirements.index import PackageIndex
from imagebuilder.python.requirements.requirements import (
    Feed,
    feed_distributions,
    feed_providers,
    resolve_requirements,
    wheels_of,
)
from imagebuilder.python.requirements.requirements_file import Stated
from imagebuilder.python.wheels.target import WheelTarget, wheel_target
from imagebuilder.python.wheels.tree import NativeFiles, natives_of
from imagebuilder.python.wheels.trim import WheelToTrim, quoted, trim_wheels
from imagebuilder.python.wheels.wheels import Wheel, reads_sources


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
    catalogue = load_catalogue(catalogue_series(tree.release))
    target = _target(tree.release, tree.arch, catalogue)
    compiler = compiler_for(job, supply, target)
    index = PackageIndex(Cache(job.cache), job.log, offline=job.offline, compiler=compiler)
    apps = _with_launcher([open_app(use, root, target, index) for use in python.apps], catalogue, target)
    standard = [each.name for each in catalogue.packages.values() if each.standard_library]
    feed = feed_distributions(supply.offers.packages, without=standard)
    providers = feed_providers(supply.offers.packages, without=standard)
    own_wheels = [app.wheel for app in apps if app.wheel is not None]
    resolved, found = _resolved(job, target, index, apps, feed=feed, locked=locked)
    scans = [_scan(app, catalogue) for app in apps]
    brought = _brought(job, resolved, catalogue, found.values())
    trimmed = trim_wheels(brought, scans, words=_words(python, apps), there=resolved.feed)
    libraries = [each.scan for each in trimmed]
    distributions = (*resolved.feed, *(str(each.name) for each in (*own_wheels, *found.values())))
    chosen = choose_python(
        python, root, tree.release, offered, apps=scans, libraries=libraries, distributions=distributions
    )
    names = local_names(resolved.pins, offered, providers)
    wheels = {str(each.wheel.name): each.wheel for each in trimmed}
    natives = [*map(natives_of_app, apps), *map(natives_of, wheels.values())]
    libs = _libraries(job, supply, target, natives, laid)
    target = replace(target, libraries={each.library: each.package for each in libs})
    readers = tuple(name for name, wheel in wheels.items() if reads_sources(wheel))
    sources = Sources(catalogue, target, apps, wheels, python.package, resolved, names, readers)
    parts = _parts(catalogue, offered)
    taken = {str(each.name): places_taken(each, providers, parts) for each in (*own_wheels, *wheels.values())}
    own = _declared(sources, chosen, taken, job)
    own = replace(own, trimmed=tuple(each.facts for each in trimmed if each.facts.saved), libraries=libs)
    return _with_data(own, job, scans, distributions, offered, laid=laid)


def _resolved(
    job: Job,
    target: WheelTarget,
    index: PackageIndex,
    apps: Sequence[App],
    *,
    feed: Feed,
    locked: ResolvedRequirements | None,
) -> tuple[ResolvedRequirements, dict[NormalizedName, Wheel]]:
    """What the config and its apps require, resolved anew or as it is locked, and the wheels of it."""
    root = job.root
    stated = [*_configs_own(job), *(each for app in apps for each in app.stated.requirements)]
    asked = Asked.of(stated, [each for app in apps for each in app.stated.constraints], target)
    places = DirectSources(index, target, root)
    if locked is None:
        direct = [places.get(each) for each in asked.direct]
        resolved = resolve_requirements(
            asked.texts,
            target,
            feed,
            index,
            own=[app.wheel for app in apps if app.wheel is not None],
            pure=asked.pure,
            direct=direct,
            constraints=asked.constraints,
            hashes=asked.hashes,
        )
    else:
        resolved = locked
        check_same(job.config.name, requirement_changes(locked, asked.answered_by(locked, target, root)))
        pins = {pin.name: pin for pin in locked.pins}
        direct = [places.get(each, pins[locked.wanted[each.key(root)]]) for each in asked.direct]
    return resolved, wheels_of(resolved, target, index, direct)


def _target(release: str, arch: str, catalogue: Catalogue) -> WheelTarget:
    """For whom wheels are chosen: a release's Python on an architecture."""
    glibc = EDITIONS[release].glibc if release in EDITIONS else None
    return wheel_target(catalogue.version, arch, catalogue_series(release), glibc=glibc)


def _parts(catalogue: Catalogue, offered: Collection[str]) -> dict[str, tuple[str, ...]]:
    """What packages of the interpreter's makefile bring to site-packages."""
    return {
        each.name: each.site_modules
        for each in catalogue.packages.values()
        if each.name in offered and not each.standard_library
    }


def _libraries(
    job: Job, supply: Supply, target: WheelTarget, natives: Iterable[NativeFiles], laid: FromOverlays
) -> tuple[LibraryUse, ...]:
    """As find_libraries()."""
    brought = {**dict.fromkeys(laid.libraries, ""), **brought_by(job.config.python.package)}
    asked = (*job.config.packages.add, *laid.packages)
    return find_libraries(job, supply, target, natives, laid=brought, asked=asked)


def _with_data(
    own: Own,
    job: Job,
    scans: Iterable[AppScan],
    distributions: tuple[str, ...],
    offered: Collection[str],
    *,
    laid: FromOverlays,
) -> Own:
    """The same with the data that apps look for, and what `auto` adds for them."""
    config = job.config
    uses = data_uses(
        (use for scan in scans for use in scan.uses), lambda file, line: in_words(file, line, job.root)
    )
    data: Mapping[str, str] = {}
    if config.python.variant == "auto":
        named = (*config.packages.add, *laid.packages, *job.tree.default_packages)
        there = data_sources(config.python, named, distributions, laid.folders)
        data = chosen_data(uses, there, offered, config.packages.remove)
    return replace(own, uses=uses, data=data, distributions=distributions)


def _brought(
    job: Job, resolved: ResolvedRequirements, catalogue: Catalogue, wheels: Iterable[Wheel]
) -> list[WheelToTrim]:
    """The requirements' wheels, and what may stay out of each. Where a distribution is required several
    times, what one of them wants in goes in."""
    kinds: dict[str, frozenset[TrimKind]] = {}
    for use, stated in zip(job.config.python.requirements, _configs_own(job), strict=True):
        name = stated.written.name or resolved.wanted.get(stated.key(job.root), "")
        kinds[name] = kinds.get(name, frozenset(TRIM_KINDS)) & frozenset(use.trim_kinds())
    return [
        WheelToTrim(
            wheel,
            scan_app(wheel.path, python=catalogue.version_pair),
            kinds.get(wheel.name, frozenset(TRIM_KINDS)),
        )
        for wheel in wheels
    ]


def _words(python: Python, apps: Iterable[App]) -> set[str]:
    """What may name a module of a requirement's: words of commands, and strings of apps."""
    words = {word for command in python.trace for word in command.split()}
    for app in apps:
        words |= {*app.use.arguments, *app.use.environment.values()}
        words |= {text for file in app_files(app.path)[1] for text in quoted(file.data or b"")}
    return words


def _configs_own(job: Job) -> list[Stated]:
    """What the config requires; its paths count from the project's folder."""
    place = f"config {job.config.name}, python.requirements"
    return [
        Stated(parse_requirement_line(each.name), job.root, place, pure=each.pure)
        for each in job.config.python.requirements
    ]


def _micropython(job: Job, chosen: ChosenPython) -> Own:
    """Apps for MicroPython, their imports checked against what it has."""
    apps = tuple(micropython.open_app(use, job.root) for use in job.config.python.apps)
    check_imports([app.path for app in apps], job.tree.release, chosen.packages)
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
    scan = scan_app(app.path, python=catalogue.version_pair)
    return replace(scan, computed=()) if app.warm else scan  # it is told what to import


def _with_launcher(apps: Sequence[App], catalogue: Catalogue, target: WheelTarget) -> tuple[App, ...]:
    """The apps, and what runs those of them that are to be run by a warm interpreter."""
    users: dict[str, list[AppScan]] = {}
    for app in apps:
        if app.is_warm:
            users.setdefault(app.use.user, []).append(_scan(app, catalogue))
    warm = tuple(WarmUser(user, modules_to_warm(scans)) for user, scans in sorted(users.items()))
    return (*apps, launcher_app(warm, target)) if warm else tuple(apps)


def _declared(
    sources: Sources,
    python: ChosenPython,
    taken: Mapping[str, tuple[str, ...]],
    job: Job,
) -> Own:
    """All that will be made, as a plan knows it. taken: by distributions, see places_taken()."""
    root, manager = job.root, job.manager
    source = sources.kept(source_kind(job.config.python.source))
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
        needed = needs(wheel.path, pin.requires)
        package = declare_wheel(name, wheel, needed, manager, target, instead=taken[pin.name])
        size = expected_bytes(files_of_wheel(wheel), source)
        declared[name] = replace(package, installed_size=size)
    for app in sources.apps:
        needed = needs(app.path, _distributions(app, resolved, root))
        instead = taken[app.wheel.name] if app.wheel is not None else ()
        package = declare_app(app, needed, manager, target, instead=instead)
        size = expected_bytes(files_of_app(app), source)
        declared[app.name] = replace(package, installed_size=size)
    wanted = {app.name: "python.apps" for app in sources.apps}
    for name, place in _stated(sources, root, apps):
        wanted.setdefault(name, place)
    for name in packages_of(resolved.wanted.values(), resolved, names, apps):
        wanted.setdefault(name, "python.requirements")
    for use in sources.recipes:
        package = recipe.declare(use, root, manager)
        declared[use.name] = package
        wanted[use.name] = "python.package"
        if use.src:
            declared[use.source_name] = recipe.declare_source(use, package)
            wanted[use.source_name] = "python.package"
    owners = {**names, **apps}
    replaced = {place: owners[name] for name, places in taken.items() for place in places}
    flat = tuple(app.taken for app in sources.apps if app.flat is not None)
    return Own(python, sources, declared=declared, wanted=wanted, taken=flat, instead=replaced)


def _stated(sources: Sources, root: Path, apps: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The packages that requirements.txt of flat apps name, with file and line."""
    stated = [each for app in sources.apps if app.flat is not None for each in app.flat.stated.requirements]
    for each in stated:
        file = Path(each.file)
        place = f"{file.relative_to(root) if file.is_relative_to(root) else file}:{each.line}"
        distribution = each.written.name or sources.resolved.wanted.get(each.key(root), "")
        for name in packages_of([distribution], sources.resolved, sources.names, apps):
            yield name, place


def _distributions(app: App, resolved: ResolvedRequirements, root: Path) -> Sequence[str]:
    """The distributions that an app requires; those that do not count on the target are none of an image."""
    known = (each.written.name or resolved.wanted.get(each.key(root), "") for each in app.stated.requirements)
    return [name for name in known if name]
