"""How large an image is: the squashfs as the tree itself would make it (its options, and a run of its own
mksquashfs), and the steps of the image's recipe, in bytes, given its kernel and its root file system.

The steps are those of include/image-commands.mk and of the targets' image makefiles, 17.01 to 25.12. A step
that is not here makes the size of that image unknown, never wrong.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from imagebuilder.config.board import Board
from imagebuilder.config.device import make_size
from imagebuilder.errors import UserError
from imagebuilder.host.fs import text_of
from imagebuilder.host.run import clean_environment, find_program, run
from imagebuilder.model.budget import Amount
from imagebuilder.model.firmware import FLASH_LAYOUTS
from imagebuilder.model.tree import Places, TreeError
from imagebuilder.tree.device_facts import TPLINK_KEPT
from imagebuilder.tree.image_makefile import DeviceDefinition, read_image_makefiles
from imagebuilder.tree.makefile_text import UNKNOWN
from imagebuilder.tree.tree import config_settings, settings_of

SQUASHFS_SECONDS = 600.0
_KIB = 1 << 10
# which names CONFIG_ARCH gives a kernel's own name (include/kernel.mk); every other is the kernel's own
_KERNEL_ARCH = {
    **dict.fromkeys(("aarch64", "aarch64_be"), "arm64"),
    **dict.fromkeys(("mipsel", "mips64", "mips64el"), "mips"),
    **dict.fromkeys(("i386", "i686", "x86_64"), "x86"),
    **{"armeb": "arm", "powerpc64": "powerpc", "riscv64": "riscv", "arceb": "arc"},
}
_BCJ = re.compile(r"\$\(filter ([a-z0-9 ]+),\$\(LINUX_KARCH\)\)")
_XZ = re.compile(r"(?m)^LZMA_XZ_OPTIONS\s*:=\s*(.+)$")
_PSEUDO = re.compile(r"-p '([^'\n]+)'")
_COMMAND = re.compile(r"mksquashfs4 .*?(?=\nendef|\n\n)", re.DOTALL)
_PLAIN = ("-nopad", "-noappend", "-root-owned", "-xattrs", "-no-xattrs", "-all-root")

Wrap = Callable[[Sequence[str]], list[str]]


class MeasureError(UserError):
    """The tree does not say how it makes a squashfs, or its mksquashfs fails."""


@dataclass(frozen=True)
class SquashfsOptions:
    """How a tree makes its squashfs. program: relative to the tree, or a host program's name. compressor:
    xz, gzip or zstd; block: bytes; filters: whether machine code is filtered (-Xbcj); arguments: all but
    the folder and the image."""

    program: str
    compressor: str
    block: int
    filters: bool
    arguments: tuple[str, ...]


def squashfs_options(tree: Path, places: Places) -> SquashfsOptions:
    """What include/image.mk and .config of a tree say. Source: include/image.mk, which in this is the same
    from 17.01 to 25.12. MeasureError where they do not say it."""
    settings = settings_of(tree)
    block = settings.get("TARGET_SQUASHFS_BLOCK_SIZE", "")
    if not re.fullmatch(r"[0-9]{1,5}", block) or not int(block):
        raise MeasureError(
            f"{tree}/.config does not say how large the blocks of a squashfs are",
            hint="CONFIG_TARGET_SQUASHFS_BLOCK_SIZE is missing: this tree makes no squashfs",
        )
    makefile = tree / "include/image.mk"
    if "KIT_SQUASHFS_COMPRESSOR" in settings:
        return _kit_options(settings, int(block) * _KIB)
    if not makefile.is_file():
        raise MeasureError(f"{makefile} is missing", hint="is that an ImageBuilder's tree?")
    # whether the target's kernel reads xz stands in its own .config, which make reads too
    config = tree / places.linux / ".config"
    known = bool(places.linux) and config.is_file()
    kernel = text_of(config) if known else "CONFIG_SQUASHFS_XZ=y"
    settings = {**settings, "SQUASHFS_XZ": config_settings(kernel).get("SQUASHFS_XZ", "n")}
    return _makefile_options(text_of(makefile), settings, int(block) * _KIB)


def _makefile_options(text: str, settings: dict[str, str], block: int) -> SquashfsOptions:
    """The options of a tree of OpenWrt's."""
    command = _COMMAND.search(text)
    if command is None:
        raise MeasureError("include/image.mk has no call of mksquashfs4", hint="is the tree whole?")
    plain = [word for word in command[0].split() if word in _PLAIN]
    if "CONFIG_SELINUX" in text:
        plain.append("-xattrs" if settings.get("SELINUX") == "y" else "-no-xattrs")
    more: list[str] = []
    compressor, filters = "gzip", False
    if settings["SQUASHFS_XZ"] == "y":
        found, bcj = _XZ.search(text), _BCJ.search(text)
        arch = settings.get("ARCH", "")
        arch = _KERNEL_ARCH.get(arch, arch)
        compressor, more = "xz", found[1].split() if found else []
        filters = bcj is not None and arch in bcj[1].split()
        more += ["-Xbcj", arch] if filters else []
    pseudo = [word for definition in _PSEUDO.findall(text) for word in ("-p", definition)]
    arguments = (*plain, "-comp", compressor, *more, "-b", str(block), *pseudo, "-processors", "1")
    return SquashfsOptions("staging_dir/host/bin/mksquashfs4", compressor, block, filters, arguments)


