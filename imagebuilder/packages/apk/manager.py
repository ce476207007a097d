"""apk behind the door (packages.manager), for trees from 25.12 on: indexes verified, the closure planned by
the tree's own apk, files fetched, and the feed that make gets, made and signed by that apk."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from packaging.version import Version

from imagebuilder.config.model_config import FeedUse
from imagebuilder.host.files import read_plain
from imagebuilder.host.fs import expand_home
from imagebuilder.host.sandbox import scratch_folder
from imagebuilder.model.adb import MAX_DATABASE_BYTES
from imagebuilder.model.package import Package, Selected, Wish
from imagebuilder.packages.apk.apk import SOURCE, needed_by, parse_index, picked, with_abi_suffixes
from imagebuilder.packages.apk.feed import (
    apk_feeds_of,
    checked_apk,
    feed_indexer,
    in_used_tree,
    lay_apk_feed,
    lay_apk_repositories,
    own_apk_index,
    own_apk_packages,
)
from imagebuilder.packages.apk.file import identity_of
from imagebuilder.packages.apk.lists import conffiles_in, for_apk, with_lists
from imagebuilder.packages.apk.reader import read_apk
from imagebuilder.packages.apk.resolve import apk_clash, apk_fits, resolve
from imagebuilder.packages.apk.tool import (
    INDEX,
    OWN_PACKAGES,
    ApkRefusalError,
    make_index,
    pinned_versions,
    plan_install,
    stays_although_removed,
    words_for_apk,
)
from imagebuilder.packages.apk.version import python_version
from imagebuilder.packages.apk.writer import write_apk
from imagebuilder.packages.feed import FEED, Finder
from imagebuilder.packages.index_cache import kept_index
from imagebuilder.packages.manager import RepackError, content_tag
from imagebuilder.packages.resolution import PlanError, Resolution, ways_of
from imagebuilder.packages.supply import (
    LOCAL_FOLDER,
    Feed,
    FeedUseError,
    Job,
    Offers,
    Supply,
    folder_finders,
    for_architectures,
)
from imagebuilder.rootfs.tree import EMPTY, FileTree, LocalPackage
from imagebuilder.tree.tree import settings_of
from imagebuilder.trust.signature_adb import ApkKey, read_apk_key, tree_apk_keys
from imagebuilder.trust.signing_key import lay_tree_key

_VERSION = re.compile(r"(?P<before>[0-9][0-9a-z._]*)(?P<commit>~[0-9a-f]+)?(?P<revision>-r[0-9]+)?")


class Apk:
    """apk, as packages.manager asks for it, where it says what each of these does."""

    any_architecture = "noarch"
    trees_own = ("base-files", "libc", "kernel")  # trees install these at the one version that they name
    overwrites_needed = False

    def version(self, version: Version, release: int) -> str:
        return python_version(version, release)

    def open(self, job: Job) -> Supply:
        folder = Path(job.tree.folder)
        own = kept_index(
            folder / OWN_PACKAGES,
            own_apk_packages(folder),
            job.cache,
            lambda: own_apk_index(folder, job.view, job.work, job.log),
        )
        urls = apk_feeds_of(folder)
        job.check_names(urls)
        feeds = [_extra_feed(job, use) for use in job.config.feed]
        for name, url in urls.items():
            mirrors, path = job.where(url)
            feed = Feed(name, folder=folder / "dl", mirrors=mirrors, path=path)
            feeds.append(_signed(job, feed, tree_apk_keys(folder)))
        known = ("", self.any_architecture, job.tree.arch)  # apk takes one that names no architecture
        feeds = [replace(feed, packages=for_architectures(feed.packages, known)) for feed in feeds]
        mine = parse_index(own.read_bytes(), origin=f"the index of {folder}/packages")
        return Supply(folder, for_architectures(mine, known), own, tuple(feeds))

    def resolve(self, job: Job, wish: Wish, supply: Supply, offers: Offers) -> Resolution:
        """The tree's own apk decides, whose words are those of ApkRefusalError."""
        everything = (*supply.offers.packages, *offers.made)
        pinned = pinned_versions(Path(job.tree.folder))
        names = with_abi_suffixes(wish.names, everything)
        pins = {name: version for name, version in offers.pins.items() if name not in pinned}
        words = words_for_apk([*names, *(name for name in pins if name not in names)], pinned, pins)
        indexes = [supply.own_index.read_bytes(), *(feed.index for feed in supply.feeds)]
        indexes += [_local_packages(job, offers.made)] if offers.made else []
        try:
            chosen = plan_install(job.view, job.work, indexes, words, job.log, arch=job.tree.arch)
        except ApkRefusalError as error:
            lame = [supply.offers.unusable[name] for name in names if name in supply.offers.unusable]
            if lame:
                raise PlanError("\n".join([error.message, *lame]), hint=error.hint) from error
            raise
        _check_usable([name for name, _ in chosen], supply)
        packages = picked(chosen, everything)
        askers = dict(zip(names, wish.add.values(), strict=True))
        whys = {
            name: way
            for asked in (tuple(pins), [*names, *pinned])  # the later ones count
            for name, way in ways_of(
                needed_by(asked, packages), lambda root: askers.get(root, "the ImageBuilder itself")
            ).items()
        }
        there = {package.name for package in packages}
        back = {name: tuple(whys[name]) for name in wish.remove if name in there}
        back |= {
            name: (f"the ImageBuilder pins it to {pinned[name]}", name)
            for name in stays_although_removed(wish.remove, pinned)
        }
        return Resolution(tuple(Selected(each, whys[each.name]) for each in packages), back)

    def foresee(self, wish: Wish, offers: Offers, release: str) -> Resolution:
        """The tree's apk gives the answer for an image; it would take minutes to try the
        hundreds of lists that advice compares."""
        return resolve(wish, offers.universe)

    def fetch(self, job: Job, supply: Supply, packages: Sequence[Package]) -> list[Finder]:
        from imagebuilder.packages.apk.obtain import apk_files, cached_apk  # noqa: PLC0415

        found: dict[str, Path | None] = {}
        for feed in supply.feeds:
            used = in_used_tree(feed.folder) if feed.folder else None
            theirs = [each for each in packages if each.feed == feed.name and each.identity]
            lacking = [each for each in theirs if feed.lacks(each, used)]
            if not lacking:
                continue
            with job.downloads() as downloads:
                if downloads.offline:
                    found |= {each.identity: cached_apk(downloads, each) for each in lacking}
                    continue
                files = apk_files(downloads, feed.mirrors, feed.path, lacking)
                found |= {each.identity: file for each, file in zip(lacking, files, strict=True)}
        own = in_used_tree(supply.tree / "dl")
        return [*folder_finders(supply.feeds), own, lambda package: found.get(package.identity)]

    def checked(self, package: Package, finders: Sequence[Finder]) -> tuple[Path | None, str]:
        return checked_apk(package, finders)

    def read(self, file: Path, package: Package) -> LocalPackage:
        return read_apk(file, package)

    def paths(self, file: Path) -> tuple[str, ...] | None:
        """Nothing is read of a package of apk's before it was checked."""
        return None

    def replaces(self, later: Package, earlier: Package) -> bool:
        """Where either replaces the other by its own name; apk's priorities only say which of the two has
        its way. Packages of one source may always."""
        source = later.extra.get(SOURCE)
        if source and source == earlier.extra.get(SOURCE):
            return True
        pairs = ((later, earlier), (earlier, later))
        return any(
            term.name == other.name and apk_fits(term, other) for one, other in pairs for term in one.replaces
        )

    def quarrel(self, one: Package, other: Package) -> bool:
        return apk_clash(one, other)

    def lay(self, job: Job, supply: Supply, wanted: Sequence[Selected], finders: Sequence[Finder]) -> None:
        """The feed's index is signed with the tree's own key, by which its apk verifies it."""
        lay_tree_key(supply.tree, settings_of(supply.tree), job.view, job.cache)
        indexer = feed_indexer(job.view, supply.tree, job.work, job.log)
        lay_apk_feed(job.work / FEED, wanted, finders, indexer)
        lay_apk_repositories(job.view)

    def lay_tree(self, job: Job, supply: Supply) -> None:
        """Make indexes its packages itself."""

    def write(self, job: Job, folder: Path, made: LocalPackage, *, epoch: int, theirs: bool) -> Package:
        wanted = made if theirs else for_apk(made)
        written = write_apk(folder, wanted, job.view, job.work, job.log, epoch=epoch)
        return replace(written.package, identity=identity_of(written.path))

    def later_version(self, version: str, word: str, content: str) -> str:
        """1.4.21-r3 becomes 1.4.21~1a2b3c4d-r3, which sorts after all 1.4.21-rN (apk has
        nothing between r3 and r4) and before 1.4.22. RepackError for what is no version of apk."""
        parts = _VERSION.fullmatch(version)
        if parts is None:
            raise RepackError(
                f"{version!r} is no version of apk", hint="the feed's index is damaged: fetch it again"
            )
        return f"{parts['before']}{parts['commit'] or '~'}{content_tag(content)}{parts['revision'] or ''}"

    def with_files(self, content: LocalPackage, package: Package, tree: FileTree) -> LocalPackage:
        """The package's own lists of its files and of its configuration files are made
        anew; what these name and no package brings stays named."""
        named = conffiles_in(content.tree, package.name)
        kept = tuple(path for path in named if path in tree or path not in content.tree)
        return replace(content, package=package, tree=with_lists(tree, package.name, kept))

    def installed(
        self, job: Job, supply: Supply, selected: Sequence[Selected], over: FileTree
    ) -> FileTree | None:
        """apk's database is known to apk only."""
        return None


