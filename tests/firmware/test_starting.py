"""What an image starts from: ext4 and FAT, GRUB's menu, loader entries, kernels and their drivers."""

from __future__ import annotations

import gzip
import lzma
import random
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.firmware.disk.ext4 import Ext4
from imagebuilder.firmware.disk.grub import BootEntry, parse_grub, parse_loader_entry
from imagebuilder.firmware.formats.formats import read_image
from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.firmware.starting import Starting, built_in_drivers, kernel_architecture, starting
from imagebuilder.host.run import run
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

OLD_GRUB = """\
serial --unit=0 --speed=115200 --word=8 --parity=no --stop=1 --rtscts=off
terminal_input console serial; terminal_output console serial

set default="0"
set timeout="5"
set root='(hd0,msdos1)'

menuentry "OpenWrt" {
	linux /boot/vmlinuz root=PARTUUID=cafe1234-02 rootfstype=squashfs rootwait console=tty0 console=ttyS0,115200n8 noinitrd
}
menuentry "OpenWrt (failsafe)" {
	linux /boot/vmlinuz failsafe=true root=PARTUUID=cafe1234-02 rootwait console=tty0
}
"""  # noqa: E501 - as such files are


@cache
def ext4(files: tuple[tuple[str, bytes], ...], options: str = "-t ext4", mib: int = 8) -> bytes:
    """A file system by mke2fs. options: its kind and features."""
    with TemporaryDirectory() as scratch:
        folder, image = Path(scratch) / "files", Path(scratch) / "image"
        folder.mkdir()
        for name, data in files:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if data.startswith(b"->"):
                place.symlink_to(data[2:].decode())
            else:
                place.write_bytes(data)
        run(["mke2fs", "-q", *options.split(), "-d", str(folder), str(image), f"{mib}M"], timeout=60)
        return image.read_bytes()


FILES = (
    ("boot/grub/grub.cfg", OLD_GRUB.encode()),
    ("boot/vmlinuz", make.noise(700_000)),
    ("boot/there", b"->vmlinuz"),
    ("boot/up", b"->../boot/./vmlinuz"),
    ("boot/far", b"->/boot/" + b"./" * 60 + b"vmlinuz"),
    ("folder", b"->boot"),
    ("round", b"->square"),
    ("square", b"->round"),
    ("empty", b""),
    *((f"many/{number:03} of a long name that fills blocks", b"x") for number in range(300)),
)
KINDS = {
    "ext4": "-t ext4",
    "as make_ext4fs": "-t ext4 -b 4096 -O ^has_journal,^64bit,^flex_bg,^metadata_csum,uninit_bg",
    "lists of blocks": "-t ext2 -b 1024",
    "small inodes": "-t ext3 -b 2048 -I 128",
}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_ext4_are_found_by_their_paths(kind: str) -> None:
    volume = Ext4(View(ext4(FILES, KINDS[kind])))
    contents = dict(FILES)
    kernel = contents["boot/vmlinuz"]
    for path in ("/boot/vmlinuz", "boot/there", "boot/up", "boot/far", "folder/vmlinuz", "//boot//vmlinuz"):
        assert volume.read(path) == kernel, path
    assert volume.read("boot/grub/grub.cfg") == contents["boot/grub/grub.cfg"]
    assert volume.read("empty") == b""
    assert volume.read("many/299 of a long name that fills blocks") == b"x"
    for path in ("boot", "boot/nothing", "boot/vmlinuz/inside", "", "many/300"):
        assert volume.read(path) is None, path
    with pytest.raises(ImageFormatError, match="lead in a circle"):
        volume.read("round")


def test_holes_of_a_file_are_zeros(tmp_path: Path) -> None:
    sparse = tmp_path / "files" / "sparse"
    sparse.parent.mkdir()
    with sparse.open("wb") as stream:
        stream.write(b"begin")
        stream.seek(1 << 20)
        stream.write(b"end")
    for options in ("-t ext4", "-t ext2 -b 1024"):
        image = tmp_path / "image"
        image.unlink(missing_ok=True)
        run(["mke2fs", "-q", *options.split(), "-d", str(sparse.parent), str(image), "8M"], timeout=60)
        assert Ext4(View(image.read_bytes())).read("sparse") == sparse.read_bytes(), options


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 60))
@pytest.mark.parametrize("kind", ["ext4", "lists of blocks"])
def test_a_damaged_ext4_is_read_or_refused(kind: str, seed: int, count: int) -> None:
    whole = ext4(FILES[:9], KINDS[kind])
    data, chance = bytearray(whole), random.Random(seed)
    used = [at for at in range(0, len(whole), 64) if any(whole[at : at + 64])]
    for _ in range(count):
        at = chance.choice(used) + chance.randrange(64)
        data[at : at + 1] = chance.choice([bytes([chance.randrange(256)]), b"\xff", b"\0"])
    try:
        volume = Ext4(View(bytes(data)))
        for path in ("boot/grub/grub.cfg", "boot/far", "many/1", "empty"):
            found = volume.read(path)
            assert found is None or isinstance(found, bytes)
    except ImageFormatError as error:
        assert error.message


