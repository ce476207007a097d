"""`publish`: from result folders to a site that shows them, in one step that cannot be seen half done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import NAMESPACE_URL, uuid4, uuid5

from pydantic import ValidationError

from imagebuilder import __version__
from imagebuilder.errors import Fault, FaultsError
from imagebuilder.firmware.inspection import changes, size_changes
from imagebuilder.host.files import PlainFileError, opened_plain, read_plain
from imagebuilder.host.fs import copy_opened, sha256_of
from imagebuilder.host.handover import appear, temporary_folder, write_whole
from imagebuilder.log import Log
from imagebuilder.model.base import Model
from imagebuilder.model.firmware import Change
from imagebuilder.site.facts import (
    History,
    Listing,
    Night,
    PublishedBuild,
    PublishedImage,
    Recent,
    SiteState,
    number_of,
)
from imagebuilder.site.feed import FEED, MOST_ENTRIES, feed
from imagebuilder.site.openwrt import image_name, overview_files, release_files, target_folder
from imagebuilder.site.pages import SEARCH, STYLE, Pages, look, static
from imagebuilder.site.place import HISTORY, INDEX, STATE, SitePlace, link_or_copy, open_place
from imagebuilder.site.results import SUMS, FoundResult, SeenResult, read_again, read_results

PACKAGES = "packages.json"
KEEP = 30
TITLE = "Firmware"
MOST_HISTORY = 1000  # builds of one config of one board whose facts are kept
_MOST_PACKAGES = 16 << 20  # bytes of a packages.json


class BuildPackages(Model):
    """A build's packages.json. packages: names to versions; sizes: bytes in the image by package, compressed,
    those of files of no package by ""; none where nobody measured them."""

    packages: dict[str, str]
    sizes: dict[str, int]


@dataclass(frozen=True)
class PublishOptions:
    """keep: of how many builds of each config of each board the files stay. title: the site's heading. url:
    where it will be found, without / at its end; "" where nobody says."""

    keep: int = KEEP
    title: str = TITLE
    url: str = ""


@dataclass(frozen=True)
class Published:
    """What was done. site: the folder. new: number and key of each new build; unchanged: how many were there
    already; boards: how many listings the site has; removed: how many builds lost their files."""

    site: Path
    new: tuple[tuple[str, str, str], ...]
    unchanged: int
    boards: int
    removed: int


@dataclass(frozen=True)
class _Fresh:
    """A new build. folder: its files, in a temporary one."""

    said: SeenResult
    folder: Path
    files: tuple[str, ...]

    @property
    def packages(self) -> BuildPackages:
        rootfs = self.said.rootfs
        return BuildPackages(
            packages={each.name: each.version for each in self.said.packages},
            sizes={each.name: each.stored for each in rootfs.packages} if rootfs else {},
        )


@dataclass
class _Work:
    """One run. before: what is shown now; None where nothing is; shown: its listings. listings: those to
    come; histories: those that change. new: builds; moves: their folders, and where these go."""

    place: SitePlace
    folder: Path
    options: PublishOptions
    now: int
    log: Log
    before: SiteState | None
    listings: dict[tuple[str, str], Listing] = field(default_factory=dict)
    histories: dict[tuple[str, str], History] = field(default_factory=dict)
    shown: dict[tuple[str, str], Listing] = field(default_factory=dict)
    new: list[Recent] = field(default_factory=list)
    moves: list[tuple[Path, Path]] = field(default_factory=list)


def publish(out: Path, root: Path, options: PublishOptions, now: int, log: Log) -> Published:
    """Put the results of a folder on a site, which is made if it is not there; what it has of other boards
    and configs stays. now: seconds since 1970.

    FaultsError with all that is damaged, missing or secret, ResultsError where there is nothing, SiteError
    and HostError for the site's folder: nothing is published then.
    """
    results, faults = read_results(out)
    with open_place(root, log) as place, temporary_folder("work", place.own) as folder:
        shown = place.shown
        work = _Work(place, folder, options, now, log, None if shown is None else place.state(shown))
        if work.before is not None:
            work.shown |= {listing.key: listing for listing in work.before.listings}
            work.listings |= work.shown
        with log.step("check"):
            fresh = _taken(work, results, faults)
        if faults:
            raise FaultsError(faults)
        with log.step("pages"):
            for each in fresh:
                _add(work, each)
            for result in results:
                _seen(work, result.said)
            state = _state(work)
            _write_builds(work, state, fresh)
            generation = folder / "site"
            _write_generation(work, state, generation)
        with log.step("switch"):
            for new, there in work.moves:
                there.parent.mkdir(parents=True, exist_ok=True)
                appear(new, there)
            place.show(generation)
            removed = place.collect()
        numbers = tuple((each.build.number, each.config, each.board) for each in work.new)
        return Published(place.root, numbers, len(results) - len(numbers), len(state.listings), removed)


def _taken(work: _Work, results: Sequence[FoundResult], faults: list[Fault]) -> list[_Fresh]:
    """The results that are new, copied and checked. faults: what is wrong is added to them."""
    fresh = []
    for index, result in enumerate(results):
        work.log.progress(f"{result.said.config} for {result.said.board}", index, len(results))
        taken = _take(work, result, work.folder / f"build-{index}", faults)
        fresh += [] if taken is None else [taken]
    return fresh


def _take(work: _Work, result: FoundResult, folder: Path, faults: list[Fault]) -> _Fresh | None:
    """One of them; None where it is shown already, or is damaged. What a build replaces meanwhile is taken
    as it is then."""
    while not _is_shown(work, result.said):
        folder.mkdir(exist_ok=True)
        wrong = list(_copied(result, folder))
        if not wrong:
            return _Fresh(result.said, folder, result.beside)
        again = read_again(result.folder) if result.replaced else wrong
        if not isinstance(again, FoundResult) or again.said.secrets or again.said.key != result.said.key:
            faults += wrong
            return None
        result = again
    return None


def _is_shown(work: _Work, said: SeenResult) -> bool:
    listing = work.listings.get(said.key)
    return listing is not None and listing.newest.content == said.content


def _copied(result: FoundResult, folder: Path) -> Iterator[Fault]:
    """Copy what is published, and compare the copies: what is shown is what was checked."""
    for name in (*(image.file for image in result.said.images), *result.beside):
        file, copy = result.folder / name, folder / name
        try:
            with opened_plain(file, follow=False) as stream:
                copy_opened(stream, copy)
        except PlainFileError as error:
            yield Fault(str(file), None, "", error.problem)
            continue
        wanted = result.sums.get(name)
        if wanted is not None and sha256_of(copy) != wanted:
            yield Fault(str(file), None, "", f"is damaged: its SHA-256 is not that of {SUMS} and the result")


def _add(work: _Work, fresh: _Fresh) -> None:
    """A new build: its facts, what changed, its place in the history."""
    said = fresh.said
    old, history = work.listings.get(said.key), work.place.history(said.board, said.config)
    taken = [build.number for build in history.builds]
    number = number_of(said.content, work.now, taken)
    build = _build(work, fresh, number)
    if old is not None:
        build = build.model_copy(update={"night": _night(work, old, fresh)})
    kept = (*(old.kept if old else ()), number)
    listing = _listing(said, work.now, kept, build, old.newest if old else None)
    work.listings[said.key] = listing
    work.histories[said.key] = History(
        config=said.config, board=said.board, builds=(*history.builds, build)[-MOST_HISTORY:]
    )
    work.new.append(Recent(config=said.config, board=said.board, name=listing.names[0], build=build))


def _build(work: _Work, fresh: _Fresh, number: str) -> PublishedBuild:
    said = fresh.said
    return PublishedBuild(
        number=number,
        published=work.now,
        builder=said.builder,
        version=said.tree.version,
        revision=said.device.revision,
        epoch=said.device.epoch,
        python=said.python,
        kernel=said.device.kernel,
        packages=len(said.packages),
        rootfs=said.rootfs.stored if said.rootfs else None,
        free=said.flash.free if said.flash else None,
        images=tuple(
            PublishedImage(
                file=image.file,
                type=image.type,
                size=image.size,
                sha256=image.sha256,
                filesystem=said.device.filesystems.get(image.file) or _filesystem(image.file),
                signed=image.file in said.signed,
            )
            for image in said.images
        ),
        files=(*fresh.files, PACKAGES),
    )


_FILESYSTEMS = ("squashfs", "ext4", "ubifs", "jffs2-64k", "jffs2-128k", "initramfs", "erofs", "targz")


def _filesystem(file: str) -> str:
    """What the name of an image says: `…-squashfs-sysupgrade.bin`; "" for other names."""
    return next((name for name in _FILESYSTEMS if f"-{name}-" in file or f"-{name}." in file), "")


def _night(work: _Work, old: Listing, fresh: _Fresh) -> Night | None:
    before = old.newest
    known = _packages_of(work, old, before.number)
    if known is None:
        return None
    now, kernel = fresh.packages, fresh.said.device.kernel
    return Night(
        before=before.number,
        packages=changes(known.packages, now.packages),
        sizes=size_changes(known.sizes, now.sizes),
        kernel=Change("kernel", before.kernel, kernel) if "" != before.kernel != kernel != "" else None,
    )


def _packages_of(work: _Work, listing: Listing, number: str) -> BuildPackages | None:
    """What a build says of its packages; None, with a warning, where somebody removed or changed that."""
    path = work.place.build(listing.board, listing.config, number) / PACKAGES
    try:
        return BuildPackages.model_validate_json(read_plain(path, _MOST_PACKAGES))
    except (PlainFileError, ValidationError):
        work.log.warn(f"{path} is gone or damaged: what changed since that build cannot be told")
        return None


def _listing(
    said: SeenResult,
    now: int,
    kept: tuple[str, ...],
    newest: PublishedBuild,
    before: PublishedBuild | None,
) -> Listing:
    return Listing(
        config=said.config,
        board=said.board,
        profile=said.profile,
        distribution=said.tree.distribution,
        target=said.tree.target,
        arch=said.tree.arch,
        titles=said.device.titles,
        supported_devices=said.device.supported_devices,
        default_packages=said.device.default_packages,
        device_packages=said.device.device_packages,
        seen=now,
        kept=kept,
        newest=newest,
        before=before,
    )


def _seen(work: _Work, said: SeenResult) -> None:
    """A result that is shown already may say something else of its device, and was here tonight."""
    old = work.listings[said.key]
    work.listings[said.key] = _listing(said, work.now, old.kept, old.newest, old.before)


def _state(work: _Work) -> SiteState:
    options, before = work.options, work.before
    keep = slice(-options.keep, None)
    listings = tuple(
        work.listings[key].model_copy(update={"kept": work.listings[key].kept[keep]})
        for key in sorted(work.listings)
    )
    fetchable = {(*listing.key, number) for listing in listings for number in listing.kept}
    recent = [*(before.recent if before else ()), *work.new]
    recent = [each for each in recent if (each.board, each.config, each.build.number) in fetchable]
    name = before.name if before else str(uuid5(NAMESPACE_URL, options.url) if options.url else uuid4())
    return SiteState(
        builder=__version__,
        name=name,
        title=options.title,
        url=options.url,
        look=look(__version__, options.title),
        published=work.now,
        listings=listings,
        recent=tuple(recent[-MOST_ENTRIES:]),
    )


def _write_builds(work: _Work, state: SiteState, fresh: Sequence[_Fresh]) -> None:
    """Pages of new builds and, where all pages look otherwise now, of those that are there."""
    pages, listings = Pages(state), {listing.key: listing for listing in state.listings}
    for each, recent in zip(fresh, work.new, strict=True):
        packages = each.packages
        page = pages.build(listings[each.said.key], recent.build, packages.packages, packages.sizes)
        (each.folder / INDEX).write_bytes(page)
        (each.folder / PACKAGES).write_text(packages.model_dump_json() + "\n")
        there = work.place.build(recent.board, recent.config, recent.build.number)
        work.moves.append((each.folder, there))
    if work.before is None or work.before.look == state.look:
        return
    new = {(*key, each.build.number) for each in work.new for key in [(each.board, each.config)]}
    for listing in state.listings:
        for build in _history(work, listing).builds:
            if build.number not in listing.kept or (*listing.key, build.number) in new:
                continue
            packages = _packages_of(work, listing, build.number) or BuildPackages(packages={}, sizes={})
            folder = work.place.build(*listing.key, build.number)
            folder.mkdir(parents=True, exist_ok=True)
            page = pages.build(listing, build, packages.packages, packages.sizes)
            write_whole(folder / INDEX, page, work.folder)


def _history(work: _Work, listing: Listing) -> History:
    found = work.histories.get(listing.key)
    return work.place.history(listing.board, listing.config) if found is None else found


def _write_generation(work: _Work, state: SiteState, folder: Path) -> None:
    pages = Pages(state)
    for name in ("boards", "releases", "snapshots"):
        (folder / name).mkdir(parents=True)
    for listing in state.listings:
        _write_board(work, state, pages, listing, folder / "boards" / listing.board / listing.config)
    files = release_files(state.listings)
    if state.url:
        files |= overview_files(state.listings, _all_packages(work, state), state.url, state.builder)
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n")
    _write_images(work, state, pages, folder)
    (folder / STATE).write_text(state.model_dump_json() + "\n")
    (folder / FEED).write_bytes(feed(state))
    (folder / INDEX).write_bytes(pages.index())
    for name in (STYLE, SEARCH):
        (folder / name).write_bytes(static(name))


def _write_board(work: _Work, state: SiteState, pages: Pages, listing: Listing, folder: Path) -> None:
    """A board's page and history: as they are shown now where nothing on them changes."""
    folder.mkdir(parents=True)
    if _is_same(work, state, listing) and work.place.shown is not None:
        shown = work.place.shown / "boards" / listing.board / listing.config
        for name in (INDEX, HISTORY):
            link_or_copy(shown / name, folder / name)
        return
    history = _history(work, listing)
    (folder / HISTORY).write_text(history.model_dump_json() + "\n")
    (folder / INDEX).write_bytes(pages.board(listing, history.builds))


