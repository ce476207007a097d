"""Every image read, checked against its board, and measured, before it is handed over."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imagebuilder.firmware.formats import UnknownFormatError
from imagebuilder.firmware.inspection import inspect
from imagebuilder.firmware.verify import verify
from imagebuilder.log import Log
from imagebuilder.model.board import Board
from imagebuilder.model.firmware import Check
from imagebuilder.model.result import ImageFile, PackageSize, RootfsSizes
from imagebuilder.openwrt.collect import BuildError


def check_flashable(
    board: Board, images: Sequence[ImageFile], folder: Path, release: str, log: Log
) -> dict[str, int]:
    """How many checks each image passed, by its file. BuildError, a line each, for what speaks against
    flashing one of them; HostError without squashfs-tools. An image of which no check could be made is a
    warning."""

    def checked(image: ImageFile) -> tuple[Check, ...]:
        return verify(folder / image.file, board, image=image.type, release=release, made=True)

    passed: dict[str, int] = {}
    refused: list[str] = []
    with ThreadPoolExecutor() as pool:  # most of it is unpacking, by another program
        found = list(pool.map(checked, images))
    for image, checks in zip(images, found, strict=True):
        passed[image.file] = sum(check.ok for check in checks)
        if not passed[image.file]:
            log.warn(
                f"{image.type}: not checked, but for its size: {'; '.join(check.found for check in checks)}"
            )
        refused += [
            f"{image.type}: {check.what}: expected {check.expected}, found {check.found}"
            for check in checks
            if check.refuses
        ]
    if refused:
        raise BuildError(
            f"what make built must not be flashed on {board.id}:\n" + "\n".join(refused),
            hint="if the board's file is wrong, put it right; else the tree or the builder is at fault",
        )
    return passed


def rootfs_sizes(images: Sequence[ImageFile], folder: Path) -> RootfsSizes | None:
    """What each package takes of the real root file system, compressed; None where no image has one that can
    be read."""
    for image in images:
        try:
            root = inspect(folder / image.file).root
        except UnknownFormatError:  # a warning has told
            continue
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
            return RootfsSizes(
                image=image.file, stored=root.stored, tables=root.tables, packages=tuple(sizes)
            )
    return None