def test_a_tree_of_extents_that_leads_back_is_refused_at_once() -> None:
    data = bytearray(ext4((("file", make.noise(9000)),), KINDS["as make_ext4fs"]))
    superblock = data[1024:2048]
    assert struct.unpack_from("<H", superblock, 0x38) == (0xEF53,)
    (table,) = struct.unpack_from("<I", data, 4096 + 8)
    inode_bytes = struct.unpack_from("<H", superblock, 0x58)[0]
    block = 1500  # of the file system's 2048, unused
    for number in range(11, 40):
        at = table * 4096 + number * inode_bytes
        if struct.unpack_from("<I", data, at + 4) == (9000,):
            break
    entries = b"".join(struct.pack("<IIHH", 0, block, 0, 0) for _ in range(4))
    data[at + 0x28 : at + 0x28 + 60] = struct.pack("<HHHHI", 0xF30A, 4, 4, 5, 0) + entries
    node = b"".join(struct.pack("<IIHH", 0, block, 0, 0) for _ in range(340))
    data[block * 4096 : block * 4096 + 12 + len(node)] = struct.pack("<HHHHI", 0xF30A, 340, 340, 4, 0) + node
    with pytest.raises(ImageFormatError, match="extents of a file"):
        Ext4(View(bytes(data))).read("file")


def test_grub_menus_are_read_as_grub_does() -> None:
    menu = parse_grub(OLD_GRUB)
    assert [entry.title for entry in menu.entries] == ["OpenWrt", "OpenWrt (failsafe)"]
    chosen = menu.chosen
    assert chosen is not None
    assert chosen.kernel == "/boot/vmlinuz"
    assert chosen.options.startswith("root=PARTUUID=cafe1234-02 rootfstype=squashfs")
    assert chosen.consoles == ("tty0", "ttyS0")
    second = parse_grub(OLD_GRUB.replace('default="0"', "default=1")).chosen
    assert second is not None
    assert second.options.startswith("failsafe=true")
    named = parse_grub(OLD_GRUB.replace('default="0"', "default='OpenWrt (failsafe)'")).chosen
    assert named == second
    beyond = parse_grub(OLD_GRUB.replace('default="0"', 'default="9"')).chosen
    assert beyond is not None
    odd = parse_grub(
        "# linux /commented\nmenuentry 'a' { linux (hd0,gpt1)/v\\ z 'a b'=\"c d\"; initrd /i }\n"
        "menuentry b { linuxefi /w quiet # not this\n}\n"
    )
    assert odd.entries == (BootEntry("a", "/v z", "a b=c d", "/i"), BootEntry("b", "/w", "quiet"))
    assert parse_grub("").chosen is None


def test_loader_entries_are_read_as_the_specification_says() -> None:
    entry = parse_loader_entry("# a\ntitle  X\nlinux /vmlinuz\ninitrd\t/initrd\noptions console=ttyS0 a=b\n")
    assert entry == BootEntry("X", "/vmlinuz", "console=ttyS0 a=b", "/initrd")
    assert parse_loader_entry("title X\n") is None


@given(st.text())
def test_any_text_is_a_menu_or_none(text: str) -> None:
    chosen = parse_grub(text).chosen
    assert chosen is None or isinstance(chosen.consoles, tuple)
    parse_loader_entry(text)


