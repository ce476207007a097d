"""What comes out of the recipes by which OpenWrt's image makefiles make an image.

A recipe is followed step by step: what is appended, what wraps it, what pads it. Source: Build/… of
include/image-commands.mk and of the targets' image makefiles, 17.01 to 25.12. A step that is not here, and
that runs no program that is, makes the image's format unknown, never wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from imagebuilder.config.board import ImageFormat
from imagebuilder.config.device import ImageFacts
from imagebuilder.tree.image_makefile import DeviceDefinition
from imagebuilder.tree.makefile_text import UNKNOWN


def _steps(names: str) -> frozenset[str]:
    return frozenset(names.split())


# steps that leave what they are given as it is, but for padding and metadata, or look at it only
_SAME = _steps(
    """
    append-gl-metadata append-metadata append-metadata-teltonika append-rootfshdr append-rutx-metadata
    check-kernel-size check-rootfs-size check-size dir685-pad-rootfs gzip gzip-filename libdeflate-gzip
    pad-extra pad-offset pad-rootfs pad-to wrgg-pad-rootfs
    """
)
# one step alone says what the image is, whatever lies before it and is padded behind it
_WHOLE: Mapping[str, ImageFormat] = {
    "bcm53xx-tplink-safeloader": "safeloader",
    "combined": "bios-disk",
    "combined-image": "combined",
    "mktplinkfw": "tplink-v1",
    "mktplinkfw2": "tplink-v2",
    "sysupgrade-tar": "sysupgrade-tar",
    "tplink-safeloader": "safeloader",
    "tplink-v1-image": "tplink-v1",
    "tplink-v2-image": "tplink-v2",
    "fit": "fit",
    **dict.fromkeys(
        _steps(
            """
            apalis-emmc at91-sdcard cros-gpt hdd-img imx-sdcard imx-sdcard-raw-uboot imx6-sdcard mtk-mmc-img
            mxs-sdcard-ext4-ext4 mxs-sdcard-vfat-ext4 omap-sdcard pine64-img qsdk-ipq-app-gpt riscv-sdcard
            rockchip-img sdcard sdcard-img sdcard-img-ext4 sunxi-sdcard tegra-sdcard ventana-img zynq-sdcard
            """
        ),
        "sd-card",
    ),
    **dict.fromkeys(
        _steps("cybertan-trx trx trx-nand trx-serial trx-v2-with-loader trx-with-loader trx-without-loader"),
        "trx",
    ),
}
# what a step makes of all that it is given: a header in front, an archive, something encrypted or signed.
# Only a vendor's updater or boot loader takes it.
_VENDOR = _steps(
    """
    addpattern alfa-network-rootfs-header append-md5sum-ascii-salted append-md5sum-bin asus-trx bcm4908asus
    bcm4908img belkin-header buffalo-dhp-image buffalo-enc buffalo-enc-tag buffalo-kernel-trx
    buffalo-rootfs-cksum buffalo-tag buffalo-tag-dhp buffalo-tftp-header buffalo-wzr-header cameo-headers
    cameo-version cfe-bin cfe-old-bin cfe-sercomm-crypto cfe-sercomm-load cfe-sercomm-part cfe-spw303v-bin
    cfe-wfi-tag dap-header dgn3500-sercom-footer dir685-image dns313-images dwl8610ap-image edimax-bin
    edimax-header edimax-headers elecom-gst-factory elecom-header elecom-product-header elecom-wrc-factory
    elecom-wrc-gs-factory elx-header fullimage gemtek-header gemtek-trailer hilink-header huawei-bin
    iptime-crc32 jcg-header linksys-bin linksys-image luxul-lxl mkbrnimg mkbuffaloimg mkdapimg2 mkdlinkfw
    mkdlinkfw-factory mkdlinkfw-loader mkfwimage mkmylofw mkmylofw_16m mkmylofw_32m mkrtn56uimg mkubntimage
    mkubntimage-split mkubntimage2 mkwrggimg motorola-bin nas4220b-sq201-images nec-enc nec-fw netgear-chk
    netgear-encrypted-factory netgear-header omnia-medkit-initramfs openmesh-image pisen_wmb001n-factory pkgtb
    poray-header prepend-with-elf qsdk-ipq-factory-nand qsdk-ipq-factory-nand-askey qsdk-ipq-factory-nor
    ravpower-wd009-factory redboot-bin seama seama-nand seama-seal senao-factory-image senao-header
    senao-tar-gz SenaoFW sercom-footer sercom-seal sercomm-crypto sercomm-factory-cqr sercomm-fix-buc-pid
    sercomm-kernel-factory sercomm-mkhash sercomm-part-tag sercomm-payload sercomm-prepend-tagged-kernel
    sercomm-reset-slot1-chksum sign-dlink-ru spw303v-bin storlink-default-images tailed-bin
    teltonika-fw-fake-checksum tplink-header uDPU-firmware umedia-header usrobotics-bin wac5xx-netgear-tar
    watchguard-cksum wiligear-image wrg-header wrgg-image xor-image yuncore-tftp-header-16m zip zyimage
    zyxel-bin zyxel-factory zyxel-nwa-fit zyxel-nwa-fit-filogic zyxel-ras-image zyxel-tar-bz2
    """
)
# of those, what is opened
_OPENED: Mapping[str, ImageFormat] = {
    "addpattern": "cybertan",
    "buffalo-tag": "buffalo",
    "edimax-header": "edimax",
    "mkfwimage": "ubiquiti",
    "mkmylofw": "myloader",
    "mkmylofw_16m": "myloader",
    "mkmylofw_32m": "myloader",
    "mkubntimage": "ubiquiti",
    "mkubntimage-split": "ubiquiti",
    "mkubntimage2": "ubiquiti",
    "netgear-chk": "netgear-chk",
    "openmesh-image": "openmesh",
    "seama": "seama",
    "seama-seal": "seama",
}
# what a step appends: a kernel, root file system or UBI, or something else that lies between them
_KERNEL, _ROOTFS, _UBI, _TREE, _OTHER = "kernel", "rootfs", "ubi", "device tree", "other"
_APPENDED: Mapping[str, str] = {
    "append-dtb": _TREE,
    "append-kernel": _KERNEL,
    "append-kernel-part": _KERNEL,
    "append-rootfs": _ROOTFS,
    "append-ubi": _UBI,
    "netgear-rootfs": _ROOTFS,
    **dict.fromkeys(
        _steps(
            """
            append-avm-fakeroot append-fakerootfs append-loader-okli append-loader-okli-uimage append-ls-dtb
            append-squashfs-fakeroot-be append-squashfs4-fakeroot append-uImage-fakehdr append-uboot
            cfe-jffs2-cferam create-uImage-dtb linksys-pattern-partition ls-append-dtb sercomm-append-tail
            """
        ),
        _OTHER,
    ),
}
# steps behind a kernel that put it into something else, before a root file system follows
_KERNEL_WRAPS = _steps("kernel2minor mkwrggimg netgear-squashfs sercomm-kernel uimage-padhdr wrgg-image")
_NETGEAR = "netgear-dni"
_SAFELOADER = "tplink-safeloader"
_TEXT = "append-string"
_TRX_NAND = "trx-nand"  # mediatek's has another magic
# what a step of KERNEL leaves: a kind of kernel that is told by its beginning. After any other step that is
# not among _AFTER_KERNEL it is none of these.
_KERNELS: Mapping[str, str] = {
    "append-dtb-elf": "elf",
    "fit": "fit",
    "gzip": "gzip",
    "gzip-kernel": "gzip",
    "jffs2": "jffs2",
    "libdeflate-gzip": "gzip",
    "loader-okli": "gzip",
    "lzma": "lzma",
    "lzma-d16": "lzma",
    "lzma-kernel": "lzma",
    "lzma-no-dict": "lzma",
    "netgear-uImage": "vendor-uimage",
    "uImage": "uimage",
    "uImageArcher": "uimage",
    "uImageHiWiFi": "uimage",
    "zyxel-buildkerneljffs": "jffs2",
}
_LOADERS = _steps("loader-kernel loader-kernel-cmdline")
_LOADER_TYPES: Mapping[str, str] = {"elf": "elf", "gz": "gzip"}
_AFTER_KERNEL = _steps("append-uImage-fakehdr check-size pad-extra pad-offset pad-to")
_HEADERLESS = _steps("elf gzip jffs2 lzma")


# of steps that are not above, a fork's: the programs that they run, as patterns
_PROGRAMS: Mapping[str, ImageFormat] = {
    r"sysupgrade-tar[\w-]*\.sh": "sysupgrade-tar",
    r"combined-image\.sh": "combined",
    "mktplinkfw": "tplink-v1",
    "mktplinkfw2": "tplink-v2",
    "tplink-safeloader": "safeloader",
    "mkdniimg": "netgear-dni",
    "trx": "trx",
    "otrx": "trx",
}
_HOST_PROGRAM = re.compile(r"\$\(STAGING_DIR_HOST\)/bin/([\w.-]+)")
# programs that make no format of an image of their own
_NEUTRAL = _steps(
    "awk bzip2 dtc gzip lzma mkimage mksquashfs4 padjffs2 patch-cmdline patch-dtb sed tar xz zip"
)


@dataclass(frozen=True)
class _Shape:
    """What lies in an image so far: its parts in their order; or what it has become as a whole."""

    parts: tuple[str, ...] = ()
    whole: ImageFormat | None = None
    wrapped: str = ""  # by which step the kernel was put into something else
    tail: str = ""  # a text behind all of it


def device_images(definition: DeviceDefinition) -> dict[str, ImageFacts]:
    """The types of the images that a device's IMAGES names, each with what its recipe makes."""
    found: dict[str, ImageFacts] = {}
    for name, recipe in definition.recipes.items():
        image_type = name.partition(".")[0]
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]*", image_type):
            found.setdefault(
                image_type,
                recipe_image(recipe, definition.kernel, values=definition.values, builds=definition.builds),
            )
    return found


