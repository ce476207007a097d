"""Vendors' headers, kernels without U-Boot's header, and what is named and not opened."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.firmware import inspection
from imagebuilder.firmware.formats import jffs2, named
from imagebuilder.firmware.formats.formats import CONTAINERS, FORMATS, UNKNOWN_STEPS, format_rows, read_image
from imagebuilder.firmware.formats.padding import COMPOSED, KERNELS, ROOT_FIRST
from imagebuilder.firmware.formats.vendor_headers import chk_checksum, chk_sums
from imagebuilder.firmware.reader import ImageFormatError, Reading, View
from imagebuilder.model.firmware import Part
from imagebuilder.report.firmware import formats_text, inspection_text
from tests.support import firmware_images as images
from tests.support import firmware_vendor_images as samples
from tests.support import firmware_vendor_writers as vendor
from tests.support import firmware_writers as make
from tests.support.firmware_images import only

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/formats.md"

JFFS2_MARKER = bytes.fromhex("1985200404000000c494dbf4")


def summary(part: Part) -> list[str]:
    return [f"{child.kind}:{child.name}" for child in part.children]


def kernel_of(data: bytes) -> str:
    return inspection.kernel_version(images.read(data))


# --- kernels and what lies behind them


COMPOSITIONS = {
    "tplink-v1": (
        samples.tplink_with_loader(),
        "tplink-header gzip:loader padding vendor-uimage:kernel squashfs:rootfs padding end-marker",
    ),
    "elf-image": (
        samples.elf_with_loader(),
        "elf:kernel padding vendor-uimage:kernel padding squashfs:rootfs padding end-marker",
    ),
    "jffs2-image": (
        samples.jffs2_kernel("little", b"\xff" * 0x400 + bytes(0x20000)),
        "jffs2:kernel padding padding squashfs:rootfs padding end-marker",
    ),
    "device-tree-image": (samples.tree_before_kernel(), "device-tree:kernel padding uimage:kernel"),
}


@pytest.mark.parametrize(("behind", "seen"), [(b"", True), (b"\xde\xad\xc0\xde", False), (b"x", False)])
def test_the_root_file_system_behind_a_marker_of_the_kernels(behind: bytes, seen: bool) -> None:
    """UniFi's JFFS2 with the kernel is padded with padjffs2's marker, and zeros to the next block."""
    gap = b"\xff" * 0x400 + JFFS2_MARKER + bytes(0x2000) + behind
    read = images.read(samples.jffs2_kernel(gap=gap))
    assert (read.find("squashfs") is not None) is seen
    if seen:
        inside = [
            "jffs2:kernel",
            "padding",
            "end-marker",
            "padding",
            "squashfs:rootfs",
            "padding",
            "end-marker",
        ]
        part = only(read, "jffs2-image")
        for found, wanted in zip(summary(part), inside, strict=True):
            assert found.startswith(wanted)
    else:
        assert read.problems


@pytest.mark.parametrize("kind", COMPOSITIONS)
def test_a_kernel_is_found_with_what_starts_it_and_what_it_starts(kind: str) -> None:
    data, inside = COMPOSITIONS[kind]
    part = only(images.read(data), kind)
    for found, wanted in zip(summary(part), inside.split(" "), strict=True):
        assert found.startswith(wanted)
    assert part.problems == ()


@pytest.mark.parametrize(
    "data", [samples.tplink_with_loader(), samples.uimage_with_loader(), samples.elf_with_loader()]
)
def test_the_kernel_behind_a_loader_names_its_version(data: bytes) -> None:
    assert kernel_of(data) == "4.4.182"
    assert only(images.read(data), "vendor-uimage").value("magic") == samples.OKLI


def test_a_changed_byte_in_the_kernel_behind_a_loader_is_seen() -> None:
    data = bytearray(samples.elf_with_loader())
    data[0x3040 + 5000] ^= 1
    assert "checksum of the kernel data" in images.trouble(bytes(data))


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_kernel_in_jffs2_is_read_out_of_it(order: str, compress: bool) -> None:
    data = vendor.jffs2({"boot": b"menu", "vmlinux.lzma": make.kernel()}, order=order, compress=compress)
    part = images.read(data)
    assert only(part, "jffs2").value("order") == f"{order} endian"
    assert [one.name for one in part.walk() if one.kind == "jffs2-file"] == ["boot", "vmlinux.lzma"]
    assert kernel_of(data) == "4.4.182"
    assert part.problems == ()


def test_mkfs_jffs2s_files_are_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "kernel").write_bytes(make.uimage(make.kernel()))
    (root / "empty").touch()
    for option in ("--big-endian", "--little-endian"):
        image = tmp_path / option
        argv = ["mkfs.jffs2", "--pad", option, "--squash-uids", "-e", "64KiB", "-o", image, "-d", root]
        subprocess.run(argv, check=True, capture_output=True)
        part = images.read(image.read_bytes())
        assert part.problems == ()
        assert kernel_of(image.read_bytes()) == "4.4.182"


def test_a_file_of_jffs2_that_lacks_a_piece_is_not_opened() -> None:
    kernel = make.kernel()
    data = vendor.jffs2({"kernel": kernel}, block=4)
    first = data.index(kernel[:64]) - 68
    cut = data[:first] + data[first + 68 + 4096 :]
    part = only(images.read(cut), "jffs2-file")
    assert part.children == ()
    assert "not opened" in part.fields["stored"].meaning


def test_jffs2_with_many_files_is_a_root_file_system_and_only_named() -> None:
    many = {f"file{number}": b"text" for number in range(80)}
    part = only(images.read(vendor.jffs2(many)), "jffs2")
    assert part.children == ()
    assert part.problems == ()


def test_an_elf_with_contents_behind_its_section_headers_is_whole() -> None:
    elf = bytearray(make.elf())
    names = b"\0.text\0.shstrtab\0" + bytes(141)
    table = len(elf)
    sections = bytes(40) + section(3, table + 80, len(names))
    elf[32:36] = table.to_bytes(4, "big")
    elf[48:50] = (2).to_bytes(2, "big")
    whole = bytes(elf) + sections + names
    part = only(images.read(whole), "elf")
    assert part.size == len(whole)
    assert images.trouble(whole) == ""
    assert "the ELF file is cut" in images.trouble(whole[:-1])


def section(kind: int, offset: int, size: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in (0, kind, 0, 0, offset, size, 0, 0, 1, 0))


def test_ubi_volumes_without_a_table_are_named_by_their_number() -> None:
    data = bytearray(make.ubi({"kernel": make.kernel(), "rootfs": make.squashfs()}))
    for block in range(2):
        at = block * 0x20000 + 2048 + 8
        data[at : at + 4] = (77).to_bytes(4, "big")  # no longer the table's
        head = bytes(data[block * 0x20000 + 2048 : block * 0x20000 + 2048 + 60])
        data[block * 0x20000 + 2108 : block * 0x20000 + 2112] = (make.zlib.crc32(head) ^ 0xFFFFFFFF).to_bytes(
            4, "big"
        )
    part = images.read(bytes(data))
    assert {"volume 0", "volume 1"} <= {one.name for one in part.walk() if one.kind == "ubi-volume"}
    assert only(part, "squashfs").problems == ()
    assert "volume table: none" in images.trouble(bytes(data))


def fit_without_configurations(kind: bytes) -> bytes:
    data = make.noise(2000)
    sums = {"algo": b"crc32\0", "value": make.zlib.crc32(data).to_bytes(4, "big")}
    image = {"type": kind + b"\0", "compression": b"none\0", "data": data, "hash-1": sums}
    return make.tree({"": {"images": {"image-1": image}}})


def test_a_fit_with_a_script_for_a_vendors_boot_loader_needs_no_configuration() -> None:
    assert images.trouble(fit_without_configurations(b"firmware")) == ""
    assert "configurations of the FIT" in images.trouble(fit_without_configurations(b"kernel"))


# --- vendors' headers


def test_each_header_tells_its_device_and_holds_an_ordinary_image() -> None:
    root = make.squashfs()
    told = {
        "netgear-chk": ("board", "U12H127T00_NETGEAR"),
        "cybertan": ("pattern", "NL16"),
        "model-header": ("model", "NG_WNR854T"),
        "edimax": ("model", "RN54"),
        "combined": ("rootfs length", len(make.pad_to(root, 0x10000))),
        "openmesh": ("type", "OM2P"),
        "seama": ("texts", ("dev=/dev/mtdblock/1", "type=firmware")),
        "ubiquiti": ("version", "XM.ar7240.v6.0.0-OpenWrt-r1"),
        "xiaomi": ("device", 0x0D),
        "tplink-v2": ("hardware id", 0x00C500),
        "myloader": ("device", 0x0640),
        "zcomax": ("hardware id", 0x66661523),
    }
    for name, (field, value) in told.items():
        part = only(images.read(samples.images()[name][1]), name)
        assert part.value(field) == value, name
        assert only(part, "squashfs").size == len(root)
        assert kernel_of(samples.images()[name][1]) == "4.4.182", name


@pytest.mark.parametrize("signed", [False, True])
def test_ubiquitis_parts_are_joined_as_the_flash_has_them(signed: bool) -> None:
    part = only(images.read(samples.ubiquiti_factory(signed=signed)), "ubiquiti")
    assert part.problems == ()
    flash = only(part, "ubiquiti-flash")
    assert flash.name == "kernel and rootfs"
    assert [child.kind for child in flash.children][:3] == ["uimage", "padding", "squashfs"]
    apart = vendor.ubiquiti(
        [
            (b"kernel", 0x10000, 0x100000, make.uimage(make.kernel())),
            (b"rootfs", 0x110000, 0x300000, make.squashfs()),
        ]
    )
    names = [one.name for one in images.read(apart).walk() if one.kind == "ubiquiti-flash"]
    assert names == ["kernel", "rootfs"]


def test_a_part_that_does_not_fit_its_flash_is_refused() -> None:
    data = vendor.ubiquiti([(b"kernel", 0x10000, 3000, make.uimage(make.kernel()))])
    assert "size of the part kernel" in images.trouble(data)


def test_a_trx_may_count_its_kernel_alone() -> None:
    part = only(images.read(samples.wrt160nl(rootfs_outside=True)), "trx")
    assert part.problems == ()
    assert only(part, "squashfs").size == len(make.squashfs())


def test_buffalos_tftp_header_and_encrypted_image() -> None:
    nor = make.nor_sysupgrade(make.uimage(make.kernel()), make.squashfs())
    part = only(images.read(b"# Airstation Public Fmt1".ljust(32, b"\0") + nor), "buffalo-tftp")
    assert only(part, "squashfs").problems == ()
    factory = images.read(vendor.buffalo(b"start\0" + make.noise(2000)))
    assert only(factory, "buffalo-encrypted").value("contents") == named.NOT_OPENED


def test_what_a_header_holds_and_nobody_knows_is_a_warning() -> None:
    data = vendor.cybertan(make.noise(3000))
    (check,) = images.read(data).problems
    assert (check.what, check.level) == ("contents of the image", "warning")


@given(st.binary(max_size=20_000))
def test_netgears_sums_by_rows_are_those_byte_by_byte(data: bytes) -> None:
    assert chk_checksum(*chk_sums(data)) == vendor.netgear_sum(data)


def test_the_kinds_that_boards_can_ask_for_are_kinds_that_are_read() -> None:
    kinds = {kind for row in CONTAINERS.values() for kind in row}
    read = {form.kind for form in FORMATS} | set(COMPOSED.values())
    read |= {"mbr-disk", "gpt-disk", "kernel", ROOT_FIRST}
    assert kinds <= read
    not_opened = {form.kind for form in FORMATS if not form.opened} - {"ext4", "ubifs"}
    assert kinds.isdisjoint(not_opened)
    assert set(KERNELS) <= read


def test_the_strip_shows_a_vendors_header_as_one(tmp_path: Path) -> None:
    image = tmp_path / "image.bin"
    image.write_bytes(samples.images()["combined"][1])
    strip = inspection_text(inspection.inspect(image)).splitlines()[3]
    assert strip.startswith("[HH")
    assert "K" in strip
    assert "R" in strip


# --- what is named


def example(one: named.Named) -> bytes:
    """The least that a row of the table takes for its own."""
    at, magic = one.magics[0]
    data = bytearray(b"5" * max(one.least, 1024))
    data[at : at + len(magic)] = magic
    extra = {
        "zyxel-zynos": ((4, b"\0\0SIG\4"),),
        "zyxel-ras": ((8, b"1.00(ABCD.0)C0\0"),),
        "redboot-fis": ((256, b"FIS directory\0\0\0"), (0, b"RedBoot".ljust(16, b"\0"))),
        "broadcom-tag": ((0, b"6\0\0\0"),),
    }
    for place, text in extra.get(one.kind, ()):
        data[place : place + len(text)] = text
    return bytes(data)


@pytest.mark.parametrize("one", named.NAMED, ids=lambda one: one.kind)
def test_what_is_known_by_name_says_so_and_is_not_opened(one: named.Named) -> None:
    part = images.read(example(one)).children[0]
    assert part.kind == one.kind
    assert part.value("contents") == "not opened by this program"
    assert part.children == ()
    assert one.source


@pytest.mark.parametrize("one", named.NAMED, ids=lambda one: one.kind)
@given(data=st.binary(max_size=400))
def test_any_bytes_behind_a_name(one: named.Named, data: bytes) -> None:
    whole = (example(one)[: len(one.magics[0][1]) + one.magics[0][0]] + data).ljust(one.least, b"\0")
    view = View(whole)
    if one.detect(view):
        assert one.parse(view, Reading(FORMATS)).size == len(whole)


def test_fields_of_what_is_named() -> None:
    fip = bytes.fromhex("010064aa78563412") + bytes(8)
    fip += bytes(range(1, 17)) + (56).to_bytes(8, "little") + (900).to_bytes(8, "little") + bytes(8 + 40)
    assert images.read(fip.ljust(1024, b"\1")).children[0].value("images") == (
        f"{bytes(range(1, 17)).hex()} 900 at 0x38",
    )
    fis = b"".join(name.ljust(256, b"\0") for name in (b"RedBoot", b"vmlinux.bin.l7", b"FIS directory"))
    assert images.read(fis.ljust(4096, b"\xff")).children[0].value("entries") == (
        "RedBoot",
        "vmlinux.bin.l7",
        "FIS directory",
    )


@pytest.mark.parametrize(
    ("data", "version", "about"),
    [
        (vendor.old_squashfs(b"hsqs", 3), "3.0", "squashfs"),
        (vendor.old_squashfs(b"sqsh", 3, order="big"), "3.0", "squashfs"),
        (vendor.old_squashfs(b"hsqs", 2), "2.0", "squashfs"),
        (vendor.old_squashfs(b"shsq", 3), "3.0", "squashfs with a vendor's LZMA"),
        (vendor.old_squashfs(b"hsqt", 3), "3.0", "DD-WRT's squashfs"),
        (vendor.old_squashfs(b"tqsh", 3, order="big"), "3.0", "DD-WRT's squashfs"),
    ],
)
def test_old_squashfs_is_named_with_its_size(data: bytes, version: str, about: str) -> None:
    nor = make.nor_sysupgrade(make.uimage(make.kernel()), data)
    part = only(images.read(nor), "squashfs-old")
    assert part.value("version") == version
    assert part.size == len(data)
    assert images.read(data).children[0].name == "image"
    assert about in {form.about for form in FORMATS} or about.startswith(("squashfs", "DD-WRT"))
    assert images.trouble(nor) == ""
    assert "old squashfs is cut" in images.trouble(data[:-1])


def test_a_squashfs_4_with_a_vendors_lzma_is_named_and_no_damage() -> None:
    data = bytearray(make.squashfs(compressor="gzip"))
    at = int.from_bytes(data[0x40:0x48], "little")
    data[at + 2 : at + 5] = b"\x5d\0\0"
    part = images.read(bytes(data))
    assert only(part, "squashfs-old").value("contents") == named.NOT_OPENED
    assert part.problems == ()
    data[at + 2] ^= 0x40
    assert images.read(bytes(data)).find("squashfs") is not None


def test_a_damaged_version_of_a_squashfs_is_no_old_one() -> None:
    data = bytearray(make.squashfs())
    data[28] = 3
    assert "its version is 3.0" in images.trouble(bytes(data))


def test_random_bytes_have_no_name() -> None:
    for seed in range(200):
        with pytest.raises(ImageFormatError, match="no format that is known"):
            read_image(View(b"\x12" + make.noise(4096, seed)))


@given(st.binary(max_size=2048))
def test_any_bytes_are_no_node_of_jffs2_or_one_error(data: bytes) -> None:
    view = View(b"\x19\x85" + data)
    if not jffs2.detect(view):
        return
    try:
        assert jffs2.parse(view, Reading(FORMATS)).size <= view.size
    except ImageFormatError:
        return


# --- the list of formats


def test_the_documentation_of_formats_is_what_the_command_prints() -> None:
    """`build.py formats > docs/formats.md` mends it."""
    assert DOCUMENT.read_text() == formats_text(format_rows(), UNKNOWN_STEPS)


def test_each_step_of_a_recipe_stands_in_one_row() -> None:
    rows = format_rows()
    steps = [*(step for row in rows for step in row.steps), *UNKNOWN_STEPS]
    assert [step for step, count in Counter(steps).items() if count > 1] == []
    named_or_opened = {row.kind: row.opened for row in rows}
    assert named_or_opened["fit"]
    assert not named_or_opened["arm-fip"]


def test_every_format_that_a_board_can_have_is_in_the_list() -> None:
    listed = {name for row in format_rows() for name in row.boards}
    assert listed == set(CONTAINERS)
