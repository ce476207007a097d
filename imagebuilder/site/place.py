"""The folder that a web server serves, and how it goes from one state to the next without a moment between.

    SITE/index.html, boards, releases, …   links into .site/current/; they stay as they are
    SITE/builds                            a link to .site/builds/
    SITE/.site/current                     a link to the generation that is shown
    SITE/.site/generations/N/              pages and what other programs read, made anew each time
    SITE/.site/builds/BOARD/CONFIG/NUMBER/ a build's files and page; it appears whole, and stays as it is

A generation leads to builds that are there when it is shown, and stays beside the next one, with its builds,
so that who has its pages open still finds what they lead to. What neither of the two leads to is removed. All
else in SITE is its owner's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, read_plain
from imagebuilder.host.fs import copy_file, disk_errors_explained
from imagebuilder.host.handover import alone, appear, is_temporary, lead, remove_abandoned, remove_whole
from imagebuilder.host.own_folders import OwnFolder
from imagebuilder.log import Log
from imagebuilder.site.facts import History, SiteState

STATE = "boards.json"
HISTORY = "history.json"
INDEX = "index.html"
MOST_STATE = 512 << 20  # bytes; a thousand boards have 4 MiB
# what a generation has at its top; index.html comes last, so that a first site is not seen before it is whole
SHOWN = (
    *("style.css", "search.js", STATE, "feed.xml", "boards", "releases", "snapshots", ".versions.json"),
    *("json", "api", INDEX),
)
_OWN, _CURRENT, _GENERATIONS, _BUILDS = ".site", "current", "generations", "builds"
_NUMBER = re.compile(r"\d{8}-[0-9a-f]{8}(-\d+)?")
_STORE = OwnFolder(
    "a site's store",
    ".openwrt-imagebuilder",
    "openwrt-python-imagebuilder's command `publish` keeps here what the links beside lead to.\n",
    lambda place: place.name in (_CURRENT, _GENERATIONS, _BUILDS),
)


class SiteError(UserError):
    """A folder that cannot be a site."""


@dataclass(frozen=True)
class SitePlace:
    """A site's folder. root: its path."""

    root: Path

    @property
    def own(self) -> Path:
        """What is this program's in it."""
        return self.root / _OWN

    @property
    def builds(self) -> Path:
        """The folder of all builds."""
        return self.own / _BUILDS

    @property
    def shown(self) -> Path | None:
        """The generation that is shown; None where nothing is yet."""
        try:
            return self.own / (self.own / _CURRENT).readlink()
        except FileNotFoundError:
            return None

    def build(self, board: str, config: str, number: str) -> Path:
        """The folder of one build."""
        return self.builds / board / config / number

    def history(self, board: str, config: str) -> History:
        """All that is known of one config of one board; nothing of one that was never published."""
        shown = self.shown
        path = None if shown is None else shown / "boards" / board / config / HISTORY
        if path is None or not path.exists():
            return History(config=config, board=board, builds=())
        with _damage_told(path):
            return History.model_validate_json(read_plain(path, MOST_STATE))

    def show(self, new: Path) -> None:
        """Show a new generation. new: in a temporary folder on the same file system."""
        folder = self.own / _GENERATIONS
        place = folder / str(max(self._numbers(), default=0) + 1)
        folder.mkdir(exist_ok=True)
        appear(new, place)
        lead(self.own / _CURRENT, f"{_GENERATIONS}/{place.name}")
        for name in SHOWN:
            self._link(name, f"{_OWN}/{_CURRENT}/{name}", wanted=os.path.lexists(place / name))
            if name == "boards":
                self._link(_BUILDS, f"{_OWN}/{_BUILDS}", wanted=True)

    def _link(self, name: str, target: str, *, wanted: bool) -> None:
        link = self.root / name
        if wanted and not os.path.lexists(link):
            lead(link, target)
        elif not wanted and _is_ours(link):
            link.unlink()

    def strangers(self) -> Iterator[Path]:
        """What lies where a link of this program's is to be."""
        for name in (*SHOWN, _BUILDS):
            link = self.root / name
            if os.path.lexists(link) and not _is_ours(link):
                yield link

    def collect(self) -> int:
        """Remove what neither the generation that is shown nor the one before it leads to; how many builds
        that were. OSError."""
        shown = self.shown
        for link in self.root.glob(".*.new-*"):
            if is_temporary(link.name) and _is_ours(link):
                link.unlink()
        for folder in (self.own, self.own / _GENERATIONS):
            remove_abandoned(folder)
        number = 0 if shown is None else int(shown.name)
        older = sorted(each for each in self._numbers() if each < number)
        stays = [number, *older[-1:]]
        for each in self._numbers():
            if each not in stays:
                remove_whole(self.own / _GENERATIONS / str(each))
        states = [self.state(self.own / _GENERATIONS / str(each)) for each in stays if each]
        return self._collect_builds(
            {
                (listing.board, listing.config, build)
                for state in states
                for listing in state.listings
                for build in listing.kept
            }
        )

    def _collect_builds(self, kept: set[tuple[str, str, str]]) -> int:
        removed = 0
        for config in [config for board in _folders(self.builds) for config in _folders(board)]:
            remove_abandoned(config)
            for build in _folders(config):
                key = (config.parent.name, config.name, build.name)
                if key not in kept and _NUMBER.fullmatch(build.name):
                    remove_whole(build)
                    removed += 1
        return removed

    def _numbers(self) -> list[int]:
        folders = _folders(self.own / _GENERATIONS)
        return [int(place.name) for place in folders if place.name.isascii() and place.name.isdigit()]

    @staticmethod
    def state(generation: Path) -> SiteState:
        """What a generation was made of. SiteError where somebody has changed it."""
        path = generation / STATE
        with _damage_told(path):
            return SiteState.model_validate_json(read_plain(path, MOST_STATE))


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    hint = "move .site away and publish again: only the history is lost"
    try:
        yield
    except PlainFileError as error:
        raise SiteError(error.message, hint=hint) from error
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False, include_context=False)[0]
        fault = f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
        raise SiteError(f"{path} is damaged, or another version's: {fault}", hint=hint) from None


@contextmanager
def open_place(root: Path, log: Log) -> Iterator[SitePlace]:
    """A site's folder, made if it is not there, for one publisher at a time; what one that was killed left is
    removed. SiteError where something of somebody else's is in its way; HostError."""
    place = SitePlace(Path(os.path.realpath(root)))
    with disk_errors_explained(place.root):
        if place.root.exists() and not place.root.is_dir():
            raise SiteError(
                f"{root} is no folder", hint="name a folder for the site, which need not be there yet"
            )
        stranger = _STORE.stranger(place.own) or next(place.strangers(), None)
        if stranger is not None:
            raise SiteError(
                f"{stranger} is not of this program's making, and the site would have to be there",
                hint="choose another folder for the site, or move that away; other files beside it may stay",
            )
        with alone(place.own, lambda: log.note(f"{root}: another publish is at work; waiting for it")):
            _STORE.mark(place.own)
            place.collect()
            yield place


def link_or_copy(file: Path, place: Path) -> None:
    """The same file under another name too; a copy where the file system cannot do that. Files of a site are
    never changed. OSError."""
    try:
        os.link(file, place)
    except FileNotFoundError:
        raise
    except OSError:  # EXDEV, EPERM, EMLINK, …
        copy_file(file, place)


def _is_ours(link: Path) -> bool:
    return link.is_symlink() and str(link.readlink()).startswith(f"{_OWN}/")


def _folders(folder: Path) -> Iterable[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(each.path) for each in entries if each.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return ()
