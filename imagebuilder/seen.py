"""What a tree knows of a device's images: by its recipes, else by an image that lies in it; of the kit's,
what the kit makes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from imagebuilder.config.board import UNKNOWN, Board, Image, ImageFormat, Profile
from imagebuilder.config.device import DeviceFacts, ImageFacts
from imagebuilder.errors import UserError
from imagebuilder.kit.layout import IMAGE_TYPE, MANIFEST_OF_KIT
from imagebuilder.model.firmware import Part
from imagebuilder.model.tree import Tree
from imagebuilder.tree.collect import named_image
from imagebuilder.tree.device_facts import device_facts

# kinds of parts that tell a format alone; the others' are those of CONTAINERS with what lies in them
_PLAIN_KINDS: Mapping[str, ImageFormat] = {
    "squashfs": "filesystem",
    "ext4": "filesystem",
    "ubifs": "filesystem",
}
_FILE_SYSTEMS = "squashfs|ubifs|ext4|jffs2-64k|jffs2-128k"
_PC_TARGETS = ("x86/", "armsr/", "armvirt/", "loongarch64/")  # started by UEFI or a BIOS


def known_facts(tree: Tree, profile: str) -> DeviceFacts:
    """What the tree says of a profile. An image that no recipe tells is told by what lies in the tree's own
    bin/ under its name, if it was built with. Raises as device_facts() does."""
    facts = device_facts(tree, profile)
    if (Path(tree.folder) / MANIFEST_OF_KIT).is_file():
        return facts.model_copy(update={"images": {IMAGE_TYPE: ImageFacts(format="efi-disk")}})
    folder = Path(tree.folder) / (tree.places.bin or f"bin/targets/{tree.target}")
    if not folder.is_dir() or (facts.images and UNKNOWN not in _formats(facts)):
        return facts
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    longer = tuple(name for name in tree.profiles if name.startswith(f"{profile}-"))
    images = facts.images or dict.fromkeys(_types(names, profile), ImageFacts(format="unknown"))
    told = {}
    for kind, image in images.items():
        file = named_image(names, profile, kind, Image(format="unknown", file=image.file or None), longer)
        seen = image.format == UNKNOWN and file is not None
        told[kind] = (
            image.model_copy(update={"format": looks_like(folder / str(file), tree.target)})
            if seen
            else image
        )
    return facts.model_copy(update={"images": told})


def told_board(board: Board, profile: Profile, tree: Tree) -> tuple[Board, Profile]:
    """A board and its profile with what the tree knows of the images whose format the board's file leaves
    open, and of the header that these have. Raises as device_facts() does."""
    stated = board.for_profile(profile).images
    if all(image.format != UNKNOWN for image in stated.values()):
        return board, profile
    facts = known_facts(tree, profile.name)
    known = facts.images
    images = {
        kind: image.model_copy(update={"format": known[kind].format, "tail": known[kind].tail or image.tail})
        if image.format == UNKNOWN and kind in known
        else image
        for kind, image in stated.items()
    }
    told = profile.model_copy(update={"images": images})
    others = tuple(told if one is profile else one for one in board.profile)
    header = board.tplink or facts.tplink  # which no list of the server's has
    return board.model_copy(update={"profile": others, "tplink": header}), told


def looks_like(image: Path, target: str) -> ImageFormat:
    """The format of an image's file, as a board's file would say it; unknown where it is none that is known,
    or damaged."""
    # the formats are loaded only where a tree's own image is looked at: a build loads them while make runs
    from imagebuilder.firmware.formats.formats import read_image  # noqa: PLC0415
    from imagebuilder.firmware.reader import open_view  # noqa: PLC0415

    try:
        read = read_image(open_view(image))
    except UserError:
        return "unknown"
    part = read.unwrapped
    if any(check.level == "error" for check in read.part.problems):
        return "unknown"
    return _of_part(part, target)


def _of_part(part: Part, target: str) -> ImageFormat:
    from imagebuilder.firmware.formats.formats import CONTAINERS  # noqa: PLC0415
    from imagebuilder.firmware.subject import DISKS, fits  # noqa: PLC0415

    if part.kind in ("mbr-disk", "gpt-disk"):
        computer: ImageFormat = "bios-disk" if part.kind == "mbr-disk" else "efi-disk"
        return computer if target.startswith(_PC_TARGETS) else "sd-card"
    if part.kind in _PLAIN_KINDS:
        return _PLAIN_KINDS[part.kind]
    known: tuple[ImageFormat, ...] = get_args(ImageFormat)
    told_apart = ("kernel", *DISKS)  # formats that several kinds or the target tell, not the kind alone
    found = (name for name in known if name not in told_apart and name in CONTAINERS)
    return next((name for name in found if fits(part, name)), "unknown")


def _formats(facts: DeviceFacts) -> set[str]:
    return {image.format for image in facts.images.values()}


def _types(names: Sequence[str], profile: str) -> Iterator[str]:
    """The types of images that files are named for."""
    shape = re.compile(rf"-{re.escape(profile)}-(?:{_FILE_SYSTEMS})-([A-Za-z0-9][A-Za-z0-9_+-]*)\.")
    for name in names:
        found = shape.search(name)
        if found is not None:
            yield found[1]
