"""Images that the tests try: one of each kind, for the boards that they fit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import zstandard

from imagebuilder.config.board import Board
from imagebuilder.config.library import Library
from imagebuilder.firmware.formats.formats import read_image
from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.model.firmware import Check, Part
from tests.support import firmware_vendor_images
from tests.support import firmware_writers as make

PROJECT = Path(__file__).resolve().parents[2]
ATH79 = {"target": "ath79/generic", "release": "23.05.5"}
MVEBU = {
    "target": "mvebu/cortexa9",
    "release": "23.05.5",
    "arch": "arm_cortex-a9_vfpv3-d16",
    "machine": make.ARM,
}
LINKSYS = ["linksys,wrt1200ac", "armada-385-linksys-caiman", "linksys,caiman"]


@cache
def board(name: str) -> Board:
    return Library(PROJECT).board(name)


@dataclass(frozen=True)
class Sample:
    """An image. kind: of the part that matters; board: that it is for, where there is one; changing: the
    ranges of bytes that are checksummed or mean something."""

    name: str
    kind: str
    data: bytes
    board: str = ""
    changing: tuple[tuple[int, int], ...] = ()

    def places(self, count: int, seed: int) -> Iterator[tuple[int, int]]:
        """So many changes of one byte each: where, and what is put in."""
        source = random.Random(seed)
        ranges = self.changing or ((0, len(self.data)),)
        for _ in range(count):
            start, end = source.choices(ranges, [high - low for low, high in ranges])[0]
            at = source.randrange(start, end)
            yield at, (self.data[at] + source.randrange(1, 256)) % 256


def linksys_kernel() -> bytes:
    return make.uimage(
        make.zimage(make.device_tree(LINKSYS)), machine=2, compression=0, name=b"ARM OpenWrt Linux-5.15.1"
    )


def linksys_metadata(body: bytes) -> bytes:
    return make.metadata(
        body,
        compat_version="1.1",
        new_supported_devices=LINKSYS,
        supported_devices=["Device is too old"],
        version={"dist": "OpenWrt", "version": "23.05.5", "target": "mvebu/cortexa9", "board": LINKSYS[0]},
    )


def tplink(**settings: object) -> bytes:
    return make.tplink_v1(make.kernel(), make.squashfs(), **settings)  # type: ignore[arg-type]


def glinet() -> bytes:
    kernel = make.uimage(make.kernel("board=GL-AR150 console=ttyATH0,115200"))
    return make.nor_sysupgrade(kernel, make.squashfs(target="ar71xx/generic"))


def netgear() -> bytes:
    """NETGEAR's uImage has the device's number for a magic, and an old squashfs with the kernel inside."""
    kernel = make.uimage(b"sqsh" + make.noise(5000), magic=0x33373031, compression=0)
    return make.nor_sysupgrade(kernel, make.squashfs(target="ar71xx/generic"))


def factory_ubi() -> bytes:
    root = make.squashfs(**MVEBU)
    return linksys_kernel().ljust(0x600000, b"\0") + make.ubi({"rootfs": root, "rootfs_data": b""}, eof=5)


def archive(metadata: bool = True) -> bytes:
    root = make.pad_to(make.squashfs(**MVEBU), 1024, 0)
    body = make.sysupgrade_tar("armada-385-linksys-caiman", {"kernel": linksys_kernel(), "root": root})
    return linksys_metadata(body) if metadata else body


def x86_root() -> bytes:
    return make.squashfs(target="x86/64", release="23.05.5", arch="x86_64", machine=make.X86_64)


def efi_disk() -> bytes:
    entry = b"title OpenWrt\nlinux /vmlinuz\noptions root=PARTUUID=00000000-0000-0000-0000-000000abc001\n"
    boot = make.fat(
        (
            ("EFI/BOOT/BOOTX64.EFI", make.noise(3000)),
            ("loader/entries/openwrt.conf", entry),
            ("vmlinuz", make.bzimage()),
        )
    )
    return make.gpt([(make.EFI_SYSTEM, "esp", boot), (make.LINUX, "rootfs", x86_root())])


def bios_disk(*, padding: int | None = None, mib: int = 4) -> bytes:
    """OpenWrt's x86 disk without UEFI: GRUB, ext4 with the kernel, the root file system.

    padding: bytes behind it in a partition of so many MiB (131072 up to 19.07); None: it fills its partition,
    as from 21.02 on.
    """
    root = make.pad_to(x86_root(), 512, 0) if padding is None else x86_root() + bytes(padding)
    start, sectors = 512, 128
    last = len(root) // 512 if padding is None else mib * 2048
    rows = [(0x83, start, sectors), (0x83, start + sectors, last)]
    disk = make.mbr(rows, (start + sectors) * 512, boot=b"\xeb\x63\x90".ljust(0x180, b"\0") + b"GRUB ")
    superblock = start * 512 + 0x400
    disk[superblock + 4 : superblock + 8] = (sectors // 2).to_bytes(4, "little")
    disk[superblock + 0x38 : superblock + 0x3A] = b"\x53\xef"
    return bytes(disk) + root


def large_disk(mib: int, fill: int = 0) -> bytes:
    """The same with a root partition of so many MiB that is padded to its end, compressed. fill: zeros beyond
    that (whole MiB)."""
    head = bios_disk(padding=(-len(x86_root())) % (1 << 20), mib=mib)
    root = -(-len(x86_root()) // (1 << 20))
    return make.gz_before_zeros(head, (mib - root << 20) + fill)


PI_TREES = ("raspberrypi,2-model-b-rev2", "raspberrypi,3-model-b", "raspberrypi,3-model-b-plus")


def pi_boot(trees: tuple[str, ...] = PI_TREES) -> bytes:
    """Raspberry Pi's boot partition: programs for the VideoCore, a tree for each board, and overlays."""
    overlays = tuple(
        (f"overlays/{name}.dtbo", make.overlay_tree("brcm,bcm2835"))
        for name in ("dwc2", "w1-gpio", "vc4-kms")
    )
    return make.fat(
        (
            ("cmdline.txt", b"root=PARTUUID=cafe1234-02 rootfstype=squashfs rootwait\n"),
            ("config.txt", b"arm_64bit=1\n"),
            ("kernel8.img", make.gz(make.noise(5000))),
            ("bootcode.bin", make.noise(3000, 11)),
            ("start.elf", make.elf((137, "little"), b"VideoCore ")),
            ("start_cd.elf", make.elf((137, "little"), b"VideoCore ")[:-700]),
            ("fixup.dat", b"]\0\0\x80\0" + (900).to_bytes(8, "little") + make.noise(900, 12)),
            *(
                (f"bcm2710-{number}.dtb", make.device_tree([name, "brcm,bcm2837"]))
                for number, name in enumerate(trees)
            ),
            *overlays,
            ("overlays/README", b"Introduction\n"),
        )
    )


