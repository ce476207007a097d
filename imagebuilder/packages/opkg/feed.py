"""A hermetic feed for opkg: a folder with exactly the packages of one image, each checked, and their index.

With it and with its own packages/ the tree needs no network. Nobody else's files are looked at: opkg's
download cache is an empty folder of the view (see tree.make).
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path

from imagebuilder.host.fs import copy_file, disk_errors_explained, sha256_of
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.model.package import Package, Selected
from imagebuilder.packages.feed import FEED, Finder, first_right, lay_files
from imagebuilder.packages.opkg.opkg import format_index

FEED_NAME = "hermetic"
OWN_FEED = "src imagebuilder file:packages"
_SOURCE = re.compile(r"^\s*src(?:/gz)?\s+(\S+)\s+(\S+)")
_ARCHITECTURE = re.compile(r"^\s*arch\s+(\S+)\s+\d+")
ANY_ARCHITECTURE = "all"
_SIGNED = re.compile(r"^\s*option\s+check_signature\b")


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


def lay_feed(folder: Path, wanted: Sequence[Selected], finders: Sequence[Finder]) -> tuple[Path, ...]:
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


def checked_file(package: Package, finders: Sequence[Finder]) -> tuple[Path | None, str]:
    """A file that is what the index says, or None and what is the matter."""
    if not package.sha256:
        return None, "has no SHA256 in its index, so that nobody can tell whether a file is the right one"
    return first_right(
        package,
        finders,
        lambda file: package.size in (0, file.stat().st_size) and sha256_of(file) == package.sha256.lower(),
    )


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
