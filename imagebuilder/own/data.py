"""Data files that the standard library looks for (python/imports/needs.py): what brings them goes in where
`auto` chooses, and what an image lacks is told with file and line."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.model_config import Python
from imagebuilder.model.package import Package
from imagebuilder.python.imports.needs import Need, Use, cure, needs

_ZONES = "zoneinfo-"  # how packages with time zones are called


@dataclass(frozen=True)
class DataUse:
    """A call in an app that wants data. place: file and line, for people."""

    use: Use
    place: str

    @property
    def need(self) -> Need:
        """The rule."""
        return needs()[self.use.need]

    @property
    def words(self) -> str:
        """Where it is, and what it does."""
        return f"{self.place} {self.use.words}"


@dataclass(frozen=True)
class DataSources:
    """What may bring data. packages: names of packages, and what they provide; distributions: of
    requirements; brings: whether an overlay or a recipe has something at a path of the image."""

    packages: Collection[str]
    distributions: Collection[str]
    brings: Callable[[str], bool]

    def have(self, each: DataUse) -> bool:
        """Whether something brings what a call wants."""
        need, names = each.need, {*each.use.packages(), *each.need.provided}
        if need.distribution and need.distribution in self.distributions:
            return True
        if names & set(self.packages) or any(map(self.brings, each.use.paths())):
            return True
        zones = bool(need.distribution) and not each.use.key
        return zones and any(name.startswith(_ZONES) for name in self.packages)


def names_of(packages: Iterable[Package]) -> frozenset[str]:
    """Names of packages, and what they provide."""
    return frozenset(name for each in packages for name in (each.name, *each.provides))


def data_uses(uses: Iterable[Use], place: Callable[[str, int], str]) -> tuple[DataUse, ...]:
    """Those that want files. place: file and line in words."""
    return tuple(DataUse(use, place(use.file, use.line)) for use in uses if needs()[use.need].of_files)


def chosen_data(
    uses: Iterable[DataUse], there: DataSources, offered: Collection[str], removed: Collection[str]
) -> dict[str, str]:
    """The packages that `auto` adds, and the first call that wants each. there: what is asked for anyhow;
    offered: names of all packages; removed: those that are to stay out."""
    found: dict[str, str] = {}
    for each in uses:
        packages = each.use.packages()
        if there.have(each) or not set(packages).isdisjoint(removed):  # what is unwanted is not had otherwise
            continue
        package = next((name for name in packages if name in offered), None)
        if package is not None:
            found.setdefault(package, f"{each.words}, which looks for {each.need.name}")
    return found


def lacking_data(uses: Iterable[DataUse], there: DataSources, offered: Collection[str]) -> Iterator[str]:
    """What calls look for in vain in an image, a sentence for each thing: who does, and what to add. there:
    all that goes in; offered: names of all packages."""
    found: dict[tuple[str, str], list[DataUse]] = {}
    for each in uses:
        if not there.have(each):
            found.setdefault((each.use.need, each.use.key), []).append(each)
    for first, *others in found.values():
        more = f" (and {len(others)} more)" if others else ""
        help_ = cure(first.need, first.use.key, offered)
        what = f"say {help_}" if help_ else first.need.reason
        yield f"{first.words}{more}, and the image has no {first.need.name}: {what}"


def data_sources(
    python: Python, packages: Collection[str], distributions: Collection[str], folders: Iterable[Path]
) -> DataSources:
    """What may bring data to an image with these packages and distributions. python: of the config; folders:
    laid over the image's root."""
    files = (path for recipe in python.package for path in recipe.files)
    return DataSources(packages, distributions, at_paths(folders, files))


def at_paths(folders: Iterable[Path], files: Iterable[str]) -> Callable[[str], bool]:
    """Whether there is something at a path of the image. folders: laid over its root; files: other paths."""
    roots, known = tuple(folders), tuple(files)

    def brings(path: str) -> bool:
        inside = any(file == path or file.startswith(f"{path}/") for file in known)
        return inside or any(os.path.lexists(root / path[1:]) for root in roots)

    return brings