def _is_same(work: _Work, state: SiteState, listing: Listing) -> bool:
    if work.before is None or work.before.look != state.look:
        return False
    old = work.shown.get(listing.key)
    return old is not None and old.model_copy(update={"seen": listing.seen}) == listing


def _all_packages(work: _Work, state: SiteState) -> Mapping[tuple[str, str], Mapping[str, str]]:
    fresh = {new: old for old, new in work.moves}
    found = {}
    for listing in state.listings:
        place = work.place.build(*listing.key, listing.newest.number)
        path = fresh.get(place, place) / PACKAGES
        found[listing.key] = BuildPackages.model_validate_json(read_plain(path, _MOST_PACKAGES)).packages
    return found


def _write_images(work: _Work, state: SiteState, pages: Pages, folder: Path) -> None:
    """The images of the last two builds of each listing, under the names that profiles.json has: who has that
    of the night before fetches what it says."""
    fresh = {new: old for old, new in work.moves}
    sums: dict[str, dict[str, str]] = {}
    for listing in state.listings:
        for build in (listing.newest, listing.before):
            if build is None or build.number not in listing.kept:
                continue
            target = target_folder(listing, build)
            (folder / target).mkdir(parents=True, exist_ok=True)
            there = work.place.build(*listing.key, build.number)
            for image in build.images:
                name = image_name(listing, build, image)
                if name in sums.setdefault(target, {}):
                    continue  # two boards of one profile and one config, and the same image
                link_or_copy(fresh.get(there, there) / image.file, folder / target / name)
                sums[target][name] = image.sha256
    for target, listed in sums.items():
        lines = [f"{sha256} *{name}\n" for name, sha256 in sorted(listed.items())]
        (folder / target / SUMS).write_text("".join(lines))
        extra = [name for name in ("profiles.json",) if (folder / target / name).exists()]
        (folder / target / INDEX).write_bytes(pages.folder(target, [*sorted(listed), *extra, SUMS]))
