"""An image against a board: its own is let through, others, damaged and wrongly padded ones are refused."""

from __future__ import annotations

import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from imagebuilder.config.board import Board, Image
from imagebuilder.errors import UserError
from imagebuilder.firmware.reader import View
from imagebuilder.firmware.rootfs import NO_RULES, RootFs
from imagebuilder.firmware.subject import Subject
from imagebuilder.firmware.verify import (
    Ahead,
    SeenRoot,
    UnsafeImageError,
    check_flashable,
    look_ahead,
    passed,
    rootfs_sizes,
    verify,
    verify_all,
)
from imagebuilder.firmware.verify_device import metadata_checks, name_checks
from imagebuilder.log import Event, Log, Note, Warned
from imagebuilder.model.firmware import Check, outcome_of
from imagebuilder.model.result import ImageFile
from tests.support import firmware_images as images
from tests.support import firmware_vendor_images as vendor_images
from tests.support import firmware_vendor_writers as vendor
from tests.support import firmware_writers as make

WR740, LINKSYS, XIAOMI = "tplink-tl-wr740n-v4", "linksys-wrt1200ac", "xiaomi-mi-router-3g"
FOR_BOARDS = {
    "tplink-sysupgrade": "x-sysupgrade.bin",
    "tplink-factory": "x-factory.bin",
    "uimage-squashfs": "x-sysupgrade.bin",
    "ubi": "x-rootfs0.bin",
    "ubi-factory": "x-factory.img",
    "sysupgrade-tar": "x-sysupgrade.bin",
    "signed": "x-sysupgrade.bin",
    "gpt": "x-combined-efi.img",
    "gzip-disk": "x-combined-efi.img.gz",
    "bios-disk": "x-combined.img",
    "bios-disk-1907": "x-combined.img",
    "pi-card": "x-sysupgrade.img.gz",
}
INIT_SCRIPTS = (
    ("etc/rc.common", "# stands for one\n"),
    ("etc/init.d/boot", "#!/bin/sh /etc/rc.common\nSTART=10\n"),
)
SAMPLES = {sample.name: sample for sample in images.samples() if sample.name in FOR_BOARDS}
BOARDS = [
    WR740,
    "tplink-tl-wr740n-v5",
    "glinet-gl-ar150",
    LINKSYS,
    XIAOMI,
    "raspberrypi-3b",
    "raspberrypi-4b",
    "x86-64",
    "qemu-x86-64",
    "qemu-armsr-armv8",
]


def checks_of(
    tmp_path: Path, data: bytes, board: str | Board, name: str = "x-sysupgrade.bin", **more: str
) -> tuple[Check, ...]:
    (tmp_path / name).write_bytes(data)
    return verify(tmp_path / name, images.board(board) if isinstance(board, str) else board, **more)


# what carries no name of a device: a root file system alone, and disks of PCs
NAMELESS = ("ubi", "gpt", "gzip-disk", "bios-disk", "bios-disk-1907")


def own_outcome(name: str) -> str:
    return "cannot be told" if name in NAMELESS else "passed"


