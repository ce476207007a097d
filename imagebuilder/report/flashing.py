"""How an image gets onto its device, step by step, from what its board's file says of it.

Sources: OpenWrt's user guide (sysupgrade from LuCI and from the shell, factory images through the vendor's
own page, images for cards and disks), package/base-files/files/sbin/sysupgrade. Addresses are OpenWrt's
defaults. Pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from imagebuilder.config.board import TAKEN_APART
from imagebuilder.model.result import ImageFile

ROUTER = "192.168.1.1"  # base-files, bin/config_generate
DISKS = ("sd-card", "bios-disk", "efi-disk")
_PARTS = ("kernel", "filesystem", "uimage", "ubi")  # formats of images that boot loaders take
_ON_DEVICE = "/tmp/firmware.bin"  # noqa: S108 (on the device, where /tmp is the RAM)


@dataclass(frozen=True)
class FlashStep:
    """A sentence, and the command that does it, or "" where that is done by hand."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class FlashWay:
    """One way onto the device. files: of the images that it is for; note: what can be done in place of the
    steps, or ""."""

    title: str
    files: tuple[str, ...]
    steps: tuple[FlashStep, ...]
    note: str = ""


def ways(images: Iterable[ImageFile], formats: Mapping[str, str]) -> tuple[FlashWay, ...]:
    """How each image is flashed, those of one kind together. formats: of images, as the board's file names
    them, by type."""
    found: dict[str, list[ImageFile]] = {}
    for image in images:
        found.setdefault(_kind(image.type, formats.get(image.type, "")), []).append(image)
    return tuple(_WAYS[kind](found[kind]) for kind in _WAYS if kind in found)


def _kind(image_type: str, image_format: str) -> str:
    words = image_type.replace("_", "-").split("-")
    if "sysupgrade" in words:
        return "disk upgrade" if image_format in DISKS else "sysupgrade"
    if image_format in DISKS:
        return "disk"
    if "tftp" in words or "recovery" in words or "initramfs" in words:
        return "tftp"
    if "factory" in words or image_format in TAKEN_APART or "web" in words:
        return "factory"
    return "part" if image_format in _PARTS else "other"


def _sysupgrade(images: list[ImageFile]) -> FlashWay:
    file = images[0].file
    note = f"In LuCI: System, Backup / Flash Firmware, Flash image, and choose {file}. Or from this folder:"
    return FlashWay("From a running OpenWrt", _files(images), tuple(_sysupgrade_steps(file)), note)


def _sysupgrade_steps(file: str) -> Iterator[FlashStep]:
    name = shlex.quote(file)
    yield FlashStep("Copy it into the device's RAM.", f"ssh root@{ROUTER} 'cat > {_ON_DEVICE}' < {name}")
    yield FlashStep(
        "Let the device check it, without flashing.", f"ssh root@{ROUTER} sysupgrade -T {_ON_DEVICE}"
    )
    yield FlashStep(
        "Flash it. Settings are kept; with -n they are not. Do not cut the power until it is back.",
        f"ssh root@{ROUTER} sysupgrade -v {_ON_DEVICE}",
    )


def _factory(images: list[ImageFile]) -> FlashWay:
    steps = (
        FlashStep("Open the update page of the vendor's own firmware, over a cable."),
        FlashStep(f"Upload {images[0].file}, and wait until the device has started again."),
        FlashStep(f"It then answers at {ROUTER}.", f"ssh root@{ROUTER}"),
    )
    return FlashWay("From the vendor's firmware", _files(images), steps)


def _disk(images: list[ImageFile]) -> FlashWay:
    file = images[0].file
    name = shlex.quote(file)
    packed = file.endswith(".gz")
    write = f"gzip -dc {name} | sudo dd" if packed else f"sudo dd if={name}"
    steps = (
        FlashStep("Find the card or the disk, and be sure: all that is on it goes.", "lsblk"),
        FlashStep(
            "Write the image to all of it, not to a partition.", f"{write} of=/dev/sdX bs=4M conv=fsync"
        ),
        FlashStep("Put it into the device, and start that."),
    )
    return FlashWay("Onto a card or a disk", _files(images), steps)


def _disk_upgrade(images: list[ImageFile]) -> FlashWay:
    disk = _disk(images)
    again = (FlashStep("Where OpenWrt runs on it already:"), *_sysupgrade_steps(images[0].file))
    return FlashWay(disk.title, disk.files, (*disk.steps, *again))


def _tftp(images: list[ImageFile]) -> FlashWay:
    steps = (
        FlashStep("Join the device and this machine by a cable, and serve this folder over TFTP."),
        FlashStep(
            f"Let the device's boot loader fetch {images[0].file}; its page in OpenWrt's wiki says how."
        ),
    )
    return FlashWay("Over TFTP, by the boot loader", _files(images), steps)


def _part(images: list[ImageFile]) -> FlashWay:
    steps = (FlashStep("These are parts that a boot loader takes, each for its place in the flash."),)
    return FlashWay("For the boot loader", _files(images), steps)


def _other(images: list[ImageFile]) -> FlashWay:
    steps = (FlashStep("How these get onto the device, its page in OpenWrt's wiki says."),)
    return FlashWay("Other images", _files(images), steps)


def _files(images: list[ImageFile]) -> tuple[str, ...]:
    return tuple(image.file for image in images)


_WAYS = {
    "sysupgrade": _sysupgrade,
    "factory": _factory,
    "disk": _disk,
    "disk upgrade": _disk_upgrade,
    "tftp": _tftp,
    "part": _part,
    "other": _other,
}
