"""Images of vendors' headers and of kernels without U-Boot's header, as samples of firmware_images.py."""

from __future__ import annotations

import zlib
from functools import cache

from tests.support import firmware_vendor_writers as vendor
from tests.support import firmware_writers as make

OKLI = 0x4F4B4C49


def gzip_loader(place: int, *, magic: int = OKLI) -> bytes:
    """A loader in gzip, and a kernel that it unpacks, counted from the header before it."""
    kernel = make.uimage(make.kernel("board=TL-WR1043ND"), magic=magic)
    return vendor.okli(make.gz(make.noise(4000)), kernel, place)


def tplink_with_loader() -> bytes:
    """TL-WR841ND v7's: the kernel at 0x2040, behind the loader's header."""
    return make.tplink_v1(gzip_loader(0x1E00), make.squashfs(), hwid=0x08410007)


def uimage_with_loader() -> bytes:
    """PLANEX MZK-W04NU's: the same in a uImage."""
    return make.nor_sysupgrade(make.uimage(gzip_loader(0x1FC0), compression=1), make.squashfs())


def elf_with_loader() -> bytes:
    """CPE210's sysupgrade: an ELF loader, the kernel at 0x3000, the root file system."""
    kernel = make.pad_to(
        vendor.okli(make.elf(code=b"loader "), make.uimage(make.kernel(), magic=OKLI), 0x3000), 0x10000, 0
    )
    return make.pad_to(kernel + make.squashfs(), 0x10000) + make.MARKER


def jffs2_kernel(order: str = "big", gap: bytes = b"") -> bytes:
    """RouterStation's sysupgrade: the kernel as a file of a JFFS2, the root file system behind it."""
    kernel = vendor.jffs2({"vmlinux.lzma": make.kernel()}, order=order)
    return make.pad_to(kernel + gap + make.squashfs(), 0x10000) + make.MARKER


def tree_before_kernel() -> bytes:
    """A device tree, padded to 64 KiB, before the kernel (GL-MV1000)."""
    tree = make.pad_to(make.device_tree(["glinet,gl-mv1000"]), 0x10000, 0)
    return tree + make.uimage(make.zimage(), machine=22, compression=0)


def ubiquiti_factory(*, signed: bool = False) -> bytes:
    """OpenWrt's for NanoStation: the image is cut after so many bytes, wherever that is in it."""
    image = make.nor_sysupgrade(make.uimage(make.kernel()), make.squashfs())
    cut = 0x8000
    parts = ((b"kernel", 0x9F050000, cut, image[:cut]), (b"rootfs", 0x9F050000 + cut, 0x700000, image[cut:]))
    return vendor.ubiquiti(parts, signed=signed)


def wrt160nl(*, rootfs_outside: bool = False) -> bytes:
    """Linksys' header before a TRX with kernel and root file system; or one that counts the kernel alone."""
    parts = [make.uimage(make.kernel()), make.squashfs()]
    if not rootfs_outside:
        return vendor.cybertan(make.trx(parts))
    kernel = make.pad_to(parts[0], 4, 0)
    place = 0x20000 - 32
    head = bytearray(make.trx([kernel]))
    head[20:24] = place.to_bytes(4, "little")
    checked = zlib.crc32(bytes(head[12:])) ^ 0xFFFFFFFF
    head[8:12] = checked.to_bytes(4, "little")
    return vendor.cybertan(make.pad_to(bytes(head).ljust(place, b"\0") + parts[1], 0x10000))


@cache
def images() -> dict[str, tuple[str, bytes, tuple[tuple[int, int], ...]]]:
    """Names to the kind that matters, the image, and the ranges of bytes that mean something (all where none
    is given)."""
    kernel, root = make.uimage(make.kernel()), make.squashfs()
    files = {"fwupgrade.cfg": b"[vmlinux]\n", "kernel": kernel, "rootfs": root}
    nor = make.nor_sysupgrade(kernel, root)
    jffs2, tree, cut = jffs2_kernel(), tree_before_kernel(), wrt160nl(rootfs_outside=True)
    nodes = len(vendor.jffs2({"vmlinux.lzma": make.kernel()}, block=4))
    zcomax = vendor.zcomax(kernel, nor_tail(root))
    alfa = make.gz(make.noise(2000)) + b"WRM7222C\n".ljust(32, b"\0") + b"\xfe"
    elf = elf_with_loader()
    return {
        "tplink-loader": ("tplink-v1", tplink_with_loader(), ()),
        "tplink-v2": ("tplink-v2", vendor.tplink_v2(make.kernel(), root), ()),
        "uimage-loader": ("uimage", uimage_with_loader(), ((0, 4000),)),
        "elf-loader": (
            "elf-image",
            elf,
            ((18, 20), (24, 32), (56, 64), (0x3000, 0x3040 + 80000)),
        ),
        "jffs2-kernel": ("jffs2", jffs2, ((0, nodes),)),
        "tree-before-kernel": ("device-tree-image", tree, ((0, 4), (0x10000, 0x10000 + 5000))),
        "netgear-chk": ("netgear-chk", vendor.chk(nor), ()),
        "netgear-chk-two": ("netgear-chk", vendor.chk(kernel, root), ()),
        "cybertan": ("cybertan", wrt160nl(), ((0, 5), (8, 19), (32, len(wrt160nl())))),
        "cybertan-outside": ("cybertan", cut, ((0, 5), (8, 19), (32, 32 + 5000))),
        "model-header": ("model-header", vendor.model(jffs2), ()),
        "edimax": ("edimax", vendor.edimax(kernel) + nor_tail(root), ((0, 20), (20, 20 + len(kernel) + 2))),
        "edimax-big": ("edimax", vendor.edimax(kernel, order="big"), ()),
        "buffalo": ("buffalo", vendor.buffalo(make.uimage(make.kernel(size=3000))), ()),
        "combined": ("combined", vendor.combined(make.kernel(), root), ()),
        "openmesh": (
            "openmesh",
            vendor.openmesh(files),
            (),
        ),
        "seama": ("seama", vendor.seama_image(nor), ((0, 4), (6, 28), (64, len(vendor.seama_image(nor))))),
        "seama-seal": ("seama-image", vendor.seama_seal(vendor.seama_image(nor)), ((52, 72), (108, 3000))),
        "ubiquiti": ("ubiquiti", ubiquiti_factory(), ((0, 264), (268, len(ubiquiti_factory()) - 4))),
        "xiaomi": ("xiaomi", vendor.xiaomi([(b"xiaoqiang.bin", nor), (b"cfg.bin", b"x" * 99)]), ()),
        "myloader": ("myloader", vendor.myloader(nor), ()),
        "zcomax": ("zcomax", zcomax, ((0, 8), (16, 24), (32, len(zcomax)))),
        "alfa": ("gzip", alfa, ((0, 3), (10, len(alfa)))),
    }


def nor_tail(root: bytes) -> bytes:
    """A root file system to its end marker."""
    return make.pad_to(root, 0x10000) + make.MARKER
