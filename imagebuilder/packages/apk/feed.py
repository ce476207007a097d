"""A hermetic feed for apk: a folder with exactly the packages of one image, each checked, and their index.

The twin of packages/opkg/feed.py for trees from 25.12 on. The index is made and signed by the tree's own apk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from imagebuilder.host.beneath import write_beneath
from imagebuilder.host.fs import disk_errors_explained, text_of
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.model.package import Package, Selected
from imagebuilder.model.tree import TreeError
from imagebuilder.packages.apk.file import WrongPackageError, check_apk_file
from imagebuilder.packages.apk.tool import INDEX, OWN_PACKAGES, PRIVATE_KEY, ApkError, make_index
from imagebuilder.packages.feed import FEED, Finder, first_right, in_folder, lay_files
from imagebuilder.tree.tree import settings_of

REPOSITORIES = "repositories"
_CORE = re.compile(r"/targets/[^/]+/[^/]+/packages$")
_CACHED_IDENTITY_DIGITS = 8

IndexMaker = Callable[[Path, Sequence[str]], bytes]


def apk_feeds_of(tree: Path) -> dict[str, str]:
    """The feeds on servers that the tree's `repositories` names, in their order: name to the URL of the
    folder. `core`, `kmods` and the last part of the others' folders: the file itself gives them no names.

    TreeError for a line that names no `packages.adb`.
    """
    place = tree / REPOSITORIES
    text = text_of(place)
    feeds: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        url = line.strip()
        if not url or url.startswith("#") or "://" not in url:
            continue
        folder = url.removesuffix(f"/{INDEX}")
        if folder == url or " " in url:
            raise TreeError(
                f"{place}, line {number}: {url[:200]!r} is no address of a {INDEX}",
                hint="each line of it is the address of one index",
            )
        feeds[_feed_name(folder, feeds)] = folder
    return feeds


def _feed_name(url: str, taken: dict[str, str]) -> str:
    path = urlsplit(url).path
    if _CORE.search(path):
        name = "core"
    elif "/kmods/" in path:
        name = "kmods"
    else:
        name = PurePosixPath(path).name or "feed"
    return name if name not in taken else f"{name}-{len(taken) + 1}"


def own_apk_packages(tree: Path) -> tuple[Path, ...]:
    """The package files in the tree's packages/, sorted, as make indexes them."""
    return tuple(sorted((tree / OWN_PACKAGES).glob("*.apk")))


def own_apk_index(tree: Path, view: PrivateView, work: Path, log: Log) -> bytes:
    """The index of the tree's own packages, as make will make it again; not signed. TreeError for a tree
    without any: base-files, libc and the kernel come with every tree."""
    files = own_apk_packages(tree)
    if not files:
        raise TreeError(
            f"{tree}/{OWN_PACKAGES} has no packages: not even base-files, libc and the kernel",
            hint="the tree is damaged: unpack it again",
        )
    inside = [view.tree / path.relative_to(tree) for path in files]
    return make_index(view, work, inside, log, sign_with=None)


def in_used_tree(folder: Path) -> Finder:
    """Looks for a package's file in apk's cache, the dl/ of a used tree, where the begin of its identity is
    part of the name, and by its plain name. Source: default_cachename_spec in apk-tools' src/context.c."""
    plain = in_folder(folder)

    def find(package: Package) -> Path | None:
        digits = package.identity[:_CACHED_IDENTITY_DIGITS]
        name = f"{package.name}-{package.version}.{digits}.apk"
        return folder / name if (folder / name).is_file() else plain(package)

    return find


def lay_apk_feed(
    folder: Path, wanted: Sequence[Selected], finders: Sequence[Finder], make_index: IndexMaker
) -> tuple[Path, ...]:
    """Lay the wanted packages and their index (packages.adb) into `folder`, which is made; the package files,
    in the order of `wanted`.

    finders: asked in turn; a file that is not the package of the index is as good as none. make_index: makes
    the index of the files of these names in the folder (see feed_indexer). FeedError names every package
    that is missing or damaged, and what wants it; ApkError.
    """
    with disk_errors_explained(folder):
        laid = lay_files(folder, wanted, finders, checked_apk)
        names = [package.filename for package in laid]
        (folder / INDEX).write_bytes(make_index(folder, names))
    return tuple(folder / name for name in names)


def checked_apk(package: Package, finders: Sequence[Finder]) -> tuple[Path | None, str]:
    """A file that is the package, or None and what is the matter."""
    if not package.identity:
        return None, "has no hash in its index, so that nobody can tell whether a file is the right one"

    def is_right(file: Path) -> bool:
        try:
            check_apk_file(file, package)
        except WrongPackageError:
            return False
        return True

    return first_right(package, finders, is_right)


def feed_indexer(view: PrivateView, tree: Path, work: Path, log: Log) -> IndexMaker:
    """Makes indexes of folders below `work` that programs in the view can read, signed with the key that
    make signs its own index with, which must be laid before (trust.signing_key).

    A tree whose apk checks no signatures needs no key.
    """

    def index(folder: Path, names: Sequence[str]) -> bytes:
        signs = settings_of(tree).get("SIGNATURE_CHECK") == "y"
        has_key = any((place / PRIVATE_KEY).is_file() for place in (view.changed, tree))
        if signs and not has_key:
            raise ApkError(f"the tree checks signatures, and there is no {PRIVATE_KEY} to sign a feed with")
        inside = [view.work / folder.relative_to(work) / name for name in names]
        return make_index(view, work, inside, log, sign_with=PRIVATE_KEY if has_key else None)

    return index


def lay_apk_repositories(view: PrivateView) -> None:
    """Give the view a `repositories` that names the hermetic feed and the tree's own packages, and no other.
    The Makefile names the latter itself; apk takes the same address once."""
    lines = (view.work / FEED / INDEX, view.tree / OWN_PACKAGES / INDEX)
    write_beneath(view.changed, REPOSITORIES, "".join(f"{line}\n" for line in lines).encode())
