"""What is known by name and not opened: other vendors' firmware, boot loaders, and the file systems ext4 and
UBIFS.

A part of NAMED has the fields that can be read plainly and no checks. Nothing speaks for it: no board has an
image of these kinds. Where each beginning is known from stands in its row. Squashfs that is not opened is
squashfs/squashfs.py's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from imagebuilder.firmware.checks import hexadecimal
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, begins_with
from imagebuilder.model.firmware import Field, Part

NOT_OPENED = "not opened by this program"
_FIP_ENTRY, _FIP_MOST = 40, 32
_FIS_ENTRIES = (0x100, 0x200)


def _no_fields(_view: View) -> Mapping[str, Field]:
    return {}


@dataclass(frozen=True, slots=True)
class Named:
    """A format that is told by its beginning. magics: bytes and where they stand. source: where the format is
    described. more: what else must be so. fields: what its header says plainly. steps: of OpenWrt's
    recipes that make it."""

    kind: str
    about: str
    source: str
    magics: tuple[tuple[int, bytes], ...]
    fields: Callable[[View], Mapping[str, Field]] = field(default=_no_fields)
    more: Callable[[View], bool] = field(default=lambda _view: True)
    least: int = 64
    steps: str = ""

    def detect(self, view: View) -> bool:
        """Whether one of the magics stands where it must."""
        return (
            view.size >= self.least
            and any(view.has(magic, at) for at, magic in self.magics)
            and self.more(view)
        )

    def parse(self, view: View, _reading: Reading) -> Part:
        """All of the view, under the format's name."""
        fields = {**self.fields(view), "contents": Field(NOT_OPENED)}
        return view.to_part(self.kind, self.about, fields)


def _texts(**places: tuple[int, int]) -> Callable[[View], Mapping[str, Field]]:
    """Text fields: name to offset and bytes."""
    return lambda view: {
        name.replace("_", " "): Field(view.text(at, size)) for name, (at, size) in places.items()
    }


def _little(**places: int) -> Callable[[View], Mapping[str, Field]]:
    """Little-endian numbers: name to offset."""
    return lambda view: {
        name.replace("_", " "): Field(view.le32(at), hexadecimal(view.le32(at)))
        for name, at in places.items()
    }


def _big(**places: int) -> Callable[[View], Mapping[str, Field]]:
    """Big-endian numbers: name to offset."""
    return lambda view: {
        name.replace("_", " "): Field(view.u32(at), hexadecimal(view.u32(at))) for name, at in places.items()
    }


def _fip(view: View) -> Mapping[str, Field]:
    entries = []
    for number in range(_FIP_MOST):
        at = 16 + number * _FIP_ENTRY
        if at + _FIP_ENTRY > view.size or not any(view.take(at, 16)):
            break
        entries.append(f"{view.take(at, 16).hex()} {view.le64(at + 24)} at {view.le64(at + 16):#x}")
    return {"images": Field(tuple(entries), "number, bytes and place of each")}


def _fis(view: View) -> Mapping[str, Field]:
    size = next((size for size in _FIS_ENTRIES if _is_fis_name(view, size)), _FIS_ENTRIES[0])
    names = []
    for at in range(0, min(view.size - size + 1, size * 64), size):
        if not _is_fis_name(view, at):
            break
        names.append(view.text(at, 16))
    return {"entries": Field(tuple(names), "partitions of the flash")}


def _is_fis_name(view: View, at: int) -> bool:
    return at + 16 <= view.size and re.fullmatch(rb"[ -~]{2,15}\0+", view.take(at, 16)) is not None


def _is_fis(view: View) -> bool:
    return any(_is_fis_name(view, size) for size in _FIS_ENTRIES)


def _eva(view: View) -> Mapping[str, Field]:
    return {
        "length": Field(view.le32(4), "bytes of the record"),
        "load address": Field(view.le32(8), hexadecimal(view.le32(8))),
    }


def _brcm_tag(view: View) -> bool:
    return view.take(0, 4).rstrip(b"\0").isdigit()


def _ras(view: View) -> Mapping[str, Field]:
    return {
        "version": Field(view.text(8, 32)),
        "board": Field(view.text(44, 64)),
        "rootfs": Field(view.u32(4)),
    }


_RAS_VERSION = re.compile(rb"V?[0-9]+\.[0-9]+\([A-Z]{3,5}\.[0-9]+\)[A-Za-z0-9]*\0")


def _is_ras(view: View) -> bool:
    """A ras image has no magic: its version is written as ZyXEL writes them, and its lengths are whole."""
    return _RAS_VERSION.match(view.take(8, 32)) is not None


