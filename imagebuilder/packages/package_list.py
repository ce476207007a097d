"""ImageBuilder's list of an image's packages: what was asked for, what tree and profile want, and what goes
in whatever is asked for. Pure.

Source: BUILD_PACKAGES and package_install in target/imagebuilder/files/Makefile of each release's branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imagebuilder.model.package import Package, Wish
from imagebuilder.model.release import SNAPSHOT, covers


@dataclass(frozen=True, slots=True)
class FixedPackage:
    """stays: it goes in although it was removed; else it can be removed and the image does not start."""

    name: str
    stays: bool
    reason: str


_FIRST = "ImageBuilder installs its own {} before the list, whatever the list says"
_LAST = "ImageBuilder adds its own {} to the list after the removals"
_BASE = "base-files holds /etc/inittab, the boot scripts and the users: without it the image does not start"
_OPKG = (
    FixedPackage("libc", True, _FIRST.format("libc")),
    FixedPackage("kernel", True, _FIRST.format("kernel")),
    FixedPackage("base-files", False, _BASE),
)
# the newest that covers the release counts; 24.10 installs libc and kernel first with either manager
_FIXED = (
    ("<25.12", _OPKG),
    (
        ">=25.12",
        tuple(FixedPackage(name, True, _LAST.format(name)) for name in ("base-files", "libc", "kernel")),
    ),
)


def read_list(words: Iterable[str]) -> Wish:
    """A list of packages as OpenWrt writes it, in default packages, profiles and make's PACKAGES: `-name`
    removes."""
    names = tuple(dict.fromkeys(words))
    return Wish.of(
        (name for name in names if not name.startswith("-")),
        (name[1:] for name in names if name.startswith("-")),
    )


def package_list(trees: Mapping[str, str], wish: Wish, *, release: str = SNAPSHOT) -> Wish:
    """What ImageBuilder asks its package manager for: the user's packages in their order, then default and
    profile packages sorted, without every literal name that is removed. A `-name` of a profile's list removes
    too: up to 19.07 also what a user adds, from 21.02 on from the defaults alone.

    trees: the words of the tree's and the profile's lists, and whose each is. BUILD_PACKAGES also counts
    `kernel` among the defaults.
    """
    theirs = read_list(trees)
    gone = {*wish.remove, *(theirs.remove if covers("<21.02", release) else ())}
    left = (name for name in sorted(theirs.add) if name not in theirs.remove)
    asked = {**trees, **wish.add}
    names = (name for name in (*wish.add, *left) if name not in gone)
    return Wish({name: asked[name] for name in names}, wish.remove)


def fixed_packages(release: str) -> tuple[FixedPackage, ...]:
    """What cannot be removed in a release; a tree of no release is held to opkg's rules."""
    return next((fixed for releases, fixed in _FIXED if covers(releases, release)), _OPKG)


def removed_in_vain(release: str, wish: Wish) -> tuple[FixedPackage, ...]:
    """Those of the packages that are to stay out that cannot be removed, or must not be."""
    return tuple(each for each in fixed_packages(release) if each.name in wish.remove)


def first_packages(own: Iterable[Package]) -> tuple[Package, ...]:
    """The package files that opkg's ImageBuilder installs before the list: of those in the tree's packages/
    the first libc and the first kernel by file name. They are in no index."""
    files = sorted(own, key=lambda package: package.filename)
    found = (next((each for each in files if each.name == name), None) for name in ("libc", "kernel"))
    return tuple(filter(None, found))
