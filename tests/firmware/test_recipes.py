"""What recipes of single boards put into and behind an image: theirs is no fault, any other's is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.config.board import Board
from imagebuilder.firmware.formats.formats import read_image
from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.firmware.verify import verify
from imagebuilder.model.firmware import Check, outcome_of
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

TEXT = b"00DB120AR9344-RT-101214-00"
NAMED = "board=DIR-825-C1 console=ttyS0,115200"


def board(image: dict[str, object], boardname: str | None = None, **more: object) -> Board:
    """A board of one image, without metadata and TP-Link's header."""
    profile = {"releases": "17.01", "target": "ath79/tiny", "name": "DIR825C1", "arch": "mips_24kc"}
    return Board.model_validate(
        {
            "id": "mine",
            "name": "Mine",
            "soc": "x",
            "ram": None,
            "flash": None,
            "profile": [{**profile, "boardname": boardname}],
            "images": {"factory": image, "sysupgrade": image},
            **more,
        }
    )


def nor(text: str = NAMED) -> bytes:
    root = make.squashfs(release="17.01.7", target="ath79/tiny")
    return make.nor_sysupgrade(make.uimage(make.kernel(text)), root)


def refused(checks: tuple[Check, ...]) -> list[str]:
    return [check.what for check in checks if check.refuses]


def told(tmp_path: Path, data: bytes, subject: Board, kind: str = "factory") -> tuple[Check, ...]:
    path = tmp_path / "image.bin"
    path.write_bytes(data)
    return verify(path, subject, image=kind, release="17.01.7")


def test_the_text_that_the_boards_recipe_puts_behind_an_image(tmp_path: Path) -> None:
    whole = nor().ljust(len(nor()) + 5000, b"\0") + TEXT
    tailed = board({"format": "uimage-squashfs", "tail": TEXT.decode()}, "DIR-825-C1")
    assert outcome_of(told(tmp_path, whole, tailed)) == "passed"
    plain = board({"format": "uimage-squashfs"}, "DIR-825-C1")
    assert "padding" in refused(told(tmp_path, whole, plain))
    for other in (
        whole[:-1],
        whole[: -len(TEXT)],
        whole + b"\0",
        whole + b"x",
        whole + TEXT,
        whole[: -len(TEXT)] + TEXT.lower(),
        whole[: -len(TEXT)] + b"x" + TEXT,
    ):
        assert refused(told(tmp_path, other, tailed)), other[-60:]


def test_the_name_in_the_kernel_has_to_be_the_one_that_the_board_states(tmp_path: Path) -> None:
    stated = board({"format": "uimage-squashfs"}, "DIR-825-C1")
    assert outcome_of(told(tmp_path, nor(), stated, "sysupgrade")) == "passed"
    for name in ("DIR-825-B1", "dir-825-c1", "DIR-825-C12"):
        found = told(tmp_path, nor(f"board={name} console=ttyS0,115200"), stated, "sysupgrade")
        assert refused(found) == ["board in the kernel's command line"]


def test_a_root_file_system_with_its_kernel_behind_it(tmp_path: Path) -> None:
    root = make.pad_to(make.squashfs(release="17.01.7", target="ath79/tiny"), 0x10000) + b"\xde\xad\xc0\xde"
    whole = root.ljust(0x300000, b"\0") + make.uimage(make.kernel(NAMED))
    read = read_image(View(memoryview(whole), what="x"))
    assert [part.kind for part in read.image.children if part.kind not in ("padding", "end-marker")] == [
        "squashfs",
        "uimage",
    ]
    subject = board({"format": "squashfs-kernel"}, "DIR-825-C1")
    assert outcome_of(told(tmp_path, whole, subject, "sysupgrade")) == "passed"
    cut, wrong = whole[:-1000], whole[: 0x300000 + 70] + b"x" + whole[0x300000 + 71 :]
    for other in (root, cut, wrong, whole + b"x", nor()):
        assert refused(told(tmp_path, other, subject, "sysupgrade"))
    assert refused(told(tmp_path, whole, board({"format": "uimage-squashfs"}, "DIR-825-C1"), "sysupgrade"))


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_whatever_lies_behind_a_root_file_system_is_read(tail: bytes, gap: int) -> None:
    root = make.squashfs(release="17.01.7", target="ath79/tiny")
    try:
        read = read_image(View(memoryview(root + bytes(gap) + tail), what="x"))
    except ImageFormatError:
        return
    assert sum(part.size for part in read.part.children) == len(root) + gap + len(tail)