_FU = "OpenWrt's firmware-utils, "
_UBOOT_MTK = "U-Boot, tools/mtk_image.h"
_BINWALK = "binwalk's signatures"
NAMED: tuple[Named, ...] = (
    Named(
        "dlink-shrs",
        "D-Link SHRS (encrypted)",
        f"{_FU}dlink-sge-image.c",
        ((0, b"SHRS"),),
        _big(length=4),
        steps="dlink-sge-image dlink-sge-signature",
    ),
    Named("dlink-encrypted", "D-Link encrpted_img", _BINWALK, ((0, b"encrpted_img"),), _big(length=12)),
    Named(
        "dlink-jboot",
        "D-Link JBOOT",
        f"{_FU}mkdlinkfw.c; {_BINWALK}",
        ((0, b"DLK6E"),),
        _texts(rom_id=(0, 12)),
        steps="mkdlinkfw mkdlinkfw-factory mkdlinkfw-loader",
    ),
    Named(
        "dlink-wrgg",
        "D-Link and others, WRGG",
        f"{_FU}mkwrggimg.c",
        ((32, b"\x20\x08\x03\x21"), (32, b"\x21\x03\x08\x20")),
        _texts(signature=(0, 32), version=(40, 16), model=(56, 16), device=(112, 32)),
        least=160,
        steps="mkwrggimg wrgg-image",
    ),
    Named(
        "dlink-wrg",
        "D-Link and others, WRG",
        f"{_FU}mkwrgimg.c",
        ((32, b"\x20\x04\x02\x20"), (32, b"\x20\x02\x04\x20")),
        _texts(signature=(0, 32)),
        least=128,
        steps="wrg-header",
    ),
    Named(
        "eva",
        "AVM EVA (FRITZ!Box kernel)",
        f"{_FU}lzma2eva.c",
        ((0, b"\x81\x12\xed\xfe"),),
        _eva,
        steps="eva-image",
    ),
    Named(
        "zyxel-ras",
        "ZyXEL ras",
        f"{_FU}mkrasimage.c",
        ((41, b""),),
        _ras,
        _is_ras,
        least=0x10000,
        steps="zyxel-ras-image zyxel-factory",
    ),
    Named(
        "zyxel-zynos",
        "ZyXEL ZyNOS",
        f"{_FU}zynos.h",
        ((6, b"SIG"),),
        _big(address=0),
        lambda view: view.u16(4) == 0 and view.u8(9) < 16,
        steps="zynos-firmware",
    ),
    Named(
        "zyxel-zytrx",
        "ZyXEL ZyTRX",
        f"{_FU}zytrx.c",
        ((0, b"ZYTR"), (0, b"RTYZ")),
        _texts(version=(16, 32)),
        steps="zytrx-header",
    ),
    Named(
        "arm-fip",
        "ARM firmware image package (FIP)",
        "Trusted Firmware-A, include/tools_share/firmware_image_package.h",
        ((0, b"\x01\x00\x64\xaa"),),
        _fip,
        steps="bl31-uboot mt7981-bl31-uboot mt7986-bl31-uboot mt7987-bl31-uboot mt7988-bl31-uboot "
        "an7581-bl31-uboot an7583-bl31-uboot lan969x-fip",
    ),
    Named(
        "mediatek-bl2",
        "MediaTek BL2 or preloader",
        _UBOOT_MTK,
        (
            *((0, name) for name in (b"SPINAND!", b"NANDINFO", b"BOOTLOADER!", b"BRLYT\0\0\0")),
            *((0, name) for name in (b"EMMC_BOOT\0", b"SDMMC_BOOT\0", b"SF_BOOT\0", b"UFS_BOOT\0")),
            (0, b"COMBO_BOOT\0"),
        ),
        _texts(device=(0, 12)),
        steps="bl2 mt7981-bl2 mt7986-bl2 mt7987-bl2 mt7988-bl2 preloader append-preloader",
    ),
    Named(
        "redboot-fis",
        "RedBoot FIS directory",
        "eCos, packages/redboot/current/include/fis.h; Linux, drivers/mtd/parsers/redboot.c",
        ((0, b"RedBoot\0"), (0, b"FIS directory\0")),
        _fis,
        _is_fis,
        least=0x300,
        steps="redboot-bin",
    ),
    Named(
        "linksys-chdr",
        "Linksys CHDR",
        f"{_FU}linksys-addfwhdr.c",
        ((0, b"CHDR"),),
        _little(length=4),
        steps="linksys-addfwhdr",
    ),
    Named("jcg", "JCG", f"{_FU}jcgimage.c", ((0, b"YSZJ"),), least=512, steps="jcg-header"),
    Named("cas", "CAS (Dell, Buffalo)", f"{_FU}mkcasfw.c", ((0, b"\x55\xaa\x41\x52AGOR"),)),
    Named(
        "meraki",
        "Cisco Meraki",
        f"{_FU}mkmerakifw.c",
        ((0, b"\x8e\x73\xed\x8a"),),
        steps="meraki-header meraki-old-nand MerakiNAND MerakiNAND-old",
    ),
    Named("luxul", "Luxul LXL", f"{_FU}lxlfw.c", ((0, b"LXL#"),), steps="luxul-lxl"),
    Named(
        "broadcom-tag",
        "Broadcom BCM963xx tag",
        f"{_FU}bcm_tag.h",
        ((4, b"Broadcom Corporatio"), (4, b"gOtO DpG"), (4, b"Telsey")),
        _texts(signature=(4, 20), chip=(38, 6), board=(44, 16)),
        _brcm_tag,
        least=256,
        steps="cfe-bin cfe-old-bin cfe-bin-uboot cfe-spw303v-bin spw303v-bin zyxel-bin",
    ),
    Named(
        "buffalo-encrypted",
        "Buffalo (encrypted)",
        f"{_FU}buffalo-enc.c",
        ((0, b"start\0"),),
        steps="buffalo-enc buffalo-enc-tag",
    ),
    Named("asus-blob", "Broadcom BLOB", f"{_FU}bcmblob.c", ((0, b"BLOB"),)),
    Named(
        "iptime-naspkg",
        "ipTIME NAS package",
        f"{_FU}iptime-naspkg.c",
        ((0, b"EFM_NAS_PKG"),),
        steps="iptime-naspkg",
    ),
    Named(
        "android-boot", "Android boot image", "Android, bootimg.h", ((0, b"ANDROID!"),), _texts(name=(48, 16))
    ),
    Named(
        "allwinner-spl", "Allwinner boot code (eGON)", "U-Boot, include/sunxi_image.h", ((4, b"eGON.BT0"),)
    ),
    Named("allwinner-image", "Allwinner PhoenixCard image", "sunxi-tools", ((0, b"IMAGEWTY"),)),
    Named("rockchip-image", "Rockchip update image", "rkdeveloptool", ((0, b"RKFW"), (0, b"RKAF"))),
    Named(
        "tar",
        "tar archive (no sysupgrade)",
        "POSIX.1-2017, pax",
        ((257, b"ustar"),),
        _texts(first=(0, 100)),
        least=512,
        steps="senao-tar-gz wac5xx-netgear-tar wax610-netgear-tar wax6xx-netgear-tar",
    ),
    Named("cpio", "initramfs (cpio)", "Linux, Documentation/driver-api/early-userspace", ((0, b"070701"),)),
    Named("cramfs", "CramFS", "Linux, fs/cramfs", ((0, b"\x45\x3d\xcd\x28"), (0, b"\x28\xcd\x3d\x45"))),
    Named(
        "yaffs2",
        "YAFFS2",
        "Linux' yaffs2, yaffs_guts.h",
        ((0, b"\x03\0\0\0\x01\0\0\0\xff\xff"),),
        steps="yaffs-filesystem kernel2minor",
    ),
)