def recipe_image(
    recipe: str,
    kernel: str,
    *,
    values: Mapping[str, str] | None = None,
    builds: Mapping[str, tuple[str, ...]] | None = None,
) -> ImageFacts:
    """What comes out of an image's recipe (`append-rootfs | mktplinkfw factory`), given the kernel's
    (KERNEL); of format unknown where a step is not known.

    values: the device's variables, of which LOADER_TYPE and UIMAGE_MAGIC say what kernel it is. builds: what
    the tree defines steps to be; a fork's own step is known by the program that it runs.
    """
    shape = _Shape()
    vendor: list[str] = []
    bodies = builds or {}
    for name, arguments in _named(recipe):
        if UNKNOWN in name:  # in its arguments it does no harm
            return ImageFacts(format="unknown")
        followed = _follow(shape, name, arguments) or _of_programs(bodies.get(name, ()))
        if name == _TRX_NAND and any("-M" in line.split() for line in bodies.get(name, ())):
            followed = _Shape(whole="vendor")
        if followed is None:
            return ImageFacts(format="unknown")
        shape = followed
        vendor += [name] if shape.whole == "vendor" and name not in _SAME else []
    made = shape.whole or _of_parts(shape, _kernel_kind(kernel, values or {}))
    return ImageFacts(format=made, tail=shape.tail, by=tuple(vendor) if made == "vendor" else ())