def payload_kernel(drivers: bytes, pack: str) -> bytes:
    """A bzImage with a payload, which holds these drivers' names."""
    code = make.elf(make.X86_64, b"Linux version 5.10.1 (x) \0" + drivers + b"\0" + make.noise(4000))
    packed = {
        "xz": lambda: lzma.compress(code),
        "gzip": lambda: gzip.compress(code),
        "lzma": lambda: lzma.compress(code, lzma.FORMAT_ALONE),
        "lz4": lambda: b"\x02\x21\x4c\x18" + code,
    }[pack]()
    image = bytearray(make.bzimage())
    setup = 2 * 512
    image[0x248:0x250] = struct.pack("<II", len(image) - setup, len(packed))
    image += packed + struct.pack("<I", len(code))
    image[0x1F4:0x1F8] = struct.pack("<I", (len(image) - setup) // 16)
    return bytes(image)


@pytest.mark.parametrize("pack", ["xz", "gzip", "lzma"])
def test_drivers_are_told_by_the_unpacked_kernel(pack: str) -> None:
    drivers = b"virtio_blk\0ahci\0virtio_network\0piix\0e1000"
    assert built_in_drivers(View(payload_kernel(drivers, pack))) == {"virtio_blk", "ahci", "e1000"}


def test_what_cannot_be_unpacked_tells_no_drivers() -> None:
    assert built_in_drivers(View(payload_kernel(b"virtio_blk", "lz4"))) is None
    assert built_in_drivers(View(make.bzimage())) is None
    cut = payload_kernel(b"virtio_blk", "xz")[:-3000]
    assert built_in_drivers(View(cut)) is None


def test_kernels_tell_their_processor() -> None:
    narrow = bytearray(make.bzimage())
    narrow[0x236] = 0
    told = {
        "x86_64": make.bzimage(),
        "i386": bytes(narrow),
        "arm": make.zimage(),
        "mips": make.elf(make.MIPS),
        "mipsel": make.elf((8, "little")),
        "": make.elf(make.X86_64),
    }
    assert {name: kernel_architecture(View(data)) for name, data in told.items()} == {
        name: name for name in told
    }


def start_of(data: bytes) -> Starting:
    return starting(read_image(View(data)))


def bios_disk(files: tuple[tuple[str, bytes], ...]) -> bytes:
    """OpenWrt's x86 disk without UEFI: GRUB, ext4, the root file system."""
    boot, root = ext4(files, KINDS["as make_ext4fs"]), images.x86_root()
    rows = [(0x83, 512, len(boot) // 512), (0x83, 512 + len(boot) // 512, len(root) // 512 + 1)]
    disk = make.mbr(rows, 512 * 512, boot=b"\xeb\x63\x90".ljust(0x180, b"\0") + b"GRUB ")
    return bytes(disk) + boot + make.pad_to(root, 512, 0)


def test_a_disk_with_grub_in_ext4_says_what_it_starts_from() -> None:
    kernel = make.bzimage()
    disk = bios_disk((("boot/grub/grub.cfg", OLD_GRUB.encode()), ("boot/vmlinuz", kernel)))
    for data in (disk, gzip.compress(disk, 1)):
        start = start_of(data)
        assert (start.form, start.bios, start.efi) == ("disk", True, ())
        assert start.source == "boot/grub/grub.cfg"
        assert start.kernel is not None
        assert bytes(start.kernel.raw) == kernel
        assert start.architecture == "x86_64"
    without = start_of(bios_disk((("boot/grub/grub.cfg", OLD_GRUB.encode()),)))
    assert without.entry is not None
    assert without.kernel is None
    assert start_of(bios_disk((("readme", b"x"),))).entry is None
    unread = start_of(images.bios_disk())  # an ext4 of which nothing but its superblock's magic is there
    assert (unread.form, unread.bios, unread.entry) == ("disk", True, None)


def test_a_disk_for_uefi_says_for_which_processor() -> None:
    start = start_of(images.efi_disk())
    assert (start.form, start.bios, start.efi) == ("disk", False, ("x86_64",))
    assert start.source == "loader/entries/openwrt.conf"
    assert start.kernel is not None
    grub = OLD_GRUB.replace("(hd0,msdos1)", "(hd0,gpt1)").encode()
    files = (("efi/boot/bootaa64.efi", make.noise(3000)), ("efi/openwrt/grub.cfg", grub))
    other = start_of(
        make.gpt([(make.EFI_SYSTEM, "kernel", make.fat(files)), (make.LINUX, "", images.x86_root())])
    )
    assert (other.efi, other.source, other.kernel) == (("aarch64",), "efi/openwrt/grub.cfg", None)
    assert other.architecture == "aarch64"


def test_a_kernel_and_a_root_file_system_alone_say_so() -> None:
    assert start_of(make.bzimage()).form == "kernel"
    assert start_of(images.x86_root()).form == "root"
    assert start_of(ext4((("etc/x", b"y"),))).form == "root"
    with pytest.raises(ImageFormatError, match="which no machine of QEMU starts from"):
        start_of(make.uimage(make.noise(3000)))
