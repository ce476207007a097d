"""How much flash an image takes, before its packages are fetched and when its squashfs was made, and where it
goes in a board's flash or on its disk. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from imagebuilder.budget.flash_kinds import kind_of, ratio_for, record_bytes
from imagebuilder.config.board import Board
from imagebuilder.model.budget import (
    Amount,
    FlashBudget,
    FlashPart,
    ImageBudget,
    PackageCost,
    PartName,
    Verdict,
)
from imagebuilder.model.package import LOCAL, Package
from imagebuilder.model.release import Release
from imagebuilder.tree.measure import ImageSize, ProfileImages, SquashfsOptions, erase_block, image_sizes

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

    def settings(self, facts: ProfileImages) -> int | None:
        """Bytes of a partition of their own for settings; None where they get what the image leaves free."""
        return facts.overlay if self.disk and self.size is not None else None

    def taken(
        self, facts: ProfileImages, sizes: Mapping[str, ImageSize], rootfs: int
    ) -> tuple[int | None, int | None]:
        """Bytes that are used, in whole erase blocks, and bytes that stay free (negative: missing)."""
        if self.size is None:
            return None, None
        if self.disk:
            used = -(-rootfs // _DISK_ALIGNMENT) * _DISK_ALIGNMENT
            return used, self.size - used
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


def is_disk(board: Board) -> bool:
    """Whether images of the board are a disk's or a card's, with a partition for the root file system."""
    formats = {image.format for image in board.images.values()}
    return bool(formats & {"bios-disk", "efi-disk", "sd-card"}) or board.flash == "removable"


def place_of(board: Board, facts: ProfileImages, rootfs_partsize: int | None) -> Place:
    """Where images of the board go. rootfs_partsize: bytes of a disk's partition, as the config says."""
    formats = {image.format for image in board.images.values()}
    if is_disk(board):
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


JFFS2_BLOCKS = 5  # JFFS2 does not mount with fewer erase blocks
# fstools, mount_root.c: rootfs_data that holds no file system it can mount gives a tmpfs over the squashfs.
# Without that partition there is none, and / stays read-only: so one erase block has to be left for it
BAKED = (
    "baked: all settings are in the image; what is changed on the device is in RAM, and lost at every start"
)
BAKED_BUT_KEPT = "baked, but JFFS2 has room: what is changed on the device stays, until another image comes"
PYTHON_SOURCES = ("17.01",)  # series whose Python packages hold .py files (its index; no bytecode)
KNOWN = "known content"  # the kind of a package that is packed here, instead of estimated
_EXPECTED_DOUBT = 0.35  # of what is made here and was not yet: how the bytecode of 40 wheels differs
_KNOWN_DOUBT = 0.01  # where blocks begin and end among files that are not known
_FILES_DOUBT = 0.1  # other files stand in one block with the overlays'


@dataclass(frozen=True)
class FlashFacts:
    """What the tree says: how it packs, its packages' architecture (`mips_24kc`), its version, its images."""

    squashfs: SquashfsOptions
    arch: str
    version: str
    images: ProfileImages


@dataclass(frozen=True)
class Rootfs:
    """A root file system: its squashfs in bytes, what each package adds, and what the rest is."""

    amount: Amount
    packages: tuple[PackageCost, ...]
    files: int
    records: int
    measured: bool = False


def packed_bytes(package: Package) -> int:
    """The package's compressed data: what the index says (up to 23.05), or less than its file (from 24.10 on
    the index states the unpacked size, which is larger than the file but for the smallest packages). A figure
    of 0 is one that is missing."""
    stated = [size for size in (package.size, package.installed_size) if size]
    return min(stated, default=0)