def _kit_options(settings: dict[str, str], block: int) -> SquashfsOptions:
    """The embedded kit's: the host's own mksquashfs (kit/image.py)."""
    name, *more = shlex.split(settings["KIT_SQUASHFS_COMPRESSOR"])
    arguments = ("-noappend", "-no-xattrs", "-all-root", "-comp", name, *more, "-b", str(block))
    return SquashfsOptions("mksquashfs", name, block, False, arguments)


def measure_squashfs(
    tree: Path,
    options: SquashfsOptions,
    root: Path,
    image: Path,
    *,
    epoch: int = 0,
    wrap: Wrap = list,
    seen_tree: Path | None = None,
    seen: Callable[[Path], Path] = Path,
) -> int:
    """Make a squashfs of the folder `root` and say how many bytes it has.

    image: is written over. epoch: the time that images are dated (tree.reproducible); what is in root has
    that time too, as in the image. wrap, seen_tree, seen: how the program runs in a private view, where the
    tree is there, and where a path of ours is. MeasureError, with what mksquashfs said last, if it fails.
    """
    program = options.program
    program = str((seen_tree or tree) / program) if "/" in program else find_program(program)
    image.unlink(missing_ok=True)
    argv = [program, str(seen(root)), str(seen(image)), *options.arguments]
    env = clean_environment(SOURCE_DATE_EPOCH=str(epoch))  # the stand-ins for tools of old trees want it
    done = run(wrap(argv), env=env, timeout=SQUASHFS_SECONDS, check=False)
    if done.code != 0 or not image.is_file():
        last = "\n".join((done.stderr or done.stdout).splitlines()[-5:])
        raise MeasureError(
            f"{program} made no squashfs:\n{last}", hint="does `make image` work in this tree?"
        )
    return image.stat().st_size


TPLINK_HEADER = 0x200
UIMAGE_HEADER = 64
MARKER = 4  # de ad c0 de, the end of what a sysupgrade writes into a JFFS2 area
NOR_BLOCK = 0x10000
# fwtool's header, JSON and trailer; from 18.06 on also the signature of a tree that signs: about this much
METADATA, METADATA_SPREAD = 500, 400
_MEBIBYTE = 1 << 20
_TAR_BLOCK, _TAR_RECORD = 512, 10240
_UBI_TABLE = 2  # erase blocks of the volume table
_PAD_BLOCKS = "4 8 16 64 128 256"
_KIT_FOLDER, _KIT_TABLE_COPY = "build_dir/target-x86_64/linux-x86_64", 5 * 4096


class _Disk(TypedDict):
    overlay: int | None
    disks: dict[str, int]


