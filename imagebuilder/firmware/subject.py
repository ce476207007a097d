"""What is verified: an image that was read, and the board's profile and image that it claims to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from imagebuilder.config.board import Board, Image, Profile
from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.formats import tplink
from imagebuilder.firmware.formats.formats import CONTAINERS, Read
from imagebuilder.firmware.rootfs import NO_RULES, SystemRules
from imagebuilder.model.firmware import Check, Level, Part, RootFacts
from imagebuilder.model.release import EMBEDDED, is_embedded

DISKS = ("sd-card", "bios-disk", "efi-disk")
# what must lie inside of a file of this format besides
_INSIDE = {
    "uimage-squashfs": "squashfs",
    "vendor-uimage-squashfs": "squashfs",
    "kernel-squashfs": "squashfs",
    "ubi-factory": "ubi",
    "kernel-ubi": "ubi",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """An image and what it is to be. board: as the profile's releases know it. kind: the image's key there,
    empty where nothing tells it from another of the same format. rules: of the sysupgrade in it.
    release: of OpenWrt, as somebody or the image says; empty where neither does."""

    read: Read
    board: Board
    profile: Profile
    kind: str
    image: Image
    facts: RootFacts | None
    rules: SystemRules = NO_RULES
    release: str = ""

    @property
    def part(self) -> Part:
        """The image proper, out of gzip."""
        return self.read.unwrapped

    @property
    def sysupgrade(self) -> bool:
        """Whether it is given to a running OpenWrt."""
        return "sysupgrade" in self.kind

    def names(self) -> tuple[str, ...]:
        """All that any release calls the board."""
        profiles = self.board.profile
        known = {name for one in profiles for name in (one.name, *one.supported_devices)}
        return tuple(sorted(known | {one.boardname for one in profiles if one.boardname}))


def target_of(read: Read, facts: RootFacts | None) -> tuple[str, str]:
    """The target and release that the image says it is of; empty where it does not say."""
    stated = dict(facts.release) if facts is not None else {}
    version = read.metadata.version if read.metadata is not None else {}
    return stated.get("TARGET", version.get("target", "")), stated.get("RELEASE", version.get("version", ""))


def choose_profile(board: Board, target: str, release: str) -> tuple[Profile, tuple[Check, ...]]:
    """The board's profile for what the image says, or the newest where none fits, and the check of that."""
    fitting = [one for one in board.profile if not target or one.target == target]
    if not fitting:
        expected = " or ".join(sorted({one.target for one in board.profile}))
        return board.profile[0], (Check("target of the image", expected, target, False),)
    check = holds(
        "target of the image",
        bool(target),
        expected=fitting[0].target,
        found=target or "not said",
        level="warning",
    )
    covering = [one for one in board.profiles_for(release) if one in fitting] if release else []
    if not release:
        return fitting[0], (check,)
    expected = " or ".join(one.releases for one in fitting)
    own = any(one.releases == EMBEDDED for one in fitting) == is_embedded(release)
    level: Level = "warning" if own else "error"
    stated = holds("release of the image", bool(covering), expected=expected, found=release, level=level)
    return (covering or fitting)[0], (check, stated)


def fits(part: Part, image_format: str) -> bool:
    """Whether a file that is this part is of a board's format; True where nobody knows how such a file
    looks."""
    inner = _INSIDE.get(image_format)
    kinds = CONTAINERS.get(image_format)
    if kinds is None:
        return True
    if part.kind not in kinds:
        return False
    return inner is None or any(child.kind == inner for child in part.children)


def choose_image(
    board: Board, profile: Profile, part: Part, name: str, wanted: str
) -> tuple[str, Image, Check]:
    """The board's image that a file is: as it is wanted, else by its name, else by its format; and the check
    of its format."""
    images = board.for_profile(profile).images
    named = _named(images, name)
    fitting = [key for key, one in images.items() if fits(part, one.format)]
    known = [key for key in fitting if images[key].format in CONTAINERS]
    if wanted in images:
        key = shown = wanted
    elif named:
        key = shown = max(named, key=len)
    elif known and {images[one].format for one in known} == {tplink.V1.kind}:
        key = shown = _kind_of_tplink(part, known)
    else:
        key = next(iter(known or fitting or images))
        shown = key if len(fitting) == 1 else ""
    return shown, images[key], _format_check(part, images if not shown else {key: images[key]}, images[key])


def _kind_of_tplink(part: Part, keys: Sequence[str]) -> str:
    """Only a factory image is as long as its header says; any other is given to a running OpenWrt."""
    whole = part.value("firmware length") == part.size
    fitting = [key for key in keys if ("sysupgrade" in key) != whole]
    return next(iter(fitting or keys))


def _named(images: Mapping[str, Image], name: str) -> list[str]:
    stem = name.removesuffix(".gz").rpartition(".")[0] or name
    return [key for key, one in images.items() if stem.endswith(_end_of_name(key, one))]


def may_be_unknown(board: Board, name: str, wanted: str) -> bool:
    """Whether a file may be an image of the board whose format nobody has said."""
    for profile in board.profile:
        images = board.for_profile(profile).images
        keys = [wanted] if wanted in images else _named(images, name) or list(images)
        if any(images[key].format not in CONTAINERS for key in keys):
            return True
    return False


def _end_of_name(key: str, image: Image) -> str:
    return (image.file or f"-{key}").replace("{fs}", "squashfs")


def _format_check(part: Part, candidates: Mapping[str, Image], image: Image) -> Check:
    inside = [child.kind for child in part.children if child.kind in _INSIDE.values()]
    found = " with ".join([part.kind, *inside])
    expected = ", ".join(f"{key}: {one.format}" for key, one in candidates.items())
    if image.format not in CONTAINERS:
        stated = "a format that this program opens"
        return Check("format of the image", stated, f"{image.format}: {found}", False, "unsure")
    return holds("format of the image", fits(part, image.format), expected=expected, found=found)


def on_boot_partition(part: Part, *kinds: str) -> Iterator[Part]:
    """All parts of these kinds that lie on a boot partition (a FAT)."""
    return (one for fat in of_kind(part, "fat") for one in of_kind(fat, *kinds))


def in_image(part: Part, *kinds: str) -> Iterator[Part]:
    """All parts of these kinds that lie on no boot partition."""
    if part.kind in kinds:
        yield part
    for child in part.children if part.kind != "fat" else ():
        yield from in_image(child, *kinds)


def of_kind(part: Part, *kinds: str) -> Iterator[Part]:
    """All parts of these kinds."""
    return (one for one in part.walk() if one.kind in kinds)
