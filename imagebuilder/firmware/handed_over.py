"""Every image read, checked against its board, and measured, before it is handed over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from imagebuilder.config.board import Board
from imagebuilder.errors import UserError
from imagebuilder.firmware.verify import Verified, verify_all
from imagebuilder.log import Log
from imagebuilder.model.result import ImageFile, PackageSize, RootfsSizes


class UnsafeImageError(UserError):
    """What was built must not be flashed on its board."""


def check_flashable(
    board: Board,
    images: Sequence[ImageFile],
    folder: Path,
    release: str,
    log: Log,
    *,
    unread: Collection[str] = (),
) -> dict[str, Verified]:
    """What was found of each image, by its file. UnsafeImageError, a line each, for what speaks against
    flashing one of them; HostError without squashfs-tools. An image of which no check could be made is a
    warning; one in which nothing says what it is for is a note: make has just made it for this profile.
    unread: types
    of images in which nobody knows what has to lie where: what speaks against them is a warning."""
    types = {folder / image.file: image.type for image in images}
    found = verify_all(types, board, release=release)
    refused: list[str] = []
    untold: list[str] = []
    for image, verified in zip(images, found, strict=True):
        if not passed(verified):
            said = "; ".join(check.found for check in verified.checks)
            log.warn(f"{image.type}: not checked, but for its size: {said}")
        elif verified.outcome == "cannot be told":
            untold.append(image.type)
        against = [
            f"{image.type}: {check.what}: expected {check.expected}, found {check.found}"
            for check in verified.checks
            if check.refuses
        ]
        if image.type in unread:
            for line in against:
                log.warn(f"{line} (of a format that is not known here, so that this may be as it should)")
        else:
            refused += against
    if untold:
        log.note(f"{', '.join(untold)}: for {board.id} because make says so; the images themselves do not")
    if refused:
        raise UnsafeImageError(
            f"what make built must not be flashed on {board.id}:\n" + "\n".join(refused),
            hint="if the board's file is wrong, put it right; else the tree or the builder is at fault",
        )
    return dict(zip((image.file for image in images), found, strict=True))


def passed(verified: Verified) -> int:
    """How many checks an image passed."""
    return sum(check.ok for check in verified.checks)


def rootfs_sizes(images: Mapping[str, Verified]) -> RootfsSizes | None:
    """What each package takes of the real root file system, compressed; None where no image, by its file, has
    one that can be read."""
    for file, verified in images.items():
        root = verified.root
        if root is not None:
            sizes = [
                PackageSize(
                    name=each.name,
                    version=each.version,
                    stored=each.stored,
                    size=each.size,
                    files=each.files,
                )
                for each in sorted(root.shares, key=lambda each: -each.stored)
            ]
            return RootfsSizes(image=file, stored=root.stored, tables=root.tables, packages=tuple(sizes))
    return None
