"""The packages of an image: which of what there is go in, and how make gets them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.model.filespec import FilespecRecord
from imagebuilder.model.package import LOCAL, Package, Selected, Wish
from imagebuilder.own.local import (
    NOTHING_REMADE,
    Local,
    Original,
    Remade,
    made_here,
    originals_of,
)
from imagebuilder.own.own import Own
from imagebuilder.own.remade import INTERPRETER, reader_package, remake, remakes_python
from imagebuilder.packages.feed import Finder, in_folder, lay_files
from imagebuilder.packages.resolution import Resolution
from imagebuilder.packages.supply import Job, Offers, Supply
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import LocalPackage

if TYPE_CHECKING:
    from imagebuilder.own.making import LocalFeed


@dataclass(frozen=True)
class ChosenPackages:
    """wanted: what was asked for in the end: nothing that became needless; found: all that goes in. local:
    what is made here; offers: what there was to choose from."""

    wanted: Wish
    found: Resolution
    local: Local
    offers: Offers


@dataclass(frozen=True)
class _Choosing:
    """What is the same however often an image's packages are resolved. offers: without what is made here."""

    job: Job
    supply: Supply
    own: Own
    offers: Offers
    locked: LockedBoard | None

    def resolve(
        self, wanted: Wish, originals: Mapping[str, Original], remade: Remade | None = None
    ) -> tuple[Resolution, Offers]:
        """All packages, and what they were chosen from. remade: None as long as packages may get another
        form."""
        made = made_here(self.own, originals, remade or NOTHING_REMADE, self.job.manager)
        pins = {}
        if self.locked is not None:
            from imagebuilder.packages.lock import locked_versions  # noqa: PLC0415 - for `--locked` alone

            pins = locked_versions(self.locked, made, original=remade is None)
        offers = self.offers.with_made(made, pins)
        return self.job.manager.resolve(self.job, wanted, self.supply, offers), offers


def choose_first(job: Job, wanted: Wish, supply: Supply, own: Own) -> Sequence[Selected]:
    """The packages of the image as the feeds have them, before any gets another form. PlanError."""
    choosing = _Choosing(job, supply, own, supply.offers.without(own.instead), None)
    return choosing.resolve(wanted, {})[0].selected


def choose_packages(
    job: Job, wanted: Wish, supply: Supply, own: Own, *, locked: LockedBoard | None
) -> ChosenPackages:
    """All packages of the image, and what is made here for it. wanted: what make will ask the package manager
    for; locked: only those packages may be taken.

    LockError where one of them is not to be had any more; PlanError, FilespecUseError; what remake() raises.
    """
    offers = supply.offers
    if locked is not None:
        from imagebuilder.packages.lock import only_locked  # noqa: PLC0415 - for `--locked` alone

        offers = only_locked(offers, locked, supply.indexes())
    offers = offers.without(own.instead)
    choosing = _Choosing(job, supply, own, offers, locked)
    originals: dict[str, Original] = {}
    found, offers = choosing.resolve(wanted, originals)
    taken = found.selected
    if any(use.package for use in job.config.filespec):
        originals = originals_of(found.selected, own, job.config)
        found, offers = choosing.resolve(wanted, originals)
    contents: dict[str, LocalPackage] = {}
    remade = NOTHING_REMADE
    if remakes_python(job.config, job.tree.release, found.selected):
        contents = _contents(job, supply, found.selected, originals)
        remade = remake(
            job,
            own,
            wanted,
            found.selected,
            originals=originals,
            contents=contents,
            reader=lambda: _reader(job, supply, found.selected),
        )
        wanted = wanted.without(remade.gone)
        found, offers = choosing.resolve(wanted, originals, remade)
    elif originals:
        contents = _contents(job, supply, (), originals)
    return ChosenPackages(wanted, found, Local(own, originals, remade, contents, taken), offers)


def _contents(
    job: Job, supply: Supply, selected: Iterable[Selected], originals: Mapping[str, Original]
) -> dict[str, LocalPackage]:
    """What is in selected packages that others made, and in those that are repacked, which a filespec leaves
    as they will be; they are fetched for it. FeedError names all that is missing or damaged, and what wants
    it."""
    from imagebuilder.packages.repack import repack  # noqa: PLC0415 - few configs have filespecs

    why = ("python.shake, python.compile or a filespec",)
    wanted = [each for each in selected if each.feed != LOCAL]
    wanted += [Selected(each.package, why) for each in originals.values()]
    places = _places(job, supply, [each.package for each in wanted])
    found = _read(job, wanted, [*places, lambda package: supply.base.get(package.filename)], "contents")
    for name, original in originals.items():
        found[name] = repack(found[name], original.rules, job.manager).content
    return found


