"""apk's packages (trees from 25.12 on): indexes verified, the closure planned by the tree's own apk, files
fetched, and the feed that make gets, made and signed by that apk."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from imagebuilder.config.model_config import FeedUse
from imagebuilder.host.sandbox import scratch_folder
from imagebuilder.model.package import Package
from imagebuilder.model.tree import Tree
from imagebuilder.packages.apk.apk import chains, parse_index, picked, with_abi_suffixes
from imagebuilder.packages.apk.feed import (
    apk_feeds_of,
    feed_indexer,
    in_used_tree,
    lay_apk_feed,
    lay_apk_repositories,
    own_apk_index,
    own_apk_packages,
)
from imagebuilder.packages.apk.tool import (
    INDEX,
    OWN_PACKAGES,
    make_index,
    pinned_versions,
    plan_install,
    stays_although_removed,
    words_for_apk,
)
from imagebuilder.packages.apk.writer import write_apk
from imagebuilder.packages.install import planned
from imagebuilder.packages.opkg.feed import FEED, Finder, Wanted
from imagebuilder.packages.opkg.hermetic import kept_index
from imagebuilder.packages.supply import (
    LOCAL,
    LOCAL_FOLDER,
    Feed,
    FeedUseError,
    Job,
    Search,
    Supply,
    folder_finders,
)
from imagebuilder.rootfs.local_package import LocalPackage
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.tree import settings_of
from imagebuilder.trust.signature_adb import ApkKey, read_apk_key, tree_apk_keys
from imagebuilder.trust.signing_key import ensure_apk_key, lay_signing_key
from imagebuilder.trust.signing_key import user_keys as signing_keys


def open_apk(search: Search, tree: Tree) -> Supply:
    """The packages of a tree with apk, of its feeds and of the config's."""
    folder = Path(tree.folder)
    job = search.job
    own = kept_index(
        folder / OWN_PACKAGES,
        own_apk_packages(folder),
        job.request.cache,
        lambda: own_apk_index(folder, job.view, job.work, job.log),
    ).read_bytes()
    urls = apk_feeds_of(folder)
    search.check_names(urls)
    feeds = [_extra_feed(search, tree, use) for use in search.config.feed]
    for name, url in urls.items():
        mirrors, path = search.where(url)
        feed = Feed(name, folder=folder / "dl", mirrors=mirrors, path=path)
        feeds.append(_signed(search, feed, tree_apk_keys(folder)))
    mine = parse_index(own, origin=f"the index of {folder}/packages")
    return Supply(folder, mine, own, tuple(feeds))


def _extra_feed(search: Search, tree: Tree, use: FeedUse) -> Feed:
    """A feed that the config names."""
    from imagebuilder.server.mirror import parse_mirror  # noqa: PLC0415

    place = search.place(use, tree)
    if isinstance(place, Path) and use.key is None:
        index = _local_index(place, search.job)
        digest = hashlib.sha256(index).hexdigest()
        packages = parse_index(index, origin=str(place))
        return Feed(use.name, packages, LOCAL_FOLDER, digest, index, place)
    keys = [] if use.key is None else [read_apk_key(search.root / use.key)]
    return _signed(search, Feed(use.name, mirrors=(parse_mirror(str(place)),)), keys)


def _local_index(folder: Path, job: Job) -> bytes:
    """A folder's index, made from the files themselves where there is none."""
    if (folder / INDEX).is_file():
        return (folder / INDEX).read_bytes()
    with scratch_folder(job.work, "feed-") as copies:  # the view shows no folder of users
        files = [shutil.copy(file, copies) for file in sorted(folder.glob("*.apk"))]
        inside = [job.view.work / Path(file).relative_to(job.work) for file in files]
        return make_index(job.view, job.work, inside, job.log, sign_with=None)


def _signed(search: Search, feed: Feed, keys: Sequence[ApkKey]) -> Feed:
    """The feed with its packages, its index verified."""
    from imagebuilder.packages.apk.obtain import signed_apk_index  # noqa: PLC0415

    with search.job.downloads() as downloads:
        index = signed_apk_index(downloads, feed.mirrors, feed.path, keys)
    packages = parse_index(index.data, origin=f"the index of feed {feed.name}")
    trust = f"signed by the key {index.key}"
    return replace(feed, packages=packages, trust=trust, sha256=index.sha256, index=index.data)