def package_cost(package: Package, tree: FlashFacts) -> PackageCost:
    """What one package adds to the squashfs, its records left out."""
    sources = Release(tree.version).series in PYTHON_SOURCES
    kind = kind_of(package.name, package.section, python_sources=sources)
    how = tree.squashfs
    ratio = ratio_for(kind, compressor=how.compressor, block=how.block, filters=how.filters, arch=tree.arch)
    packed = packed_bytes(package)
    doubt = max(ratio.uncertainty, _EXPECTED_DOUBT) if package.feed == LOCAL else ratio.uncertainty
    return PackageCost(
        name=package.name,
        bytes=round(packed * ratio.ratio),
        uncertainty=round(packed * doubt),
        kind=kind,
    )


def _known_cost(name: str, size: int) -> PackageCost:
    """What a package adds whose content was packed here."""
    return PackageCost(name=name, bytes=size, uncertainty=round(size * _KNOWN_DOUBT), kind=KNOWN)


def predict_rootfs(
    packages: Iterable[Package], tree: FlashFacts, files: int = 0, known: Mapping[str, int] | None = None
) -> Rootfs:
    """The squashfs before it is made. files: bytes that compressed_files() found; known: those that
    known_bytes() found, of packages whose content is at hand, by their names.

    Its uncertainty: packages of a kind are wrong together, the kinds independently of each other.
    """
    known = known or {}
    costs = tuple(
        _known_cost(package.name, known[package.name])
        if package.name in known
        else package_cost(package, tree)
        for package in packages
    )
    each, spread = record_bytes(tree.squashfs.compressor)
    records = round(each * len(costs))
    doubts: dict[str, float] = {"records": 2 * spread * len(costs), "files": files * _FILES_DOUBT}
    for cost in costs:
        doubts[cost.kind] = doubts.get(cost.kind, 0.0) + cost.uncertainty
    total = sum(cost.bytes for cost in costs) + records + files
    doubt = math.sqrt(sum(value**2 for value in doubts.values()))
    here = sum(cost.kind == KNOWN for cost in costs)
    source = f"{len(costs) - here} packages of the index, by measured figures for {tree.squashfs.compressor}"
    source += f"; {here} packed here" if here else ""
    amount = Amount(bytes=total, uncertainty=round(doubt), source=source)
    return Rootfs(amount, tuple(sorted(costs, key=lambda cost: -cost.bytes)), files, records)


def at_most(rootfs: Rootfs) -> Rootfs:
    """A root file system as large as its prediction allows: all of the uncertainty added."""
    amount = rootfs.amount
    most = amount.model_copy(update={"bytes": amount.bytes + amount.uncertainty, "uncertainty": 0})
    return replace(rootfs, amount=most)


