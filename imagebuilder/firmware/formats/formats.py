"""The table of formats: how each is told and read, what boards call it, and which steps of OpenWrt's recipes
make it; and the reading of a file with it. A new format is one module, or a value in one, and a line here.

The steps of a format are those of `define Build/…` in OpenWrt's target/linux/*/image and
include/image-commands.mk, branches lede-17.01 to openwrt-25.12 and master, which put a header or a container
around what they are given. Steps that pad, append, patch or compress leave the format as it is, and are not
listed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from imagebuilder.firmware.disk import disk, fat
from imagebuilder.firmware.formats import (
    compressed,
    fdt,
    fit,
    jffs2,
    kernel,
    named,
    sysupgrade_tar,
    tplink,
    trx,
    ubi,
    uimage,
    vendor_headers,
    vendor_parts,
)
from imagebuilder.firmware.formats.metadata import Metadata, metadata_of, peel
from imagebuilder.firmware.formats.padding import (
    COMPOSED,
    HEADED,
    KERNELS,
    ROOT_FIRST,
    followed,
    padding,
    root_first,
    run_length,
)
from imagebuilder.firmware.formats.vendor_headers import alfa_trailer, is_alfa
from imagebuilder.firmware.reader import Format, ImageFormatError, Kernels, Reading, View
from imagebuilder.firmware.squashfs import squashfs
from imagebuilder.model.firmware import Check, FormatRow, Part

# In the order in which they are tried: the surer a beginning is told, the earlier.
FORMATS = (
    tplink.V1,
    tplink.V2,
    tplink.SAFELOADER,
    uimage.UIMAGE,
    uimage.VENDOR_UIMAGE,
    vendor_headers.NETGEAR_DNI,
    fit.FIT,
    vendor_headers.NETGEAR_CHK,
    vendor_headers.CYBERTAN,
    vendor_headers.BUFFALO_TFTP,
    vendor_headers.EDIMAX,
    vendor_headers.BUFFALO,
    vendor_parts.COMBINED,
    vendor_parts.OPENMESH,
    vendor_parts.SEAMA,
    vendor_parts.UBIQUITI,
    vendor_parts.XIAOMI,
    vendor_parts.MYLOADER,
    vendor_parts.ZCOMAX,
    fdt.DEVICE_TREE,
    ubi.UBI,
    trx.TRX,
    sysupgrade_tar.SYSUPGRADE_TAR,
    squashfs.OLD,
    squashfs.SQUASHFS,
    named.UBIFS,
    compressed.GZIP,
    compressed.XZ,
    compressed.ZSTD,
    kernel.ELF,
    kernel.ZIMAGE,
    kernel.ARM64,
    kernel.BZIMAGE,
    fat.FAT,
    disk.DISK,
    named.EXT4,
    compressed.LZMA,
    jffs2.JFFS2,
    vendor_headers.MODEL,
    *(
        Format(one.kind, one.about, one.detect, one.parse, opened=False, steps=one.steps)
        for one in named.NAMED
    ),
)
# the formats of boards to the kinds of parts that such a file is
CONTAINERS: dict[str, tuple[str, ...]] = {
    "tplink-v1": ("tplink-v1",),
    "uimage-squashfs": ("uimage-image",),
    "sysupgrade-tar": ("sysupgrade-tar",),
    "ubi-factory": ("uimage-image",),
    "uimage": ("uimage",),
    "ubi": ("ubi",),
    "sd-card": ("mbr-disk", "gpt-disk"),
    "bios-disk": ("mbr-disk",),
    "efi-disk": ("gpt-disk",),
    "kernel": ("elf", "bzimage", "zimage", "arm64-image", "uimage", "kernel", "lzma", "xz", "gzip", "zstd"),
    "filesystem": ("squashfs", "ext4", "ubifs"),
    "vendor-uimage-squashfs": ("vendor-uimage-image",),
    "kernel-squashfs": tuple(COMPOSED[kind] for kind in KERNELS if kind not in HEADED),
    "kernel-ubi": ("vendor-uimage-image", *(COMPOSED[kind] for kind in KERNELS if kind not in HEADED)),
    "squashfs-kernel": (ROOT_FIRST,),
    "fit": ("fit",),
    "trx": ("trx",),
    "safeloader": ("safeloader",),
    "tplink-v2": ("tplink-v2",),
    "netgear-dni": ("dni",),
    "netgear-chk": ("netgear-chk",),
    "model-header": ("model-header",),
    "cybertan": ("cybertan",),
    "combined": ("combined",),
    "edimax": ("edimax",),
    "seama": ("seama",),
    "ubiquiti": ("ubiquiti",),
    "openmesh": ("openmesh",),
    "xiaomi": ("xiaomi",),
    "buffalo": ("buffalo",),
    "myloader": ("myloader",),
    "zcomax": ("zcomax",),
}
# what these make is not known here by any name: `boards add` leaves such an image's format unknown
_UNKNOWN = (
    "apboot-addfwhdr arcadyan-trx bcm4908img bcm4908asus bcm4908kernel belkin-header buffalo-dhp-image "
    "buffalo-tag-dhp buffalo-wzr-header cameo-headers cameo-tag cetron-header cros-vboot ctera-firmware "
    "dap-header dgn3500-sercom-footer dlink-ai-recovery-header dlink-cameo dongwon-header dwl8610ap-image "
    "elecom-header elecom-product-header elecom-wrc-factory elecom-wrc-gs-factory elx-header "
    "fortigate-header gemtek-header h3c-image h3c-vfs hcs-initramfs hilink-header huawei-bin "
    "inteno-y3-header iodata-mstc-header iptime-crc32 kernel-pack-npk linksys-image mkbrnimg mkbuffaloimg "
    "mkdapimg2 mkrtn56uimg motorola-bin moxa-encode-fw nec-enc nec-fw nec-usbaterm-fw "
    "netgear-encrypted-factory netgear-header netis-tail onie-installer pkgtb poray-header qding-header "
    "scatterfile seama-nand seil-header senao-header sercom-footer sercomm-crypto sercomm-kernel-factory "
    "sercomm-part-tag tclinux-trx teltonika-v1-header tplink-image-2022 uDPU-firmware uimage-padhdr "
    "uimage-sgehdr umedia-header watchguard-cksum wiligear-image xikestor-nosimg xor-image "
    "yuncore-tftp-header-16m zip znet-header zyimage "
)
UNKNOWN_STEPS = tuple(_UNKNOWN.split())
SMALLEST_IMAGE = 512
# what people hand in as firmware and what it is instead
_STRANGERS = (
    (b"PK\x03\x04", "a ZIP archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"<!DOCTYPE", "a web page: the download went wrong"),
    (b"<html", "a web page: the download went wrong"),
    (b"{", "JSON: the download went wrong"),
)


class UnknownFormatError(ImageFormatError):
    """An image of no format that is known here: nothing speaks for it, and nothing against it."""


@dataclass(frozen=True, slots=True)
class Read:
    """An image that was read. part: kind `file`, whose first child is the image proper. body_size: bytes of
    the file without metadata and signature. metadata_packed: whether it lies in the compressed contents, as
    sunxi's cards have it (`append-metadata | gzip`); a device's sysupgrade does not see it there. kernels:
    with which it was read."""

    part: Part
    body_size: int
    metadata: Metadata | None
    metadata_packed: bool = False
    kernels: Kernels = field(default_factory=Kernels, repr=False, compare=False)

    @property
    def image(self) -> Part:
        """The image proper, as the file has it."""
        return self.part.children[0]

    @property
    def unwrapped(self) -> Part:
        """The image proper, taken out of gzip."""
        image = self.image
        return image.children[0] if image.kind == "gzip" and image.children else image


def _stranger(view: View) -> ImageFormatError:
    for magic, meaning in _STRANGERS:
        if view.has(magic):
            return ImageFormatError(f"{view.what} is no firmware but {meaning}")
    if run_length(view) == view.size:
        return ImageFormatError(f"{view.what} holds nothing but one byte, {view.u8(0):#04x}, over and over")
    beginning = view.first(16).take(0, min(16, view.size)).hex()
    return UnknownFormatError(f"{view.what} has no format that is known here; it begins {beginning}")


def read_image(view: View, kernels: Kernels | None = None) -> Read:
    """The parts of a whole file. kernels: those of other images that were read. ImageFormatError where it is
    none of the formats, or too small to be an image.

    Damage inside of a known format is no error here: it is a failed check of the part.
    """
    if view.size < SMALLEST_IMAGE:
        raise ImageFormatError(f"{view.what} has {view.size} bytes: too few for an image")
    peeled = peel(view)
    reading = Reading(FORMATS, kernels=kernels)
    image = reading.inside(peeled.body, "image")
    if image.kind in KERNELS and image.size < peeled.body.size:
        image = followed(image, peeled.body, reading).renamed("image")
    if image.kind == squashfs.SQUASHFS.kind and image.size < peeled.body.size:
        image = root_first(image, peeled.body, reading).renamed("image")
    if image.kind == "data":
        raise _stranger(view)
    tail = peeled.body.part(image.size)
    rest = alfa_trailer(tail) if image.kind == "gzip" and is_alfa(tail) else padding(tail)
    if image.kind == "gzip" and rest and rest[0].kind != "alfa-trailer":
        found = f"{peeled.body.size - image.size} bytes"
        check = Check("behind the compressed image", "OpenWrt's metadata or nothing", found, False)
        checks = (*peeled.checks, check)
    else:
        checks = peeled.checks
    whole = view.to_part("file", view.what, {}, (image, *rest, *peeled.chunks), checks)
    packed = metadata_of(image) if image.kind == "gzip" and peeled.metadata is None else None
    return Read(whole, peeled.body.size, peeled.metadata or packed, packed is not None, reading.kernels)


def format_rows() -> tuple[FormatRow, ...]:
    """A row for each format of the table, in its order."""
    rows = []
    for form in FORMATS:
        kinds = {form.kind, COMPOSED.get(form.kind, "")}
        if form.kind == "disk":
            kinds = {"mbr-disk", "gpt-disk"}
        if form.kind == squashfs.SQUASHFS.kind:
            kinds.add(ROOT_FIRST)
        boards = tuple(name for name, row in CONTAINERS.items() if kinds & set(row))
        rows.append(FormatRow(form.kind, form.about, form.opened, boards, tuple(form.steps.split())))
    return tuple(rows)
