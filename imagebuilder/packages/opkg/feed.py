"""A hermetic feed for opkg: a folder with exactly the packages of one image, each checked, and their index.

With it and with its own packages/ the tree needs no network. Nobody else's files are looked at: opkg's
download cache is an empty folder of the view (see tree.make).
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from imagebuilder.errors import UserError
from imagebuilder.host.fs import copy_file, disk_errors_explained, sha256_of
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.model.package import Package

FEED = "feed"  # below the work folder: host/bubblewrap.py shows it by this name, tree/make.py asks for it
FEED_NAME = "hermetic"
OWN_FEED = "src imagebuilder file:packages"
_SOURCE = re.compile(r"^\s*src(?:/gz)?\s+(\S+)\s+(\S+)")
_ARCHITECTURE = re.compile(r"^\s*arch\s+(\S+)\s+\d+")
ANY_ARCHITECTURE = "all"
_SIGNED = re.compile(r"^\s*option\s+check_signature\b")

Finder = Callable[[Package], Path | None]
IndexFormat = Callable[[Iterable[Package]], str]
Check = Callable[[Package, Sequence[Finder]], tuple[Path | None, str]]


class FeedError(UserError):
    """Packages of an image are nowhere to be had, or are not what their index says."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package that goes into an image from a feed. why: from what was asked for down to it, names."""

    package: Package
    why: tuple[str, ...]


def feeds_of(tree: Path) -> dict[str, str]:
    """The feeds that the tree's repositories.conf names besides folders, in their order: name to URL."""
    found = (_SOURCE.match(line) for line in _repositories(tree))
    return {match[1]: match[2] for match in found if match and not match[2].startswith("file:")}


def architectures_of(tree: Path, own: str) -> tuple[str, ...]:
    """The architectures of packages that the tree's opkg takes: `all` and its own, which the Makefile names
    (--add-arch), and those that repositories.conf adds."""
    found = (_ARCHITECTURE.match(line) for line in _repositories(tree))
    return tuple(dict.fromkeys((ANY_ARCHITECTURE, own, *(match[1] for match in found if match))))


def used_indexes(tree: Path) -> dict[str, Path]:
    """The indexes of these feeds, by name, that opkg left in the dl/ of a used tree."""
    places = {name: tree / "dl" / name for name in feeds_of(tree)}
    return {name: place for name, place in places.items() if place.is_file()}


def in_folder(folder: Path) -> Finder:
    """Looks for a package's file by its name in a folder, such as a used tree's dl/ or a feed's mirror: with
    the folders that the index names, and without."""

    def find(package: Package) -> Path | None:
        names = dict.fromkeys((_inside(package.filename), PurePosixPath(package.filename).name))
        return next((folder / name for name in names if name and (folder / name).is_file()), None)

    return find


def _inside(filename: str) -> str:
    """An index's file name, if it stays below the index."""
    path = PurePosixPath(filename)
    return "" if path.is_absolute() or ".." in path.parts else str(path)


def lay_feed(
    folder: Path, wanted: Sequence[Wanted], finders: Sequence[Finder], format_index: IndexFormat
) -> tuple[Path, ...]:
    """Lay the wanted packages and their index (Packages, Packages.gz) into `folder`, which is made; the
    package files, in the order of `wanted`.

    finders: asked in turn; a file that is not what the index says is as good as none. FeedError
    names every package that is missing or damaged, and what wants it.
    """
    with disk_errors_explained(folder):
        laid = lay_files(folder, wanted, finders, checked_file)
        text = format_index(laid)
        (folder / "Packages").write_text(text, "utf-8")
        (folder / "Packages.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    return tuple(folder / package.filename for package in laid)


def lay_files(
    folder: Path, wanted: Sequence[Wanted], finders: Sequence[Finder], checked: Check
) -> list[Package]:
    """Make `folder` and lay the wanted packages' files into it; the packages with their names there. checked
    finds a package's right file. FeedError names every one that is missing or damaged."""
    problems: list[str] = []
    laid: list[Package] = []
    folder.mkdir(parents=True)
    for each in wanted:
        file, problem = checked(each.package, finders)
        if file is None:
            problems.append(f"package '{each.package.name}' {problem}{_wanted_by(each)}")
            continue
        name = PurePosixPath(each.package.filename).name
        copy_file(file, folder / name)
        laid.append(replace(each.package, filename=name))
    if problems:
        raise FeedError(
            "\n".join(problems),
            hint="fetch them (build.py fetch), or put them into the tree's dl/ or into a mirror folder",
        )
    return laid


def checked_file(package: Package, finders: Sequence[Finder]) -> tuple[Path | None, str]:
    """A file that is what the index says, or None and what is the matter."""
    if not package.sha256:
        return None, "has no SHA256 in its index, so that nobody can tell whether a file is the right one"
    return first_right(
        package,
        finders,
        lambda file: package.size in (0, file.stat().st_size) and sha256_of(file) == package.sha256.lower(),
    )


def first_right(
    package: Package, finders: Sequence[Finder], is_right: Callable[[Path], bool]
) -> tuple[Path | None, str]:
    """The first file that is found and is right, or None and what is the matter."""
    damaged = ""
    for find in finders:
        file = find(package)
        if file is None:
            continue
        if is_right(file):
            return file, ""
        damaged = damaged or f"is damaged: {file} is not the file that its index names"
    return None, damaged or f"is missing: nothing has {PurePosixPath(package.filename).name}"


def _wanted_by(wanted: Wanted) -> str:
    chain = wanted.why[:-1]
    return f" ({' -> '.join(chain)} needs it)" if chain else " (it was asked for)"


def lay_lists(work: Path) -> None:
    """Put the lists of the hermetic feed and of the tree's own packages where opkg looks: forks leave
    out `opkg update`, which would do that (GL.iNet's, seen in 19.07).

    work: of a build. What is not there is not laid.
    """
    (work / "dl").mkdir(exist_ok=True)
    for name, folder in ((FEED_NAME, FEED), (OWN_FEED.split()[1], "make")):
        index = work / folder / "Packages"
        if index.is_file():
            copy_file(index, work / "dl" / name)


def lay_repositories(tree: Path, view: PrivateView) -> None:
    """Give the view a repositories.conf that names the hermetic feed and the tree's own packages, and no
    other. Signatures are not asked for: every file was checked against a verified index."""
    kept = [line for line in _repositories(tree) if not (_SIGNED.match(line) or _SOURCE.match(line)) and line]
    lines = [*kept, f"src {FEED_NAME} file:{view.work / FEED}", OWN_FEED]
    place = view.changed / "repositories.conf"
    place.unlink(missing_ok=True)
    place.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _repositories(tree: Path) -> list[str]:
    text = (tree / "repositories.conf").read_text("utf-8", "replace")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]
