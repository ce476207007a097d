"""Which packages an image holds: what was asked for and all that it needs, as opkg or apk chooses. Pure.

The rules stand in resolve_opkg.py and resolve_apk.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from imagebuilder.model.package import Package
from imagebuilder.model.release import SNAPSHOT, covers
from imagebuilder.packages.apk import resolve as resolve_apk
from imagebuilder.packages.opkg import resolve as resolve_opkg
from imagebuilder.packages.opkg.resolve import NEWEST, OpkgRules, opkg_rules
from imagebuilder.packages.resolution import Chosen, Resolution, ResolutionError, every_chain
from imagebuilder.packages.universe import Universe, clash

__all__ = (
    "NEWEST",
    "Chosen",
    "OpkgRules",
    "PackageList",
    "Resolution",
    "ResolutionError",
    "Rules",
    "Universe",
    "clash",
    "every_chain",
    "package_list",
    "resolve",
    "rules_of",
)

Rules = OpkgRules | None  # None: apk's


def rules_of(package_manager: Literal["opkg", "apk"], release: str) -> Rules:
    """How the package manager of a tree chooses; release: what the tree calls its version."""
    return opkg_rules(release) if package_manager == "opkg" else None


@dataclass(frozen=True, slots=True)
class PackageList:
    """What ImageBuilder would install: names in its order, and the literal names that were removed."""

    names: tuple[str, ...]
    removed: tuple[str, ...]


def package_list(
    defaults: Iterable[str],
    profile: Iterable[str],
    add: Iterable[str],
    remove: Iterable[str] = (),
    *,
    release: str = SNAPSHOT,
) -> PackageList:
    """ImageBuilder's list: the user's packages in their order, then default and profile packages sorted,
    without every literal name that is removed; `-name` in any of the lists removes too. From 21.02 on what a
    profile removes is taken from the defaults alone, and a user can have it all the same.

    Source: BUILD_PACKAGES in ImageBuilder's Makefile, which also counts `kernel` among the defaults.
    """
    users = [*add, *(f"-{name.removeprefix('-')}" for name in remove)]
    trees, gone = _without_removed(sorted({*defaults, *profile}))
    if covers("<21.02", release):
        users += (f"-{name}" for name in gone)
    names, removed = _without_removed([*users, *trees])
    kept = set(names)
    return PackageList(tuple(names), tuple(sorted((gone | removed) - kept)))


def _without_removed(words: Iterable[str]) -> tuple[list[str], set[str]]:
    words = list(dict.fromkeys(words))
    gone = {word[1:] for word in words if word.startswith("-")}
    return [word for word in words if not word.startswith("-") and word not in gone], gone


def resolve(
    requested: Iterable[str],
    removed: Iterable[str],
    packages: Iterable[Package] | Universe,
    rules: Rules = NEWEST,
    *,
    given: Iterable[Package] = (),
) -> Resolution:
    """Everything that goes into an image, and why.

    requested: names, also provided ones, as package_list() gives them. removed: literal names taken off that
    list; a dependency can bring one back. packages: what the feeds hold, see Universe, which saves time where
    one set of feeds serves several images. rules: see rules_of(). given: package files that opkg's
    ImageBuilder installs before the list, see fixed.first_packages(). Raises ResolutionError.
    """
    universe = packages if isinstance(packages, Universe) else Universe(packages)
    gone = set(removed)
    names = tuple(name for name in dict.fromkeys(requested) if name not in gone)
    if rules is None:
        chosen = resolve_apk.install(names, universe)
    else:
        chosen = resolve_opkg.install(names, universe, rules, given)
    return Resolution(chosen, tuple(sorted(gone & {each.package.name for each in chosen})), names)
