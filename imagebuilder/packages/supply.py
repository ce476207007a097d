"""Feeds: their packages, why their indexes are trusted, and where their files are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.config.model_config import Config, FeedUse
from imagebuilder.config.request import Request
from imagebuilder.errors import UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.model.package import Package, PackageList
from imagebuilder.model.release import Release
from imagebuilder.model.tree import Tree
from imagebuilder.packages.install import Offers
from imagebuilder.packages.opkg.feed import Finder, Wanted, in_folder
from imagebuilder.tree.plan import Plan, PlannedPackage

if TYPE_CHECKING:
    from imagebuilder.host.download import Downloads
    from imagebuilder.server.mirror import Mirror
    from imagebuilder.trust.keys import Keys

LOCAL = "local"  # the feed of what is made here
MOST_TOLD = 20
LOCAL_FOLDER = "a folder of this machine, as given"


class FeedUseError(UserError):
    """A feed of a config that cannot be used."""


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

    def lacks(self, package: Package, find: Finder | None) -> bool:
        """Whether a package's file is not on this machine, and can be fetched."""
        return bool(self.mirrors) and (find is None or find(package) is None)


@dataclass(frozen=True)
class Supply:
    """All that an image can be made from. own: the packages in the tree; own_index: the index of packages/,
    of opkg's a file, of apk's its bytes. given: libc and kernel of opkg's trees, which are in own too, and in
    no index; base: their files, by name."""

    tree: Path
    own: PackageList
    own_index: Path | bytes
    feeds: tuple[Feed, ...]
    given: tuple[Package, ...] = ()
    base: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def offers(self) -> Offers:
        """The packages by feed, to choose from."""
        packages = {feed.name: feed.packages for feed in self.feeds}
        lame = {
            each.name: f"{source} has it, and it cannot be used: {each}"
            for source, found in reversed(self._sources())
            for each in found.unusable
            if each.name
        }
        return Offers({"": self.own, **packages}, self.given, lame)

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

    def from_feeds(self, plan: Plan) -> list[tuple[Feed, Package, PlannedPackage]]:
        """What the plan takes from feeds, in its order."""
        theirs = [each for each in plan.install if each.feed not in ("", LOCAL)]
        wanted = {(each.feed, each.name, each.version): each for each in theirs}
        found = {
            (feed.name, package.name, package.version): (feed, package)
            for feed in self.feeds
            for package in feed.packages
            if (feed.name, package.name, package.version) in wanted
        }
        return [(*found[key], planned) for key, planned in wanted.items()]

    def wanted(self, plan: Plan) -> list[Wanted]:
        """The packages that the plan takes from feeds, with who asked for each, for laying a feed."""
        return [Wanted(package, planned.why) for _, package, planned in self.from_feeds(plan)]


@dataclass(frozen=True)
class Job:
    """One image in the making. view: of its tree; work: the folder that the view shows as view.work."""

    request: Request
    view: PrivateView
    work: Path
    log: Log

    def downloads(self) -> Downloads:
        """What brings files into the cache; to be closed."""
        # what speaks to servers is loaded only where one is spoken to: it takes a fifth of a second
        from imagebuilder.host.cache import Cache  # noqa: PLC0415
        from imagebuilder.host.download import Downloads  # noqa: PLC0415

        return Downloads(Cache(self.request.cache), self.log, offline=self.request.offline)


@dataclass(frozen=True)
class Search:
    """For whom feeds are opened."""

    job: Job
    config: Config

    @property
    def request(self) -> Request:
        return self.job.request

    @property
    def root(self) -> Path:
        """The project's folder, from which paths in configs count."""
        return self.request.library.root

    def user_keys(self) -> Keys:
        """The user's, none of OpenWrt's own."""
        from imagebuilder.trust.keys import Keys, keys_in  # noqa: PLC0415

        folder = self.request.trusted_keys(self.config)
        return Keys() if folder is None else keys_in(folder)

    def where(self, url: str) -> tuple[tuple[Mirror, ...], str]:
        """The mirrors of a feed and its folder in them: a feed of OpenWrt's own is looked for in all mirrors
        of its server, another one at its own address."""
        from imagebuilder.server.mirror import layout_path, parse_mirror, parse_mirrors  # noqa: PLC0415

        path = layout_path(url)
        if path is None:
            return (parse_mirror(url),), ""
        return parse_mirrors((*self.request.mirrors, *self.config.mirror.urls)), path

    def check_names(self, urls: Iterable[str]) -> None:
        """FeedUseError for a feed of the config that is called as one of the tree's."""
        clash = sorted({use.name for use in self.config.feed} & {*urls, LOCAL})
        if clash:
            hint = "give the [[feed]] another name"
            raise FeedUseError(f"there is a feed '{clash[0]}' already", hint=hint)

    def place(self, use: FeedUse, tree: Tree) -> Path | str:
        """Where a feed of the config is: a folder, which is there, or an address."""
        url = _filled(use, tree)
        if "://" in url:
            return url
        folder = self.root / expand_home(url)
        if not folder.is_dir():
            hint = "its url is an address, or a folder"
            raise FeedUseError(f"feed '{use.name}': there is no folder {folder}", hint=hint)
        return folder


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