def plan_apk(
    job: Job, plan: Plan, supply: Supply, local: Sequence[Package], *, locked: Mapping[str, str]
) -> Plan:
    """The plan with its `install` and `back`, as the tree's own apk decides. local: packages that will be
    made here; locked: the version of each package that is wanted.

    ApkRefusalError, in apk's words, where the packages cannot be had together.
    """
    folder = Path(plan.tree.folder)
    offers = {**supply.offers.packages, LOCAL: local}
    everything = [package for packages in offers.values() for package in packages]
    pinned = pinned_versions(folder)
    names = with_abi_suffixes(plan.wanted, everything)
    pins = {name: version for name, version in locked.items() if name not in pinned}
    words = words_for_apk([*names, *(name for name in pins if name not in names)], pinned, pins)
    own = supply.own_index if isinstance(supply.own_index, bytes) else b""
    indexes = [own, *(feed.index for feed in supply.feeds)]
    indexes += [_local_packages(job, local)] if local else []
    chosen = plan_install(job.view, job.work, indexes, words, job.log, arch=plan.tree.arch)
    _check_usable([each.name for each in chosen], supply)
    packages = picked(((each.name, each.version) for each in chosen), everything)
    feeds = {id(package): feed for feed, each in offers.items() for package in each}
    reasons = {suffixed: plan.reasons[name] for suffixed, name in zip(names, plan.wanted, strict=True)}
    whys = {
        name: (reasons.get(chain[0], "the ImageBuilder itself"), *chain)
        for name, chain in (chains(tuple(pins), packages) | chains([*names, *pinned], packages)).items()
    }
    removed = [name.removeprefix("-") for name in plan.packages if name.startswith("-")]
    there = {package.name: package for package in packages}
    back = {name: whys[name] for name in removed if name in there}
    back |= {
        name: (f"the ImageBuilder pins it to {pinned[name]}", name)
        for name in stays_although_removed(removed, pinned)
    }
    install = tuple(planned(each, feeds[id(each)], whys[each.name]) for each in packages)
    return plan.model_copy(update={"install": install, "back": back})


def _check_usable(chosen: Sequence[str], supply: Supply) -> None:
    """FeedUseError where apk, which reads the indexes itself, chose a package that cannot be used here."""
    lame = [supply.offers.unusable[name] for name in chosen if name in supply.offers.unusable]
    there = {package.name for packages in supply.offers.packages.values() for package in packages}
    if lame and not there.issuperset(chosen):
        hint = "take it from another feed, or tell those who keep this one"
        raise FeedUseError("\n".join(lame), hint=hint)


def fetch_apk(job: Job, supply: Supply, wanted: Sequence[tuple[Feed, Package]]) -> list[Finder]:
    """Fetch packages of feeds that are not on this machine, in parallel, each checked; where to look for all
    of them. Offline nothing is fetched: what the cache has is found."""
    from imagebuilder.packages.apk.obtain import apk_files, cached_apk  # noqa: PLC0415

    lacking: dict[str, list[Package]] = {}
    for feed, package in wanted:
        if package.identity and feed.lacks(package, in_used_tree(feed.folder) if feed.folder else None):
            lacking.setdefault(feed.name, []).append(package)
    found: dict[str, Path | None] = {}
    if lacking:
        feeds = {feed.name: feed for feed in supply.feeds}
        with job.downloads() as downloads:
            for name, packages in lacking.items():
                if downloads.offline:
                    found |= {each.identity: cached_apk(downloads, each) for each in packages}
                    continue
                files = apk_files(downloads, feeds[name].mirrors, feeds[name].path, packages)
                found |= {each.identity: file for each, file in zip(packages, files, strict=True)}
    used = in_used_tree(supply.tree / "dl")
    return [*folder_finders(supply.feeds), used, lambda package: found.get(package.identity)]


def lay_apk(job: Job, supply: Supply, wanted: Sequence[Wanted], finders: Sequence[Finder]) -> None:
    """Give make one feed with these packages, its index signed with the user's own key. FeedError names all
    that is missing or damaged, and what wants it."""
    ensure_apk_key(signing_keys())
    settings = settings_of(supply.tree)
    lay_signing_key(supply.tree, settings, job.view, signing_keys())
    indexer = feed_indexer(job.view, supply.tree, job.work, job.log)
    lay_apk_feed(job.work / FEED, wanted, finders, indexer)
    lay_apk_repositories(job.view)


def _local_packages(job: Job, local: Sequence[Package]) -> bytes:
    """An index of packages that are not made yet: apk plans with indexes only."""
    with scratch_folder(job.work, "declared-") as place:
        files = [
            write_apk(place, LocalPackage(package, EMPTY), job.view, job.work, job.log, epoch=0).path
            for package in local
        ]
        inside = [job.view.work / file.relative_to(job.work) for file in files]
        return make_index(job.view, job.work, inside, job.log, sign_with=None)