@pytest.mark.parametrize("name", FOR_BOARDS)
def test_an_image_is_for_its_board_and_for_no_other(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    assert sample.board in BOARDS
    for board in BOARDS:
        outcome = outcome_of(checks_of(tmp_path, sample.data, board, FOR_BOARDS[name]))
        assert outcome == (own_outcome(name) if board == sample.board else "refused"), board


@pytest.mark.parametrize("name", FOR_BOARDS)
def test_a_good_image_has_no_warnings(tmp_path: Path, name: str) -> None:
    checks = checks_of(tmp_path, SAMPLES[name].data, SAMPLES[name].board, FOR_BOARDS[name])
    untold = ["name of the device"] if name in NAMELESS else []
    assert [check.what for check in checks if not check.ok] == untold
    told = {check.what for check in checks}
    assert {
        "init in the root filesystem",
        "shell in the root filesystem",
        "C library in the root filesystem",
    } <= told
    assert {"root filesystem", "processor of the shell", "architecture of the packages"} <= told


@pytest.mark.parametrize("name", FOR_BOARDS)
def test_one_byte_less_or_more_is_refused(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    for data in (sample.data[:-1], sample.data + b"\xff", sample.data + bytes(4096), sample.data * 2):
        assert images.refusing(checks_of(tmp_path, data, sample.board, FOR_BOARDS[name])), len(data)


def test_one_link_for_the_start_is_enough_where_nobody_knows_what_is_disabled(tmp_path: Path) -> None:
    enabled = ("etc/rc.d/S10boot", "as good as a link\n")
    root = make.squashfs(scripts=(*INIT_SCRIPTS, enabled))
    lines = {check.what: check for check in checks_of(tmp_path, make.tplink_v1(make.kernel(), root), WR740)}
    assert lines["services that start"].ok
    bare = make.squashfs(scripts=INIT_SCRIPTS[1:])
    others = checks_of(tmp_path, make.tplink_v1(make.kernel(), bare), WR740)
    assert "services that start" not in {check.what for check in others}


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (images.tplink(hwid=0x07400005), "hardware id"),
        (images.tplink(hwrev=2), "hardware revision"),
        (images.tplink(length=0x7C0000), "flash layout"),
        (images.tplink(region=1), "region"),
        (images.tplink(region=7), "region"),
        (images.tplink(boot=1), "boot loader in the image"),
        (images.tplink(block=0x1000), "end marker"),
        (
            make.tplink_v1(make.kernel(), make.squashfs(target="ath79/generic", release="23.05.5")),
            "target of the image",
        ),
        (make.tplink_v1(make.kernel(), make.squashfs(arch="mipsel_24kc")), "architecture of the packages"),
        (make.tplink_v1(make.kernel(), make.squashfs(machine=make.ARM)), "processor of the shell"),
        (make.tplink_v1(make.kernel(), make.squashfs(remove="bin/busybox")), "shell in the root filesystem"),
        (make.tplink_v1(make.kernel(), make.squashfs(remove="sbin/init")), "init in the root filesystem"),
        (
            make.tplink_v1(make.kernel(), make.squashfs(remove="lib/libc.so")),
            "C library in the root filesystem",
        ),
        (
            make.tplink_v1(make.kernel("board=CARAMBOLA2"), make.squashfs()),
            "board in the kernel's command line",
        ),
        (make.tplink_v1(make.noise(3_700_000), make.squashfs()), "kernel and root filesystem together"),
        (images.glinet(), "format of the image"),
        (
            make.tplink_v1(make.kernel(), make.squashfs(scripts=INIT_SCRIPTS)),
            "services that start",
        ),
        (make.squashfs(), "format of the image"),
        (make.noise(5000), "format of the image"),
    ],
)
def test_what_is_wrong_with_a_tplink_image_is_named(tmp_path: Path, image: bytes, what: str) -> None:
    assert any(line.startswith(what) for line in images.refusing(checks_of(tmp_path, image, WR740)))


def test_a_region_with_its_text_is_let_through(tmp_path: Path) -> None:
    image = images.tplink(region=1, region_text=b"55530000")
    assert images.refusing(checks_of(tmp_path, image, WR740)) == []


def test_a_flash_layout_of_a_forks_tool_is_let_through_with_a_warning(tmp_path: Path) -> None:
    """Such as 32Mlzma, on a board whose chip was changed; a board with a known layout still refuses it."""
    image = images.tplink(length=0x1F00000)
    board = images.board(WR740)
    assert board.tplink is not None
    changed = board.model_copy(update={"tplink": board.tplink.model_copy(update={"flash_layout": "32Mlzma"})})
    checks = checks_of(tmp_path, image, changed)
    assert images.refusing(checks) == []
    warned = {check.what for check in checks if not check.ok}
    assert {"flash layout", "firmware length of a known flash layout"} <= warned
    assert any(line.startswith("flash layout") for line in images.refusing(checks_of(tmp_path, image, WR740)))


def test_a_factory_image_has_the_length_of_the_firmware_area(tmp_path: Path) -> None:
    short = images.refusing(checks_of(tmp_path, images.tplink(), WR740, "x-factory.bin"))
    assert any("length of a factory image" in line for line in short)
    refused = images.refusing(checks_of(tmp_path, images.tplink(factory=True), WR740, "x-sysupgrade.bin"))
    assert any("end of the image" in line for line in refused)


