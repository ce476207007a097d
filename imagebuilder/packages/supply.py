"""What an image can be made from: the tree's own packages and those of feeds, why their indexes are trusted,
and where their files are."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.config.board import Board
from imagebuilder.config.model_config import Config, FeedUse
from imagebuilder.errors import UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.model.package import LOCAL, Package, PackageList, UnusablePackage
from imagebuilder.model.release import Release
from imagebuilder.model.tree import Tree
from imagebuilder.packages.feed import Finder, in_folder
from imagebuilder.packages.universe import Universe

if TYPE_CHECKING:
    from imagebuilder.host.download import Downloads
    from imagebuilder.packages.manager import PackageManager
    from imagebuilder.server.mirror import Mirror
    from imagebuilder.trust.keys import Keys

MOST_TOLD = 20
LOCAL_FOLDER = "a folder of this machine, as given"
USED_TREE = "the index that the tree's own dl/ holds, as given"


class FeedUseError(UserError):
    """A feed of a config that cannot be used."""


@dataclass(frozen=True)
class Offers:
    """What an image can be made from. packages: those of the tree first; of equal versions the one that comes
    first counts. given: libc and kernel, which opkg trees install by their files. unusable: as for Universe.
    pins: where a lock says which version of each package to take, those versions by the packages' names."""

    packages: tuple[Package, ...]
    given: tuple[Package, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def universe(self) -> Universe:
        """All of them, to be looked up."""
        return Universe(self.packages, self.unusable)

    @property
    def made(self) -> tuple[Package, ...]:
        """Those that are made here."""
        return tuple(each for each in self.packages if each.feed == LOCAL)

    def with_made(self, made: Iterable[Package], pins: Mapping[str, str]) -> Offers:
        """The same with packages that are made here."""
        made = tuple(made)
        if not made and pins == self.pins:
            return self  # with the universe, if there is one by now
        return replace(self, packages=(*self.packages, *made), pins=pins)

    def without(self, replaced: Mapping[str, str]) -> Offers:
        """The same without packages whose place others take: by their names, which ones. Who wants one in a
        version that the other has not is told of it."""
        if not replaced:
            return self
        gone = [each for each in self.packages if each.name in replaced]
        told = {
            each.name: f"{each.name} {each.version} does not go in: {replaced[each.name]}, another version,"
            " takes its place"
            for each in reversed(gone)
        }
        left = tuple(each for each in self.packages if each.name not in replaced)
        return replace(self, packages=left, unusable={**self.unusable, **told})


@dataclass(frozen=True)
class Feed:
    """A feed's packages. trust: why its index is trusted; sha256: of the index, and index its bytes where
    apk asks for them. folder: where files of it lie on this machine. mirrors, path: where they can be
    fetched: the path is the feed's folder in each mirror."""

    name: str
    packages: PackageList = field(default_factory=PackageList)
    trust: str = ""
    sha256: str = ""
    index: bytes = b""
    folder: Path | None = None
    mirrors: tuple[Mirror, ...] = ()
    path: str = ""

    @property
    def asks_a_server(self) -> bool:
        """Whether another index may be on a mirror by now."""
        return bool(self.mirrors) and self.trust not in (LOCAL_FOLDER, USED_TREE)

    def lacks(self, package: Package, find: Finder | None) -> bool:
        """Whether a package's file is not on this machine, and can be fetched."""
        return bool(self.mirrors) and (find is None or find(package) is None)


@dataclass(frozen=True)
class Supply:
    """All that an image can be made from. own: the packages in the tree; own_index: the file with the index
    of packages/. given: libc and kernel of opkg's trees, which are in own too, and in no index; base: their
    files, by name."""

    tree: Path
    own: PackageList
    own_index: Path
    feeds: tuple[Feed, ...]
    given: tuple[Package, ...] = ()
    base: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def offers(self) -> Offers:
        """All packages, to choose from."""
        theirs = (package for feed in self.feeds for package in feed.packages)
        lame = {
            each.name: f"{source} has it, and it cannot be used: {each}"
            for source, found in reversed(self._sources())
            for each in found.unusable
            if each.name
        }
        return Offers((*self.own, *theirs), self.given, lame)

    def _sources(self) -> list[tuple[str, PackageList]]:
        return [("the tree", self.own), *((f"feed {feed.name}", feed.packages) for feed in self.feeds)]

    def note_unusable(self, log: Log) -> None:
        """Tell which packages cannot be used, and why: the first of each feed, and how many more."""
        for source, packages in self._sources():
            if packages.unusable:
                told = [str(each) for each in packages.unusable[:MOST_TOLD]]
                more = len(packages.unusable) - len(told)
                rest = f", and {more} more" if more else ""
                log.note(f"{source} has packages that cannot be used: {', '.join(told)}{rest}")

    def indexes(self) -> dict[str, str]:
        """The SHA-256 of each feed's index."""
        return {feed.name: feed.sha256 for feed in self.feeds}

    def trust(self) -> dict[str, str]:
        """For each feed, why it is trusted."""
        return {feed.name: feed.trust for feed in self.feeds}

    def feed(self, name: str) -> Feed | None:
        """The feed of that name; None for the tree's own packages, and for what is made here."""
        return next((feed for feed in self.feeds if feed.name == name), None)


@dataclass(frozen=True)
class Job:
    """One image in the making. tree, manager: what it is made with. root: the project's folder, from which
    paths in configs count; cache: where downloads are kept; offline: nothing is fetched; mirrors: in the
    order in which they are asked; given_up: as for Downloads. opened: what gives a view of the tree, see
    opening_view(); work: the folder that the view shows as view.work."""

    config: Config
    board: Board
    tree: Tree
    manager: PackageManager
    root: Path
    cache: Path
    opened: Callable[[], PrivateView]
    work: Path
    log: Log
    offline: bool = False
    mirrors: tuple[str, ...] = ()
    given_up: set[str] | None = None

    @property
    def view(self) -> PrivateView:
        """Of the tree. Raises as open_view()."""
        return self.opened()

    def downloads(self) -> Downloads:
        """What brings files into the cache; to be closed."""
        # what speaks to servers is loaded only where one is spoken to: it takes a fifth of a second
        from imagebuilder.host.cache import Cache  # noqa: PLC0415
        from imagebuilder.host.download import Downloads  # noqa: PLC0415

        return Downloads(Cache(self.cache), self.log, offline=self.offline, given_up=self.given_up)

    def user_keys(self) -> Keys:
        """The user's, none of OpenWrt's own."""
        from imagebuilder.trust.keys import Keys, keys_in  # noqa: PLC0415

        folder = self.config.mirror.keys
        return keys_in(self.root / expand_home(folder)) if folder else Keys()

    def where(self, url: str) -> tuple[tuple[Mirror, ...], str]:
        """The mirrors of a feed and its folder in them: a feed of OpenWrt's own is looked for in all mirrors
        of its server, another one at its own address."""
        from imagebuilder.server.mirror import layout_path, parse_mirror, parse_mirrors  # noqa: PLC0415

        path = layout_path(url)
        if path is None:
            return (parse_mirror(url),), ""
        return parse_mirrors(self.mirrors), path

    def check_names(self, urls: Iterable[str]) -> None:
        """FeedUseError for a feed of the config that is called as one of the tree's."""
        clash = sorted({use.name for use in self.config.feed} & {*urls, LOCAL})
        if clash:
            hint = "give the [[feed]] another name"
            raise FeedUseError(f"there is a feed '{clash[0]}' already", hint=hint)

    def place(self, use: FeedUse) -> Path | str:
        """Where a feed of the config is: a folder, which is there, or an address."""
        url = _filled(use, self.tree)
        if "://" in url:
            return url
        folder = self.root / expand_home(url)
        if not folder.is_dir():
            hint = "its url is an address, or a folder"
            raise FeedUseError(f"feed '{use.name}': there is no folder {folder}", hint=hint)
        return folder


def for_architectures(packages: PackageList, known: Collection[str]) -> PackageList:
    """The packages of these architectures: opkg and apk pass over others, and opkg over those that name none.
    known: the words for them, the tree's own last."""
    if {package.architecture for package in packages} <= set(known):
        return packages
    taken = " and ".join(filter(None, known))
    others = [
        UnusablePackage(
            each.name,
            f"its architecture is {each.architecture!r}, and the tree takes {taken}"
            if each.architecture
            else "it names no architecture",
        )
        for each in packages
        if each.architecture not in known
    ]
    return PackageList(
        (each for each in packages if each.architecture in known), (*packages.unusable, *others)
    )


def folder_finders(feeds: Iterable[Feed]) -> list[Finder]:
    """Look for packages in the folders of feeds."""
    return [in_folder(feed.folder) for feed in feeds if feed.folder is not None]


def _filled(use: FeedUse, tree: Tree) -> str:
    """The feed's address with the tree's facts in it."""
    facts = {
        "release": tree.version,
        "series": Release(tree.release).series,
        "arch": tree.arch,
        "target": tree.target,
    }
    unknown = sorted(set(re.findall(r"{([^{}]*)}", use.url)) - set(facts))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in facts)
        raise FeedUseError(f"feed '{use.name}': the url has '{{{unknown[0]}}}'", hint=f"known are {known}")
    return re.sub(r"{([^{}]*)}", lambda match: facts[match[1]], use.url)