def measured_rootfs(predicted: Rootfs, size: int) -> Rootfs:
    """A predicted root file system whose squashfs was made (tree.measure), size in bytes: each part keeps
    its share of the whole."""
    scale = size / predicted.amount.bytes if predicted.amount.bytes else 1.0
    costs = tuple(
        cost.model_copy(update={"bytes": round(cost.bytes * scale), "uncertainty": 0})
        for cost in predicted.packages
    )
    # what is not measured are times and links, and where a squashfs's blocks happen to end
    amount = Amount(bytes=size, uncertainty=size // 200, source="the tree's own mksquashfs")
    files, records = round(predicted.files * scale), round(predicted.records * scale)
    return Rootfs(amount, costs, files, records, measured=True)


def flash_budget(
    rootfs: Rootfs,
    tree: FlashFacts,
    board: Board,
    *,
    wanted_free: int = 0,
    baked: bool = False,
    rootfs_partsize: int | None = None,
    python: Iterable[str] = (),
    apps: Iterable[str] = (),
) -> FlashBudget:
    """Whether it fits, and what stays free for the device's own settings.

    board: as the tree's releases know it (Board.for_profile). wanted_free: bytes; baked: none of them, but
    for one erase block. rootfs_partsize: bytes of a
    disk's partition, where the config says it. python, apps: names of the packages that are the
    interpreter's, and of those that the config adds.
    """
    sizes = image_sizes(tree.images, rootfs.amount.bytes)
    images = tuple(_image(name, size, board) for name, size in sizes.items() if name in board.images)
    place = place_of(board, tree.images, rootfs_partsize)
    used, free = place.taken(tree.images, sizes, rootfs.amount.bytes)
    over = max((image.excess for image in images), default=0)
    over = max(over, _over_both(board, tree.images, rootfs.amount.bytes))
    over = max(over, -free if free is not None and free < 0 else 0)
    wanted_free = tree.images.block if baked else wanted_free
    apart = place.settings(tree.images)
    got = free if apart is None else apart
    short = max(0, wanted_free - max(got, 0)) if got is not None else 0
    notes = [*place.notes]
    if abs(_margin(over, short, free, wanted_free if apart is None else 0)) < rootfs.amount.uncertainty:
        notes.append("nearer to the limit than the prediction is sure: known when the packages are fetched")
    few = free is not None and place.jffs2 and 0 <= free < JFFS2_BLOCKS * tree.images.block
    if few and not baked:
        left = f"only {free} bytes stay free: JFFS2 wants {JFFS2_BLOCKS} erase blocks"
        notes.append(f"{left}, and without it settings are lost at every start")
    if baked:
        notes.append(BAKED if few else BAKED_BUT_KEPT)
    return FlashBudget(
        measured=rootfs.measured,
        kernel=tree.images.kernel,
        rootfs=rootfs.amount,
        parts=_parts(rootfs, tree.images, frozenset(python), frozenset(apps)),
        packages=rootfs.packages,
        images=images,
        partition=place.size,
        partition_source=place.source,
        used=used,
        free=free,
        wanted_free=wanted_free,
        excess=over or short,
        verdict=_verdict(over, short, images, free),
        settings=apart,
        notes=tuple(notes),
        baked=baked,
    )


def _margin(over: int, short: int, free: int | None, wanted_free: int) -> float:
    """Bytes to the limit that is nearest; below 0 when it is passed."""
    return -(over or short) or (free - wanted_free if free is not None else math.inf)


def _verdict(over: int, short: int, images: Sequence[ImageBudget], free: int | None) -> Verdict:
    if over:
        return "too big"
    if short:
        return "too little left"
    limited = any(image.limit is not None and image.bytes is not None for image in images)
    return "fits" if free is not None or limited else "unknown"


def _image(name: str, size: ImageSize, board: Board) -> ImageBudget:
    """An image with the tightest limit: its recipe's, or the board's own."""
    own = board.images[name].limit or board.layout.firmware
    excess, limit, source = size.excess, size.limit, size.limit_source
    if own is not None and size.size is not None and (limit is None or own < limit):
        excess = max(excess, size.size - own)
        if not size.limits_end or limit is None:
            limit, source = own, f"the board file of {board.id}"
    return ImageBudget(
        type=name, bytes=size.size, end=size.end, limit=limit, limit_source=source, excess=max(0, excess)
    )


def _over_both(board: Board, facts: ProfileImages, rootfs: int) -> int:
    """Bytes over what the board's file says that kernel and root file system together may have."""
    if board.layout.kernel_and_rootfs is None or facts.kernel is None:
        return 0
    return max(0, facts.kernel.bytes + rootfs - board.layout.kernel_and_rootfs)


def _parts(
    rootfs: Rootfs, facts: ProfileImages, python: frozenset[str], apps: frozenset[str]
) -> tuple[FlashPart, ...]:
    sums: dict[PartName, int] = {"kernel": facts.kernel.bytes if facts.kernel else 0}
    sums |= {"base": 0, "python": 0, "apps": 0, "files": rootfs.files, "records": rootfs.records}
    for cost in rootfs.packages:
        sums["python" if cost.name in python else "apps" if cost.name in apps else "base"] += cost.bytes
    return tuple(FlashPart(name=name, bytes=size) for name, size in sums.items() if size)