def _of_programs(body: tuple[str, ...]) -> _Shape | None:
    """What a step makes that runs one of the programs that make an image; None where it runs none."""
    text = "\n".join(body)
    for program, made in _PROGRAMS.items():
        if re.search(rf"(?<![\w.-])(?:{program})(?![\w.-])", text):
            return _Shape(whole=made)
    others = {name for name in _HOST_PROGRAM.findall(text) if name not in _NEUTRAL}
    return _Shape(whole="vendor") if others else None


def _named(recipe: str) -> list[tuple[str, list[str]]]:
    """The steps of a recipe, each with its arguments."""
    words = (step.split() for step in recipe.split("|"))
    return [(word[0], word[1:]) for word in words if word]


def _follow(shape: _Shape, name: str, arguments: list[str]) -> _Shape | None:
    """What a step makes of what lies there; None where nobody knows."""
    alone = shape.parts == (_KERNEL,) and shape.whole is None
    followed: _Shape | None = None
    if name in _SAME or name in _HELPERS:
        followed = shape
    elif name == _TEXT:
        text = " ".join(arguments)
        plain = re.fullmatch(r"[\w.+-]+", text) is not None and not shape.tail
        followed = replace(shape, tail=text) if plain else _Shape(whole="vendor")
    elif name == _SAFELOADER and arguments[:1] == ["sysupgrade"]:  # kernel and root, without its header
        followed = _Shape((_KERNEL, _ROOTFS))
    elif name in _WHOLE:
        disk = name == "combined" and arguments[:1] == ["efi"]
        followed = _Shape(whole="efi-disk" if disk else _WHOLE[name])
    elif name in _APPENDED:
        followed = shape if shape.whole else replace(shape, parts=(*shape.parts, _APPENDED[name]))
    elif name == "uImage" and alone:
        followed = _Shape(whole="uimage")
    elif name in _KERNEL_WRAPS and alone:
        followed = replace(shape, wrapped=name)
    elif name == _NETGEAR and shape.whole is None and shape.parts:
        followed = _Shape(whole="netgear-dni")
    elif name in _VENDOR or name in _KERNEL_WRAPS or name == _NETGEAR:
        followed = _Shape(whole=_OPENED.get(name, "vendor"))
    return followed


