"""Each format: what is read out of a good image, also of one that the format's own tool made, and what is
said of a bad one."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest

from imagebuilder.errors import UserError
from imagebuilder.firmware.formats.formats import FORMATS, read_image
from imagebuilder.firmware.formats.metadata import read_metadata
from imagebuilder.firmware.reader import ImageFormatError, Reading, View, open_view
from imagebuilder.firmware.rootfs import RootFs
from imagebuilder.firmware.squashfs.index import read_index
from imagebuilder.host.run import run
from tests.support import firmware_images as images
from tests.support import firmware_writers as make
from tests.support.firmware_images import only

SAMPLES = {sample.name: sample for sample in images.samples()}


# what has no checks of its own: its contents, or what decompresses it, have them
CHECKED_BY_CONTENTS = ("gzip", "zstd", "ubi-volume", "elf-image", "device-tree-image")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_good_image_has_no_problems(name: str) -> None:
    sample = SAMPLES[name]
    part = images.read(sample.data)
    assert part.problems == ()
    assert only(part, sample.kind).checks or sample.kind in CHECKED_BY_CONTENTS


@pytest.mark.parametrize("name", SAMPLES)
def test_parts_lie_inside_of_what_holds_them(name: str) -> None:
    for part in images.read(SAMPLES[name].data).walk():
        assert part.data is None or len(part.data) == part.size or part.kind in ("metadata", "signature")
        for child in part.children:
            if part.unpacked_size is None and part.kind not in ("ubi",):
                assert part.offset <= child.offset
                assert child.offset + child.size <= part.offset + part.size
            elif part.kind != "ubi":
                assert child.offset + child.size <= (part.unpacked_size or 0)


def test_every_format_has_a_sample_or_is_known_by_name_only() -> None:
    seen = {part.kind for sample in SAMPLES.values() for part in images.read(sample.data).walk()}
    seen |= {"disk" for kind in seen if kind.endswith("-disk")}
    seen |= {"sysupgrade-tar"}
    rest = {one.kind for one in FORMATS if one.opened} - seen
    assert rest == {"xz", "arm64-image", "buffalo-tftp"}


def test_tplink_fields() -> None:
    part = only(images.read(images.tplink(region=1, region_text=b"55530000")), "tplink-v1")
    assert part.value("hardware id") == 0x07400004
    assert part.fields["hardware id"].meaning == "0x07400004"
    assert part.fields["region"].meaning == "United States"
    assert part.value("region text") == "00000000;55530000;55530000"
    assert [child.kind for child in part.children] == [
        "tplink-header",
        "lzma",
        "squashfs",
        "padding",
        "end-marker",
    ]


def test_a_rootfs_where_the_header_says_is_found_too() -> None:
    image = bytearray(images.tplink())
    root = image.index(b"hsqs")
    image[0x88:0x8C] = struct.pack(">I", root)
    assert images.trouble(make.sign_tplink(bytes(image))) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-1], "checksum in the TP-Link header"),
        (lambda data: data[:40000], "truncated: its header promises a kernel"),
        (
            lambda data: make.sign_tplink(data[:0x7C] + bytes.fromhex("00123456") + data[0x80:]),
            "known flash layout",
        ),
        (lambda data: make.sign_tplink(data.replace(b"hsqs", b"hsqx", 1)), "no root filesystem"),
        (lambda data: make.sign_tplink(data[:0x70] + b"x" + data[0x71:]), "unused bytes"),
        (lambda data: make.sign_tplink(data[:-2]), "padding"),
        (lambda data: make.sign_tplink(data[:-1000] + b"rubbish" + data[-993:]), "other bytes"),
    ],
)
def test_a_bad_tplink_image_says_why(change: images.Change, said: str) -> None:
    assert said in images.trouble(change(images.tplink()))


def test_a_boot_loader_inside_has_its_own_salt() -> None:
    assert images.trouble(images.tplink(boot=1)) == ""


def test_mkimage_makes_uimages_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(make.kernel())
    argv = [
        "mkimage",
        "-A",
        "mips",
        "-O",
        "linux",
        "-T",
        "kernel",
        "-C",
        "lzma",
        "-a",
        "0x80060000",
        "-e",
        "0x80060000",
    ]
    run([*argv, "-n", "MIPS OpenWrt Linux-4.4.182", "-d", "kernel", "image"], cwd=tmp_path)
    part = only(read_image(open_view(tmp_path / "image")).part, "uimage")
    assert part.problems == ()
    assert (part.fields["machine"].meaning, part.fields["compression"].meaning) == ("mips", "lzma")
    assert only(part, "kernel").value("version") == "4.4.182"


def test_a_vendors_magic_makes_a_format_of_its_own() -> None:
    """A boot loader that wants another magic than U-Boot's takes no other."""
    part = images.read(images.netgear())
    assert [one.kind for one in part.children][:1] == ["vendor-uimage-image"]
    kernel = only(part, "vendor-uimage")
    assert (kernel.value("magic"), kernel.value("name")) == (0x33373031, "MIPS LEDE Linux-4.4.182")
    assert only(part, "squashfs").problems == ()
    assert "magic" not in only(images.read(images.glinet()), "uimage").fields