EXT4_SUPERBLOCK = 0x400
_EXT4_MAGIC = 0xEF53
_MOST_LOG = 6
_UBIFS_MAGIC = bytes.fromhex("31181006")


def detect_ext4(view: View) -> bool:
    """The magic in the superblock (Linux, fs/ext4/ext4.h)."""
    return view.size >= 2 * EXT4_SUPERBLOCK and view.le16(EXT4_SUPERBLOCK + 0x38) == _EXT4_MAGIC


def parse_ext4(view: View, _reading: Reading) -> Part:
    """Its label and size. ImageFormatError where the view is shorter."""
    block = view.part(EXT4_SUPERBLOCK, EXT4_SUPERBLOCK)
    log = block.le32(0x18)
    if log > _MOST_LOG:
        raise ImageFormatError(f"the ext4 superblock is damaged: the block size is 2^{10 + log}")
    size = block.le32(0x04) << (10 + log)
    if not 0 < size <= view.size:
        raise ImageFormatError(f"the ext4 file system is cut: it needs {size} bytes, {view.size} are there")
    fields = {"label": Field(block.text(0x78, 16)), "block size": Field(1 << (10 + log), "bytes")}
    return view.first(size).to_part("ext4", "ext4", fields)


def parse_ubifs(view: View, _reading: Reading) -> Part:
    """Only its name."""
    return view.to_part("ubifs", "UBIFS")


EXT4 = Format("ext4", "ext4", detect_ext4, parse_ext4, opened=False, steps="boot-img-ext4")
UBIFS = Format(
    "ubifs",
    "UBIFS",
    begins_with(_UBIFS_MAGIC),
    parse_ubifs,
    opened=False,
    steps="buffalo-kernel-ubifs package-kernel-ubifs",
)
