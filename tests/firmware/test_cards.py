"""Disks and cards as OpenWrt's recipes end them: what boots is let through, what is cut is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.config.board import Board
from imagebuilder.firmware.formats.metadata import MAGIC
from imagebuilder.firmware.verify import verify
from imagebuilder.model.firmware import Check
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

PC, ZERO = "xunlong,orangepi-pc", "xunlong,orangepi-zero"


def checks_of(tmp_path: Path, data: bytes, board: str | Board, name: str) -> tuple[Check, ...]:
    (tmp_path / name).write_bytes(data)
    return verify(tmp_path / name, images.board(board) if isinstance(board, str) else board)


def failed(checks: tuple[Check, ...]) -> list[str]:
    return [f"{check.what}: {check.found}" for check in checks if not check.ok]


def test_an_x86_disk_up_to_1907_ends_with_zeros_behind_its_root(tmp_path: Path) -> None:
    disk = images.bios_disk(padding=128 << 10)
    assert len(disk) % 512 != 0
    for data, name in ((disk, "x-combined.img"), (make.gz(disk), "x-combined.img.gz")):
        assert failed(checks_of(tmp_path, data, "x86-64", name)) == [
            "name of the device: nothing in it tells"
        ]


@pytest.mark.parametrize("padding", [(128 << 10) - 1, (128 << 10) + 1, 512, 64 << 10, 256 << 10])
def test_an_x86_disk_that_no_recipe_ends_so_is_refused(tmp_path: Path, padding: int) -> None:
    refused = images.refusing(
        checks_of(tmp_path, images.bios_disk(padding=padding), "x86-64", "x-combined.img")
    )
    assert any("lies in the file" in line or "length of the disk" in line for line in refused)


def test_other_bytes_than_zeros_behind_an_x86_root_are_refused(tmp_path: Path) -> None:
    disk = images.bios_disk(padding=128 << 10)
    refused = images.refusing(checks_of(tmp_path, disk[:-9] + b"x" + disk[-8:], "x86-64", "x-combined.img"))
    assert any(line.startswith("padding") for line in refused)


@pytest.mark.parametrize("padding", [0, 1 << 20])
def test_a_pi_card_with_overlays_and_the_videocores_programs_is_good(tmp_path: Path, padding: int) -> None:
    card = images.pi_card(images.pi_disk(images.pi_boot(), padding))
    assert failed(checks_of(tmp_path, card, "raspberrypi-3b", "x-sysupgrade.img.gz")) == []


def test_a_pi_card_without_the_boards_tree_is_refused(tmp_path: Path) -> None:
    card = images.pi_card(images.pi_disk(images.pi_boot(("raspberrypi,4-model-b",))))
    refused = images.refusing(checks_of(tmp_path, card, "raspberrypi-3b", "x-sysupgrade.img.gz"))
    assert [line.partition(":")[0] for line in refused] == ["device tree on the boot partition"]


def test_a_sunxi_card_has_its_metadata_in_what_is_compressed(tmp_path: Path) -> None:
    disk = images.sunxi_disk()
    assert len(disk) % 512 != 0
    checks = checks_of(tmp_path, make.gz(disk), images.sunxi_board(), "x-squashfs-sdcard.img.gz")
    assert failed(checks) == []
    assert {"supported devices", "device tree on the boot partition", "machine of uImage"} <= {
        check.what for check in checks
    }
    bare = make.gz(images.sunxi_disk(chunks=False))
    assert failed(checks_of(tmp_path, bare, images.sunxi_board(), "x-squashfs-sdcard.img.gz")) == []
    signed = make.gz(make.signature(disk))
    assert failed(checks_of(tmp_path, signed, images.sunxi_board(), "x-squashfs-sdcard.img.gz")) == []


def test_a_sunxi_card_for_another_board_is_refused(tmp_path: Path) -> None:
    card = make.gz(images.sunxi_disk(ZERO))
    refused = images.refusing(checks_of(tmp_path, card, images.sunxi_board(), "x-squashfs-sdcard.img.gz"))
    assert [line.partition(":")[0] for line in refused] == [
        "supported devices",
        "device tree on the boot partition",
    ]


def test_an_omap_card_has_u_boot_for_its_spl_on_the_boot_partition(tmp_path: Path) -> None:
    card = images.omap_card()
    assert failed(checks_of(tmp_path, card, "beaglebone-black", "x-squashfs-sdcard.img.gz")) == []
    refused = images.refusing(checks_of(tmp_path, card, images.sunxi_board(), "x-squashfs-sdcard.img.gz"))
    assert any(line.startswith("device tree on the boot partition") for line in refused)


def test_a_fit_without_a_kernel_is_no_firmware_of_its_own() -> None:
    assert "kernel of the configuration" in images.trouble(images.uboot_fit())


@pytest.mark.parametrize("cut", [1, 20, 5000])
def test_a_sunxi_card_that_was_cut_before_it_was_compressed_is_refused(tmp_path: Path, cut: int) -> None:
    card = make.gz(images.sunxi_disk()[:-cut])
    assert images.refusing(checks_of(tmp_path, card, images.sunxi_board(), "x-squashfs-sdcard.img.gz"))


def test_a_changed_byte_under_the_metadata_of_a_card_is_refused(tmp_path: Path) -> None:
    disk = bytearray(images.sunxi_disk())
    disk[len(disk) - 40] ^= 1
    card = make.gz(bytes(disk))
    refused = images.refusing(checks_of(tmp_path, card, images.sunxi_board(), "x-squashfs-sdcard.img.gz"))
    assert any(line.startswith("padding") for line in refused)


def test_metadata_where_sysupgrade_does_not_look_is_none_to_it(tmp_path: Path) -> None:
    """fwtool reads the file as it is, and bcm27xx wants what it finds there."""
    whole = images.pi_card()
    packed = make.gz(
        make.metadata(
            images.pi_disk(images.pi_boot()),
            supported_devices=["raspberrypi,3-model-b"],
            version={"target": "bcm27xx/bcm2710"},
        )
    )
    assert MAGIC in whole[-16:]
    assert failed(checks_of(tmp_path, whole, "raspberrypi-3b", "x-sysupgrade.img.gz")) == []
    refused = images.refusing(checks_of(tmp_path, packed, "raspberrypi-3b", "x-sysupgrade.img.gz"))
    assert [line.partition(":")[0] for line in refused] == ["metadata"]
    assert failed(checks_of(tmp_path, packed, "raspberrypi-3b", "x-factory.img.gz")) == []


def gpt_card(root: bytes, last: int) -> bytes:
    """A card with a GPT, no boot code and no backup table, that ends with its last partition's contents."""
    partitions = [(make.EFI_SYSTEM, "boot", make.noise(3000)), (make.LINUX, "root", bytes(last))]
    return make.gpt(partitions, backup=False)[: 2 << 20] + root