def test_netgears_factory_header() -> None:
    part = only(images.read(make.dni(images.netgear())), "dni")
    assert part.value("device") == "WNDR3800"
    assert part.value("hardware id") == "29763654+16+128"
    assert only(part, "squashfs").problems == ()
    changed = bytearray(make.dni(images.netgear()))
    changed[20] ^= 1
    assert "sum of its bytes" in images.trouble(bytes(changed))


def test_mkimage_makes_fits_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(make.kernel())
    (tmp_path / "tree").write_bytes(make.device_tree(["vendor,router"]))
    (tmp_path / "image.its").write_text(
        """/dts-v1/;
/ { description = "OpenWrt FIT"; #address-cells = <1>;
 images {
  kernel-1 { description = "k"; data = /incbin/("kernel"); type = "kernel"; arch = "arm64"; os = "linux";
   compression = "lzma"; load = <0x80000000>; entry = <0x80000000>;
   hash-1 { algo = "crc32"; }; hash-2 { algo = "sha256"; }; };
  fdt-1 { description = "t"; data = /incbin/("tree"); type = "flat_dt"; arch = "arm64"; compression = "none";
   hash-1 { algo = "sha1"; }; };
 };
 configurations { default = "config-1"; config-1 { kernel = "kernel-1"; fdt = "fdt-1"; }; };
};"""
    )
    for options in ([], ["-E", "-B", "0x1000"]):
        run(["mkimage", *options, "-f", "image.its", "image.itb"], cwd=tmp_path)
        whole = read_image(open_view(tmp_path / "image.itb")).part
        assert whole.problems == ()
        assert [one.name for one in only(whole, "fit").children] == ["kernel-1", "fdt-1"]
        data = (tmp_path / "image.itb").read_bytes()
        at = data.index(make.kernel()) + 500
        assert "hash-2 of the image kernel-1 (sha256)" in images.trouble(data[:at] + b"!!" + data[at + 2 :])


def test_a_fit_that_names_what_it_has_not_is_refused() -> None:
    data = images.fit_image()
    assert "configuration" in images.trouble(data.replace(b"config-1\0", b"config-2\0", 1))
    assert "lies outside of the file" in images.trouble(images.fit_image(external=True)[:-5000])


def test_ubinize_makes_images_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(make.squashfs())
    (tmp_path / "env").write_bytes(make.noise(3000))
    (tmp_path / "ubi.ini").write_text(
        "[a]\nmode=ubi\nimage=root\nvol_id=0\nvol_type=dynamic\nvol_name=rootfs\n"
        "[b]\nmode=ubi\nimage=env\nvol_id=1\nvol_type=static\nvol_name=env\n"
        "[c]\nmode=ubi\nvol_id=2\nvol_type=dynamic\nvol_name=rootfs_data\nvol_size=1MiB\nvol_flags=autoresize\n"
    )
    for page, block in (("2048", "128KiB"), ("512", "16KiB"), ("4096", "256KiB")):
        run(["ubinize", "-o", "image", "-m", page, "-p", block, "ubi.ini"], cwd=tmp_path)
        part = read_image(open_view(tmp_path / "image")).part
        assert part.problems == ()
        volumes = [one for one in part.walk() if one.kind == "ubi-volume"]
        assert [one.name for one in volumes] == ["rootfs", "env", "rootfs_data"]
        assert only(part, "ubi").value("erase block") == int(block[:-3]) * 1024
        assert only(part, "squashfs").size == len(make.squashfs())
        assert volumes[1].unpacked_size == 3000 or volumes[1].children[0].size == 3000


