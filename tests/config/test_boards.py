"""Board files: all of them load, and say what OpenWrt's sources say (boards.json was read out of those)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.ask import look_at_tree
from imagebuilder.build import build_image
from imagebuilder.config.board import Board, Image, Profile
from imagebuilder.config.library import Library
from imagebuilder.config.request import requests
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.log import Log
from imagebuilder.tree.collect import find_images, made_files, named_image
from imagebuilder.tree.device_facts import covered

PROJECT = Path(__file__).resolve().parents[2]
REFERENCE = PROJECT / "tests/data/boards.json"
LIBRARY = Library(PROJECT)

# the names of our boards in the reference
BOARDS = {
    "tplink-tl-wr740n-v4": "tplink_tl-wr740n-v4",
    "tplink-tl-wr740n-v5": "tplink_tl-wr740n-v5",
    "linksys-wrt1200ac": "linksys_wrt1200ac",
    "raspberrypi-1": "rpi",
    "raspberrypi-2": "rpi-2",
    "raspberrypi-3b": "rpi-3",
    "raspberrypi-4b": "rpi-4",
    "beaglebone-black": "ti_am335x-bone-black",
    "xiaomi-mi-router-3g": "xiaomi_mi-router-3g",
    "glinet-gl-ar150": "glinet_gl-ar150",
    "x86-64": "x86-64-generic",
    "qemu-malta-be": "malta-be",
    "qemu-armsr-armv7": "armsr-armv7",
    "qemu-armsr-armv8": "armsr-armv8",
}
# one release of each series; of 23.05 and 24.10 the last that takes profiles that are not built by default
RELEASES = {
    "17.01": "17.01.7",
    "18.06": "18.06.9",
    "19.07": "19.07.10",
    "21.02": "21.02.7",
    "22.03": "22.03.7",
    "23.05": "23.05.5",
    "24.10": "24.10.1",
    "25.12": "25.12.5",
    "snapshot": "snapshot",
}
REFUSED = "not built by default, which ImageBuilders refuse by then"
NO_ROOTFS = "makes no root file system that packages could go into"
LEFT_OUT = {
    ("tplink-tl-wr740n-v4", "25.12"): REFUSED,
    ("tplink-tl-wr740n-v4", "snapshot"): REFUSED,
    ("tplink-tl-wr740n-v5", "25.12"): REFUSED,
    ("tplink-tl-wr740n-v5", "snapshot"): REFUSED,
    ("beaglebone-black", "17.01"): "no profile and no SD image",
    ("beaglebone-black", "23.05"): "the target is source-only: there is no ImageBuilder",
    ("qemu-malta-be", "17.01"): NO_ROOTFS,
    ("qemu-malta-be", "18.06"): NO_ROOTFS,
    ("qemu-malta-be", "19.07"): NO_ROOTFS,
}
Facts = Mapping[str, Any]


@pytest.mark.parametrize("name", LIBRARY.board_names())
def test_a_shipped_board_loads_and_can_be_tried(name: str) -> None:
    board = LIBRARY.board(name)
    assert board.ram is not None
    assert board.flash is not None
    for profile in board.profile:
        known = board.for_profile(profile)
        assert known.images
        assert any(image.required for image in known.images.values())
        assert known.emulation.user is not None
        if known.emulation.twin is not None:
            assert LIBRARY.board(known.emulation.twin).emulation.system is not None
    assert "FILL IN" not in LIBRARY.board_path(name).read_text()
    assert "# " in LIBRARY.board_path(name).read_text().partition("name ")[0], "where are the facts from?"


def test_the_boards_of_the_issue_are_there() -> None:
    assert {*BOARDS, "qemu-x86-64"} <= set(LIBRARY.board_names())


def test_what_is_not_supported_says_why() -> None:
    names = {device.id for device in LIBRARY.unsupported()}
    assert {"gumstix-overo", "openmoko-neo1973", "openmoko-neo-freerunner", "telit-modules"} <= names
    assert "unsupported" not in LIBRARY.board_names()
    with pytest.raises(UserError, match=r"'openmoko-neo1973' .* is not supported: OpenWrt's target s3c24xx"):
        LIBRARY.board("openmoko-neo1973")


# --- against the reference


@cache
def reference() -> Facts:
    """By board and series: what OpenWrt's sources say of each profile."""
    return json.loads(REFERENCE.read_text())["boards"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", BOARDS)
def test_a_board_says_what_the_sources_say(name: str, release: str) -> None:
    board = LIBRARY.board(name)
    entries = reference()[BOARDS[name]][release]
    # an older span that goes on covers main, too; the newest is the one that counts
    profiles = newest_by_target(board, RELEASES[release])
    if (name, release) in LEFT_OUT:
        assert not profiles, LEFT_OUT[name, release]
        return
    by_target = {f"{entry['target']}/{entry['subtarget']}": entry for entry in entries}
    assert set(profiles) == set(by_target)
    for target, profile in profiles.items():
        entry = by_target[target]
        assert (profile.name, profile.arch) == (entry["profile"], entry["arch_packages"])
        assert list(profile.supported_devices) == entry["supported_devices"]
        assert profile.compat_version == entry.get("compat_version", "1.0")
        assert bool(profile.note) is not entry["built_by_default"]
        known = board.for_profile(profile)
        compare_sizes(known, entry)
        compare_images(known, profile, entry)


def newest_by_target(board: Board, release: str) -> dict[str, Profile]:
    found: dict[str, Profile] = {}
    for profile in board.profiles_for(release):
        found.setdefault(profile.target, profile)
    return found


def compare_sizes(board: Board, entry: Facts) -> None:
    layout, limits = board.layout, [image.limit for image in board.images.values()]
    if "image_size" in entry:
        assert entry["image_size"] in (layout.firmware, *limits)
    assert layout.kernel == entry.get("kernel_size")
    assert board.ram == entry.get("ram_bytes", board.ram)
    if "tplink" in entry:
        header = entry["tplink"]
        assert board.tplink is not None
        assert board.tplink.hwid == int(header["hwid"], 16)
        assert board.tplink.hwrev == int(header["hwrev"], 16)
        assert board.tplink.flash_layout == header["flash_layout"]
        assert layout.kernel_and_rootfs == header["max_kernel_plus_rootfs_bytes"]
    if "partitions" in entry:
        stated = [(label.lower(), offset, size) for label, offset, size in entry["partitions"]]
        ours = [(part.name.lower(), part.offset, part.size) for part in layout.partitions]
        assert ours == stated
        sizes = {name: size for name, _, size in stated}
        if "firmware" in sizes:
            assert layout.firmware == sizes["firmware"]
        assert isinstance(board.flash, int)
        assert 0 <= board.flash - entry["flash_size_from_partitions"] < 1 << 20
    elif "tplink" not in entry:
        assert board.flash == "removable"


def compare_images(board: Board, profile: Profile, entry: Facts) -> None:
    """Every image of the board is a file that the release makes, and the other way round."""
    listed = entry["image_file_names"]
    shapes = list(listed.values()) if isinstance(listed, dict) else listed
    names = [
        shape.replace("(.gz)", "").format(dist="openwrt", version="x", fs=filesystem)
        for shape in shapes
        for filesystem in entry["filesystems"] or ["squashfs"]
    ]
    matched = {}
    for image_type, image in board.images.items():
        found = named_image(names, profile.name, image_type, image)
        made_beside_images = image.format in ("kernel", "uimage") and not image.required
        assert found is not None or made_beside_images or f"generic-{image_type}" == image.file, image_type
        if found is not None:
            matched[image_type] = found
    assert len(set(matched.values())) == len(matched), "two types are one file"
    if isinstance(listed, dict):
        types = {name.partition(".")[0] for name in listed}
        assert types == set(matched)


def test_the_reference_has_no_board_that_we_forgot_by_mistake() -> None:
    left = set(reference()) - set(BOARDS.values())
    assert left == {"tplink_tl-wr740n-v1", "tplink_tl-wr740n-v3", "tplink_tl-wr740n-v6"}


# --- names of images

FORKS = "PandoraBox-ralink-mt7621-"
REVISION = "2019-02-01-git-0231ad4b5"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([f"{FORKS}k2p-{REVISION}-squashfs-sysupgrade.bin"], 0),
        ([f"{FORKS}k2p-{REVISION}-squashfs-sysupgrade.bin", f"{FORKS}k2p-squashfs-sysupgrade.bin"], 1),
        ([f"{FORKS}k2p-{REVISION}-ext4-sysupgrade.bin.gz"], 0),
        ([f"{FORKS}k2p-a9-{REVISION}-squashfs-sysupgrade.bin"], None),  # another profile's
        ([f"{FORKS}k2p-b-{REVISION}-squashfs-sysupgrade.bin"], 0),
        ([f"{FORKS}k2p-{REVISION}-squashfs-factory.bin"], None),
        ([f"{FORKS}hc5962-{REVISION}-squashfs-sysupgrade.bin"], None),
        ([f"{FORKS}k2p-{REVISION}-sysupgrade.bin"], None),
    ],
)
def test_a_fork_may_put_more_into_the_names_of_images(names: list[str], found: int | None) -> None:
    image = Image(format="uimage-squashfs")
    assert named_image(names, "k2p", "sysupgrade", image, ("k2p-a9",)) == (
        None if found is None else names[found]
    )


