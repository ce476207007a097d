"""What OpenWrt says of a device: an ImageBuilder tree with its image makefiles, or a release's list; and
partitions and sizes as kernels' command lines (`mtdparts`) and makefiles write them."""

from __future__ import annotations

import re

from imagebuilder.config.board import ImageFormat, Partition, TplinkHeader
from imagebuilder.model.base import Many, Model
from imagebuilder.model.size import parse_size

_PARTITION = re.compile(
    r"(\d+[km]?)(?:@(0x[0-9a-f]+|\d+[km]?))?\(([A-Za-z0-9][\w.+-]*)\)(?:ro)?", re.IGNORECASE
)


class ImageFacts(Model):
    """An image that a tree makes for a device. file: what its name ends in, as board files say it
    (`alfa-nx-{fs}-sysupgrade`), where that is not the profile's name and its type; tail: a text that the
    recipe puts behind it; by: the steps of the recipe that make a vendor's own format."""

    format: ImageFormat
    file: str = ""
    tail: str = ""
    by: Many[str] = ()


class DeviceFacts(Model):
    """One profile of one tree, or of one release's list. Sizes in bytes; None, or nothing, where it does not
    say.

    image_size, kernel_size: what the makefiles declare (IMAGE_SIZE, KERNEL_SIZE). kernel_and_rootfs: what
    the header tool accepts for the flash layout that tplink names. flash: how far the flash reaches,
    by that layout or by the partitions. images: by type (`sysupgrade`). boardname: what the kernel's command
    line calls the device (`board=`). sources: the files that the
    figures are from, relative to the tree. listed: these are facts from a release's profiles.json, not from
    a tree.
    """

    profile: str
    title: str
    distribution: str
    version: str
    target: str
    arch: str
    soc: str | None = None
    image_size: int | None = None
    kernel_size: int | None = None
    kernel_and_rootfs: int | None = None
    flash: int | None = None
    tplink: TplinkHeader | None = None
    partitions: Many[Partition] = ()
    images: dict[str, ImageFacts]
    boardname: str = ""
    supported_devices: Many[str] | None = None
    compat_version: str | None = None
    sources: Many[str] = ()
    listed: bool = False


def make_size(text: str | None) -> int | None:
    """Bytes of a size as makefiles write it: `3904k`, `16m`, `0x3d0000`, `8192`; None for anything else."""
    if not text:
        return None
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,12}", text):
        return int(text, 16)
    try:
        return parse_size(text)
    except ValueError:
        return None


def parse_mtdparts(text: str) -> tuple[Partition, ...]:
    """The partitions of a kernel command line's `spi0.0:256k(u-boot)ro,16000k(firmware),…`; none where it
    names several chips or leaves a size open (`-(firmware)`)."""
    chip, colon, parts = text.strip().partition(":")
    if not colon or ";" in parts or not chip:
        return ()
    found, offset = [], 0
    for part in parts.split(","):
        match = _PARTITION.fullmatch(part)
        size = make_size(match[1]) if match else None
        if match is None or size is None:
            return ()
        start = make_size(match[2]) if match[2] else offset
        if start is None:
            return ()
        found.append(Partition(name=match[3], offset=start, size=size))
        offset = start + size
    return tuple(found)