def test_no_room_for_settings_is_a_warning(tmp_path: Path) -> None:
    image = make.tplink_v1(make.noise(3_680_000), make.squashfs())
    checks = {check.what: check for check in checks_of(tmp_path, image, WR740)}
    assert not checks["flash left for settings"].ok
    assert not checks["flash left for settings"].refuses


def limited(name: str, image: str, limit: int) -> Board:
    """A board whose image of that kind may have so many bytes."""
    known = images.board(name)
    changed = known.images[image].model_copy(update={"limit": limit})
    return known.model_copy(update={"images": {**known.images, image: changed}})


@pytest.mark.parametrize(("over", "refused"), [(0, []), (1, ["size of the image"])])
def test_an_image_may_fill_its_place_to_the_last_byte_and_its_metadata_does_not_count(
    tmp_path: Path, over: int, refused: list[str]
) -> None:
    """sysupgrade cuts the metadata off before it writes."""
    body = images.archive(metadata=False)
    checks = checks_of(
        tmp_path, images.linksys_metadata(body), limited(LINKSYS, "sysupgrade", len(body) - over)
    )
    (size,) = [check for check in checks if check.what == "size of the image"]
    assert size.found == f"{len(body)} bytes"
    assert [line.split(":")[0] for line in images.refusing(checks)] == refused


@pytest.mark.parametrize(("over", "refused"), [(0, False), (1, True)])
@pytest.mark.parametrize(
    ("key", "what"),
    [("flash", "size of the image against the whole flash"), ("firmware", "size of the image")],
)
def test_limits_of_the_board_hold_to_the_byte(
    tmp_path: Path, key: str, what: str, over: int, refused: bool
) -> None:
    image, known = images.glinet(), images.board("glinet-gl-ar150")
    limit = len(image) - over
    layout = known.layout.model_copy(update={"firmware": limit} if key == "firmware" else {})
    board = known.model_copy(update={"layout": layout, "flash": limit if key == "flash" else known.flash})
    checks = checks_of(tmp_path, image, board)
    assert [check.refuses for check in checks if check.what == what] == [refused]


@pytest.mark.parametrize(("blocks", "ok"), [(6, True), (5, True), (4, False)])
def test_jffs2_wants_five_erase_blocks(tmp_path: Path, blocks: int, ok: bool) -> None:
    image = images.glinet()
    known = images.board("glinet-gl-ar150")
    room = len(image) - 4 + (blocks << 16)  # the end marker's block is the first of the overlay's
    board = known.model_copy(update={"layout": known.layout.model_copy(update={"firmware": room})})
    (check,) = [each for each in checks_of(tmp_path, image, board) if each.what == "flash left for settings"]
    assert (check.ok, check.found) == (ok, f"{blocks} erase blocks of 64 KiB")


def tar_image(**changes: object) -> bytes:
    settings = {"board": "armada-385-linksys-caiman", "kernel": images.linksys_kernel(), **changes}
    root = make.pad_to(make.squashfs(**images.MVEBU), 1024, 0)  # type: ignore[arg-type]
    return make.sysupgrade_tar(str(settings["board"]), {"kernel": settings["kernel"], "root": root})  # type: ignore[dict-item]


def with_metadata(**keys: object) -> bytes:
    good = {
        "compat_version": "1.1",
        "new_supported_devices": images.LINKSYS,
        "version": {"target": "mvebu/cortexa9"},
    }
    return make.metadata(tar_image(), **{**good, **keys})


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (tar_image(), "metadata"),
        (images.linksys_metadata(tar_image(board="other")), "board of the archive"),
        (
            images.linksys_metadata(
                tar_image(kernel=make.uimage(make.zimage(make.device_tree(["x,y"])), machine=2))
            ),
            "device tree",
        ),
        (
            images.linksys_metadata(tar_image(kernel=make.uimage(make.zimage(), machine=5))),
            "machine of kernel",
        ),
        (
            images.linksys_metadata(tar_image(kernel=make.uimage(make.noise(7 << 20), machine=2))),
            "size of the kernel",
        ),
        (with_metadata(new_supported_devices=["asus,other"]), "supported devices"),
        (with_metadata(compat_version="1.0", supported_devices=images.LINKSYS), "compat version"),
        (with_metadata(compat_version="2.0"), "compat version"),
        (with_metadata(version={"target": "mvebu/cortexa53"}), "target in the metadata"),
    ],
)
def test_what_is_wrong_with_an_archive_is_named(tmp_path: Path, image: bytes, what: str) -> None:
    assert any(line.startswith(what) for line in images.refusing(checks_of(tmp_path, image, LINKSYS)))


