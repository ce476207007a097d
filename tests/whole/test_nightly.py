"""A week of nights: built, published, and what the site says of it then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuilder.build import build_image
from imagebuilder.config.request import requests
from imagebuilder.host.fs import sha256_of, user_cache
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.site.facts import History
from tests.conftest import PROJECT, small_images
from tests.support.site_check import ATOM, site_faults

BOARD = "tplink-tl-wr740n-v4"
KIT_BOARD = "qemu-x86-64"
FIRST = 1_795_053_600  # 19 November 2026, 02:00 UTC
DAY = 24 * 3600


@dataclass(frozen=True)
class Site:
    """A project's results, and the site that is made of them by the command line, a day later each time."""

    project: Path
    top: Path

    @property
    def place(self) -> Path:
        return self.top / "www"

    @property
    def out(self) -> Path:
        return self.top / "out"

    def publish(self, night: int, *more: str) -> subprocess.CompletedProcess[str]:
        words = ["publish", str(self.out), str(self.place), "--project", str(self.project), *more]
        return subprocess.run(
            [sys.executable, "-P", "-m", "imagebuilder", *words],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(PROJECT),
                "HOME": str(self.top),
                "SOURCE_DATE_EPOCH": str(FIRST + night * DAY),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def history(self, board: str, config: str = "mine") -> History:
        path = self.place / f"boards/{board}/{config}/history.json"
        return History.model_validate_json(path.read_text())

    def titles(self) -> list[str]:
        """Of the feed, the newest first, without the board and config that they begin with."""
        found = [
            entry.findtext(f"{ATOM}title") for entry in ET.parse(self.place / "feed.xml").iter(f"{ATOM}entry")
        ]
        return [str(title).partition(": ")[2] for title in found]


def changed(history: History) -> list[dict[str, tuple[str | None, str | None]]]:
    """By build, what changed of its packages."""
    nights = [build.night for build in history.builds]
    return [
        {each.name: (each.before, each.after) for each in night.packages} if night else {} for night in nights
    ]


@pytest.fixture
def week(project: Path, tmp_path: Path) -> Site:
    (project / "firmware.toml").write_text('[publish]\ntitle = "Our routers"\nkeep = 3\n')
    return Site(project, tmp_path)


def test_a_week_of_nights_on_a_small_tree(
    week: Site, small_tree: Path, add_config: Callable[[str, str], str]
) -> None:
    head = f'extends = "base"\nboards = ["{BOARD}"]\n'
    package = (small_tree / "packages").glob("busybox_*.ipk")

    def build(text: str, baud: int) -> Path:
        for name, data in small_images(baud).items():  # the tree's make packs no packages into them
            (small_tree / name).write_bytes(data)
        add_config("mine", head + text)
        (asked,) = requests(
            week.project, "mine", imagebuilder=str(small_tree), output=week.out, cache=week.top / "cache"
        )
        return build_image(asked, Log())[0]

    build("", 115200)
    assert week.publish(0).returncode == 0
    build("", 115200)
    assert "0 new, 1 unchanged" in week.publish(1).stdout
    for old in package:
        old.unlink()
    write_ipk(small_tree / "packages", Package("busybox", "1.37"), EMPTY, epoch=1_700_000_000)
    build("", 9600)
    assert week.publish(2).returncode == 0
    more = '[packages]\nadd = ["tcpdump-mini"]\n'
    build(more, 57600)
    assert week.publish(3).returncode == 0
    build('[packages]\nadd = ["tcpdump-mini"]\nremove = ["rssileds"]\n', 38400)
    before = week.publish(4)
    assert before.returncode == 0, before.stderr
    secret = '[[overlay]]\nname = "wifi-client"\nvariables = { ssid = "x", key = "a secret key" }\n'
    build(more + secret, 19200)
    refused = week.publish(5)
    assert refused.returncode == 2
    assert f"mine for {BOARD} hold secrets" in refused.stderr
    place = build(more, 19200)
    assert week.publish(6).returncode == 0

    assert site_faults(week.place) == []
    history = week.history(BOARD)
    assert [(build.published - FIRST) // DAY for build in history.builds] == [0, 2, 3, 4, 6]
    assert changed(history) == [
        {},
        {"busybox": ("1.36", "1.37")},
        {"tcpdump-mini": (None, "4.99")},
        {"rssileds": ("4", None)},
        {"rssileds": (None, "4")},
    ]
    assert week.titles() == ["package: 1 added", "package: 1 removed", "package: 1 added"]
    page = (week.place / f"boards/{BOARD}/mine/index.html").read_text()
    assert page.count("facts only") == 2
    assert page.count("<circle") == 5 * 3
    assert "25 Nov 2026, 02:00 UTC" in page
    index = (week.place / "index.html").read_text()
    assert "<h1>Our routers</h1>" in index
    assert "TP-Link TL-WR740N/ND v4" in index
    _compare(week, BOARD, place)


def _compare(week: Site, board: str, place: Path) -> None:
    """What the site offers is what was built."""
    newest = week.history(board).builds[-1]
    folder = week.place / f"builds/{board}/mine/{newest.number}"
    said = json.loads((place / "result.json").read_text())
    assert [image["sha256"] for image in said["images"]] == [image.sha256 for image in newest.images]
    for image in newest.images:
        assert sha256_of(folder / image.file) == sha256_of(place / image.file)
    packages: Mapping[str, str] = json.loads((folder / "packages.json").read_text())["packages"]
    assert packages == {each["name"]: each["version"] for each in said["packages"]}
    device = said["device"]
    assert (newest.revision, newest.epoch) == (device["revision"], device["epoch"])


@pytest.mark.kit
def test_a_week_of_nights_on_the_kit(week: Site, add_config: Callable[[str, str], str]) -> None:
    """An overlay's text, a package, and a script of the user's own change between nights."""
    script = week.project / "apps/clock.py"
    script.parent.mkdir(exist_ok=True)

    def build(text: str, said: str, packages: str = "") -> Path:
        script.write_text(f"print({said!r})\n")
        overlay = f'[[overlay]]\nname = "demo"\nvariables = {{ greeting = "{text}" }}\n'
        python = '[python]\nvariant = "base"\napps = ["apps/clock.py"]\n'
        add_config("mine", f'release = "embedded"\nboards = ["{KIT_BOARD}"]\n{python}{packages}{overlay}')
        (asked,) = requests(week.project, "mine", output=week.out, cache=user_cache())
        return build_image(asked, Log())[0]

    light = '[packages]\nadd = ["python3-light"]\n'
    nights = [
        ("a", "1", ""),
        ("a", "1", ""),
        ("b", "1", ""),
        ("b", "2", ""),
        ("b", "2", light),
        ("b", "3", light),
    ]
    for night, facts in enumerate([*nights, nights[-1]]):
        place = build(*facts)
        done = week.publish(night, "--url", "https://firmware.example.org")
        assert done.returncode == 0, done.stderr
        assert site_faults(week.place) == []
    history = week.history(KIT_BOARD)
    assert [(build.published - FIRST) // DAY for build in history.builds] == [0, 2, 3, 4, 5]
    differences = changed(history)
    assert [set(each) for each in (differences[0], differences[1])] == [set(), set()]
    added = {name for name, (before, _) in differences[3].items() if before is None}
    assert "python3-light" in added
    assert set(differences[3]) == added
    assert [build.size for build in history.builds].count(history.builds[0].size) == 5  # a disk's partitions
    assert history.builds[3].rootfs > history.builds[2].rootfs  # type: ignore[operator]
    grown = history.builds[3].night
    assert grown is not None
    assert {each.name for each in grown.sizes if each.before == 0} >= {"python3-light"}
    assert len(week.titles()) == 3
    assert week.titles()[1].endswith("added")
    _compare(week, KIT_BOARD, place)
    target = week.place / "releases/embedded/targets/x86/64"
    profiles = json.loads((target / "profiles.json").read_text())
    (image,) = profiles["profiles"][KIT_BOARD]["images"]
    assert (image["type"], image["filesystem"]) == ("combined-efi", "squashfs")
    assert sha256_of(target / image["name"]) == image["sha256"]
    assert profiles["profiles"][KIT_BOARD]["titles"][0]["model"]
