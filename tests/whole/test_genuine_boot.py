"""On a genuine tree for x86/64, of any release, given with --imagebuilder: what it builds boots in QEMU.

The tree has to have the packages that it installs by default, in its own packages/ or in feeds that can be
reached.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.build import build_image
from imagebuilder.config.library import Library
from imagebuilder.config.request import requests
from imagebuilder.host.uefi import has_uefi
from imagebuilder.log import Log
from imagebuilder.trial.machines import Way, booted_image
from imagebuilder.trial.media import image_to_boot

pytestmark = [pytest.mark.genuine, pytest.mark.boot]
CONFIG = """\
extends = "base"
boards = ["x86-64"]
[image]
rootfs_partsize = 48
"""
SECONDS = 300.0


@pytest.fixture
def images(
    genuine_tree: Path, project: Path, add_config: Callable[[str, str], str], tmp_path: Path
) -> dict[str, Path]:
    """What the tree builds, by type."""
    if "CONFIG_TARGET_x86_64=y" not in (genuine_tree / ".config").read_text("utf-8", "replace"):
        pytest.skip("the tree is not for x86/64")
    add_config("plain", CONFIG)
    (asked,) = requests(
        project, "plain", imagebuilder=str(genuine_tree), output=tmp_path / "out", cache=tmp_path / "cache"
    )
    place, result = build_image(asked, Log())
    return {image.type: place / image.file for image in result.images}


def test_what_a_genuine_x86_tree_builds_boots_every_way(images: dict[str, Path]) -> None:
    system = Library(Path()).board("x86-64").emulation.system
    disks = {kind: path for kind, path in images.items() if kind.startswith("combined")}
    assert image_to_boot(sorted(images.values())) in disks.values()
    ways: list[tuple[Path, Way]] = [(path, "kernel") for path in images.values() if path in disks.values()]
    ways += [(path, "BIOS") for path in disks.values()]
    if "combined-efi" in disks and has_uefi():
        ways.append((disks["combined-efi"], "UEFI"))
    if "vmlinuz" in images:
        ways.append((images["rootfs"], "kernel"))
    for path, way in ways:
        with booted_image(path, Log(), system=system, way=way, seconds=SECONDS) as guest:
            where = (path.name, way)
            assert "DISTRIB_TARGET='x86/64'" in guest.check("cat /etc/openwrt_release"), where
            line = guest.check("cat /proc/cmdline")
            assert ("BOOT_IMAGE=" in line) == (way != "kernel"), where
            assert guest.run("[ -d /sys/firmware/efi ]").code == (0 if way == "UEFI" else 1), where
            mounts = guest.check("cat /proc/mounts")
            assert " / overlay " in mounts or " / ext4 " in mounts, where
            guest.check("echo kept > /root/kept; cat /root/kept")
            guest.poweroff()
