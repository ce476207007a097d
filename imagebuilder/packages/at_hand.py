"""The files of packages that are on this machine already, before anything is fetched for an image."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.model.package import LOCAL, Package
from imagebuilder.packages.feed import in_folder
from imagebuilder.packages.supply import Job, Supply


def paths_at_hand(job: Job, supply: Supply, package: Package) -> tuple[str, ...] | None:
    """The paths in a package; None where its file is not on this machine, or only its manager can tell.
    PackageFileError for a damaged one."""
    file = _file(job, supply, package)
    return None if file is None else job.manager.paths(file)


def _file(job: Job, supply: Supply, package: Package) -> Path | None:
    if package.feed == LOCAL:
        return None
    if not package.feed:
        return supply.base.get(package.filename) or in_folder(supply.tree / "packages")(package)
    feed = supply.feed(package.feed)
    here = in_folder(feed.folder)(package) if feed is not None and feed.folder is not None else None
    if here is not None or not package.sha256:
        return here
    with job.downloads() as downloads:
        return downloads.cache.find(package.sha256.lower(), job.log)