@pytest.mark.parametrize("image_format", ["vendor", "unknown"])
def test_in_a_vendors_image_nothing_can_be_told(tmp_path: Path, image_format: str) -> None:
    subject = board({"format": image_format}, "DIR-825-C1")
    for data in (nor() + TEXT, nor()[:-1], b"something" + make.noise(9000), make.tplink_v1(b"x", b"y" * 900)):
        assert outcome_of(told(tmp_path, data, subject)) == "cannot be told"
    other = nor("board=DIR-825-B1 console=ttyS0,115200")
    assert outcome_of(told(tmp_path, other, subject)) == "refused"


def test_a_vendors_image_may_be_larger_than_the_partition(tmp_path: Path) -> None:
    size = {"layout": {"firmware": 0x10000}}
    large = b"something" + make.noise(0x20000)
    assert refused(told(tmp_path, large, board({"format": "vendor"}, **size))) == []
    limited = {"format": "uimage-squashfs"}
    assert "size of the image" in refused(told(tmp_path, nor(), board(limited, "DIR-825-C1", **size)))


def test_the_version_of_a_tplink_header_is_the_boards(tmp_path: Path) -> None:
    first = images.board("tplink-tl-wr740n-v4")
    whole = make.tplink_v1(make.kernel(), make.squashfs())
    second = make.sign_tplink(b"\2" + whole[1:])
    assert first.tplink is not None
    newer = first.model_copy(update={"tplink": first.tplink.model_copy(update={"header_version": 2})})
    what = "version of the TP-Link header"
    for data, subject, same in ((whole, first, True), (whole, newer, False), (second, newer, True)):
        assert (what not in refused(told(tmp_path, data, subject, "sysupgrade"))) is same
    # some boot loaders want a version of the firmware (mktplinkfw -v)
    dated = make.sign_tplink(whole[:0x98] + bytes.fromhex("0003000d0063") + whole[0x9E:])
    assert refused(told(tmp_path, dated, first, "sysupgrade")) == refused(
        told(tmp_path, whole, first, "sysupgrade")
    )
    assert read_image(View(memoryview(dated), what="x")).image.value("firmware version") == "3.13.99"


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        ("256k(u-boot)ro,7744k@0x50000(firmware)", []),
        ("256k(u-boot)ro,15936k@0x50000(firmware)", ["place of the firmware in the kernel's command line"]),
        ("256k(u-boot)ro,7744k(firmware)", ["place of the firmware in the kernel's command line"]),
        ("256k(u-boot)ro,-(firmware)", []),  # as large as the chip: nothing to compare
        ("256k(u-boot)ro,7744k@0x50000(rootfs)", []),
    ],
)
def test_a_kernel_for_another_size_of_the_same_boards_flash(
    tmp_path: Path, parts: str, wrong: list[str]
) -> None:
    """AP121 and AP143 with 8 and 16 MiB share the board's name in the command line."""
    layout = {"partitions": [{"name": "firmware", "offset": 0x50000, "size": 7744 << 10}]}
    stated = board({"format": "uimage-squashfs"}, "DIR-825-C1", layout=layout)
    image = nor(f"{NAMED} mtdparts=spi0.0:{parts}")
    assert refused(told(tmp_path, image, stated, "sysupgrade")) == wrong


def test_a_boards_second_image_is_for_another_layout(tmp_path: Path) -> None:
    """fat-sysupgrade of DIR-825 B1, for who has divided the flash anew."""
    layout = {"partitions": [{"name": "firmware", "offset": 0x50000, "size": 6208 << 10}]}
    images = {"fat-sysupgrade": {"format": "uimage-squashfs"}, "sysupgrade": {"format": "uimage-squashfs"}}
    stated = board({}, "DIR-825-C1", layout=layout, images=images)
    image = nor(f"{NAMED} mtdparts=spi0.0:7744k@0x50000(firmware)")
    assert refused(told(tmp_path, image, stated, "fat-sysupgrade")) == []
    assert refused(told(tmp_path, image, stated, "sysupgrade")) != []
