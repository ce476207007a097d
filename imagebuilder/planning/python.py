"""Which packages of Python an image gets, and which line of which app wants each of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.model.config import Python
from imagebuilder.model.plan import Imports
from imagebuilder.python.apps import scan_app
from imagebuilder.python.catalogue import load_catalogue
from imagebuilder.python.choose import Choice, Want, choose_packages
from imagebuilder.python.variants import catalogue_series, python_packages


@dataclass(frozen=True)
class ChosenPython:
    """packages: in order; asked_by: for each, the config's key that asks for it, or the first import that
    wants it. imports: what the apps want; warnings: to be shown."""

    packages: tuple[str, ...] = ()
    asked_by: Mapping[str, str] = field(default_factory=dict)
    imports: Imports = field(default_factory=Imports)
    warnings: tuple[str, ...] = ()


def choose_python(wanted: Python, root: Path, release: str, offered: Collection[str]) -> ChosenPython:
    """The packages for what a config says of Python.

    root: the folder that the paths of apps count from; release: the tree's; offered: names of all packages
    that feeds and tree have, for third-party modules. Raises AppError, SourceError, CatalogueError,
    VariantError, and FaultsError with file and line of every module that no package brings.
    """
    series = catalogue_series(release)
    imports, choice = Imports(), None
    if wanted.variant == "auto":
        catalogue = load_catalogue(series)
        scans = [scan_app(root / app, python=catalogue.version_pair) for app in wanted.apps]
        choice = choose_packages(catalogue, scans, feed_packages=offered)
        imports = _imports(choice, root)
    if wanted.variant == "none" and not (wanted.source or wanted.pip or wanted.setuptools):
        return ChosenPython()
    found = python_packages(
        series,
        wanted.variant,
        source=wanted.source,
        pip=wanted.pip,
        setuptools=wanted.setuptools,
        scanned=choice.packages if choice else (),
    )
    asked_by = dict(found.reasons)
    asked_by |= {name: lines[0] for name, lines in imports.wanted.items() if lines}
    return ChosenPython(found.packages, asked_by, imports, found.warnings)


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
    path = Path(file)
    return f"{path.relative_to(root) if path.is_relative_to(root) else path}:{line}"
