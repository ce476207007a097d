"""What goes into an image is looked at as a whole before make is called: files that two packages want,
folders where overlays have files, programs for another processor. What was found of a set once is kept."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import write_whole
from imagebuilder.model.package import Selected, Wish
from imagebuilder.packages.feed import FEED, in_folder
from imagebuilder.packages.supply import Job, Supply
from imagebuilder.rootfs.tree import EMPTY, FileTree

_FORM = "1"  # of what is kept of sets that were looked at; another number makes all of them anew
NOTE = "\t"  # begins a line that is a note, and no warning


class ContentsError(UserError):
    """Packages and overlays whose files cannot be in one image."""


def check_contents(job: Job, supply: Supply, going: Sequence[Selected], over: FileTree, asked: Wish) -> None:
    """ContentsError names all packages that want different files at one path, who asked for them and what
    helps; overlays' files in place of folders, and the reverse; programs, libraries and kernel modules of
    packages that are for another processor.

    going: all packages of the image, in the order of installing, laid for make (PackageManager.lay); over:
    what the overlays hold; asked: what config, overlays and Python asked for. Where make lets one of the two
    have its way, it is only told of a package that brings another one in, and of what nobody asked for.
    """
    place = job.cache / "indexes" / f"{_digest(job, going, over)}.together"
    if place.is_file():
        os.utime(place)  # last used now
        told = place.read_text("utf-8", "replace").splitlines()
    else:
        # what looks at files is loaded only where a set is new
        from imagebuilder.packages.together import looked_at  # noqa: PLC0415

        told = looked_at(job, [(each, package_file(job, supply, each)) for each in going], over, asked)
        with disk_errors_explained(job.cache):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, "\n".join(told).encode())
    for line in told:
        (job.log.note if line.startswith(NOTE) else job.log.warn)(line.removeprefix(NOTE))


def package_paths(job: Job, supply: Supply, going: Sequence[Selected]) -> dict[str, int]:
    """What packages bring, by path: kind and mode of each as stat(2) has them; of a link that opkg makes by a
    package's `Alternatives` that of a link. Where two bring one path, that of the one that is installed last.

    going: as for check_contents(). ContentsError, PackageFileError, HostError where the cache cannot be
    written.
    """
    place = job.cache / "indexes" / f"{_digest(job, going, EMPTY)}.paths"
    if place.is_file():
        os.utime(place)  # last used now
        known = _unpacked(place.read_bytes())
        if known is not None:
            return known
    from imagebuilder.packages.contents import FILE, FOLDER, LINK, contents_of  # noqa: PLC0415 - as above

    kinds = {FILE: stat.S_IFREG, FOLDER: stat.S_IFDIR, LINK: stat.S_IFLNK}
    found: dict[str, int] = {}
    for each in going:
        held = contents_of(job, each.package, package_file(job, supply, each)).held
        found |= {path: kinds[one.kind] | one.mode for path, one in held.items()}
        for word in each.package.extra.get("Alternatives", "").split(","):
            _, _, rest = word.strip().partition(":")
            found.setdefault(rest.partition(":")[0], stat.S_IFLNK)
    found.pop("", None)
    with disk_errors_explained(job.cache):
        write_whole(place, json.dumps(found, separators=(",", ":")).encode())
    return found


def _unpacked(data: bytes) -> dict[str, int] | None:
    """What package_paths() wrote; None for other bytes: writing is whole, a disk may still fail."""
    try:
        known = json.loads(data)
    except ValueError:
        return None
    return known if isinstance(known, dict) else None


def _digest(job: Job, going: Sequence[Selected], over: FileTree) -> str:
    """Of all that the answer depends on. Why a package goes in counts too: it is told."""
    tree = job.tree
    facts = [_FORM, tree.package_manager, tree.arch, str(tree.forces_overwrite)]
    for each in going:
        package = each.package
        known = package.identity or package.sha256
        facts += [package.name, known, package.filename, *each.why[:2], str(len(each.why))]
        if not known:  # a file that nothing tells from its successor
            facts.append(str(job.work))
    facts += [f"{path} {entry.kind} {entry.target}" for path, entry in over.items()]
    return hashlib.sha256("\0".join(facts).encode("utf-8", "surrogateescape")).hexdigest()


def package_file(job: Job, supply: Supply, selected: Selected) -> Path:
    """A package's file, which make will install: packages are laid. ContentsError where it is not there."""
    package = selected.package
    own = None if package.feed else supply.base.get(package.filename)
    folder = job.work / FEED if package.feed else supply.tree / "packages"
    found = own or in_folder(folder)(package)
    if found is None:
        raise ContentsError(
            f"the package {package.name} is listed, and its file {package.filename} is not in {folder}",
            hint="the tree is damaged: unpack it again",
        )
    return found