def _reader(job: Job, supply: Supply, selected: Sequence[Selected]) -> dict[str, LocalPackage]:
    """What the image's own Python lacks to read bytecode, where a smaller one goes in: the package with the
    module dis, of the same version. None where the feeds have no such."""
    name, base = reader_package(job.tree.release), next(each for each in selected if each.name == INTERPRETER)
    if any(each.name == name for each in selected):
        return {}
    offered = (each for each in supply.offers.packages if each.name == name)
    package = next((each for each in offered if each.version == base.version), None)
    if package is None:
        return {}
    wanted = [Selected(package, ("python.shake, which reads bytecode by it",))]
    return _read(job, wanted, _places(job, supply, [package]), "reader")


def _places(job: Job, supply: Supply, packages: Sequence[Package]) -> list[Finder]:
    """Where to look for packages of feeds, which are fetched, and for the tree's own."""
    return [*job.manager.fetch(job, supply, packages), in_folder(supply.tree / "packages")]


def _read(
    job: Job, wanted: Sequence[Selected], places: Sequence[Finder], folder: str
) -> dict[str, LocalPackage]:
    """The contents of packages, each checked, by name. folder: of the work folder, which is made."""
    laid = lay_files(job.work / folder, wanted, places, job.manager.checked)
    return {
        each.name: job.manager.read(job.work / folder / package.filename, each.package)
        for each, package in zip(wanted, laid, strict=True)
    }


@dataclass(frozen=True)
class Laid:
    """packages: of the image, as make will install them, in that order: with the sizes and hashes of those
    that were made here. records: what filespecs did; made: the packages that were made here, by name."""

    packages: tuple[Selected, ...]
    records: tuple[FilespecRecord, ...] = ()
    made: Mapping[str, Package] = field(default_factory=dict)


def lay_packages(job: Job, supply: Supply, selected: Sequence[Selected], local: Local) -> Laid:
    """Fetch what is taken from feeds, make what is made here, and give it all to make, each package checked,
    in place of the tree's feeds.

    FeedError names all that is missing or damaged, and what wants it; errors of make_local().
    """
    ours = _made_here(selected)
    if not (supply.feeds or ours):
        job.manager.lay_tree(job, supply)
        return Laid(tuple(selected))
    theirs = _of_feeds(selected)
    places = _places(job, supply, [each.package for each in (*theirs, *_originals(local))])
    laid = Laid(tuple(selected))
    if ours:
        made = _make(job, supply, selected, local, places=places, others=lambda: places)
        now = {each.name: replace(each, package=made.packages[each.name]) for each in ours}
        laid = Laid(tuple(now.get(each.name, each) for each in selected), made.records, made.packages)
        theirs += now.values()
        places = [*places, in_folder(made.folder)]
    job.manager.lay(job, supply, theirs, places)
    return laid


def make_packages(
    job: Job, supply: Supply, selected: Sequence[Selected], local: Local
) -> Mapping[str, Package]:
    """Make what is made here and nothing more, so that a lock can say what it is: the packages by name, with
    size and hash. Others are fetched as far as making takes them. Errors as for lay_packages()."""
    if not _made_here(selected):
        return {}
    places = _places(job, supply, [each.package for each in _originals(local)])

    def others() -> Sequence[Finder]:
        return _places(job, supply, [each.package for each in _of_feeds(selected)])

    return _make(job, supply, selected, local, places=places, others=others).packages


def _made_here(selected: Iterable[Selected]) -> list[Selected]:
    return [each for each in selected if each.feed == LOCAL]


def _of_feeds(selected: Iterable[Selected]) -> list[Selected]:
    return [each for each in selected if each.feed not in ("", LOCAL)]


def _originals(local: Local) -> list[Selected]:
    return [Selected(each.package, ("filespec",)) for each in local.originals.values()]


def _make(
    job: Job,
    supply: Supply,
    selected: Sequence[Selected],
    local: Local,
    *,
    places: Sequence[Finder],
    others: Callable[[], Sequence[Finder]],
) -> LocalFeed:
    """places: where to look for what is repacked; others: the same for the rest, asked where it is wanted."""
    from imagebuilder.own.making import make_local  # noqa: PLC0415 - only where something is made here

    return make_local(
        job,
        local,
        [each.name for each in _made_here(selected)],
        originals=_read(job, _originals(local), places, "originals"),
        unpack=lambda root: _unpack(job, supply, selected, others(), root),
    )


def _unpack(
    job: Job, supply: Supply, selected: Iterable[Selected], places: Sequence[Finder], root: Path
) -> None:
    """Lay what of the packages may be part of an interpreter, or its libraries, into a folder."""
    for each in selected:
        if each.feed == LOCAL or each.name.startswith("kmod-"):
            continue
        package = each.package
        file = supply.base.get(package.filename) or next(
            filter(None, (find(package) for find in places)), None
        )
        if file is not None:
            write_tree(job.manager.read(file, package).tree, root)