@pytest.mark.parametrize(
    ("devices", "ok"),
    [
        (["linksys,wrt1200ac"], True),
        (["linksys,wrt1200ac", "linksys,of-a-later-release"], True),
        (["asus,other", "linksys,caiman"], True),
        (["asus,other"], False),
        ([], False),
    ],
)
def test_one_name_that_the_device_has_is_enough(tmp_path: Path, devices: list[str], ok: bool) -> None:
    """As in fwtool_check_image of sysupgrade: the image lists devices, and the running one is among them."""
    checks = checks_of(tmp_path, with_metadata(new_supported_devices=devices), LINKSYS)
    assert [check.ok for check in checks if check.what == "supported devices"] == [ok]


@pytest.mark.parametrize(
    ("release", "needed"),
    [("17.01.7", False), ("18.06.9", False), ("19.07.0", True), ("19.07.10", True), ("23.05.5", True)],
)
def test_ramips_asks_for_metadata_from_19_07_on(release: str, needed: bool) -> None:
    profile = SimpleNamespace(target="ramips/mt7621")
    read = SimpleNamespace(metadata=None, metadata_packed=False)
    subject = SimpleNamespace(sysupgrade=True, read=read, profile=profile, rules=NO_RULES, release=release)
    (check,) = metadata_checks(subject)  # type: ignore[arg-type]
    assert (check.what, check.refuses) == ("metadata", needed)
    profile.target = "mvebu/cortexa9"
    assert next(metadata_checks(subject)).refuses  # type: ignore[arg-type]


def test_an_init_without_content_is_none(tmp_path: Path) -> None:
    image = make.tplink_v1(make.kernel(), make.squashfs(empty="sbin/init"))
    refused = images.refusing(checks_of(tmp_path, image, WR740))
    assert refused == ["init in the root filesystem: /sbin/init / none"]


def test_ubi_at_another_place_than_the_kernels_end_is_refused(tmp_path: Path) -> None:
    ubi = make.ubi({"rootfs": make.squashfs(**images.MVEBU), "rootfs_data": b""})  # type: ignore[arg-type]
    image = images.linksys_kernel().ljust(0x200000, b"\0") + ubi
    assert any(
        "place of UBI" in line
        for line in images.refusing(checks_of(tmp_path, image, LINKSYS, "x-factory.img"))
    )


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b"00-000000abc001", b"00-000000abc009", "root= in loader"),
        (b"BOOTX64 EFI", b"BOOTX64 XYZ", "UEFI boot program"),
    ],
)
def test_what_is_wrong_with_a_disk_is_named(tmp_path: Path, old: bytes, new: bytes, what: str) -> None:
    disk = images.efi_disk()
    assert old in disk
    refused = images.refusing(checks_of(tmp_path, disk.replace(old, new), "x86-64", "x-combined-efi.img"))
    assert any(line.startswith(what) for line in refused), refused


def test_a_pi_without_its_kernel_is_refused(tmp_path: Path) -> None:
    refused = images.refusing(checks_of(tmp_path, images.pi_card(), "raspberrypi-1", "x-sysupgrade.img.gz"))
    assert any(line.startswith("kernel on the boot partition") for line in refused)


