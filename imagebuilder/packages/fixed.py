"""Packages that ImageBuilder puts into every image, or that no image works without. Pure.

Source: BUILD_PACKAGES and package_install in target/imagebuilder/files/Makefile of each release's branch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imagebuilder.model.package import Package
from imagebuilder.model.release import covers


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


def fixed_packages(release: str) -> tuple[FixedPackage, ...]:
    """What cannot be removed in a release; a tree of no release is held to opkg's rules."""
    return next((fixed for releases, fixed in _FIXED if covers(releases, release)), _OPKG)


def removed_in_vain(release: str, removed: Iterable[str]) -> tuple[FixedPackage, ...]:
    """Those of a config's removed packages that cannot be removed, or must not be."""
    gone = {name.removeprefix("-") for name in removed}
    return tuple(each for each in fixed_packages(release) if each.name in gone)


def first_packages(own: Iterable[Package]) -> tuple[Package, ...]:
    """The package files that opkg's ImageBuilder installs before the list: of those in the tree's packages/
    the first libc and the first kernel by file name. They are in no index."""
    files = sorted(own, key=lambda package: package.filename)
    found = (next((each for each in files if each.name == name), None) for name in ("libc", "kernel"))
    return tuple(filter(None, found))