# steps that write files for a disk that a later step makes
_HELPERS = _steps(
    """
    boot-2708 boot-2711 boot-common boot-img boot-img-ext4 boot-scr boot-scr-jh7110 boot-script bootfs.tar.gz
    grub-config grub-install ls-append ls-append-kernel ls-append-sdhead ls-clean uRamdisk
    """
)


def _of_parts(shape: _Shape, kernel: str) -> ImageFormat:
    """What an image is that nothing wraps. A kernel that is not told by its beginning is a vendor's matter:
    its boot loader finds it by where it lies."""
    known = tuple(part for part in shape.parts if part not in (_OTHER, _TREE))
    if known in ((_ROOTFS,), (_UBI,)) and known == shape.parts:
        return "filesystem" if known == (_ROOTFS,) else "ubi"
    if _KERNEL not in known or kernel == "unknown":
        return "unknown"
    if shape.wrapped:
        kernel = "vendor-uimage" if shape.wrapped == "netgear-squashfs" else "other"
    if shape.parts[0] == _TREE:
        kernel = "lzma"  # read as one of those without a header
    elif shape.parts[0] == _OTHER:
        kernel = "other"
    kind = "headerless" if kernel in _HEADERLESS else kernel
    return _OF_PARTS.get((*known, kind), "vendor")


# what lies in an image, and of what kind its kernel is
_OF_PARTS: Mapping[tuple[str, ...], ImageFormat] = {
    (_KERNEL, "uimage"): "uimage",
    (_KERNEL, "fit"): "fit",
    (_KERNEL, "headerless"): "kernel",
    (_KERNEL, _ROOTFS, "uimage"): "uimage-squashfs",
    (_KERNEL, _ROOTFS, "vendor-uimage"): "vendor-uimage-squashfs",
    (_KERNEL, _ROOTFS, "headerless"): "kernel-squashfs",
    (_KERNEL, _UBI, "uimage"): "ubi-factory",
    (_KERNEL, _UBI, "vendor-uimage"): "kernel-ubi",
    (_KERNEL, _UBI, "headerless"): "kernel-ubi",
    (_ROOTFS, _KERNEL, "uimage"): "squashfs-kernel",
}


def _kernel_kind(kernel: str, values: Mapping[str, str]) -> str:
    """What KERNEL makes: a kind of _KERNELS, other, or unknown where it does not say."""
    kind = "unknown"
    for name, arguments in _named(kernel):
        if UNKNOWN in name:
            kind = "unknown"
        elif name in _LOADERS:
            kind = _LOADER_TYPES.get(values.get("LOADER_TYPE", ""), "other")
        elif name in _KERNELS:
            kind = _KERNELS[name]
            # another magic is another kind to the boot loader, and to who reads it
            if kind == "uimage" and ("-M" in arguments or values.get("UIMAGE_MAGIC")):
                kind = "vendor-uimage"
        elif name not in _AFTER_KERNEL or kind == "unknown":
            kind = "other"
    return kind