@dataclass(frozen=True)
class ProfileImages:
    """What a tree says of one profile's images. kernel: the file that goes into them, None where there is
    none; kernel_file: where make looks for it, relative to the tree, "" where it does not
    say; recipes: for each image (`sysupgrade.bin`) its steps; values: the device's own variables.
    partition: of the root file system on a disk, in bytes (CONFIG_TARGET_ROOTFS_PARTSIZE), if the tree has
    one; overlay: of what is written to, where that is a partition of its own; disks: images whose size does
    not depend on what is in them. block: of the flash, in bytes."""

    kernel: Amount | None
    recipes: Mapping[str, str]
    values: Mapping[str, str]
    partition: int | None
    block: int
    overlay: int | None = None
    disks: Mapping[str, int] = field(default_factory=dict)
    kernel_file: str = ""


@dataclass(frozen=True)
class ImageSize:
    """size: bytes of the file, None if a step is unknown; spread: by how many that may be wrong. end: where
    the root file system ends in flash. limit: what the recipe accepts of the file (limits_end: of end), None
    where it accepts all; limit_source: who says so."""

    size: int | None
    spread: int = 0
    end: int | None = None
    limit: int | None = None
    limit_source: str = ""
    limits_end: bool = False

    @property
    def excess(self) -> int:
        """Bytes over the limit; 0 where there is none or it is not known."""
        what = self.end if self.limits_end else self.size
        return max(0, what - self.limit) if what is not None and self.limit is not None else 0


def image_facts(tree: Path, places: Places, target: str, profile: str) -> ProfileImages:
    """What the tree says of one of its profiles (`tl-wr740n-v4`); whatever it does not say is missing."""
    makefiles = read_image_makefiles(tree, target)
    definition = makefiles.device(profile) or DeviceDefinition({}, {})
    kernel_file = _kernel_file(places, profile, definition.values.get("KERNEL_SUFFIX", "-kernel.bin"))
    kernel = tree / kernel_file if kernel_file and (tree / kernel_file).is_file() else None
    partsize = settings_of(tree).get("TARGET_ROOTFS_PARTSIZE", "")
    partition = int(partsize) * _MEBIBYTE if re.fullmatch(r"[0-9]{1,7}", partsize) else None
    return ProfileImages(
        kernel=Amount(bytes=kernel.stat().st_size, source=kernel_file) if kernel else None,
        kernel_file=kernel_file,
        recipes=definition.recipes,
        values=definition.values,
        partition=partition,
        block=make_size(definition.values.get("BLOCKSIZE")) or NOR_BLOCK,
        **_kit_disk(tree, partition),
    )


def _kit_disk(tree: Path, rootfs: int | None) -> _Disk:
    """The embedded kit's image: its parts in whole MiB behind one for the partition table, whose copy ends it
    (kit/image.py)."""
    parts = [part for name in ("esp.vfat", "overlay.ext4") for part in tree.glob(f"{_KIT_FOLDER}/{name}")]
    if rootfs is None or len(parts) != 2:
        return {"overlay": None, "disks": {}}
    sizes = [part.stat().st_size for part in parts]
    whole = _MEBIBYTE + sum(_up(size, _MEBIBYTE) for size in (*sizes, rootfs)) + _KIT_TABLE_COPY
    return {"overlay": sizes[1], "disks": {"combined-efi": whole}}


def _kernel_file(places: Places, profile: str, suffix: str) -> str:
    """The profile's kernel as its image recipes append it: KDIR_KERNEL_IMAGE of include/image.mk."""
    return f"{places.kernel}/{profile}{suffix}" if places.kernel and UNKNOWN not in suffix else ""


def not_made(facts: ProfileImages, board: Board) -> frozenset[str]:
    """The board's required images that the tree's own settings leave out (CONFIG_GRUB_IMAGES, for a PC's disk
    that starts without UEFI), where it makes another one that is required. board: as the tree's releases know
    it. Nothing is told of images whose files have names of their own, nor where makefiles do not say all."""
    made = {name.partition(".")[0] for name in facts.recipes}
    required = {name for name, image in board.images.items() if image.required}
    named = {name for name in required if board.images[name].file is None}
    return frozenset(named - made) if made & required else frozenset()


