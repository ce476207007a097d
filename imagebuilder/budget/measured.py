"""The root file system that an image will have, packed by the tree's own mksquashfs beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from imagebuilder.host.sandbox import scratch_folder
from imagebuilder.model.package import Selected
from imagebuilder.packages.supply import Job, Supply
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.tree.measure import SquashfsOptions, measure_squashfs
from imagebuilder.tree.reproducible import source_date_epoch, steady_tools


def measured_bytes(
    job: Job, supply: Supply, selected: Sequence[Selected], over: FileTree, options: SquashfsOptions
) -> int | None:
    """The bytes of the squashfs with these packages, which were laid (choose), and the overlays' files. None
    where only the package manager itself can unpack them. MeasureError."""
    installed = job.manager.installed(job, supply, selected, over)
    if installed is None:
        return None
    epoch = source_date_epoch(supply.tree)
    steady_tools(supply.tree, job.view, job.log, job.cache)
    with scratch_folder(job.work) as place:
        root = place / "root"
        write_tree(installed, root, mtime=epoch)
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
