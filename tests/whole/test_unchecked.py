"""Images of which nobody can say what they are: told before anything is built, and marked where they are
wanted all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.ask import look_at_tree
from imagebuilder.build import build_image
from imagebuilder.config.board import ImageFormat
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import UserError
from imagebuilder.log import Event, Log, Warned
from imagebuilder.seen import known_facts, looks_like
from imagebuilder.tree.device_facts import known_profile
from tests.conftest import small_images
from tests.support import firmware_writers as writers
from tests.support.planning import plan_image

BOARD = "mine"
PROFILE = "tplink_tl-wr740n-v4"
RECIPES = """
define Device/tplink_tl-wr740n-v4
  IMAGES := sysupgrade.bin factory.bin
  IMAGE/sysupgrade.bin := tplink-v1-image sysupgrade | append-metadata
  IMAGE/factory.bin := tplink-v1-image factory
endef
TARGET_DEVICES += tplink_tl-wr740n-v4
"""

Stating = Callable[[ImageFormat], Request]


@pytest.fixture
def stating(project: Path, small_tree: Path, tmp_path: Path) -> Stating:
    """A request for a board whose file states a format of its factory image."""

    def make(image_format: ImageFormat) -> Request:
        text = (project / "boards/tplink-tl-wr740n-v4.toml").read_text()
        head, images, rest = text.partition("[images]\n")
        ours = 'sysupgrade = { format = "tplink-v1", required = true }\n'
        ours += f'factory = {{ format = "{image_format}", required = true }}\n'
        behind = rest[rest.index("[emulation]") :] if "[emulation]" in rest else ""
        (project / f"boards/{BOARD}.toml").write_text(f"{head}{images}{ours}\n{behind}")
        (asked,) = requests(
            project,
            "router",
            board=BOARD,
            imagebuilder=str(small_tree),
            output=tmp_path / "out",
            cache=tmp_path / "cache",
        )
        return asked

    return make


def heard(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Warned))


def test_an_unknown_image_is_told_before_anything_is_built(stating: Stating, small_tree: Path) -> None:
    (small_tree / "factory.bin").write_bytes(b"something of a vendor's" + writers.noise(5000))
    asked = stating("unknown")
    events: list[Event] = []
    assert plan_image(asked, Log([events.append])).unchecked == ("factory",)
    words = "nobody says what the factory image of mine is (boards/mine.toml: factory.format)"
    assert words in heard(events)
    with pytest.raises(UserError) as error:
        build_image(asked, Log())
    assert words in error.value.message
    assert "--accept-unchecked" in str(error.value.hint)
    assert not list(asked.output.rglob("*.log")), "make has run"


def test_an_unknown_image_that_is_wanted_is_marked(stating: Stating, small_tree: Path) -> None:
    (small_tree / "factory.bin").write_bytes(b"something of a vendor's" + writers.noise(5000))
    place, result = build_image(replace(stating("unknown"), accept_unchecked=True), Log())
    (factory,) = (image.file for image in result.images if image.type == "factory")
    assert result.unchecked == (factory,)
    assert (place / factory).is_file()
    assert "factory" in "\n".join(result.warnings)
    # what can be read is no proof either: nobody has said that it has to be this
    (small_tree / "factory.bin").write_bytes(small_images()["factory.bin"][:-1])
    _, result = build_image(replace(stating("unknown"), accept_unchecked=True), Log())
    assert result.unchecked == (factory,)


def test_what_the_board_leaves_open_the_tree_may_tell(stating: Stating, small_tree: Path) -> None:
    folder = small_tree / "target/linux/ath79/image"
    folder.mkdir(parents=True)
    (folder / "Makefile").write_text(RECIPES)
    kernel = small_tree / f"build_dir/target-x/linux-ath79_tiny/{PROFILE}-kernel.bin"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_bytes(b"kernel" * 200_000)
    asked = stating("unknown")
    assert plan_image(asked, Log()).unchecked == ()
    assert build_image(asked, Log())[1].unchecked == ()
    (small_tree / "factory.bin").write_bytes(small_images()["factory.bin"][:-1])
    with pytest.raises(UserError, match="must not be flashed on mine"):
        build_image(asked, Log())


def test_a_vendors_image_is_handed_over_and_marked(stating: Stating, small_tree: Path) -> None:
    (small_tree / "factory.bin").write_bytes(b"something of a vendor's" + writers.noise(5000))
    asked = stating("vendor")
    assert plan_image(asked, Log()).unchecked == ()
    _, result = build_image(asked, Log())
    assert result.unchecked == tuple(image.file for image in result.images if image.type == "factory")


def test_the_summary_says_what_was_not_checked(stating: Stating, small_tree: Path, tmp_path: Path) -> None:
    (small_tree / "factory.bin").write_bytes(b"something of a vendor's" + writers.noise(5000))
    asked = stating("unknown")

    def build(*more: str) -> subprocess.CompletedProcess[str]:
        argv = ["build", "router", "--board", BOARD, "--imagebuilder", str(small_tree), "--cache"]
        argv += [str(asked.cache), "--output", str(tmp_path / "out"), "--project", str(asked.library.root)]
        command = [sys.executable, "-m", "imagebuilder", *argv, *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    refused = build()
    assert refused.returncode == 2
    assert "factory.format" in refused.stderr
    built = build("--accept-unchecked")
    assert built.returncode == 0, built.stderr
    assert "UNCHECKED: nothing but the size of openwrt-23.05.5-ath79-tiny-" in built.stdout
    (result,) = (tmp_path / "out").rglob("result.json")
    assert len(json.loads(result.read_text())["unchecked"]) == 1


def test_an_image_in_the_tree_tells_what_it_is(small_tree: Path, tmp_path: Path) -> None:
    tree = look_at_tree(str(small_tree), tmp_path / "cache", Log())
    folder = small_tree / "bin/targets/ath79/tiny"
    folder.mkdir(parents=True)
    start = f"openwrt-23.05.5-ath79-tiny-{PROFILE}-squashfs"
    (folder / f"{start}-sysupgrade.bin").write_bytes(small_images()["sysupgrade.bin"])
    (folder / f"{start}-factory.bin").write_bytes(small_images()["factory.bin"][:-1])
    (folder / f"openwrt-{PROFILE}-2-squashfs-other.bin").write_bytes(b"x")
    facts = known_facts(tree, known_profile(tree, PROFILE))
    assert {name: image.format for name, image in facts.images.items()} == {
        "sysupgrade": "tplink-v1",
        "factory": "unknown",
    }
    assert known_facts(tree, "tplink_tl-wr741nd-v4").images == {}


@pytest.mark.parametrize(
    ("target", "image", "expected"),
    [
        ("ath79/tiny", "sysupgrade.bin", "tplink-v1"),
        ("ath79/tiny", "nothing", "unknown"),
        ("ath79/tiny", "noise", "unknown"),
        ("ath79/tiny", "squashfs", "filesystem"),
        ("ath79/tiny", "uimage", "uimage"),
        ("ath79/tiny", "uimage and squashfs", "uimage-squashfs"),
        ("ath79/tiny", "squashfs and uimage", "squashfs-kernel"),
        ("ath79/tiny", "netgear", "netgear-dni"),
        ("sunxi/cortexa7", "card", "sd-card"),
        ("x86/64", "card", "bios-disk"),
    ],
)
def test_what_a_file_looks_like(tmp_path: Path, target: str, image: str, expected: ImageFormat) -> None:
    kernel = writers.uimage(writers.kernel("console=ttyS0"))
    made = {
        **small_images(),
        "nothing": b"",
        "noise": writers.noise(4000),
        "squashfs": writers.squashfs(release="23.05.5", target="ath79/tiny"),
        "uimage": kernel,
        "squashfs and uimage": writers.squashfs(release="23.05.5", target="ath79/tiny") + bytes(99) + kernel,
        "netgear": writers.dni(kernel),
        "card": bytes(writers.mbr([(0x0C, 2048, 8192), (0x83, 12288, 2048)], 14336 * 512)),
        "uimage and squashfs": kernel + writers.squashfs(release="23.05.5", target="ath79/tiny"),
    }
    file = tmp_path / "image"
    file.write_bytes(made[image])
    assert looks_like(file, target) == expected
