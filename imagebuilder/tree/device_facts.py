"""What a tree says of one device, from four places: `make info`, profiles.json, .targetinfo, and the image
makefiles' own figures; and whether a board's file says the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuilder.config.board import Board, Partition, Profile, TplinkHeader
from imagebuilder.config.device import DeviceFacts, ImageFacts, make_size, parse_mtdparts
from imagebuilder.host.fs import text_of
from imagebuilder.model.firmware import FLASH_LAYOUTS
from imagebuilder.model.tree import ProfileError, Tree, TreeError, nearest_profiles
from imagebuilder.tree.image_makefile import DeviceDefinition, read_image_makefiles
from imagebuilder.tree.legacy_images import legacy_device
from imagebuilder.tree.makefile_text import UNKNOWN
from imagebuilder.tree.recipes import device_images
from imagebuilder.tree.tree import choose_profile

# of a flash layout the recipes keep 256K for the overlay (-X 0x40000), and the header needs 512 bytes
TPLINK_KEPT = 0x40000 + 512

_MEBIBYTE = 1 << 20


def known_profile(tree: Tree, name: str) -> str:
    """The name itself, if the tree has such a profile. ProfileError naming the nearest ones."""
    if name in tree.profiles:
        return name
    names = nearest_profiles(name, ((each, profile.title) for each, profile in tree.profiles.items()))
    raise ProfileError(
        f"this tree ({tree.distribution} {tree.version}, {tree.target}) has no profile '{name}'",
        hint=f"its nearest profiles: {', '.join(names)}" if names else "`make info` in it lists its profiles",
    )


def device_facts(tree: Tree, profile: str) -> DeviceFacts:
    """What the tree says of one of its profiles."""
    folder = Path(tree.folder)
    makefiles = read_image_makefiles(folder, tree.target)
    definition = makefiles.device(profile) or DeviceDefinition({}, {})
    info = parse_targetinfo(text_of(folder / ".targetinfo"), tree.target, profile)
    made = _profile_json(folder, tree.places.bin or f"bin/targets/{tree.target}", profile)
    values = definition.values
    legacy = legacy_device(makefiles, profile) if not definition.recipes else None
    images = dict(legacy.images) if legacy else device_images(definition) or _json_images(made)
    formats = {image.format for image in images.values()}
    header = tplink_header(values) if "tplink-v1" in formats else None
    command_line = legacy.command_line if legacy else values.get("CMDLINE", "")
    partitions = parse_mtdparts(values.get("MTDPARTS", "") or _argument(command_line, "mtdparts"))
    layout = header.flash_layout if header else ""
    return DeviceFacts(
        profile=profile,
        title=" ".join(tree.profiles[profile].title.split()),
        distribution=tree.distribution,
        version=tree.release,
        target=tree.target,
        arch=tree.arch,
        soc=values.get("SOC") or None,
        image_size=make_size(values.get("IMAGE_SIZE")) or (_firmware(partitions) if legacy else None),
        kernel_size=make_size(values.get("KERNEL_SIZE")),
        kernel_and_rootfs=FLASH_LAYOUTS[layout] - TPLINK_KEPT if layout in FLASH_LAYOUTS else None,
        flash=_flash(layout, partitions),
        tplink=header,
        partitions=partitions,
        images=images,
        boardname=_argument(command_line, "board"),
        supported_devices=() if legacy and images else _supported_devices(definition, info, made),
        compat_version=values.get("DEVICE_COMPAT_VERSION") or None,
        sources=tuple(makefiles.files),
    )


def _argument(command_line: str, name: str) -> str:
    """A kernel's argument (`board=ALFA-NX`); "" where it has none, or no plain one."""
    found = re.search(rf"(?:^|\s){name}=([!-~]+)", command_line)
    return found[1] if found else ""


def _firmware(partitions: Sequence[Partition]) -> int | None:
    return next((part.size for part in partitions if part.name == "firmware"), None)