def check_kernel(tree: Path, profile: str, facts: ProfileImages) -> None:
    """TreeError where make looks for a device's kernel and there is none: each image of a device has it as a
    prerequisite, and an ImageBuilder makes none. Source: Device/Build/image and Device/Build/kernel of
    include/image.mk, 17.01 to 25.12."""
    if facts.kernel is None and facts.kernel_file and facts.recipes:
        raise TreeError(
            f"the tree has no kernel for '{profile}': {tree / facts.kernel_file} is missing",
            hint="the tree is not whole: unpack the ImageBuilder's archive again (git repositories of trees"
            " often lack the largest files)",
        )


def image_sizes(facts: ProfileImages, rootfs: int) -> dict[str, ImageSize]:
    """For each image type (`sysupgrade`) what its recipe makes of a root file system of so many bytes."""
    found = {name: ImageSize(size) for name, size in facts.disks.items()}
    for name, recipe in facts.recipes.items():
        found.setdefault(name.partition(".")[0], recipe_size(recipe, facts, rootfs))
    return found


def recipe_size(recipe: str, facts: ProfileImages, rootfs: int) -> ImageSize:
    """Follow a recipe, such as `append-kernel | pad-to 64k | append-rootfs | pad-rootfs | check-size 16m`."""
    image = ImageSize(0)
    for step in recipe.split("|"):
        name, *arguments = step.split() or [""]
        follow = _STEPS.get(name)
        if follow is None or UNKNOWN in name:
            image = replace(image, size=None, end=None)
        elif name:
            image = follow(image, _Given(arguments, facts, rootfs))
    return image


