"""Package files in folders: looked for, checked, and laid where make takes them from. What is the same for
all package managers; the hermetic feed that each makes of them is its own (opkg/feed.py, apk/feed.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from imagebuilder.errors import UserError
from imagebuilder.host.fs import copy_file
from imagebuilder.model.package import Package, Selected

FEED = "feed"  # below the work folder: host/bubblewrap.py shows it by this name, tree/make.py asks for it

Finder = Callable[[Package], Path | None]
Check = Callable[[Package, Sequence[Finder]], tuple[Path | None, str]]


# what can be the matter with a package's file, as it is said after the package's name, and what helps
DAMAGED, MISSING, NO_SHA256 = "is damaged", "is missing", "has no SHA256 in its index"
_HINTS = {
    DAMAGED: "remove a damaged file, so that the right one is fetched or found elsewhere",
    MISSING: "fetch what is missing (build.py fetch CONFIG), or put it into the tree's dl/ or into a mirror"
    " folder",
    NO_SHA256: "make the feed's index anew with a program that writes SHA256sum",
}


class FeedError(UserError):
    """Packages of an image are nowhere to be had, or are not what their index says."""


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


def lay_files(
    folder: Path, wanted: Sequence[Selected], finders: Sequence[Finder], checked: Check
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
        raise FeedError("\n".join(problems), hint=_hint(problems))
    return laid


def _hint(problems: Sequence[str]) -> str:
    """What helps against them, each said once."""
    found = (hint for said, hint in _HINTS.items() if any(said in problem for problem in problems))
    return "; ".join(found)


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
        damaged = damaged or f"{DAMAGED}: {file} is not the file that its index names"
    return None, damaged or f"{MISSING}: nothing has {PurePosixPath(package.filename).name}"


def _wanted_by(wanted: Selected) -> str:
    chain = wanted.why[:-1]
    return f" ({' -> '.join(chain)} needs it)" if chain else " (it was asked for)"
