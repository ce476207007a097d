"""What OpenWrt says of a device: an ImageBuilder tree with its image makefiles, or a release's list."""

from __future__ import annotations

from imagebuilder.config.board import ImageFormat, Partition, TplinkHeader
from imagebuilder.model.base import Many, Model


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
