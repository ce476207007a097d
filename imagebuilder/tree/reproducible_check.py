"""Whether two builds of one plan are equal, and if not, what differs."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.fs import CHUNK_BYTES, sha256_of
from imagebuilder.model.result import ImageFile
from imagebuilder.model.tree import Places
from imagebuilder.tree.rootfs import find_rootfs

SHOWN = 10  # files of a root file system that a message names


class ReproducibilityError(UserError):
    """Two builds of one plan are not equal."""


@dataclass(frozen=True)
class BuildRecord:
    """One build, to be compared with another. folder: where its images lie. files: the root file system that
    they were made of, by path: kind, mode and SHA-256 or target."""

    folder: Path
    images: tuple[ImageFile, ...]
    files: Mapping[str, str]


def record_build(folder: Path, images: Sequence[ImageFile], changed: Path, places: Places) -> BuildRecord:
    """The record of a build whose view still exists. changed: the view's; places: the tree's."""
    rootfs = find_rootfs(changed, places)
    return BuildRecord(folder, tuple(images), {} if rootfs is None else _described(rootfs))


def _described(rootfs: Path) -> dict[str, str]:
    described = {}
    for parent, folders, files in os.walk(rootfs):
        for name in sorted([*folders, *files]):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            facts = stat.filemode(mode)
            if stat.S_ISLNK(mode):
                facts += f" -> {path.readlink()}"
            elif stat.S_ISREG(mode):
                facts += f" {sha256_of(path)}"
            described[f"/{path.relative_to(rootfs)}"] = facts
    return described


def differences(first: BuildRecord, second: BuildRecord) -> tuple[str, ...]:
    """What differs in the images that the board declares, a sentence for each image, then for each file of
    the root file systems; nothing where all images are equal."""
    ours = {image.type: image for image in first.images}
    theirs = {image.type: image for image in second.images}
    lines = []
    for name in dict.fromkeys((*ours, *theirs)):
        if name not in ours or name not in theirs:
            lines.append(f"only the {'second' if name not in ours else 'first'} build made the {name} image")
        elif ours[name].sha256 != theirs[name].sha256:
            place = _first_difference(first.folder / ours[name].file, second.folder / theirs[name].file)
            lines.append(f"the {name} image differs, first at byte {place} of {ours[name].size}")
    return (*lines, *_differing_files(first.files, second.files)) if lines else ()


def check_equal(first: BuildRecord, second: BuildRecord) -> None:
    """ReproducibilityError, naming what differs, unless every declared image is the same twice."""
    lines = differences(first, second)
    if lines:
        raise ReproducibilityError(
            "two builds of one plan differ:\n" + "\n".join(lines),
            hint="a package's script or an overlay may hold a time or a random number",
        )


def _differing_files(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    differing = sorted(path for path in {*ours, *theirs} if ours.get(path) != theirs.get(path))
    if not differing:
        return ["the root file systems hold the same: it is the program that makes the image"]
    lines = []
    for path in differing[:SHOWN]:
        if path not in ours or path not in theirs:
            lines.append(
                f"{path} is in the {'second' if path not in ours else 'first'} root file system only"
            )
        else:
            kinds = ours[path][:10], theirs[path][:10]
            lines.append(f"{path} differs" + (f": {kinds[0]} and {kinds[1]}" if kinds[0] != kinds[1] else ""))
    more = len(differing) - SHOWN
    return [*lines, f"and {more} more files"] if more > 0 else lines


def _first_difference(one: Path, other: Path) -> int:
    """The first byte, counted from 0, that differs, or the shorter length."""
    offset = 0
    with one.open("rb") as first, other.open("rb") as second:
        while True:
            ours, theirs = first.read(CHUNK_BYTES), second.read(CHUNK_BYTES)
            if ours != theirs or not ours:
                pairs = enumerate(zip(ours, theirs, strict=False))
                inside = (number for number, (a, b) in pairs if a != b)
                return offset + next(inside, min(len(ours), len(theirs)))
            offset += len(ours)