def _flash(layout: str, partitions: Sequence[Partition]) -> int | None:
    """What the layout's name says, or where the last partition ends if chips of that size are made."""
    match = re.match(r"(\d{1,3})M", layout)
    if match:
        return int(match[1]) * _MEBIBYTE
    end = max((part.offset + part.size for part in partitions), default=0)
    return end if end >= _MEBIBYTE and end & (end - 1) == 0 else None


def tplink_header(values: Mapping[str, str]) -> TplinkHeader | None:
    """The ids that mktplinkfw writes; None where they are not all known."""
    hwid, hwrev = make_size(values.get("TPLINK_HWID")), make_size(values.get("TPLINK_HWREV"))
    layout = values.get("TPLINK_FLASHLAYOUT", "")
    if hwid is None or hwrev is None or max(hwid, hwrev) > 0xFFFFFFFF or not re.fullmatch(r"\w+", layout):
        return None
    version = values.get("TPLINK_HEADER_VERSION", "1")
    if not re.fullmatch(r"[1-9]\d?", version):
        return None
    return TplinkHeader(hwid=hwid, hwrev=hwrev, flash_layout=layout, header_version=int(version))


def parse_targetinfo(text: str, target: str, profile: str) -> dict[str, str]:
    """The `Target-Profile-…` lines of one profile of one target, keys without that prefix.

    target: `ar71xx/generic`; a target without subtargets stands in the file as `omap` alone.
    """
    wanted = {target, target.removesuffix("/generic")}
    here = found = False
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(": ")
        if key == "Target":
            here, found = value.strip() in wanted, False
        elif key == "Target-Profile":
            found = here and value.strip().removeprefix("DEVICE_") == profile
        elif found and key.startswith("Target-Profile-"):
            facts.setdefault(key.removeprefix("Target-Profile-").rstrip(":"), value.strip())
    return facts


def _supported_devices(
    definition: DeviceDefinition, info: Mapping[str, str], made: Mapping[str, Any]
) -> tuple[str, ...] | None:
    """The names that its metadata holds; none where no image has metadata, None where nobody says."""
    listed = made.get("supported_devices")
    if isinstance(listed, list) and listed:
        return tuple(str(name) for name in listed)
    if definition.recipes:
        if not any("append-metadata" in recipe for recipe in definition.recipes.values()):
            return None if any(UNKNOWN in recipe for recipe in definition.recipes.values()) else ()
        names = definition.words("SUPPORTED_DEVICES")
        if names:
            return tuple(names)
    if info.get("hasImageMetadata") == "0":
        return ()
    return tuple(info.get("SupportedDevices", "").split()) or None


