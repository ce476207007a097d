"""What a feed says of a package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class Dependency:
    """One name that a package wants or clashes with; operator is one of << <= = >= >> (opkg's), of
    < <= = >= > ~ <~ >~ and >< (apk's; the last one means a hash), or None."""

    name: str
    operator: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        return self.name if self.operator is None else f"{self.name} ({self.operator} {self.version})"


@dataclass(frozen=True, slots=True)
class Package:
    """A package as its index describes it. size: bytes of the package file. installed_size: what the
    index states, in bytes (up to 23.05 the compressed data archive, from 24.10 the unpacked files)."""

    name: str
    version: str
    architecture: str = "all"
    depends: tuple[tuple[Dependency, ...], ...] = ()  # all of these; each inner tuple: any one of them
    provides: tuple[str, ...] = ()
    conflicts: tuple[Dependency, ...] = ()
    replaces: tuple[Dependency, ...] = ()
    filename: str = ""
    size: int = 0
    installed_size: int = 0
    sha256: str = ""
    section: str = ""
    description: str = ""
    abi_version: str = ""
    essential: bool = False
    extra: dict[str, str] = field(default_factory=dict, hash=False, compare=False)
    identity: str = ""  # apk: what its index knows the package by, in hex
    provided_versions: tuple[tuple[str, str], ...] = ()  # apk: (name, version) of provides that have one

    @property
    def plain_name(self) -> str:
        """The name as users write it: without the ABI version that it ends in, if it has one."""
        bare = self.name.removesuffix(self.abi_version)
        return bare.removesuffix("-") if bare and self.abi_version else self.name


@dataclass(frozen=True, slots=True)
class UnusablePackage:
    """A package of an index that cannot be used. name: "" where nothing tells it; reason: a clause; line: of
    the index's text, from 1, or 0."""

    name: str
    reason: str
    line: int = 0

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{self.name or 'a package without a name'} ({place}{self.reason})"


class PackageList(tuple[Package, ...]):
    """The packages of an index, in its order. unusable: those that are not among them, and why: what an index
    says of one package can cost that package, and no other."""

    unusable: tuple[UnusablePackage, ...]

    def __new__(cls, packages: Iterable[Package] = (), unusable: Iterable[UnusablePackage] = ()) -> Self:
        """Both in the order of the index."""
        made = super().__new__(cls, packages)
        made.unusable = tuple(unusable)
        return made