def _extra_feed(job: Job, use: FeedUse) -> Feed:
    """A feed that the config names."""
    from imagebuilder.server.mirror import parse_mirror  # noqa: PLC0415

    place = job.place(use)
    if isinstance(place, Path) and use.key is None:
        index = _local_index(place, job)
        digest = hashlib.sha256(index).hexdigest()
        packages = parse_index(index, origin=str(place), feed=use.name)
        return Feed(use.name, packages, LOCAL_FOLDER, digest, index, place)
    keys = [] if use.key is None else [read_apk_key(job.root / expand_home(use.key))]
    return _signed(job, Feed(use.name, mirrors=(parse_mirror(str(place)),)), keys)


def _local_index(folder: Path, job: Job) -> bytes:
    """A folder's index, made from the files themselves where there is none."""
    if (folder / INDEX).is_file():
        return read_plain(folder / INDEX, MAX_DATABASE_BYTES)
    with scratch_folder(job.work) as copies:  # the view shows no folder of users
        files = [shutil.copy(file, copies) for file in sorted(folder.glob("*.apk"))]
        inside = [job.view.work / Path(file).relative_to(job.work) for file in files]
        return make_index(job.view, job.work, inside, job.log, sign_with=None)


def _signed(job: Job, feed: Feed, keys: Sequence[ApkKey]) -> Feed:
    """The feed with its packages, its index verified."""
    from imagebuilder.packages.apk.obtain import signed_apk_index  # noqa: PLC0415

    with job.downloads() as downloads:
        index = signed_apk_index(downloads, feed.mirrors, feed.path, keys)
    packages = parse_index(index.data, origin=f"the index of feed {feed.name}", feed=feed.name)
    trust = f"signed by the key {index.key}"
    return replace(feed, packages=packages, trust=trust, sha256=index.sha256, index=index.data)


def _check_usable(chosen: Sequence[str], supply: Supply) -> None:
    """FeedUseError where apk, which reads the indexes itself, chose a package that cannot be used here."""
    lame = [supply.offers.unusable[name] for name in chosen if name in supply.offers.unusable]
    there = {package.name for package in supply.offers.packages}
    if lame and not there.issuperset(chosen):
        hint = "take it from another feed, or tell those who keep this one"
        raise FeedUseError("\n".join(lame), hint=hint)


def _local_packages(job: Job, local: Sequence[Package]) -> bytes:
    """An index of packages that are not made yet: apk plans with indexes only."""
    with scratch_folder(job.work) as place:
        files = [
            write_apk(place, LocalPackage(package, EMPTY), job.view, job.work, job.log, epoch=0).path
            for package in local
        ]
        inside = [job.view.work / file.relative_to(job.work) for file in files]
        return make_index(job.view, job.work, inside, job.log, sign_with=None)
