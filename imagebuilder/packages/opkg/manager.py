"""opkg behind the door (packages.manager): indexes read and verified, files fetched, and the feed that make
gets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from imagebuilder.config.model_config import FeedUse
from imagebuilder.host.files import read_plain
from imagebuilder.host.fs import expand_home, sha256_of
from imagebuilder.model.package import LOCAL, MAX_INDEX_BYTES, Package, PackageList, Selected, Wish
from imagebuilder.model.release import Release
from imagebuilder.packages.feed import FEED, Finder, in_folder
from imagebuilder.packages.index_cache import index_of_list
from imagebuilder.packages.manager import content_tag
from imagebuilder.packages.opkg.feed import (
    ANY_ARCHITECTURE,
    architectures_of,
    base_packages,
    checked_file,
    feeds_of,
    index_of,
    lay_feed,
    lay_lists,
    lay_own_index,
    lay_repositories,
    own_index,
    used_indexes,
)
from imagebuilder.packages.opkg.ipk_reader import read_control, read_ipk
from imagebuilder.packages.opkg.opkg import parse_index, read_index
from imagebuilder.packages.opkg.resolve import OpkgRules, opkg_rules, resolve
from imagebuilder.packages.opkg.version import python_version
from imagebuilder.packages.package_list import first_packages, removed_in_vain
from imagebuilder.packages.resolution import THE_TREE, PlanError, Resolution, ResolutionError
from imagebuilder.packages.supply import (
    LOCAL_FOLDER,
    USED_TREE,
    Feed,
    Job,
    Offers,
    Supply,
    folder_finders,
    for_architectures,
)
from imagebuilder.packages.universe import clash
from imagebuilder.rootfs.tree import FileTree, LocalPackage

if TYPE_CHECKING:
    from imagebuilder.host.download import Downloads
    from imagebuilder.trust.keys import Keys

_SINCE_UNPACKED_SIZES = "24.10"


class Opkg:
    """opkg, as packages.manager asks for it, where it says what each of these does."""

    any_architecture = ANY_ARCHITECTURE
    trees_own = ("libc", "kernel")  # trees install these by their files
    overwrites_needed = True

    def version(self, version: Version, release: int) -> str:
        return python_version(version, release)

    def open(self, job: Job) -> Supply:
        folder = Path(job.tree.folder)
        own = own_index(folder, job.cache)
        files = base_packages(folder, job.tree.places)
        base = tuple(map(_base_package, files))
        cache = job.cache / "indexes"
        urls, used = feeds_of(folder), used_indexes(folder)
        job.check_names(urls)
        feeds = [_extra_feed(job, use) for use in job.config.feed]
        for name, url in urls.items():
            mirrors, path = job.where(url)
            if name in used:
                packages, digest = _indexed(used[name], cache, name), sha256_of(used[name])
                feed = Feed(
                    name, packages, USED_TREE, digest, folder=folder / "dl", mirrors=mirrors, path=path
                )
            else:
                feed = _signed(job, Feed(name, mirrors=mirrors, path=path), _keys(job))
            feeds.append(feed)
        known = architectures_of(folder, job.tree.arch)
        feeds = [replace(feed, packages=for_architectures(feed.packages, known)) for feed in feeds]
        listed = for_architectures(_indexed(own, cache), known)
        mine = PackageList((*listed, *base), listed.unusable)
        named = {path.name: path for path in files}
        return Supply(folder, mine, own, tuple(feeds), first_packages(base), named)

    def resolve(self, job: Job, wish: Wish, supply: Supply, offers: Offers) -> Resolution:
        """What opkg does is reckoned here, also for the image itself."""
        rules = opkg_rules(job.tree.release)
        try:
            found = resolve(wish, offers.universe, rules, given=offers.given)
        except ResolutionError as error:
            raise _refused(wish, offers, rules, error) from error
        return replace(found, back={**found.back, **_fixed(wish, job.tree.release)})

    def foresee(self, wish: Wish, offers: Offers, release: str) -> Resolution:
        return resolve(wish, offers.universe, opkg_rules(release), given=offers.given)

    def fetch(self, job: Job, supply: Supply, packages: Sequence[Package]) -> list[Finder]:
        lacking = [
            (feed, package)
            for package in packages
            if package.sha256
            and (feed := supply.feed(package.feed)) is not None
            and feed.lacks(package, in_folder(feed.folder) if feed.folder else None)
        ]
        files: dict[str, Path] = {}
        if lacking:
            with job.downloads() as downloads:
                files = _fetched(downloads, lacking)
        return [*folder_finders(supply.feeds), lambda package: files.get(package.sha256.lower())]

    def checked(self, package: Package, finders: Sequence[Finder]) -> tuple[Path | None, str]:
        return checked_file(package, finders)

    def read(self, file: Path, package: Package) -> LocalPackage:
        """The facts are those of the file, which knows more than its index."""
        ipk = read_ipk(file)
        return LocalPackage(replace(ipk.control, feed=package.feed), ipk.tree, ipk.scripts, ipk.conffiles)

    def paths(self, file: Path) -> tuple[str, ...] | None:
        return tuple(path for path, entry in read_ipk(file).tree.items() if entry.kind != "dir")

    def replaces(self, later: Package, earlier: Package) -> bool:
        """By the name or by one that is provided; opkg does not look at versions."""
        names = {earlier.name, *earlier.provides}
        return any(each.name in names for each in later.replaces)

    def quarrel(self, one: Package, other: Package) -> bool:
        return clash(one, other)

    def lay(self, job: Job, supply: Supply, wanted: Sequence[Selected], finders: Sequence[Finder]) -> None:
        """Also an index of the tree's own packages, which make need not make then."""
        lay_own_index(supply.own_index, supply.tree, job.view, job.work)
        lay_feed(job.work / FEED, wanted, finders)
        lay_lists(job.work)
        lay_repositories(supply.tree, job.view)

    def lay_tree(self, job: Job, supply: Supply) -> None:
        lay_own_index(supply.own_index, supply.tree, job.view, job.work)
        lay_lists(job.work)

    def write(self, job: Job, folder: Path, made: LocalPackage, *, epoch: int, theirs: bool) -> Package:
        from imagebuilder.packages.opkg.ipk import write_ipk  # noqa: PLC0415 - only where something is made here

        unpacked = Release(job.tree.release).since(_SINCE_UNPACKED_SIZES)
        return write_ipk(
            folder,
            made.package,
            made.tree,
            epoch=epoch,
            scripts=made.scripts,
            conffiles=made.conffiles,
            installed_size="unpacked" if unpacked else "compressed",
        ).package

    def later_version(self, version: str, word: str, content: str) -> str:
        """1.4.21-3 becomes 1.4.21-3+word.1a2b3c4d, before 1.4.21-4."""
        return f"{version}+{word}.{content_tag(content)}"

    def with_files(self, content: LocalPackage, package: Package, tree: FileTree) -> LocalPackage:
        conffiles = tuple(path for path in content.conffiles if _is_file(tree, path))
        return replace(content, package=package, tree=tree, conffiles=conffiles)

    def installed(
        self, job: Job, supply: Supply, selected: Sequence[Selected], over: FileTree
    ) -> FileTree | None:
        from imagebuilder.packages.opkg.records import installed_tree  # noqa: PLC0415 - for filespecs and apps

        laid, own = in_folder(job.work / FEED), in_folder(supply.tree / "packages")
        files = []
        for each in selected:
            if each.feed == LOCAL:  # made here: its file has the name that its facts give it
                (file,) = (job.work / FEED).glob(f"{each.name}_*.ipk")
            else:
                given = None if each.feed else supply.base.get(each.package.filename)
                found = given or (laid if each.feed else own)(each.package)
                if found is None:
                    raise LookupError(f"{each.name} was not laid")
                file = found
            files.append(file)
        return installed_tree((read_ipk(file) for file in files), over)