# --- the model


def test_a_profile_may_have_images_and_limits_of_its_own(tmp_path: Path) -> None:
    board = LIBRARY.board("raspberrypi-3b")
    old, new = board.profiles_for("17.01.7")[0], board.profiles_for("24.10.4")[0]
    assert list(board.for_profile(old).images) == ["sdcard"]
    assert board.for_profile(new) == board
    user = board.for_profile(old).emulation.user
    assert user is not None
    assert user.binary == "arm"
    (tmp_path / "lede-17.01.7-brcm2708-bcm2710-rpi-3-ext4-sdcard.img.gz").write_text("x")
    (image,) = find_images(made_files(tmp_path), board.for_profile(old), old.name)
    assert (image.type, image.required) == ("sdcard", True)
    assert find_images(made_files(tmp_path), board, new.name) == ()


def test_files_that_are_not_called_after_their_profile(tmp_path: Path) -> None:
    board = LIBRARY.board("x86-64")
    profile = board.profiles_for("19.07.10")[0]
    for name in ("combined-squashfs.img", "combined-ext4.img.gz", "rootfs-squashfs.img", "vmlinuz"):
        (tmp_path / f"openwrt-19.07.10-mine-x86-64-{name}").write_text("x")
    found = {
        image.type: image.file
        for image in find_images(made_files(tmp_path), board.for_profile(profile), "Generic")
    }
    assert found == {
        "combined": "openwrt-19.07.10-mine-x86-64-combined-squashfs.img",
        "rootfs": "openwrt-19.07.10-mine-x86-64-rootfs-squashfs.img",
        "vmlinuz": "openwrt-19.07.10-mine-x86-64-vmlinuz",
    }


