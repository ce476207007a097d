"""The root file system that an image will have, packed by the tree's own mksquashfs beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuilder.budget.records import installed_tree
from imagebuilder.host.sandbox import scratch_folder
from imagebuilder.packages.opkg.feed import FEED, in_folder
from imagebuilder.packages.opkg.ipk_reader import Ipk, read_ipk
from imagebuilder.packages.supply import Job, Supply
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.tree.measure import SquashfsOptions, measure_squashfs
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.reproducible import source_date_epoch, steady_tools


def measured_bytes(
    job: Job, supply: Supply, plan: Plan, over: FileTree, options: SquashfsOptions
) -> int | None:
    """The bytes of the squashfs with the plan's packages, which were laid (choose), and the
    overlays' files. None for apk's packages: only apk unpacks these. MeasureError."""
    if plan.tree.package_manager == "apk":
        return None
    epoch = source_date_epoch(supply.tree)
    steady_tools(supply.tree, job.view, job.log, job.request.cache)
    with scratch_folder(job.work, "measure-") as place:
        root = place / "root"
        write_tree(installed_tree(_unpacked(job, supply, plan), over), root, mtime=epoch)
        root.chmod(0o755)
        return measure_squashfs(
            supply.tree,
            options,
            root,
            place / "root.squashfs",
            epoch=epoch,
            wrap=job.view.command,
            seen_tree=job.view.tree,
            seen=lambda path: job.view.work / path.relative_to(job.work),
        )


def _unpacked(job: Job, supply: Supply, plan: Plan) -> Sequence[Ipk]:
    """The packages of a plan, in its order."""
    laid, own = in_folder(job.work / FEED), in_folder(supply.tree / "packages")
    packages = {
        (feed, package.name, package.version): package
        for feed, offered in supply.offers.packages.items()
        for package in offered
    }
    files = []
    for each in plan.install:
        package = packages.get((each.feed, each.name, each.version))
        found = supply.base.get(each.filename) if not each.feed else None
        if found is None and package is not None:
            found = own(package) if not each.feed else laid(package)
        if found is None:  # made here: its file has the name that its facts give it
            (found,) = (job.work / FEED).glob(f"{each.name}_*.ipk")
        files.append(found)
    return [read_ipk(file) for file in files]