def test_a_ubi_volume_that_lacks_a_block_is_refused() -> None:
    block = 0x20000
    data = make.ubi({"rootfs": make.noise(600_000)})
    assert images.trouble(data) == ""
    gone = data[: 3 * block] + data[4 * block :]
    assert "blocks of the volume rootfs: lacks block 1" in images.trouble(gone)
    twice = data[: 3 * block] + data[2 * block : 3 * block] + data[4 * block :]
    assert "rootfs" in images.trouble(twice)
    assert "no whole number" in images.trouble(data[:-1])


def test_mkfs_jffs2_makes_file_systems_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/file").write_bytes(make.noise(3000))
    for order in ("-b", "-l"):
        run(["mkfs.jffs2", order, "-e", "64KiB", "-p", "-d", "root", "-o", "image"], cwd=tmp_path)
        assert read_image(open_view(tmp_path / "image")).image.kind == "jffs2"


@pytest.mark.parametrize("compressor", ["xz", "gzip", "zstd", "lzma"])
def test_a_squashfs_is_read_with_each_compressor(compressor: str) -> None:
    root = RootFs(View(make.squashfs(compressor=compressor)))
    assert root.read("/bin/sh") == make.program(size=30000)
    assert root.read("/etc/a name with spaces [1] (2)") == b"text\n"
    assert sum(file.stored for file in root.index.files) + root.index.tables == len(
        make.squashfs(compressor=compressor)
    )


def test_the_index_says_what_unsquashfs_says(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(make.squashfs())
    listed = run(["unsquashfs", "-lln", "image"], cwd=tmp_path).stdout.splitlines()
    shown = {line.split("squashfs-root", 1)[1] or "/" for line in listed if "squashfs-root" in line}
    index = read_index(View(make.squashfs()))
    assert {file.path + (f" -> {file.target}" if file.target else "") for file in index.files} == shown


def test_the_options_that_openwrt_writes_are_no_damage() -> None:
    """OpenWrt's mksquashfs stores 12 bytes of options for xz behind the superblock, mainline 8."""
    image = bytearray(make.squashfs())
    flags = int.from_bytes(image[0x18:0x1A], "little")
    image[0x18:0x1A] = (flags | 0x400).to_bytes(2, "little")
    root = RootFs(View(bytes(image)))
    with root.unpacked(root.index.files) as unpacked:
        assert (unpacked / "lib/libc.so").stat().st_size == len(make.program(size=50000))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-1], "is cut: it needs"),
        (lambda data: data[:0x16] + b"\x13" + data[0x17:], "block size"),
        (lambda data: data[:4] + b"\xff" + data[5:], "inodes"),
    ],
)
def test_a_bad_squashfs_says_why(change: images.Change, said: str) -> None:
    data = change(make.squashfs())
    try:
        read_index(View(data))
    except ImageFormatError as error:
        assert said in error.message
    else:
        pytest.fail("it was read")


def test_a_tar_with_names_that_lead_out_is_refused() -> None:
    good = make.sysupgrade_tar("a", {"kernel": b"k" * 600, "root": b"r" * 600})
    assert images.trouble(good) == ""
    for members, said in (
        ({"kernel": b"k", "../root": b"r"}, "leads out"),
        ({"kernel": b"k"}, "root in the archive"),
        ({"kernel": b"k", "root": b""}, "root in the archive"),
        ({"kernel": b"k", "root": b"r", "extra": b"x"}, "members of the archive"),
    ):
        assert said in images.trouble(make.sysupgrade_tar("a", members))
    assert "board in CONTROL" in images.trouble(
        make.sysupgrade_tar("a", {"kernel": b"k", "root": b"r"}, "BOARD=b\n")
    )
    assert "end of the archive" in images.trouble(good[:-1])