BOARD = (
    'name = "X"\nsoc = "y"\nram = "unknown"\nflash = "4M"\n'
    '[[profile]]\nreleases = "17.01"\ntarget = "a/b"\nname = "x"\narch = "z"\n'
    '[images]\nsysupgrade = { format = "unknown" }\n'
)


@pytest.mark.parametrize(
    ("was", "wrong", "place", "words"),
    [
        ('ram = "unknown"', 'ram = "FILL IN"', (3, "ram"), "expected a size"),
        ('flash = "4M"', 'flash = "big"', (4, "flash"), "expected a size"),
        ('flash = "4M"', "flash = true", (4, "flash"), "expected a size"),
        (
            'arch = "z"',
            'arch = "z"\ncompat_version = "2"',
            (10, "profile[0].compat_version"),
            "no valid name",
        ),
        (
            'arch = "z"',
            'arch = "z"\nsuported_devices = []',
            (10, "profile[0].suported_devices"),
            "unknown key",
        ),
        ('"unknown" }', '"unknown", file = "a{b}" }', (11, "images.sysupgrade.file"), "no valid name"),
        (
            "[images]",
            '[emulation]\ntwin = "qemu-x"\n[images]',
            (11, "emulation.twin"),
            "unknown board 'qemu-x'",
        ),
        (
            "[images]",
            "[tplink]\nhwid = -1\nflash_layout = '4M'\n[images]",
            (11, "tplink.hwid"),
            "greater than or equal to 0",
        ),
        (
            "[images]",
            '[layout]\nfirmware = "5M"\n[images]',
            (11, "layout.firmware"),
            "ends at 5242880 bytes, but the flash has 4194304",
        ),
        (
            "[images]",
            '[[layout.partitions]]\nname = "art"\noffset = "4M"\nsize = 1\n[images]',
            (10, "layout.partitions[0]"),
            "ends at 4194305 bytes, but the flash has 4194304",
        ),
    ],
)
def test_faults_of_board_files(
    project: Path, was: str, wrong: str, place: tuple[int, str], words: str
) -> None:
    library, path = Library(project), project / "boards/odd.toml"
    path.write_text(BOARD)
    assert library.board("odd").ram is None
    path.write_text(BOARD.replace(was, wrong))
    with pytest.raises(FaultsError) as caught:
        library.board("odd")
    (fault, *_) = caught.value.faults
    assert (fault.line, fault.key) == place
    assert words in fault.message


def test_all_boards_with_faults_are_named_at_once(library: Library, project: Path) -> None:
    for name in ("odd", "even"):
        (project / f"boards/{name}.toml").write_text("x = 1\n")
    with pytest.raises(FaultsError) as caught:
        library.boards()
    assert {Path(fault.file).name for fault in caught.value.faults} == {"odd.toml", "even.toml"}


# --- on the genuine tree


@pytest.mark.genuine
def test_every_board_that_the_genuine_tree_covers_builds_there(genuine_tree: Path, tmp_path: Path) -> None:
    tree = look_at_tree(str(genuine_tree), tmp_path / "cache", Log())
    boards = [board for board in LIBRARY.boards() if covered(board, tree)]
    assert {board.id for board in boards} >= {
        "tplink-tl-wr740n-v4",
        "tplink-tl-wr740n-v5",
        "glinet-gl-ar150",
    }
    for board in boards:
        (asked,) = requests(
            PROJECT,
            "router",
            board=board.id,
            imagebuilder=str(genuine_tree),
            output=tmp_path / "out",
            cache=tmp_path / "cache",
        )
        place, result = build_image(asked, Log())
        required = {name for name, image in board.images.items() if image.required}
        assert {image.type for image in result.images} >= required
        for image in result.images:
            assert (place / image.file).stat().st_size == image.size <= (board.layout.firmware or 0)
