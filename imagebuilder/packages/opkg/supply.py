"""opkg's packages: indexes read and verified, files fetched, and the feed that make gets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.config.model_config import FeedUse
from imagebuilder.host.fs import sha256_of
from imagebuilder.model.package import Package, PackageList
from imagebuilder.model.tree import Tree
from imagebuilder.packages.fixed import first_packages
from imagebuilder.packages.index_cache import cached_index, keep_index
from imagebuilder.packages.opkg.feed import (
    FEED,
    Finder,
    Wanted,
    architectures_of,
    feeds_of,
    in_folder,
    lay_feed,
    lay_lists,
    lay_repositories,
    used_indexes,
)
from imagebuilder.packages.opkg.hermetic import base_packages, lay_own_index, own_index
from imagebuilder.packages.opkg.ipk_index import index_of
from imagebuilder.packages.opkg.ipk_reader import read_control
from imagebuilder.packages.opkg.opkg import for_architectures, format_index, parse_index, read_index
from imagebuilder.packages.supply import LOCAL_FOLDER, Feed, Job, Search, Supply, folder_finders

if TYPE_CHECKING:
    from imagebuilder.host.download import Downloads
    from imagebuilder.trust.keys import Keys

USED_TREE = "the index that the tree's own dl/ holds, as given"


def open_opkg(search: Search, tree: Tree) -> Supply:
    """The packages of a tree with opkg, of its feeds and of the config's."""
    folder = Path(tree.folder)
    own = own_index(folder, search.request.cache, index_of)
    files = base_packages(folder, tree.places)
    base = tuple(map(_base_package, files))
    cache = search.request.cache / "indexes"
    urls, used = feeds_of(folder), used_indexes(folder)
    search.check_names(urls)
    feeds = [_extra_feed(search, tree, use) for use in search.config.feed]
    for name, url in urls.items():
        mirrors, path = search.where(url)
        if name in used:
            packages, digest = _indexed(used[name], cache), sha256_of(used[name])
            feed = Feed(name, packages, USED_TREE, digest, folder=folder / "dl", mirrors=mirrors, path=path)
        else:
            feed = _signed(search, Feed(name, mirrors=mirrors, path=path), _keys(search, tree))
        feeds.append(feed)
    known = architectures_of(folder, tree.arch)
    feeds = [replace(feed, packages=for_architectures(feed.packages, known)) for feed in feeds]
    listed = for_architectures(_indexed(own, cache), known)
    mine = PackageList((*listed, *base), listed.unusable)
    named = {path.name: path for path in files}
    return Supply(folder, mine, own, tuple(feeds), first_packages(base), named)


def _indexed(file: Path, cache: Path) -> PackageList:
    """The packages of an index's file, parsed once."""
    digest = sha256_of(file)
    packages = cached_index(cache, digest)
    if packages is None:
        packages = read_index(file)
        keep_index(cache, digest, packages)
    return packages


def _base_package(file: Path) -> Package:
    control = read_control(file).control
    return replace(control, filename=file.name, size=file.stat().st_size, sha256=sha256_of(file))


def _keys(search: Search, tree: Tree) -> Keys:
    """What the indexes of the tree's own feeds are verified by: keys of the tree and its release, and of the
    user."""
    from imagebuilder.trust.keys import feed_keys  # noqa: PLC0415

    return feed_keys(Path(tree.folder), tree.version) + search.user_keys()


def _extra_feed(search: Search, tree: Tree, use: FeedUse) -> Feed:
    """A feed that the config names."""
    from imagebuilder.server.mirror import parse_mirror  # noqa: PLC0415
    from imagebuilder.trust.keys import Keys, read_key_file  # noqa: PLC0415

    place = search.place(use, tree)
    if isinstance(place, Path) and use.key is None:
        text = _local_index(place)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return Feed(use.name, parse_index(text, origin=str(place)), LOCAL_FOLDER, digest, folder=place)
    keys = Keys() if use.key is None else read_key_file(search.root / use.key)
    return _signed(search, Feed(use.name, mirrors=(parse_mirror(str(place)),)), keys)


def _local_index(folder: Path) -> str:
    """A folder's index, made from the files themselves where there is none."""
    index = folder / "Packages"
    if index.is_file():
        return index.read_text("utf-8", "replace")
    return index_of(folder, sorted(folder.glob("*.ipk")))


def _signed(search: Search, feed: Feed, keys: Keys) -> Feed:
    """The feed with its packages, its index verified."""
    from imagebuilder.packages.opkg.obtain import signed_index  # noqa: PLC0415

    with search.job.downloads() as downloads:
        index = signed_index(downloads, feed.mirrors, feed.path, keys)
    cache = search.request.cache / "indexes"
    packages = cached_index(cache, index.sha256)
    if packages is None:
        text = index.data.decode("utf-8", "replace")
        packages = parse_index(text, origin=f"the index of feed {feed.name}")
        keep_index(cache, index.sha256, packages)
    return replace(feed, packages=packages, trust=f"signed by the key {index.key}", sha256=index.sha256)


def fetch_opkg(job: Job, supply: Supply, wanted: Sequence[tuple[Feed, Package]]) -> list[Finder]:
    """Fetch packages of feeds that are not on this machine, in parallel, each checked; where to look for all
    of them. Offline nothing is fetched: what the cache has is found."""
    lacking = [
        (feed, package)
        for feed, package in wanted
        if package.sha256 and feed.lacks(package, in_folder(feed.folder) if feed.folder else None)
    ]
    files: dict[str, Path] = {}
    if lacking:
        with job.downloads() as downloads:
            files = _fetched(downloads, lacking)
    return [*folder_finders(supply.feeds), lambda package: files.get(package.sha256.lower())]


def lay_opkg(job: Job, supply: Supply, wanted: Sequence[Wanted], finders: Sequence[Finder]) -> None:
    """Give make an index of the tree's own packages, and one feed with these packages. FeedError names all
    that is missing or damaged, and what wants it."""
    if isinstance(supply.own_index, Path):
        lay_own_index(supply.own_index, supply.tree, job.view, job.work)
    lay_feed(job.work / FEED, wanted, finders, format_index)
    lay_lists(job.work)
    lay_repositories(supply.tree, job.view)


def _fetched(downloads: Downloads, lacking: Sequence[tuple[Feed, Package]]) -> dict[str, Path]:
    from imagebuilder.packages.opkg.obtain import FeedFile, wanted_file  # noqa: PLC0415

    shas = [package.sha256.lower() for _, package in lacking]
    if downloads.offline:
        found = {sha: downloads.cache.find(sha, downloads.log) for sha in shas}
        return {sha: path for sha, path in found.items() if path is not None}
    wanted = [
        wanted_file(
            feed.mirrors, feed.path, FeedFile(package.filename, package.sha256.lower(), package.size or None)
        )
        for feed, package in lacking
    ]
    return dict(zip(shas, downloads.get_all(wanted, "packages"), strict=True))