def pi_disk(boot: bytes, padding: int = 0) -> bytes:
    """A card as gen_rpi_sdcard_img.sh makes it: boot partition, root file system to its last sector. padding:
    bytes behind it (1 MiB from 24.10 on)."""
    root = make.squashfs(
        target="bcm27xx/bcm2710", release="24.10.4", arch="aarch64_cortex-a53", machine=(183, "little")
    )
    start, sectors = 8192, len(boot) // 512
    disk = make.mbr([(0x0C, start, sectors), (0x83, start + sectors, 200000)], (start + sectors) * 512)
    disk[start * 512 :] = boot
    return bytes(disk) + make.pad_to(root, 512, 0) + bytes(padding)


def pi_card(disk: bytes | None = None) -> bytes:
    """The card, compressed, with its metadata behind."""
    devices = list(board("raspberrypi-3b").profiles_for("24.10.4")[0].supported_devices)
    return make.metadata(
        make.gz(pi_disk(pi_boot()) if disk is None else disk),
        supported_devices=devices,
        version={"version": "24.10.4", "target": "bcm27xx/bcm2710"},
    )


SUNXI = {"target": "sunxi/cortexa7", "release": "21.02.7", "arch": "arm_cortex-a7_neon-vfpv4"}


def sunxi_board(name: str = "xunlong,orangepi-pc") -> Board:
    """A board of the target sunxi, as `boards add` writes it."""
    profile = {"releases": ">=19.07", "target": SUNXI["target"], "arch": SUNXI["arch"]}
    return Board.model_validate(
        {
            "id": name.replace(",", "-"),
            "name": name,
            "soc": "sun8i",
            "ram": "1G",
            "flash": "removable",
            "profile": [{**profile, "name": name.replace(",", "_"), "supported_devices": [name]}],
            "images": {"sdcard": {"format": "sd-card"}},
        }
    )