def _profile_json(folder: Path, bin_dir: str, profile: str) -> Mapping[str, Any]:
    """What profiles.json says of the profile, if there is one: in a tree that was built with, or beside it.

    TreeError for one that is not as OpenWrt writes it.
    """
    for path in (folder / "profiles.json", folder / bin_dir / "profiles.json"):
        if not path.is_file():
            continue
        try:
            profiles = json.loads(text_of(path))["profiles"]
            found = profiles.get(profile)
        except (json.JSONDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise TreeError(f"{path} is no profiles.json as OpenWrt writes it", hint="remove it") from error
        if isinstance(found, dict):
            return found
    return {}


def _json_images(made: Mapping[str, Any]) -> dict[str, ImageFacts]:
    images = made.get("images")
    types = (
        [image.get("type") for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    )
    return {
        name: ImageFacts(format="unknown")
        for name in types
        if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][\w+-]*", name)
    }


@dataclass(frozen=True)
class Comparison:
    """One fact of one board: what its file says and what the tree says, and whether that is the same."""

    board: str
    fact: str
    expected: str
    found: str
    same: bool


def check_boards(
    boards: Iterable[Board], tree: Tree, *, all_of_them: bool
) -> tuple[list[Comparison], list[str]]:
    """All comparisons, and the names of the boards that the tree does not cover.

    all_of_them: such a board is a fault (ProfileError says what it is known for).
    """
    found: list[Comparison] = []
    not_covered: list[str] = []
    for board in boards:
        profile = covered(board, tree)
        if profile is not None:
            found += compare_board(board, profile, tree)
        elif all_of_them:
            choose_profile(board, tree)
        else:
            not_covered.append(board.id)
    return found, not_covered


def covered(board: Board, tree: Tree) -> Profile | None:
    """The board's profile for the tree's release and target, the newest that the tree has; None if the
    board's file names none."""
    candidates = [each for each in board.profiles_for(tree.release) if each.target == tree.target]
    there = [each for each in candidates if each.name in tree.profiles]
    return next(iter(there or candidates), None)


def compare_board(board: Board, profile: Profile, tree: Tree) -> list[Comparison]:
    """Everything that both the board's file and the tree state. What only one of them states is left out."""
    if profile.name not in tree.profiles:
        return [Comparison(board.id, "profile", profile.name, "none of that name", False)]
    facts = device_facts(tree, profile.name)
    board = board.for_profile(profile)
    rows = [("profile", profile.name, profile.name), ("package architecture", profile.arch, tree.arch)]
    rows += [*_figures(board, facts), *_metadata(profile, facts), *_image_rows(board, facts)]
    return [Comparison(board.id, fact, expected, found, expected == found) for fact, expected, found in rows]


def _figures(board: Board, facts: DeviceFacts) -> Iterator[tuple[str, str, str]]:
    layout = board.layout
    limits = {limit for limit in (layout.firmware, *(each.limit for each in board.images.values())) if limit}
    if facts.image_size is not None and limits:
        nearest = min(limits, key=lambda limit: abs(limit - (facts.image_size or 0)))
        yield "image size (IMAGE_SIZE)", _bytes(nearest), _bytes(facts.image_size)
    if facts.kernel_size is not None and layout.kernel is not None:
        yield "kernel size (KERNEL_SIZE)", _bytes(layout.kernel), _bytes(facts.kernel_size)
    if facts.kernel_and_rootfs is not None and layout.kernel_and_rootfs is not None:
        what = "kernel and rootfs (header tool)"
        yield what, _bytes(layout.kernel_and_rootfs), _bytes(facts.kernel_and_rootfs)
    if facts.tplink is not None and board.tplink is not None:
        yield "hardware id", f"0x{board.tplink.hwid:08x}", f"0x{facts.tplink.hwid:08x}"
        yield "hardware revision", f"0x{board.tplink.hwrev:x}", f"0x{facts.tplink.hwrev:x}"
        yield "flash layout", board.tplink.flash_layout, facts.tplink.flash_layout
    if facts.flash is not None and isinstance(board.flash, int):
        yield "flash", _bytes(board.flash), _bytes(facts.flash)
    stated = {part.name: part for part in layout.partitions}
    for part in facts.partitions:
        if stated:
            there = stated.get(part.name)
            expected = _place(there.offset, there.size) if there else "none"
            yield f"partition {part.name}", expected, _place(part.offset, part.size)


def _metadata(profile: Profile, facts: DeviceFacts) -> Iterator[tuple[str, str, str]]:
    if facts.supported_devices is not None:
        expected, found = sorted(profile.supported_devices), sorted(facts.supported_devices)
        yield "supported devices", " ".join(expected) or "none", " ".join(found) or "none"
    if facts.compat_version is not None:
        yield "compat version", profile.compat_version, facts.compat_version


def _image_rows(board: Board, facts: DeviceFacts) -> Iterator[tuple[str, str, str]]:
    """Those that a target makes beside its devices (`file`) are in no device's list."""
    for name, image in board.images.items():
        made = facts.images.get(name)
        found = made.format if made else "not made"
        if facts.images and image.file is None:
            unsaid = "unknown" in (found, image.format)
            yield f"image {name}", image.format, image.format if unsaid else found


def _bytes(size: int) -> str:
    return f"{size} bytes"


def _place(offset: int, size: int) -> str:
    return f"{size} bytes at 0x{offset:x}"
