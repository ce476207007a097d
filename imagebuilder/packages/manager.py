"""The door to a tree's package manager: all that this project asks of one. opkg/ and apk/ each have a class
that answers; another manager would be one more folder, and a line in managers.py."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from imagebuilder.errors import UserError
from imagebuilder.model.package import Package, Selected, Wish
from imagebuilder.packages.feed import Finder
from imagebuilder.packages.resolution import Resolution
from imagebuilder.packages.supply import Job, Offers, Supply
from imagebuilder.python.catalogue.package_version import PackageWords
from imagebuilder.rootfs.tree import FileTree, LocalPackage

_TAG_DIGITS = 8


class PackageManager(PackageWords, Protocol):
    """How a tree's packages are found, chosen, fetched, read, changed, made and given to make."""

    @property
    def trees_own(self) -> tuple[str, ...]:
        """Packages that trees install by their files, or at the one version that they name."""

    @property
    def overwrites_needed(self) -> bool:
        """Whether a package that is asked for takes files of those that it needs."""

    def open(self, job: Job) -> Supply:
        """The packages that an image of the job's tree can have. TreeError, FeedUseError, TrustError and its
        kinds, DownloadError, OfflineError."""

    def resolve(self, job: Job, wish: Wish, supply: Supply, offers: Offers) -> Resolution:
        """What the tree's own program will install, and why. offers: of the supply, with what is made here.
        PlanError, in the manager's words or ours, where what is asked for cannot be had together."""

    def foresee(self, wish: Wish, offers: Offers, release: str) -> Resolution:
        """What it would install, reckoned here by the rules of a release: for advice, which tries hundreds of
        lists. ResolutionError."""

    def fetch(self, job: Job, supply: Supply, packages: Sequence[Package]) -> list[Finder]:
        """Fetch packages of feeds that are not on this machine, in parallel, each checked; where to look for
        all of them. Offline nothing is fetched: what the cache has is found."""

    def checked(self, package: Package, finders: Sequence[Finder]) -> tuple[Path | None, str]:
        """A file that is what a verified index says, or None and what is the matter."""

    def read(self, file: Path, package: Package) -> LocalPackage:
        """A package's content, in memory. package: what its index says of it. PackageFileError."""

    def paths(self, file: Path) -> tuple[str, ...] | None:
        """The files in a package that nobody has checked; None where that cannot be told.
        PackageFileError."""

    def replaces(self, later: Package, earlier: Package) -> bool:
        """Whether a package may take files that one that was installed before has brought."""

    def quarrel(self, one: Package, other: Package) -> bool:
        """Whether two packages cannot be in one image, by what either of them says."""

    def lay(self, job: Job, supply: Supply, wanted: Sequence[Selected], finders: Sequence[Finder]) -> None:
        """Give make one feed with these packages, in place of the tree's feeds. FeedError names all that is
        missing or damaged, and what wants it."""

    def lay_tree(self, job: Job, supply: Supply) -> None:
        """Give make what it wants of a tree that holds all that it installs."""

    def write(self, job: Job, folder: Path, made: LocalPackage, *, epoch: int, theirs: bool) -> Package:
        """Write a package's file; its facts with size and hash. epoch: the time of all that is in it, seconds
        since 1970. theirs: a feed's package in another form, so that its scripts and lists are this manager's
        already. PackageFileError."""

    def later_version(self, version: str, word: str, content: str) -> str:
        """A version that sorts right after this one, before the next that a feed may have, and is another for
        other content. word: what was done, for people. RepackError for what is no version."""

    def with_files(self, content: LocalPackage, package: Package, tree: FileTree) -> LocalPackage:
        """A package with other facts and other files, and with those of its configuration files that are
        left."""

    def installed(
        self, job: Job, supply: Supply, selected: Sequence[Selected], over: FileTree
    ) -> FileTree | None:
        """The root file system with these packages, which were laid, and the manager's records of them, to be
        measured; None where only the manager itself can make it. over: the overlays' files."""


class RepackError(UserError):
    """A package that cannot be repacked."""


def content_tag(content: str) -> str:
    """What stands in a version for content: 8 hex digits."""
    return hashlib.sha256(content.encode()).hexdigest()[:_TAG_DIGITS]