def test_metadata() -> None:
    whole = read_image(View(make.signature(images.archive())))
    assert whole.metadata is not None
    assert whole.metadata.devices == tuple(images.LINKSYS)
    assert whole.metadata.compat_version == "1.1"
    assert [chunk.kind for chunk in whole.part.children] == ["sysupgrade-tar", "metadata", "signature"]
    signature = only(whole.part, "signature")
    assert signature.value("signed by") == (bytes(range(8)).hex(),)
    assert read_metadata(b'{"supported_devices": ["tl-wr741nd-v4"], "version": "2"}').devices == (
        "tl-wr741nd-v4",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data + bytes(100), "end of the metadata"),
        (lambda data: data[:-1], "end of the metadata"),
        (lambda data: data[:5000] + b"!" + data[5001:], "checksum of the image in its metadata"),
        (lambda data: data[:-8] + b"\x09" + data[-7:], "trailer of the metadata: type 9"),
        (lambda data: data[:-4] + b"\x7f" + data[-3:], "trailer of the metadata: type 1, 213"),
        (lambda data: make.metadata(data, supported_devices=["x"]), "trailer of the metadata: type 1"),
        (lambda data: make.chunk(data + b"?", 0, 17), "signature can be read: the signature holds no blob"),
        (lambda data: make.chunk(data + b"# fake certificate of mine", 0, 42), "signature can be read"),
        (
            lambda data: make.chunk(data + bytes(8) + b"{", 1, 25),
            "metadata can be read: the metadata is no JSON",
        ),
        (
            lambda data: make.metadata(images.archive(metadata=False), supported_devices="x"),
            "no list of names",
        ),
    ],
)
def test_bad_metadata_says_why(change: images.Change, said: str) -> None:
    assert said in images.trouble(change(images.archive()))


def test_a_chunk_that_cannot_be_read_hides_nothing_of_the_file() -> None:
    good = images.archive(metadata=False)
    for bad in (make.chunk(good + b"???", 0, 19), make.chunk(good + bytes(8) + b"{", 1, 25)):
        whole = read_image(View(bad))
        assert only(whole.part, "squashfs").problems == ()
        assert [check.what.split(" ")[1:] for check in whole.part.problems] == [["can", "be", "read"]]
        assert whole.metadata is None
    signed = read_image(View(make.chunk(images.archive() + b"???", 0, 19)))
    assert signed.metadata is not None
    assert signed.metadata.devices == tuple(images.LINKSYS)


@pytest.mark.parametrize("text", [b"# fake certificate", b"# fake certificate\n"])
def test_the_placeholder_of_openwrts_builders_is_no_signature_and_no_fault(text: bytes) -> None:
    """Official images from 19.07 on end in it."""
    image = make.chunk(images.archive() + text, 0, len(text) + 16)
    whole = read_image(View(image))
    assert whole.part.problems == ()
    signature = only(whole.part, "signature")
    assert signature.size == len(text) + 16
    assert signature.value("signed by") == ()
    assert signature.fields["signed by"].meaning.startswith("unsigned")
    assert "checksum of the image" in images.trouble(image[:-20] + b"!" + image[-19:])


def test_a_version_that_is_no_text_is_a_forks_own() -> None:
    version = read_metadata(b'{"version": {"version": "21.02", "release": 3, "more": {"a": 1}}}').version
    assert version == {"version": "21.02", "release": "3"}


def test_gzip_behind_which_other_bytes_stand() -> None:
    data = SAMPLES["gzip"].data
    assert "behind the compressed image" in images.trouble(data + b"x" * 600)
    assert "incomplete" in images.trouble(data[:-1])
    assert images.trouble(make.metadata(data, supported_devices=["x"])) == ""


def test_an_x86_disk_without_a_backup_gpt_is_good() -> None:
    boot = make.fat((("vmlinuz", make.bzimage()),))
    disk = make.gpt([(make.EFI_SYSTEM, "esp", boot), (make.LINUX, "rootfs", images.x86_root())], backup=False)
    part = images.read(disk)
    assert part.problems == ()
    assert only(part, "gpt-disk").value("backup GPT") == "missing"


def test_a_trx_without_parts_is_refused() -> None:
    image = bytearray(make.trx([make.kernel(), make.squashfs()]))
    image[16:28] = bytes(12)
    assert "offsets in the TRX header" in images.trouble(bytes(image))


def test_a_disk_may_end_with_its_root_file_system() -> None:
    """x86 images of 17.01 with squashfs, and Raspberry Pi images, do not fill their last partition."""
    root = make.squashfs()
    disk = make.mbr([(0x83, 64, 64), (0x83, 128, 4096)], 128 * 512, boot=b"\xeb\x63\x90")
    assert images.trouble(bytes(disk) + root) == ""
    assert "is cut" in images.trouble(bytes(disk) + root[:-1])
    assert "lies in the file" in images.trouble(bytes(disk) + make.pad_to(root, 512, 0))


