"""The table of formats, and the reading of a file with it. A new format is one module and one line here."""

from __future__ import annotations

from dataclasses import dataclass

from imagebuilder.firmware.disk import disk, fat
from imagebuilder.firmware.formats import (
    compressed,
    dni,
    fdt,
    filesystems,
    fit,
    jffs2,
    kernel,
    named,
    safeloader,
    sysupgrade_tar,
    tplink,
    trx,
    ubi,
    uimage,
    vendor,
    vendor_blocks,
    vendor_files,
)
from imagebuilder.firmware.formats.metadata import Metadata, metadata_of, peel
from imagebuilder.firmware.formats.padding import KERNELS, followed, padding, root_first, run_length
from imagebuilder.firmware.formats.vendor import alfa_trailer, is_alfa
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View
from imagebuilder.firmware.squashfs import old as squashfs_old
from imagebuilder.firmware.squashfs import squashfs
from imagebuilder.model.firmware import Check, Part

# In the order in which they are tried: the surer a beginning is told, the earlier.
FORMATS = (
    Format(tplink.KIND, "TP-Link header, version 1", tplink.detect, tplink.parse),
    Format(vendor.TPLINK_V2, "TP-Link header, version 2 and 3", tplink.detect_v2, vendor.parse_tplink_v2),
    Format(safeloader.KIND, "TP-Link SafeLoader", safeloader.detect, safeloader.parse),
    Format(uimage.KIND, "U-Boot's legacy image", uimage.detect, uimage.parse_with_rootfs),
    Format(
        uimage.VENDOR_KIND, "uImage with a vendor's magic", uimage.detect_vendor, uimage.parse_with_rootfs
    ),
    Format(dni.KIND, "NETGEAR's factory header", dni.detect, dni.parse),
    Format(fit.KIND, "FIT", fit.detect, fit.parse),
    Format(vendor.CHK, "NETGEAR CHK", vendor.detect_chk, vendor.parse_chk),
    Format(vendor.CYBERTAN, "Linksys BIN header", vendor.detect_cybertan, vendor.parse_cybertan),
    Format(vendor.TFTP, "Buffalo TFTP header", vendor.detect_tftp, vendor.parse_tftp),
    Format(vendor.EDIMAX, "Edimax header", vendor.detect_edimax, vendor.parse_edimax),
    Format(vendor.BUFFALO, "Buffalo tag", vendor.detect_buffalo, vendor.parse_buffalo),
    Format(
        vendor_files.COMBINED,
        "combined image (CI)",
        vendor_files.detect_combined,
        vendor_files.parse_combined,
    ),
    Format(
        vendor_files.OPENMESH, "OpenMesh (CE01)", vendor_files.detect_openmesh, vendor_files.parse_openmesh
    ),
    Format(vendor_files.SEAMA, "SEAMA", vendor_files.detect_seama, vendor_files.parse_seama),
    Format(
        vendor_files.UBIQUITI,
        "Ubiquiti (OPEN, UBNT)",
        vendor_files.detect_ubiquiti,
        vendor_files.parse_ubiquiti,
    ),
    Format(vendor_files.XIAOMI, "Xiaomi HDR1", vendor_files.detect_xiaomi, vendor_files.parse_xiaomi),
    Format(
        vendor_blocks.MYLOADER, "Compex MyLoader", vendor_blocks.detect_myloader, vendor_blocks.parse_myloader
    ),
    Format(vendor_blocks.ZCOMAX, "ZComax", vendor_blocks.detect_zcomax, vendor_blocks.parse_zcomax),
    Format("device-tree", "device tree", fdt.detect, fdt.parse),
    Format(ubi.KIND, "UBI", ubi.detect, ubi.parse),
    Format(trx.KIND, "TRX", trx.detect, trx.parse),
    Format(sysupgrade_tar.KIND, "sysupgrade archive", sysupgrade_tar.detect, sysupgrade_tar.parse),
    Format(
        squashfs_old.KIND,
        "squashfs before 4.0, or a vendor's",
        squashfs_old.detect,
        squashfs_old.parse,
        opened=False,
    ),
    Format(squashfs.KIND, "squashfs 4.0", squashfs.detect, squashfs.parse),
    Format("ubifs", "UBIFS", filesystems.detect_ubifs, filesystems.parse_ubifs, opened=False),
    Format("gzip", "gzip", compressed.detect_gzip, compressed.parse_gzip),
    Format("xz", "xz", compressed.detect_xz, compressed.parse_xz),
    Format("zstd", "zstd", compressed.detect_zstd, compressed.parse_zstd),
    Format("elf", "ELF kernel or loader", kernel.detect_elf, kernel.parse_elf),
    Format("zimage", "ARM zImage", kernel.detect_zimage, kernel.parse_zimage),
    Format("arm64-image", "arm64 Image", kernel.detect_arm64, kernel.parse_arm64),
    Format("bzimage", "x86 bzImage", kernel.detect_bzimage, kernel.parse_bzimage),
    Format(fat.KIND, "FAT", fat.detect, fat.parse),
    Format("disk", "disk with MBR or GPT", disk.detect, disk.parse),
    Format("ext4", "ext4", filesystems.detect_ext4, filesystems.parse_ext4, opened=False),
    Format("lzma", "LZMA", compressed.detect_lzma, compressed.parse_lzma),
    Format(jffs2.KIND, "JFFS2", jffs2.detect, jffs2.parse),
    Format(vendor.MODEL, "model and checksum", vendor.detect_model, vendor.parse_model),
    *(Format(one.kind, one.about, one.detect, one.parse, opened=False) for one in named.NAMED),
)
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
    sunxi's cards have it (`append-metadata | gzip`); a device's sysupgrade does not see it there."""

    part: Part
    body_size: int
    metadata: Metadata | None
    metadata_packed: bool = False

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


def read_image(view: View) -> Read:
    """The parts of a whole file. ImageFormatError where it is none of the formats, or too small to be an
    image.

    Damage inside of a known format is no error here: it is a failed check of the part.
    """
    if view.size < SMALLEST_IMAGE:
        raise ImageFormatError(f"{view.what} has {view.size} bytes: too few for an image")
    peeled = peel(view)
    reading = Reading(FORMATS)
    image = reading.inside(peeled.body, "image")
    if image.kind in KERNELS and image.size < peeled.body.size:
        image = followed(image, peeled.body, reading).renamed("image")
    if image.kind == squashfs.KIND and image.size < peeled.body.size:
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
    return Read(whole, peeled.body.size, peeled.metadata or packed, packed is not None)