def test_the_kind_that_is_asked_for_counts_more_than_the_name(tmp_path: Path) -> None:
    image = images.tplink(factory=True)
    assert images.refusing(checks_of(tmp_path, image, WR740, "any.bin", image="factory")) == []
    assert images.refusing(checks_of(tmp_path, image, WR740, "any.bin", image="sysupgrade")) != []
    assert images.refusing(checks_of(tmp_path, image, WR740, "any.bin")) == []


def test_a_tplink_image_without_a_kind_is_one_for_sysupgrade_unless_it_fills_the_flash(
    tmp_path: Path,
) -> None:
    """From 19.07 on sysupgrade wants metadata, and the vendor's own updater wants none."""
    root = make.squashfs(target="ath79/tiny", release="23.05.5")
    for factory in (False, True):
        image = make.tplink_v1(make.kernel(""), root, factory=factory)
        refused = images.refusing(checks_of(tmp_path, image, WR740, "any.bin"))
        assert [line.partition(":")[0] for line in refused] == ([] if factory else ["metadata"])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        verify(tmp_path / "none.bin", images.board(WR740))


def test_a_damaged_rootfs_behind_a_good_checksum_is_refused(tmp_path: Path) -> None:
    image = bytearray(images.tplink())
    at = image.index(b"hsqs") + 3000
    image[at] ^= 1
    refused = images.refusing(checks_of(tmp_path, make.sign_tplink(bytes(image)), WR740))
    assert len(refused) >= 1
    assert any("readable to its last block" in line for line in refused)


def test_a_header_made_right_again_does_not_hide_a_cut_rootfs(tmp_path: Path) -> None:
    image = images.tplink()
    root = image.index(b"hsqs")
    cut = image[: root + 30000]
    cut = cut[:0x8C] + struct.pack(">I", 30000) + cut[0x90:]
    assert images.refusing(checks_of(tmp_path, make.sign_tplink(cut), WR740))


def naming(image: bytes, board: Board, *names: str) -> Subject:
    """An image of a board whose only names are these."""
    facts = {"part": images.read(image), "board": board, "profile": board.profile[0], "rules": NO_RULES}
    return cast(Subject, SimpleNamespace(names=lambda: names, **facts))


@pytest.mark.parametrize(
    ("devices", "ok"),
    [
        (["glinet,gl-mt300n-v2", "mediatek,mt7628an-soc"], True),
        (["gl-mt300n-v2"], True),
        (["glinet,GL MT300N v2"], True),
        (["glinet,gl-mt300n-v1", "mediatek,mt7628an-soc"], False),
        (["gl-mt300n-v2,other"], False),
    ],
)
def test_a_device_tree_may_name_the_vendor_where_the_profile_does_not(devices: list[str], ok: bool) -> None:
    """As in 19.07's ramips, and in forks of it."""
    code = b"Linux version 4.14.241 (x) " + make.noise(3000) + make.device_tree(devices)
    subject = naming(make.gz(code), images.board(WR740), "gl-mt300n-v2")
    found = [check for check in name_checks(subject) if check.what == "device tree of the kernel"]
    assert [check.ok for check in found] == [ok]


def test_another_device_tree_is_refused_where_a_board_knows_its_devices_names() -> None:
    """A board of 17.01 only, as `boards add` writes it, has a profile's name, which no tree need have."""
    code = b"Linux version 4.4.92 (x) " + make.noise(3000) + make.device_tree(["duzun,dm06"])
    known = images.board(WR740)
    without = [profile.model_copy(update={"supported_devices": ()}) for profile in known.profile]
    for board, refuses in ((known, True), (known.model_copy(update={"profile": tuple(without)}), False)):
        subject = naming(make.gz(code), board, "duzun-dm06")
        found = [check for check in name_checks(subject) if check.what == "device tree of the kernel"]
        assert [(check.ok, check.refuses) for check in found] == [(False, refuses)]


def test_netgears_factory_header_names_a_device(tmp_path: Path) -> None:
    board = stating("unknown")
    for device, ok in ((b"GL-AR150", True), (b"WNDR3700", False)):
        checks = checks_of(tmp_path, make.dni(images.netgear(), device), board)
        assert [check.ok for check in checks if check.what == "device of the NETGEAR header"] == [ok]
        assert images.refusing(checks) == []


