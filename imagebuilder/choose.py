"""The packages of an image: what there is, which of it goes in, and how make gets it; by the tree's own
package manager."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from imagebuilder.config.model_config import Config
from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.model.filespec import FilespecRecord
from imagebuilder.model.package import Package
from imagebuilder.model.tree import Tree
from imagebuilder.own.local import Local, Made, make_local, with_originals
from imagebuilder.own.remade import remade_plan, remakes_python
from imagebuilder.packages.apk.feed import checked_apk
from imagebuilder.packages.apk.reader import read_apk
from imagebuilder.packages.apk.supply import fetch_apk, lay_apk, open_apk, plan_apk
from imagebuilder.packages.install import Offers, with_packages
from imagebuilder.packages.lock import locked_versions, only_locked
from imagebuilder.packages.opkg.feed import Finder, Wanted, checked_file, in_folder, lay_files, lay_lists
from imagebuilder.packages.opkg.hermetic import lay_own_index
from imagebuilder.packages.opkg.ipk_reader import read_ipk
from imagebuilder.packages.opkg.supply import fetch_opkg, lay_opkg, open_opkg
from imagebuilder.packages.repack import content_of, repack
from imagebuilder.packages.supply import LOCAL, Job, Search, Supply
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.local_package import LocalPackage
from imagebuilder.tree.plan import Plan


def open_supply(job: Job, config: Config, tree: Tree) -> Supply:
    """The packages that an image of this tree can have; indexes of feeds are fetched and verified, offline
    taken from the cache.

    FeedUseError for a [[feed]] that cannot be used; TrustError and its kinds, DownloadError, OfflineError.
    """
    job.request.cache.mkdir(parents=True, exist_ok=True)
    search = Search(job, config)
    supply = open_apk(search, tree) if tree.package_manager == "apk" else open_opkg(search, tree)
    supply.note_unusable(job.log)
    return supply


def choose_packages(
    job: Job, plan: Plan, supply: Supply, local: Local, config: Config, *, locked: LockedBoard | None
) -> tuple[Plan, Local, Offers]:
    """The plan with all packages of the image; what is made here for it; and what it was chosen from. locked:
    only those may be taken.

    LockError where one of them is not to be had any more; PlanError, ApkRefusalError, FilespecUseError.
    """
    offers = supply.offers
    if locked is not None:
        offers = replace(offers, packages=only_locked(offers.packages, locked, supply.indexes()))
    plan, chosen = _chosen(job, plan, (supply, local, offers), locked, original=True)
    local = replace(local, taken=plan.install)
    if any(use.package for use in config.filespec):
        local = with_originals(local, plan, config, offers.packages)
        plan, chosen = _chosen(job, plan, (supply, local, offers), locked, original=True)
    if remakes_python(plan, config):
        contents = _contents(job, supply, plan, local)
        installed = _planned(plan, chosen)
        plan, local = remade_plan(job, plan, local, config, contents=contents, installed=installed)
        plan, chosen = _chosen(job, plan, (supply, local, offers), locked)
    elif local.originals:
        repacked = _contents(job, supply, plan, local, only=local.originals)
        local = replace(local, contents=repacked)
    return plan, local, chosen


def _planned(plan: Plan, offers: Offers) -> list[Package]:
    """The packages of a plan, in its order."""
    known = {
        (feed, package.name, package.version): package
        for feed, packages in offers.packages.items()
        for package in packages
    }
    return [known[each.feed, each.name, each.version] for each in plan.install]


def _contents(
    job: Job, supply: Supply, plan: Plan, local: Local, *, only: Collection[str] | None = None
) -> dict[str, LocalPackage]:
    """What is in the packages of a plan that others made, which are fetched for it; those that a filespec is
    for as it leaves them. only: the names of these. FeedError names all that is missing or damaged, and what
    wants it."""
    apk = plan.tree.package_manager == "apk"
    feeds = {feed.name: feed for feed in supply.feeds}
    repacked = [(feeds.get(each.feed), each.package) for each in local.originals.values()]
    planned = [] if only is not None else supply.wanted(plan)
    wanted = [(feed, package) for feed, package, _ in supply.from_feeds(plan)] if planned else []
    fetch = fetch_apk if apk else fetch_opkg
    finders = fetch(job, supply, [*wanted, *((feed, each) for feed, each in repacked if feed is not None)])
    own = {(each.name, each.version) for each in plan.install if not each.feed and only is None}
    theirs = [each for each in supply.own if (each.name, each.version) in own]
    others = [
        Wanted(each, ("python.shake, python.compile or a filespec",))
        for each in (*theirs, *(package for _, package in repacked))
    ]
    places = [
        *finders,
        in_folder(supply.tree / "packages"),
        lambda package: supply.base.get(package.filename),
    ]
    folder = job.work / "contents"
    checked = checked_apk if apk else checked_file
    laid = lay_files(folder, [*planned, *others], places, checked)
    found = {}
    for package in laid:
        file = folder / package.filename
        found[package.name] = read_apk(file, package) if apk else content_of(read_ipk(file))
    for name, original in local.originals.items():
        if name in found:
            found[name] = repack(found[name], original.rules, plan.tree.package_manager).content
    return found


def _chosen(
    job: Job,
    plan: Plan,
    sources: tuple[Supply, Local, Offers],
    locked: LockedBoard | None,
    *,
    original: bool = False,
) -> tuple[Plan, Offers]:
    supply, local, offers = sources
    made = local.packages(plan.tree.package_manager)
    offers = replace(offers, packages={**offers.packages, LOCAL: made}) if made else offers
    if plan.tree.package_manager == "apk":
        versions = locked_versions(locked, made, original=original) if locked is not None else {}
        return plan_apk(job, plan, supply, made, locked=versions), offers
    return with_packages(plan, offers), offers


def lay_packages(
    job: Job, supply: Supply, plan: Plan, local: Local, config: Config
) -> tuple[FilespecRecord, ...]:
    """Fetch what the plan takes from feeds, make what is made here, and give it all to make, each package
    checked, in place of the tree's feeds; what filespecs did.

    FeedError names all that is missing or damaged, and what wants it; errors of make_local().
    """
    ours = [each for each in plan.install if each.feed == LOCAL]
    if not (supply.feeds or ours):
        if isinstance(supply.own_index, Path):  # of a tree that holds all that it installs
            lay_own_index(supply.own_index, supply.tree, job.view, job.work)
            lay_lists(job.work)
        return ()
    apk = plan.tree.package_manager == "apk"
    feeds = {feed.name: feed for feed in supply.feeds}
    wanted = [(feed, package) for feed, package, _ in supply.from_feeds(plan)]
    originals = [(feeds[each.feed], each.package) for each in local.originals.values() if each.feed]
    fetch = fetch_apk if apk else fetch_opkg
    finders = fetch(job, supply, [*wanted, *originals])
    laid = supply.wanted(plan)
    made = Made(job.work, {}, ())
    if ours:
        found = _originals(job, local, [*finders, in_folder(supply.tree / "packages")], apk=apk)
        own = [*finders, in_folder(supply.tree / "packages")]
        made = make_local(
            job,
            local,
            plan,
            config,
            originals=found.__getitem__,
            unpack=lambda root: _unpack(supply, plan, own, root),
        )
        laid += [Wanted(made.packages[each.name], each.why) for each in ours]
        finders.append(in_folder(made.folder))
    lay = lay_apk if apk else lay_opkg
    lay(job, supply, laid, finders)
    return made.records


def _unpack(supply: Supply, plan: Plan, finders: list[Finder], root: Path) -> None:
    """Lay what of the plan's packages may be part of an interpreter, or its libraries, into a folder."""
    chosen = {
        (each.feed, each.name, each.version) for each in plan.install if not each.name.startswith("kmod-")
    }
    for feed, packages in supply.offers.packages.items():
        for package in packages:
            if (feed, package.name, package.version) not in chosen:
                continue
            file = supply.base.get(package.filename) or next(
                filter(None, (find(package) for find in finders)), None
            )
            if file is not None:
                apk = plan.tree.package_manager == "apk"
                write_tree(read_apk(file, package).tree if apk else read_ipk(file).tree, root)


def _originals(job: Job, local: Local, finders: list[Finder], *, apk: bool) -> dict[Package, Path]:
    """The checked files of the packages that are repacked."""
    folder = job.work / "originals"
    packages = [each.package for each in local.originals.values()]
    why = ("filespec",)
    checked = checked_apk if apk else checked_file
    names = lay_files(folder, [Wanted(each, why) for each in packages], finders, checked)
    return {package: folder / laid.filename for package, laid in zip(packages, names, strict=True)}