def test_a_gpt_card_may_end_with_its_root_file_system() -> None:
    root = images.x86_root()
    assert images.trouble(gpt_card(root, 4 << 20)) == ""
    assert "lies in the file" in images.trouble(gpt_card(root, 4 << 20) + bytes(512))
    assert "is cut" in images.trouble(gpt_card(root[:-1], 4 << 20))


def test_a_gpt_card_may_leave_its_second_set_of_partitions_out() -> None:
    empty = bytes(4 << 20)
    names = ("kernel_1", "rootfs_1", "kernel_2", "rootfs_2")
    disk = make.gpt([(make.LINUX, name, empty) for name in names], backup=False)
    card = disk[: 5 << 20] + images.x86_root()
    assert images.trouble(card) == ""
    assert "partition 3 lies in the file" in images.trouble(card + bytes(512))
    assert "partition 2 lies in the file" in images.trouble(disk[: 5 << 20] + images.x86_root()[:-1])
    assert "partition 3 lies in the file" in images.trouble(b"\xeb\x63" + card[2:])


def test_a_partition_may_hold_u_boot_for_its_spl() -> None:
    """As the second one of RISC-V's cards does."""
    partitions = [(make.LINUX, "loader2", images.uboot_fit()), (make.LINUX, "root", bytes(4 << 20))]
    card = make.gpt(partitions, backup=False)[: 2 << 20] + images.x86_root()
    assert images.trouble(card) == ""


def test_a_card_may_end_with_a_sysupgrade_image_and_its_metadata() -> None:
    """As those of MediaTek do: the metadata's checksum is that of the image and not of the card."""
    itb = make.metadata(images.fit_image(external=True), supported_devices=["bananapi,bpi-r3"])
    card = gpt_card(itb, 8 << 20)
    part = images.read(make.gz(card))
    assert part.problems == ()
    chunk = part.find("metadata")
    assert chunk is not None
    assert chunk.value("supported devices") == ("bananapi,bpi-r3",)
    assert "lies in the file" in images.trouble(make.gz(card[:-1]))