def stating(form: str) -> Board:
    board = images.board("glinet-gl-ar150")
    return board.model_copy(update={"images": {"sysupgrade": Image.model_validate({"format": form})}})


@pytest.mark.parametrize(
    ("form", "data", "outcome"),
    [
        ("unknown", b"a vendor's own" + make.noise(5000), "cannot be told"),
        ("uimage-squashfs", b"a vendor's own" + make.noise(5000), "refused"),
        ("unknown", b"\xff" * 5000, "refused"),
        ("unknown", b"PK\x03\x04" + make.noise(5000), "refused"),
    ],
)
def test_a_format_that_nobody_knows(tmp_path: Path, form: str, data: bytes, outcome: str) -> None:
    """Where the board's file does not know its format either, nothing speaks for the file or against it."""
    (tmp_path / "image").write_bytes(data)
    for image in ("sysupgrade", ""):
        (check,) = verify(tmp_path / "image", stating(form), image=image)
        assert outcome_of([check]) == outcome


def test_an_image_that_could_not_be_checked_is_told(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"a vendor's own" + make.noise(5000))
    image = ImageFile(type="sysupgrade", file="image", size=5014, sha256="0" * 64, required=True)
    said: list[Event] = []
    log = Log([said.append])
    found = check_flashable(stating("unknown"), [image], tmp_path, "17.01.7", log)
    assert {file: passed(verified) for file, verified in found.items()} == {"image": 0}
    assert rootfs_sizes(found) is None
    assert [event.text[:23] for event in said if isinstance(event, Warned)] == ["sysupgrade: not checked"]
    with pytest.raises(UnsafeImageError, match="no format that is known here"):
        check_flashable(stating("uimage-squashfs"), [image], tmp_path, "17.01.7", log)


def test_a_build_takes_what_names_no_device_and_says_so(tmp_path: Path) -> None:
    """make has just made it for this board."""
    (tmp_path / "x-combined-efi.img").write_bytes(SAMPLES["gpt"].data)
    size = len(SAMPLES["gpt"].data)
    image = ImageFile(
        type="combined-efi", file="x-combined-efi.img", size=size, sha256="0" * 64, required=True
    )
    said: list[Event] = []
    found = check_flashable(images.board("x86-64"), [image], tmp_path, "23.05.5", Log([said.append]))
    assert [verified.outcome for verified in found.values()] == ["cannot be told"]
    assert [event.text for event in said if isinstance(event, Note)] == [
        "combined-efi: for x86-64 because make says so; the images themselves do not"
    ]


SUPPORT_NEW = "SupportList:\r\n{product_name:Archer C7,product_ver:5.0.0,special_id:00000000}\r\n"
SUPPORT_OLD = "SupportList:\r\nCPE210(TP-LINK|UN|N300-2):1.1\r\nCPE220(TP-LINK|EU|N300-2|1.0):1.1\r\n"


@pytest.mark.parametrize(
    ("support", "name", "ok", "refuses"),
    [
        (SUPPORT_NEW, "tplink_archer-c7-v5", True, False),
        (SUPPORT_NEW, "tplink_archer-c7-v4", False, False),
        (SUPPORT_NEW, "tplink_archer-c60-v1", False, True),
        (SUPPORT_OLD, "tplink_cpe210-v1", True, False),
        (SUPPORT_OLD, "cpe210-220", False, False),
        (SUPPORT_OLD, "tplink_cpe510-v1", False, True),
        ("SupportList:\r\n{product_name:Archer C2600,product_ver:1.0.0}\r\n", "tplink_c2600", True, False),
        ("SupportList:\r\nRE200(TP-LINK|UN|AC750-D)\r\n", "tplink_re200-v1", False, False),
        ("SupportList:\r\n????\r\n", "tplink_re200-v1", False, True),
    ],
)
def test_safeloaders_list_names_devices_by_model_and_version(
    support: str, name: str, ok: bool, refuses: bool
) -> None:
    image = make.safeloader(make.kernel(), make.squashfs(), support=support)
    subject = naming(image, images.board(WR740), name)
    found = [check for check in name_checks(subject) if check.what == "support list"]
    assert [(check.ok, check.refuses) for check in found] == [(ok, refuses)]