def sunxi_disk(name: str = "xunlong,orangepi-pc", *, chunks: bool = True) -> bytes:
    """What gen_sunxi_sdcard_img.sh and append-metadata make, before gzip: U-Boot at 8 KiB, the boot
    partition, the root file system to its last byte, and the metadata right behind it."""
    boot = make.fat(
        (
            ("boot.scr", make.uimage(b"setenv bootargs\n", machine=2, compression=0, kind=6, name=b"")),
            ("dtb", make.device_tree([name, "allwinner,sun8i-h3"])),
            (
                "uImage",
                make.uimage(make.zimage(), machine=2, compression=0, name=b"ARM OpenWrt Linux-5.4.188"),
            ),
        )
    )
    root = make.squashfs(**SUNXI, machine=make.ARM)
    start, sectors = 2048, len(boot) // 512
    disk = make.mbr([(0x0C, start, sectors), (0x83, start + sectors, 212992)], (start + sectors) * 512)
    disk[8192:11192] = make.noise(3000)
    disk[start * 512 :] = boot
    whole = bytes(disk) + root
    version = {"version": SUNXI["release"], "target": SUNXI["target"]}
    return make.metadata(whole, supported_devices=[name], version=version) if chunks else whole


def uboot_fit() -> bytes:
    """U-Boot as its SPL takes it: no hashes, and no kernel in its configuration."""
    image = {"type": b"firmware\0", "arch": b"arm\0", "compression": b"none\0", "data": make.noise(3000)}
    configurations = {"default": b"conf-1\0", "conf-1": {"firmware": b"firmware-1\0"}}
    return make.tree({"": {"images": {"firmware-1": image}, "configurations": configurations}})


def omap_card() -> bytes:
    """BeagleBone's card: U-Boot, kernel and device tree on the boot partition, then the root file system."""
    boot = make.fat(
        (
            ("MLO", make.noise(4000)),
            ("u-boot.img", uboot_fit()),
            ("boot.scr", make.uimage(b"setenv bootargs\n", machine=2, compression=0, kind=6, name=b"")),
            ("dtbs/am335x-boneblack.dtb", make.device_tree(["ti,am335x-bone-black", "ti,am33xx"])),
            ("zImage", make.zimage()),
        )
    )
    facts = {"release": "24.10.4", "target": "omap/generic"}
    root = make.squashfs(**facts, arch="arm_cortex-a8_vfpv3", machine=make.ARM)
    start, sectors = 2048, len(boot) // 512
    disk = make.mbr([(0x0C, start, sectors), (0x83, start + sectors, 212992)], (start + sectors) * 512)
    disk[start * 512 :] = boot
    version = {"version": facts["release"], "target": facts["target"]}
    return make.gz(
        make.metadata(bytes(disk) + root, supported_devices=["ti,am335x-bone-black"], version=version)
    )


def xiaomi_ubi() -> bytes:
    root = make.squashfs(target="ramips/mt7621", release="23.05.5", arch="mipsel_24kc", machine=(8, "little"))
    return make.ubi({"rootfs": root, "env": make.noise(3000), "rootfs_data": b""}, eof=5, static="env")


def fit_image(*, external: bool = False) -> bytes:
    images = {
        "kernel-1": ("kernel", make.zimage()),
        "fdt-1": ("flat_dt", make.device_tree(["bananapi,bpi-r3"])),
        "rootfs-1": ("filesystem", make.pad_to(make.squashfs(), 4096, 0)),
    }
    return make.fit(images, external=external)


def _ranges_of(data: bytes, *wanted: bytes) -> tuple[tuple[int, int], ...]:
    return tuple((data.index(one), data.index(one) + len(one)) for one in wanted)


def _ubi_ranges(data: bytes, block: int = 0x20000) -> tuple[tuple[int, int], ...]:
    """Headers of all blocks, the volume table, the data of the static volume."""
    ranges = []
    for at in range(0, len(data), block):
        ranges.append((at, at + 64))
        if data[at + 2048 : at + 2052] == b"UBI!":
            ranges.append((at + 2048, at + 2112))
    ranges += [(4096, 4096 + 128 * 172), (block + 4096, block + 4096 + 128 * 172)]
    return (*ranges, *_ranges_of(data, make.noise(3000)))


