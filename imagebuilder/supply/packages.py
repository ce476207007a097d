"""The packages of an image: what there is, which of it goes in, and how make gets it; by the tree's own
package manager."""

from __future__ import annotations

from dataclasses import replace

from imagebuilder.model.config import Config
from imagebuilder.model.lock import LockedBoard
from imagebuilder.model.plan import Plan
from imagebuilder.model.tree import Tree
from imagebuilder.planning.install import with_packages
from imagebuilder.planning.lock import only_locked
from imagebuilder.supply.apk import lay_apk, open_apk, plan_apk
from imagebuilder.supply.feeds import Job, Search, Supply
from imagebuilder.supply.opkg import lay_opkg, open_opkg


def open_supply(job: Job, config: Config, tree: Tree) -> Supply:
    """The packages that an image of this tree can have; indexes of feeds are fetched and verified, offline
    taken from the cache.

    FeedUseError for a [[feed]] that cannot be used; TrustError and its kinds, DownloadError, OfflineError.
    """
    job.request.cache.mkdir(parents=True, exist_ok=True)
    search = Search(job, config)
    return open_apk(search, tree) if tree.package_manager == "apk" else open_opkg(search, tree)


def choose_packages(job: Job, plan: Plan, supply: Supply, *, locked: LockedBoard | None) -> Plan:
    """The plan with all packages of the image. locked: only those may be taken. LockError where one of them
    is not to be had any more; PlanError, ApkRefusalError."""
    offers = supply.offers
    if locked is not None:
        offers = replace(offers, packages=only_locked(offers.packages, locked, supply.indexes()))
    if plan.tree.package_manager == "apk":
        return plan_apk(job, plan, supply, locked=locked)
    return with_packages(plan, offers)


def lay_packages(job: Job, supply: Supply, plan: Plan) -> None:
    """Fetch what the plan takes from feeds and give it to make, each package checked, in place of the tree's
    feeds. FeedError names all that is missing or damaged, and what wants it."""
    if supply.feeds:
        lay = lay_apk if plan.tree.package_manager == "apk" else lay_opkg
        lay(job, supply, plan)