def _indexed(file: Path, cache: Path, feed: str = "") -> PackageList:
    """The packages of an index's file, parsed once."""
    return index_of_list(cache, sha256_of(file), lambda: read_index(file, feed=feed), feed)


def _base_package(file: Path) -> Package:
    control = read_control(file).control
    return replace(control, filename=file.name, size=file.stat().st_size, sha256=sha256_of(file))


def _keys(job: Job) -> Keys:
    """What the indexes of the tree's own feeds are verified by: keys of the tree and its release, and of the
    user."""
    from imagebuilder.trust.keys import feed_keys  # noqa: PLC0415

    return feed_keys(Path(job.tree.folder), job.tree.version) + job.user_keys()


def _extra_feed(job: Job, use: FeedUse) -> Feed:
    """A feed that the config names."""
    from imagebuilder.server.mirror import parse_mirror  # noqa: PLC0415
    from imagebuilder.trust.keys import Keys, read_key_file  # noqa: PLC0415

    place = job.place(use)
    if isinstance(place, Path) and use.key is None:
        text = _local_index(place)
        digest = hashlib.sha256(text.encode()).hexdigest()
        packages = parse_index(text, origin=str(place), feed=use.name)
        return Feed(use.name, packages, LOCAL_FOLDER, digest, folder=place)
    keys = Keys() if use.key is None else read_key_file(job.root / expand_home(use.key))
    return _signed(job, Feed(use.name, mirrors=(parse_mirror(str(place)),)), keys)