@pytest.mark.parametrize(
    ("image", "name", "ok"),
    [
        (make.dni(images.netgear(), b"WNDR3700"), "netgear_wndr3700", True),
        (vendor.model(images.netgear()), "netgear,wnr854t", True),
        (vendor.model(images.netgear()), "netgear,wnr854", False),
        (vendor.buffalo(images.netgear()), "buffalo_whr-g301n", True),
        (vendor.openmesh({"kernel": make.kernel("")}), "openmesh_om2p", True),
        (vendor.openmesh({"kernel": make.kernel("")}), "openmesh_om5p", False),
        (make.uimage(make.kernel(""), name=b"ZBT-WG3526 1.0"), "zbtlink,zbt-wg3526", True),
    ],
)
def test_a_vendors_header_may_name_the_device(image: bytes, name: str, ok: bool) -> None:
    """Where it names another, that may be the vendor's name of a series: it is no reason to refuse."""
    told = [check for check in name_checks(naming(image, images.board(WR740), name)) if check.proves]
    assert [(check.ok, check.refuses) for check in told if "command line" not in check.what] == [(ok, False)]


@pytest.mark.parametrize(("hwid", "refused"), [(0x07400004, []), (0x07400005, ["hardware id"])])
def test_tplinks_second_header_has_a_hardware_id_too(tmp_path: Path, hwid: int, refused: list[str]) -> None:
    image = vendor.tplink_v2(make.kernel(), make.squashfs(), hwid=hwid)
    known = images.board(WR740)
    factory = known.images["factory"].model_copy(update={"format": "tplink-v2"})
    board = known.model_copy(update={"images": {"factory": factory}})
    lines = images.refusing(checks_of(tmp_path, image, board, "x-factory.bin"))
    assert [line.partition(":")[0] for line in lines if line.startswith("hardware id")] == refused


@pytest.mark.parametrize(
    ("boardname", "line", "outcome"),
    [
        ("DOMINO", "board=DOMINO", "passed"),
        ("DOMINO", "board=GL-AR150", "refused"),
        (None, "board=DOMINO", "cannot be told"),
        (None, "board=GL-AR150", "passed"),
    ],
)
def test_the_boards_file_may_state_what_the_kernels_command_line_calls_it(
    tmp_path: Path, boardname: str | None, line: str, outcome: str
) -> None:
    known = images.board("glinet-gl-ar150")
    old = known.profile[-1].model_copy(update={"boardname": boardname})
    board = known.model_copy(update={"profile": (old,)})
    image = make.nor_sysupgrade(make.uimage(make.kernel(line)), make.squashfs(target="ar71xx/generic"))
    assert outcome_of(checks_of(tmp_path, image, board)) == outcome


TAIL = b"00AP94-AR7161-RT-080619-00"


@pytest.mark.parametrize(
    ("tail", "refused"),
    [
        (TAIL, []),
        (b"", ["text at the end of the image"]),
        (b"01AP94-AR7161-RT-080619-00", ["padding", "text at the end of the image"]),
        (TAIL + b"x", ["padding", "text at the end of the image"]),
    ],
)
def test_a_text_at_the_end_is_what_the_boards_file_says(
    tmp_path: Path, tail: bytes, refused: list[str]
) -> None:
    """As D-Link's boot loaders want it behind DIR-825's factory image."""
    known = images.board("glinet-gl-ar150")
    factory = known.images["sysupgrade"].model_copy(update={"tail": TAIL.decode()})
    board = known.model_copy(update={"images": {"factory": factory}})
    lines = images.refusing(checks_of(tmp_path, images.glinet() + tail, board, "x-factory.bin"))
    assert [line.partition(":")[0] for line in lines] == refused
    without = known.model_copy(update={"images": {"factory": known.images["sysupgrade"]}})
    lines = images.refusing(checks_of(tmp_path, images.glinet() + tail, without, "x-factory.bin"))
    assert bool(lines) == bool(tail)


