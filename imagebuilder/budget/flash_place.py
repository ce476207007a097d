"""Where an image goes in a board's flash or on its disk, and how much of that it takes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from imagebuilder.config.board import Board
from imagebuilder.tree.measure import ImageSize, ProfileImages, erase_block

_DISK_ALIGNMENT = 64 << 10  # the overlay on a disk begins there, behind the squashfs (fstools)
# of 1024 blocks UBI keeps so many for bad ones (CONFIG_MTD_UBI_BEB_LIMIT), and four for itself: its
# volume table twice, wear-levelling, atomic change
_UBI_BAD, _UBI_OWN = 20, 4


@dataclass(frozen=True)
class Place:
    """Where the image goes. size: bytes, None if that is not known. ubi: block and data bytes of NAND; flash:
    all of the chip, kernel: what of the place is the kernel's own."""

    size: int | None
    source: str
    ubi: tuple[int, int] | None = None
    disk: bool = False
    flash: int = 0
    kernel: int = 0
    notes: tuple[str, ...] = ()

    @property
    def jffs2(self) -> bool:
        """Whether what is written to lies on JFFS2."""
        return self.ubi is None and not self.disk

    def taken(
        self, facts: ProfileImages, sizes: Mapping[str, ImageSize], rootfs: int
    ) -> tuple[int | None, int | None]:
        """Bytes that are used, in whole erase blocks, and bytes that stay free (negative: missing)."""
        if self.size is None:
            return None, None
        if self.disk:
            used = -(-rootfs // _DISK_ALIGNMENT) * _DISK_ALIGNMENT
            left = self.size - used
            return used, left if left < 0 or facts.overlay is None else facts.overlay
        if self.ubi is not None:
            return self._taken_of_ubi(facts, rootfs)
        ends = [size.end for size in sizes.values() if size.end is not None]
        if not ends and facts.kernel is None:
            return None, None
        end = max(ends) if ends else (facts.kernel.bytes if facts.kernel else 0) + rootfs
        used = -(-end // facts.block) * facts.block
        return used, self.size - used

    def _taken_of_ubi(self, facts: ProfileImages, rootfs: int) -> tuple[int, int]:
        block, data = self.ubi or (1, 1)
        ubi = ((self.size or 0) - self.kernel) // block
        kept = _UBI_OWN + math.ceil(self.flash / block * _UBI_BAD / 1024)
        volumes = -(-rootfs // data)
        if facts.values.get("KERNEL_IN_UBI") and facts.kernel is not None:
            volumes += -(-facts.kernel.bytes // data)
        left = ubi - kept - volumes
        return self.kernel + (kept + volumes) * block, left * (data if left > 0 else block)


def place_of(board: Board, facts: ProfileImages, rootfs_partsize: int | None) -> Place:
    """Where images of the board go. rootfs_partsize: bytes of a disk's partition, as the config says."""
    formats = {image.format for image in board.images.values()}
    if formats & {"bios-disk", "efi-disk", "sd-card"} or board.flash == "removable":
        if rootfs_partsize is not None:
            return Place(rootfs_partsize, "image.rootfs_partsize of the config", disk=True)
        source = "CONFIG_TARGET_ROOTFS_PARTSIZE of the tree"
        return Place(facts.partition, source if facts.partition else "unknown", disk=True)
    size = board.layout.firmware
    source = f"the board file of {board.id}" if size is not None else "unknown"
    if formats & {"sysupgrade-tar", "ubi-factory", "ubi"}:
        blocks = erase_block(facts.values)
        if blocks is None:
            note = "the tree does not say how large the erase blocks of the NAND are"
            return Place(None, "unknown", notes=(note,))
        flash = board.flash if isinstance(board.flash, int) else 0
        kernel = 0 if facts.values.get("KERNEL_IN_UBI") else board.layout.kernel or 0
        return Place(size, source, ubi=blocks, flash=flash, kernel=kernel)
    return Place(size, source)
