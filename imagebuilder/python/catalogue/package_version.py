"""What packages of Python are called in a package manager's words. The managers themselves know them
(packages/manager.py), which lie above this room."""

from __future__ import annotations

from typing import Protocol

from packaging.version import Version

from imagebuilder.errors import UserError


class PackageVersionError(UserError):
    """A version that the package manager cannot have."""


class PackageWords(Protocol):
    """How a package manager writes versions and architectures."""

    @property
    def any_architecture(self) -> str:
        """The architecture of packages that run on every processor."""

    def version(self, version: Version, release: int) -> str:
        """The version of a Python distribution (PEP 440) as a package's, in the same order. release: counts
        packages of one version. PackageVersionError for one that the manager has no place for."""