def _up(size: int, block: int) -> int:
    return -(-size // block) * block


@dataclass(frozen=True)
class _Given:
    """What a step works with."""

    arguments: list[str]
    facts: ProfileImages
    rootfs: int

    def named(self, variable: str = "") -> int | None:
        """The size that the step names, or that the device's variable says."""
        return make_size(self.arguments[0] if self.arguments else self.facts.values.get(variable))


def _grown(image: ImageSize, by: int | None) -> ImageSize:
    return replace(image, size=None if image.size is None or by is None else image.size + by)


def _append_kernel(image: ImageSize, given: _Given) -> ImageSize:
    return _grown(image, given.facts.kernel.bytes if given.facts.kernel else None)


def _append_rootfs(image: ImageSize, given: _Given) -> ImageSize:
    image = _grown(image, given.rootfs)
    return replace(image, end=image.size)


def _pad_to(image: ImageSize, given: _Given) -> ImageSize:
    block = given.named()
    return replace(image, size=_up(image.size, block) if image.size is not None and block else None)


def _pad_extra(image: ImageSize, given: _Given) -> ImageSize:
    return _grown(image, given.named())


def _pad_offset(image: ImageSize, given: _Given) -> ImageSize:
    sizes = [make_size(argument) for argument in given.arguments]
    if image.size is None or len(sizes) != 2 or not sizes[0] or sizes[1] is None:
        return replace(image, size=None)
    return _grown(image, -(image.size + sizes[1]) % sizes[0])


def _pad_rootfs(image: ImageSize, given: _Given) -> ImageSize:
    """padjffs2: up to each of the block sizes, an end marker at each. `-x N`: a header of N bytes is still to
    come. Where boundaries meet they share a marker, so that the largest counts."""
    ahead, arguments = 0, given.arguments
    if arguments[:1] == ["-x"] and len(arguments) > 1 and arguments[1].isdecimal():
        ahead, arguments = int(arguments[1]), arguments[2:]
    blocks = given.facts.values.get("BLOCKSIZE", "").removesuffix("k") or _PAD_BLOCKS
    named = [*arguments, *blocks.split()]
    if image.size is None or not all(word.isdecimal() for word in named):
        return replace(image, size=None)
    end = image.size + ahead
    for kib in sorted(int(word) for word in named):
        end = _up(end, (kib or 1) << 10)
    return replace(image, size=end - ahead + MARKER)


def _check_size(image: ImageSize, given: _Given) -> ImageSize:
    limit = given.named("IMAGE_SIZE")
    if limit is None or (image.limit is not None and image.limit <= limit):
        return image
    return replace(image, limit=limit, limit_source="the recipe's check-size", limits_end=False)


def _append_metadata(image: ImageSize, given: _Given) -> ImageSize:
    if given.facts.values.get("SUPPORTED_DEVICES", UNKNOWN).strip() == "":
        return image
    return replace(_grown(image, METADATA), spread=METADATA_SPREAD)


def _tplink(image: ImageSize, given: _Given) -> ImageSize:
    """mktplinkfw with -j -X 0x40000: header, kernel, root file system at the next multiple of 4. A factory
    image fills the layout; a sysupgrade ends behind the marker at the next 64 KiB."""
    layout = FLASH_LAYOUTS.get(given.facts.values.get("TPLINK_FLASHLAYOUT", ""))
    if given.facts.kernel is None or layout is None:
        return replace(image, size=None)
    end = _up(TPLINK_HEADER + given.facts.kernel.bytes, 4) + given.rootfs
    factory = given.arguments[:1] == ["factory"]
    return ImageSize(
        size=layout if factory else _up(end, NOR_BLOCK) + MARKER,
        end=end,
        limit=layout - TPLINK_KEPT + TPLINK_HEADER,
        limit_source=f"mktplinkfw's layout {given.facts.values['TPLINK_FLASHLAYOUT']}",
        limits_end=True,
    )


def _sysupgrade_tar(image: ImageSize, given: _Given) -> ImageSize:
    """A folder, CONTROL, kernel and root (in whole KiB), and the end of a tar."""
    if given.arguments or given.facts.kernel is None:
        return replace(image, size=None)
    parts = (0, 1, _up(given.facts.kernel.bytes, _TAR_BLOCK), _up(_up(given.rootfs, 1 << 10), _TAR_BLOCK))
    size = sum(_TAR_BLOCK + _up(part, _TAR_BLOCK) for part in parts) + 2 * _TAR_BLOCK
    return ImageSize(_up(size, _TAR_RECORD))


def erase_block(values: Mapping[str, str]) -> tuple[int, int] | None:
    """Bytes of a NAND erase block and of it what UBI keeps for data; None where the tree does not say."""
    block, page = make_size(values.get("BLOCKSIZE")), make_size(values.get("PAGESIZE"))
    if not block or not page:
        return None
    smallest = make_size(values.get("SUBPAGESIZE")) or page
    second = make_size(values.get("VID_HDR_OFFSET")) or _up(64, smallest)
    data = _up(second + 64, page)
    return (block, block - data) if data < block else None


def _append_ubi(image: ImageSize, given: _Given) -> ImageSize:
    """ubinize writes the volume table and the blocks that hold something."""
    blocks = erase_block(given.facts.values)
    if image.size is None or blocks is None or given.facts.values.get("UBINIZE_PARTS", UNKNOWN).strip():
        return replace(image, size=None)
    whole, data = blocks
    count = _UBI_TABLE + -(-_up(given.rootfs, 1 << 10) // data)
    if given.facts.values.get("KERNEL_IN_UBI"):
        if given.facts.kernel is None:
            return replace(image, size=None)
        count += -(-given.facts.kernel.bytes // data)
    size = image.size + count * whole
    return replace(image, size=size, end=size)


def _uimage(image: ImageSize, _: _Given) -> ImageSize:
    return _grown(image, UIMAGE_HEADER)


def _same(image: ImageSize, _: _Given) -> ImageSize:
    return image


_Step = Callable[[ImageSize, _Given], ImageSize]
_STEPS: Mapping[str, _Step] = {
    "": _same,
    "append-kernel": _append_kernel,
    "append-metadata": _append_metadata,
    "append-rootfs": _append_rootfs,
    "append-ubi": _append_ubi,
    "check-size": _check_size,
    "mktplinkfw": _tplink,
    "pad-extra": _pad_extra,
    "pad-offset": _pad_offset,
    "pad-rootfs": _pad_rootfs,
    "pad-to": _pad_to,
    "sysupgrade-tar": _sysupgrade_tar,
    "tplink-v1-image": _tplink,
    "uImage": _uimage,
}
