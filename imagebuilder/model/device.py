"""What an ImageBuilder tree itself says of a device: its profile, and the figures of its image makefiles."""

from __future__ import annotations

from imagebuilder.model.base import Many, Model
from imagebuilder.model.board import ImageFormat, Partition, TplinkHeader


class DeviceFacts(Model):
    """One profile of one tree. Sizes in bytes; None, or nothing, where the tree does not say.

    image_size, kernel_size: what the makefiles declare (IMAGE_SIZE, KERNEL_SIZE). kernel_and_rootfs: what
    the header tool accepts for the flash layout that tplink names. flash: how far the flash reaches,
    by that layout or by the partitions. images: type (`sysupgrade`) to format. sources: the files that the
    figures are from, relative to the tree.
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
    images: dict[str, ImageFormat]
    supported_devices: Many[str] | None = None
    compat_version: str | None = None
    sources: Many[str] = ()
