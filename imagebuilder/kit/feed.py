"""The tree's packages: `packages/` with its index, and folders that repositories.conf names besides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.handover import write_whole
from imagebuilder.kit.layout import ARCHITECTURE, PACKAGES_DIR
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk_reader import read_control
from imagebuilder.packages.opkg.opkg import compressed_index, format_index, read_index
from imagebuilder.packages.universe import ANY_ARCHITECTURE

INDEX = "Packages"
_LOCAL = "file:"
Say = Callable[[str], None]


class KitFeedError(UserError):
    """A feed that cannot be used."""


@dataclass(frozen=True)
class PackageFolder:
    """A folder of packages with its index."""

    name: str
    folder: Path


@dataclass(frozen=True)
class Offer:
    """What all feeds hold. where: the folder of each package, by its name and version."""

    packages: tuple[Package, ...]
    where: dict[tuple[str, str], Path]

    def file_of(self, package: Package) -> Path:
        """The package's file."""
        return self.where[package.name, package.version] / package.filename


def write_index(folder: Path, packages: Iterable[Package]) -> None:
    """Write `Packages` and `Packages.gz` for package files in a folder."""
    text = format_index(packages)
    write_whole(folder / INDEX, text.encode())
    write_whole(folder / f"{INDEX}.gz", compressed_index(text))


def _indexed(file: Path, known: dict[str, Package], newer_than: int) -> Package:
    """A package file's place in the index; its own control file is read only if the index is older."""
    status = file.stat()
    package = known.get(file.name)
    if package is not None and package.size == status.st_size and status.st_mtime_ns <= newer_than:
        return package
    return replace(
        read_control(file).control, filename=file.name, size=status.st_size, sha256=sha256_of(file)
    )


def refresh_index(folder: Path, say: Say) -> tuple[Package, ...]:
    """The folder's packages; its index is brought up to date first where package files came or went."""
    index = folder / INDEX
    newer_than = index.stat().st_mtime_ns if index.exists() else 0
    known = {package.filename: package for package in read_index(index)} if index.exists() else {}
    packages = tuple(_indexed(file, known, newer_than) for file in sorted(folder.glob("*.ipk")))
    if {package.filename: package for package in packages} != known:
        say("Building package index...")
        write_index(folder, packages)
    return packages


def feeds_of(tree: Path) -> tuple[PackageFolder, ...]:
    """The feeds that repositories.conf names. KitFeedError for one that is not a folder of this machine."""
    feeds = []
    for line in (tree / "repositories.conf").read_text("utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#") or words[0] not in ("src", "src/gz"):
            continue
        if len(words) != 3 or not words[2].startswith(_LOCAL):
            raise KitFeedError(
                f"the embedded kit takes packages from folders only, not from `{line}`",
                hint="name a feed as `src NAME file:FOLDER`, with an index beside the packages",
            )
        feeds.append(PackageFolder(words[1], tree / words[2].removeprefix(_LOCAL)))
    return tuple(feeds)


def offered(tree: Path, say: Say) -> Offer:
    """All packages that can go into an image. A feed without an index is passed over with a line of
    warning, as opkg does, and so is a package of another architecture. Raises KitFeedError and
    packages.opkg.opkg's errors."""
    packages: list[Package] = []
    where: dict[tuple[str, str], Path] = {}
    for feed in feeds_of(tree):
        if feed.folder == tree / PACKAGES_DIR:
            found = refresh_index(feed.folder, say)
        elif (feed.folder / INDEX).exists() or (feed.folder / f"{INDEX}.gz").exists():
            plain = feed.folder / INDEX
            found = read_index(plain if plain.exists() else plain.with_name(f"{INDEX}.gz"))
        else:
            say(f" * opkg_update: Failed to read the index of feed {feed.name} in {feed.folder}.")
            continue
        for package in found:
            if package.architecture not in (ANY_ARCHITECTURE, ARCHITECTURE):
                say(f" * Package {package.name} is for {package.architecture}, not {ARCHITECTURE}: ignored.")
            elif where.setdefault((package.name, package.version), feed.folder) == feed.folder:
                packages.append(package)
    return Offer(tuple(packages), where)