def _local_index(folder: Path) -> str:
    """A folder's index, made from the files themselves where there is none."""
    index = folder / "Packages"
    if index.is_file():
        return read_plain(index, MAX_INDEX_BYTES).decode("utf-8", "replace")
    return index_of(folder, sorted(folder.glob("*.ipk")))


def _signed(job: Job, feed: Feed, keys: Keys) -> Feed:
    """The feed with its packages, its index verified."""
    from imagebuilder.packages.opkg.obtain import signed_index  # noqa: PLC0415

    with job.downloads() as downloads:
        index = signed_index(downloads, feed.mirrors, feed.path, keys)

    def parsed() -> PackageList:
        text = index.data.decode("utf-8", "replace")
        return parse_index(text, origin=f"the index of feed {feed.name}", feed=feed.name)

    packages = index_of_list(job.cache / "indexes", index.sha256, parsed, feed.name)
    return replace(feed, packages=packages, trust=f"signed by the key {index.key}", sha256=index.sha256)


def _fetched(downloads: Downloads, lacking: Sequence[tuple[Feed, Package]]) -> dict[str, Path]:
    from imagebuilder.packages.opkg.obtain import wanted_file  # noqa: PLC0415

    shas = [package.sha256.lower() for _, package in lacking]
    if downloads.offline:
        found = {sha: downloads.cache.find(sha, downloads.log) for sha in shas}
        return {sha: path for sha, path in found.items() if path is not None}
    wanted = [wanted_file(feed.mirrors, feed.path, package) for feed, package in lacking]
    return dict(zip(shas, downloads.get_all(wanted, "packages"), strict=True))


def _refused(wish: Wish, offers: Offers, rules: OpkgRules, error: ResolutionError) -> PlanError:
    """The fewest of the names that cannot be had together, and who asked for each."""
    from imagebuilder.packages.opkg.explain import shortest_conflict  # noqa: PLC0415 - where something is wrong

    conflict = shortest_conflict(wish.names, offers.universe, rules, given=offers.given)
    if conflict is None:
        return PlanError(error.message, hint=error.hint)
    asked = [f"  {name} was asked for by {wish.add.get(name, THE_TREE)}" for name in conflict.names]
    return PlanError("\n".join([conflict.message, *asked]), hint=conflict.hint)


def _fixed(wish: Wish, release: str) -> dict[str, tuple[str, ...]]:
    """Packages that stay although they are not wanted, and why. PlanError for one without which nothing
    starts."""
    vain = removed_in_vain(release, wish)
    for each in vain:
        if not each.stays:
            raise PlanError(
                f"'{each.name}' cannot be removed: {each.reason}", hint="take it out of packages.remove"
            )
    return {each.name: (each.reason, each.name) for each in vain}


def _is_file(tree: FileTree, path: str) -> bool:
    return path in tree and tree[path].kind == "file"