def test_a_disk_that_is_cut_says_so() -> None:
    disk = images.efi_disk()
    assert "place" in images.trouble(disk[:-1]) or "length" in images.trouble(disk[:-1])
    assert "lies in the file" in images.trouble(disk[: (5 << 20) + 4096])


def test_fat_files_of_each_width() -> None:
    long_name = "loader/entries/a rather long name.conf"
    for mib in (4, 16):
        files = ((long_name, b"x" * 5000), ("SHORT.TXT", b"y"), ("lower.txt", b"z"))
        part = images.read(make.fat(files, mib))
        found = {
            one.name: bytes(one.data or b"") for one in part.walk() if one.kind == "file" and one is not part
        }
        assert found == dict(files)


def test_a_kernel_with_a_device_tree_tells_its_devices() -> None:
    import lzma  # noqa: PLC0415

    code = b"Linux version 5.15.1 (x) " + make.noise(3000) + make.device_tree(["tplink,tl-wdr3600-v1"])
    for packed in (
        lzma.compress(code, lzma.FORMAT_ALONE),
        lzma.compress(code, lzma.FORMAT_XZ),
        make.gz(code),
    ):
        part = images.read(packed)
        assert only(part, "kernel").value("version") == "5.15.1"
        assert only(part, "device-tree").value("compatible") == ("tplink,tl-wdr3600-v1",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"x" * 600, "has no format that is known"),
        (b"<!DOCTYPE html>" * 60, "a web page"),
        (b"PK\x03\x04" * 200, "a ZIP archive"),
        (b"\xff" * 2000, "nothing but one byte"),
        (b"short", "too few"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "image").write_bytes(data)
    with pytest.raises(ImageFormatError, match=said):
        read_image(open_view(tmp_path / "image"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        open_view(tmp_path / "none")


BILLIONS = {
    "tplink-sysupgrade": [(0x7C, ">I"), (0x84, ">I"), (0x8C, ">I")],
    "safeloader": [(0, ">I"), (0x14, ">I")],
    "uimage-squashfs": [(0x0C, ">I")],
    "trx": [(4, "<I"), (16, "<I")],
    "fit": [(4, ">I"), (8, ">I"), (36, ">I")],
    "squashfs": [(4, "<I"), (0x10, "<I"), (0x28, "<Q"), (0x1A, "<H")],
    "ubi": [(0x10, ">I"), (4096, ">I")],
    "sysupgrade-tar": [(-4, ">I")],
    "mbr": [(454, "<I"), (458, "<I")],
    "gpt": [(512 + 72, "<Q"), (512 + 80, "<I"), (512 + 84, "<I")],
    "elf": [(28, ">I"), (68, ">I"), (32, ">I")],
}


@pytest.mark.parametrize("name", BILLIONS)
def test_a_header_that_claims_billions_allocates_nothing(name: str) -> None:
    data = SAMPLES[name].data
    for at, layout in BILLIONS[name]:
        size = struct.calcsize(layout)
        start = at % len(data)
        huge = data[:start] + struct.pack(layout, (1 << 8 * size) - 1) + data[start + size :]
        tracemalloc.start()
        try:
            for form in FORMATS:
                if form.detect(View(huge)):
                    images.trouble(huge)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # 8 MiB are the dictionary that a kernel's LZMA states
        assert peak < 4 * len(data) + (12 << 20)


def test_gzip_bombs_are_refused() -> None:
    bomb = make.gz(bytes(64 << 20))
    reading = Reading(FORMATS, most_unpacked=1 << 20)
    part = reading.inside(View(bomb, what="bomb"), "bomb")
    assert "unpacks to more than" in part.problems[0].found
    nested = make.gz(make.noise(600))
    for _ in range(20):
        nested = make.gz(nested + make.noise(600))
    assert images.read(nested).kind == "file"


def test_a_ubi_volume_is_in_memory_once() -> None:
    data = make.ubi({"rootfs": make.noise(6 << 20)})
    tracemalloc.start()
    try:
        read_image(View(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20


def test_the_memory_of_a_mapped_file_is_given_back_and_its_bytes_stay(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(make.noise(9 << 20))
    view = open_view(tmp_path / "image")
    assert b"".join(view.pieces()) == make.noise(9 << 20)
    view.part(5).release()
    assert view.take(0, 99) == make.noise(9 << 20)[:99]
    View(b"abc").release()
