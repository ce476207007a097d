"""What comes out of the recipes by which OpenWrt's image makefiles make an image."""

from __future__ import annotations

import re
from collections.abc import Mapping

from imagebuilder.model.board import ImageFormat
from imagebuilder.openwrt.image_makefile import DeviceDefinition
from imagebuilder.openwrt.makefile_text import UNKNOWN

# one step alone says what the image is
_TELLING: Mapping[str, ImageFormat] = {
    "sysupgrade-tar": "sysupgrade-tar",
    "mktplinkfw": "tplink-v1",
    "tplink-v1-image": "tplink-v1",
    "sdcard": "sd-card",
    "sdcard-img": "sd-card",
    **dict.fromkeys(
        (
            *("at91-sdcard", "mxs-sdcard-ext4-ext4", "mxs-sdcard-vfat-ext4", "omap-sdcard", "riscv-sdcard"),
            *("sdcard-img-ext4", "sunxi-sdcard", "zynq-sdcard"),
        ),
        "sd-card",
    ),
    "combined": "bios-disk",
}
# steps that leave what was appended as it is; any other may wrap it in a header of its own
_PLAIN = {"append-metadata", "check-size", "gzip", "pad-extra", "pad-rootfs", "pad-to"}
_APPENDED: Mapping[frozenset[str], ImageFormat] = {
    frozenset({"append-rootfs"}): "filesystem",
    frozenset({"append-ubi"}): "ubi",
}
_APPENDED_TO_UIMAGE: Mapping[frozenset[str], ImageFormat] = {
    frozenset({"append-kernel"}): "uimage",
    frozenset({"append-kernel", "append-rootfs"}): "uimage-squashfs",
    frozenset({"append-kernel", "append-ubi"}): "ubi-factory",
}
# the kernel's own recipe ends in a uImage header, perhaps padded
_UIMAGE = re.compile(r"\|\s*uImage\b[^|]*(\|\s*pad-to\b[^|]*)?$")


def image_formats(definition: DeviceDefinition) -> dict[str, ImageFormat]:
    """The types of the images that a device's IMAGES names, each with what its recipe makes."""
    kernel = definition.values.get("KERNEL", "")
    found: dict[str, ImageFormat] = {}
    for name, recipe in definition.recipes.items():
        image_type = name.partition(".")[0]
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]*", image_type):
            found.setdefault(image_type, recipe_format(recipe, kernel))
    return found


def recipe_format(recipe: str, kernel: str) -> ImageFormat:
    """What comes out of an image's recipe (`append-rootfs | mktplinkfw factory`), given the kernel's;
    unknown where a step is not known."""
    steps = [step.split() for step in recipe.split("|") if step.split()]
    names = {step[0] for step in steps}
    if any(UNKNOWN in name for name in names):  # in its arguments it does no harm
        return "unknown"
    for name, telling in _TELLING.items():
        if name in names:
            return "efi-disk" if ["combined", "efi"] in steps else telling
    known = {**_APPENDED, **(_APPENDED_TO_UIMAGE if _UIMAGE.search(kernel) else {})}
    return known.get(frozenset(names - _PLAIN), "unknown")