@cache
def samples() -> tuple[Sample, ...]:
    """One image of each kind."""
    root, fit_data, disk, sunxi_card = make.squashfs(), fit_image(), efi_disk(), make.gz(sunxi_disk())
    elf, ubi_data, uimage = make.elf(), xiaomi_ubi(), glinet()
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(
        b"Linux version 6.6.1 (x) " + make.noise(5000)
    )
    tables = int.from_bytes(root[0x40:0x48], "little")
    card = make.mbr([(0x0C, 2048, 8192), (0x83, 10240, 1024)], 11264 * 512)
    card[2048 * 512 : 2048 * 512 + (4 << 20)] = make.fat(
        (("config.txt", b"x=1\n"), ("kernel.img", make.noise(9000)))
    )
    card[10240 * 512 : 10240 * 512 + len(root)] = root
    entries = ((446, 447), (450, 451), (454, 463), (466, 467), (470, 478), (510, 512))
    gpt_ranges = ((512, 604), (1024, 1024 + 256), (len(disk) - 512, len(disk) - 420), (510, 512))
    return (
        Sample("tplink-sysupgrade", "tplink-v1", tplink(), "tplink-tl-wr740n-v4"),
        Sample("tplink-factory", "tplink-v1", tplink(factory=True), "tplink-tl-wr740n-v4"),
        Sample("safeloader", "safeloader", make.safeloader(make.kernel(), root)),
        Sample(
            "uimage-squashfs", "uimage", uimage, "glinet-gl-ar150", ((0, 64 + int.from_bytes(uimage[12:16])),)
        ),
        Sample("netgear", "vendor-uimage", netgear(), "", ((0, 64 + 5004),)),
        Sample("netgear-factory", "dni", make.dni(netgear()), "", ((0, 7), (128, len(netgear()) + 129))),
        Sample("trx", "trx", make.trx([make.kernel(), root])),
        Sample(
            "fit",
            "fit",
            fit_data,
            "",
            _ranges_of(
                fit_data, make.zimage(), make.device_tree(["bananapi,bpi-r3"]), root, b"config-1", b"kernel-1"
            ),
        ),
        Sample("fit-external", "fit", fit_image(external=True), "", ((0x1000, 0x1000 + 5000),)),
        Sample(
            "squashfs",
            "squashfs",
            root,
            "",
            ((0, 8), (0x0C, 0x18), (0x1A, 0x38), (0x40, 0x58), (tables, len(root))),
        ),
        Sample("ubi", "ubi", ubi_data, "xiaomi-mi-router-3g", _ubi_ranges(ubi_data)),
        Sample("ubi-factory", "ubi", factory_ubi(), "linksys-wrt1200ac", ((0, 64 + 5000),)),
        Sample("sysupgrade-tar", "sysupgrade-tar", archive(), "linksys-wrt1200ac"),
        Sample(
            "tar-headers",
            "sysupgrade-tar",
            archive(metadata=False),
            "",
            ((512, 1024 - 12), (1024, 1024 + 34)),
        ),
        Sample("signed", "signature", make.signature(archive()), "linksys-wrt1200ac"),
        Sample("mbr", "mbr-disk", bytes(card), "", entries),
        Sample("gpt", "gpt-disk", disk, "x86-64", gpt_ranges),
        Sample("bios-disk", "mbr-disk", bios_disk(), "x86-64", entries),
        Sample("bios-disk-1907", "mbr-disk", bios_disk(padding=128 << 10), "x86-64", entries),
        Sample("pi-card", "mbr-disk", pi_card(), "raspberrypi-3b"),
        Sample("sunxi-card", "mbr-disk", sunxi_card, "", ((0, 3), (10, len(sunxi_card)))),
        Sample("gzip", "gzip", make.gz(root), "", ((0, 3), (10, len(make.gz(root))))),
        Sample("gzip-disk", "gzip", make.gz(disk), "x86-64", ((0, 3), (10, len(make.gz(disk))))),
        Sample("elf", "elf", elf, "", ((0, 7), (18, 20), (24, 32), (40, 46), (56, 64))),
        Sample("zstd", "zstd", packed),
        *(
            Sample(name, kind, data, "", ranges)
            for name, (kind, data, ranges) in firmware_vendor_images.images().items()
        ),
    )


def everything(part: Part) -> list[object]:
    """All that is told of an image, to see whether a change is."""
    return [
        (one.kind, one.name, one.offset, one.size, dict(one.fields), one.unpacked_size) for one in part.walk()
    ]


def read(data: bytes, name: str = "image") -> Part:
    return read_image(View(data, what=name)).part


def trouble(data: bytes) -> str:
    """What is wrong with an image by itself; empty where nothing is."""
    try:
        problems = read(data).problems
    except ImageFormatError as error:
        return error.message
    return "; ".join(f"{one.what}: {one.found}" for one in problems)


def only(part: Part, kind: str) -> Part:
    """The first part of a kind, which must be there."""
    found = part.find(kind)
    assert found is not None, [one.kind for one in part.walk()]
    return found


Change = Callable[[bytes], bytes]


def refusing(checks: tuple[Check, ...]) -> list[str]:
    return [f"{check.what}: {check.expected} / {check.found}" for check in checks if check.refuses]


def changed(sample: Sample, at: int, value: int) -> bytes:
    return sample.data[:at] + bytes([value]) + sample.data[at + 1 :]


def renamed(sample: Sample, **changes: object) -> Sample:
    return replace(sample, **changes)  # type: ignore[arg-type]
