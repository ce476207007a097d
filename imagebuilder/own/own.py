"""The Python of an image: which packages of it go in, and which line of which app wants each of them; and the
user's own: apps, the wheels of requirements, recipes. Read and declared for the plan; made later
(own.making)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.config.app import PythonPackageUse, ResolvedRequirements, SourceKind
from imagebuilder.config.model_config import Python
from imagebuilder.model.package import LOCAL, Package, Selected
from imagebuilder.model.result import TrimmedDistribution
from imagebuilder.packages.supply import Job, Supply
from imagebuilder.python.catalogue.catalogue import Catalogue, load_catalogue
from imagebuilder.python.catalogue.variants import catalogue_series, python_packages
from imagebuilder.tree.plan import Imports

if TYPE_CHECKING:
    from imagebuilder.own.data import DataUse
    from imagebuilder.own.libraries import LibraryUse
    from imagebuilder.python.apps.apps import AppScan
    from imagebuilder.python.apps.package import App
    from imagebuilder.python.catalogue.choose import Choice, Want
    from imagebuilder.python.micropython.micropython import MicroPythonApp
    from imagebuilder.python.wheels.target import WheelTarget
    from imagebuilder.python.wheels.wheels import Wheel

# what is not in the project: where it is kept says nothing to anybody
_ELSEWHERE = re.compile(r"([^/]+\.whl/.*|(?<=/imagebuilder/python/apps/)python_launcher\.py)$")


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
    distributions: Collection[str] = (),
) -> ChosenPython:
    """The packages for what a config says of Python.

    root: the project, for words; release: the tree's; offered: names of all packages that feeds and tree
    have, for third-party modules; libraries: the wheels of requirements; distributions: all of these, also
    those of feeds. Raises CatalogueError, VariantError, and FaultsError with file and line of every module
    that no package brings.
    """
    series = catalogue_series(release)
    imports, choice = Imports(), None
    if apps or libraries or wanted.variant == "auto":
        # what reads sources is loaded only where there are any
        from imagebuilder.python.catalogue.choose import choose_packages  # noqa: PLC0415

        book = load_catalogue(series)
        choice = choose_packages(
            book, apps, feed_packages=offered, libraries=libraries, distributions=distributions
        )
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
            f"{each.module} (imported in {in_words(each.file, each.line, root)}) may need {each.missing}"
            f" later, which {each.package} would bring"
            for each in choice.lazy
        ),
        computed=tuple(in_words(each.file, each.line, root) for each in choice.computed),
    )


def _words(want: Want, root: Path) -> str:
    chain = "".join(f", which imports {module}" for module in want.via[1:])
    return f"{in_words(want.file, want.line, root)} {want.by or 'imports'} {want.module}{chain}"


def in_words(file: str, line: int, root: Path) -> str:
    if (elsewhere := _ELSEWHERE.search(file)) is not None:
        return f"{elsewhere[1]}:{line}"
    path = Path(file)
    return f"{path.relative_to(root) if path.is_relative_to(root) else path}:{line}"


@dataclass(frozen=True)
class Sources:
    """What packages are made from. wheels: of requirements, trimmed, by their distributions; names: of the
    packages that they become; readers: distributions that read sources as they work."""

    catalogue: Catalogue
    target: WheelTarget
    apps: tuple[App, ...]
    wheels: Mapping[str, Wheel]
    recipes: tuple[PythonPackageUse, ...]
    resolved: ResolvedRequirements
    names: Mapping[str, str]
    readers: tuple[str, ...] = ()

    def kept(self, wanted: SourceKind) -> SourceKind:
        """What goes in of modules: what is wanted, and no bytecode alone where something reads sources."""
        return "both" if wanted == "bytecode" and self.readers else wanted


@dataclass(frozen=True)
class Own:
    """python: what goes in of feeds' Python, and which import wants what. sources: None where there is
    nothing of one's own. declared: the packages that will be made, by name; wanted: those of them that were
    asked for, with the key that asks, or file and line; trimmed: what stays out of requirements' wheels;
    taken: what was taken of flat apps, in words. instead: packages of feeds, and the one of these that takes
    the place of each. libraries: what native files want of the image. uses: calls of apps that look for data;
    data: packages that `auto` adds for them, and why; distributions: that go in."""

    python: ChosenPython
    sources: Sources | None = None
    micropython: tuple[MicroPythonApp, ...] = ()
    declared: Mapping[str, Package] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)
    trimmed: tuple[TrimmedDistribution, ...] = ()
    taken: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)
    libraries: tuple[LibraryUse, ...] = ()
    uses: tuple[DataUse, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    distributions: tuple[str, ...] = ()

    @property
    def resolved(self) -> ResolvedRequirements:
        """What the requirements came to."""
        return self.sources.resolved if self.sources is not None else ResolvedRequirements()


def needing(place: str, selected: Iterable[Selected]) -> tuple[str, ...]:
    """The packages of feeds that name another one among what they need."""
    return tuple(
        each.name
        for each in selected
        if each.feed != LOCAL and any(term.name == place for group in each.package.depends for term in group)
    )


@dataclass(frozen=True)
class FromOverlays:
    """What overlays say that matters to Python. packages: that they ask for; libraries: the names of shared
    libraries that they bring; folders: with what each lays over the image's root."""

    packages: tuple[str, ...] = ()
    libraries: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()


def open_own(job: Job, supply: Supply, locked: ResolvedRequirements | None, laid: FromOverlays) -> Own:
    """Read apps, resolve requirements, and find out what all of it needs. supply: what there is to compile
    with; locked: requirements as a lock resolved them.

    OwnPythonError; what open_app(), resolve_requirements(), scan_app() and choose_python() raise.
    """
    python = job.config.python
    offered = {each.name for each in supply.offers.packages}
    if not (python.apps or python.requirements or python.package):
        return Own(choose_python(python, job.root, job.tree.release, offered))
    # what reads programs and wheels is loaded only where there are some: it takes a tenth of a second
    from imagebuilder.own.sources import read_own  # noqa: PLC0415

    return read_own(job, supply, offered, locked, laid)