@pytest.mark.parametrize(
    ("form", "image"),
    [
        ("vendor-uimage-squashfs", images.netgear()),
        ("kernel-squashfs", vendor_images.elf_with_loader()),
        ("tplink-v2", vendor.tplink_v2(make.kernel(""), make.squashfs())),
    ],
)
def test_every_image_for_nor_flash_ends_with_its_marker(tmp_path: Path, form: str, image: bytes) -> None:
    """Without it the settings of before are taken for new ones, or none can be kept."""
    board = stating(form)
    whole = images.refusing(checks_of(tmp_path, make.pad_to(image[:-4], 0x10000) + make.MARKER, board))
    assert not any("end" in line.partition(":")[0] for line in whole), whole
    cut = images.refusing(checks_of(tmp_path, image[:-4], board))
    assert any(line.startswith("end marker") for line in cut), cut


def look_while(folder: Path, *packings: bytes) -> tuple[dict[bytes, SeenRoot], int]:
    """What is seen of a root.squashfs that is written over and over, once for each of these contents, and how
    often one was read."""
    reads, first = 0, RootFs.__init__
    read = threading.Event()

    def count(root: RootFs, view: View) -> None:
        nonlocal reads
        first(root, view)
        reads += 1
        read.set()

    ended = threading.Event()
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(RootFs, "__init__", count)
        looking = pool.submit(look_ahead, folder, "", ended)
        for content in packings:
            read.clear()
            (folder / "root.squashfs").write_bytes(content)
            read.wait(0.5 if content[:4] != b"hsqs" else 20)
        ended.set()
        return looking.result(timeout=30), reads


def test_what_make_packs_is_read_while_it_goes_on_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kernel"
    folder.mkdir()
    root = make.squashfs(target="ar71xx/generic")
    padded = root + bytes(4096) + b"\xde\xad\xc0\xde"
    seen, reads = look_while(folder, bytes(96) + root[96:], root, padded)
    assert reads == 2  # what mksquashfs has not ended is not read, and what is padded is the same
    (found,) = seen.values()
    assert found.facts is not None
    image = tmp_path / "x-sysupgrade.bin"
    image.write_bytes(make.tplink_v1(make.kernel(), root))
    alone = verify_all({image: "sysupgrade"}, images.board(WR740))
    assert alone[0].root == found.facts
    monkeypatch.setattr(RootFs, "unpacked", lambda *_: pytest.fail("read once more"))
    assert verify_all({image: "sysupgrade"}, images.board(WR740), ahead=Ahead(seen)) == alone


def test_another_root_than_the_one_that_was_seen_is_read(tmp_path: Path) -> None:
    seen, _ = look_while(tmp_path, make.squashfs(target="ar71xx/generic", release="19.07.1"))
    image = tmp_path / "x-sysupgrade.bin"
    image.write_bytes(
        make.tplink_v1(make.kernel(), make.squashfs(target="ar71xx/generic", release="17.01.7"))
    )
    (found,) = verify_all({image: "sysupgrade"}, images.board(WR740), ahead=Ahead(seen))
    assert len(seen) == 1
    assert found.root is not None
    assert found.root.release["RELEASE"] != "19.07.1"


def test_a_damaged_root_is_left_to_who_can_say_so(tmp_path: Path) -> None:
    root = make.squashfs(target="ar71xx/generic")
    damaged = root[:200] + bytes(400) + root[600:]
    seen, _ = look_while(tmp_path, damaged)
    assert seen == {}
    image = tmp_path / "x-sysupgrade.bin"
    image.write_bytes(make.tplink_v1(make.kernel(), damaged))
    (found,) = verify_all({image: "sysupgrade"}, images.board(WR740), ahead=Ahead(seen))
    assert any(check.what == "root filesystem" and check.refuses for check in found.checks)


def test_nothing_is_looked_at_where_make_packs_nothing(tmp_path: Path) -> None:
    (tmp_path / "root.squashfs").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "root.squashfs+pkg")
    (tmp_path / "root.ext4").write_bytes(make.squashfs())
    ended = threading.Event()
    threading.Timer(0.2, ended.set).start()
    assert look_ahead(tmp_path, "", ended) == {}
    assert look_ahead(tmp_path, "nowhere", ended) == {}
