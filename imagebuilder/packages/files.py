"""The files in a package, where its own file is on this machine."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.feed import in_folder
from imagebuilder.packages.opkg.ipk_reader import read_ipk
from imagebuilder.packages.supply import Job, Supply


def files_of(job: Job, tree: Path, supply: Supply, feed: str, package: Package) -> tuple[str, ...] | None:
    """The paths of a package's files; None where its file is not here, or is apk's, which only apk reads.
    PackageFileError for a damaged file."""
    file = _file(job, tree, supply, feed, package)
    if file is None or file.suffix == ".apk":
        return None
    return tuple(path for path, entry in read_ipk(file).tree.items() if entry.kind != "dir")


def _file(job: Job, tree: Path, supply: Supply, feed: str, package: Package) -> Path | None:
    if not feed:
        return supply.base.get(package.filename) or in_folder(tree / "packages")(package)
    folder = next((each.folder for each in supply.feeds if each.name == feed), None)
    here = in_folder(folder)(package) if folder is not None else None
    if here is not None or not package.sha256:
        return here
    with job.downloads() as downloads:
        return downloads.cache.find(package.sha256.lower(), job.log)
