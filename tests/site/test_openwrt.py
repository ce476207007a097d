"""What OpenWrt's own programs read of a site, as their sources read it: the firmware selector, owut, LuCI's
attended sysupgrade, asu with the site as its upstream."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.host.fs import sha256_of
from imagebuilder.log import Log
from imagebuilder.model.result import DeviceTitle
from imagebuilder.site.facts import Listing, PublishedBuild, PublishedImage
from imagebuilder.site.openwrt import image_name, plain_name, version_folder
from imagebuilder.site.publish import PublishOptions, publish
from tests.support.result_maker import MadeResult

URL = "https://firmware.example.org/nightly"
HOME = MadeResult(packages={"base-files": "1", "busybox": "1.36", "kernel": "5.15.137"})
OFFICE = HOME.but(config="office", packages={**HOME.packages, "busybox": "1.37", "python3-light": "3.11"})
LINKSYS = MadeResult(
    board="linksys-wrt1200ac",
    profile="linksys_wrt1200ac",
    target="mvebu/cortexa9",
    version="24.10.4",
    title=DeviceTitle(vendor="Linksys", model="WRT1200AC"),
)
Read = Callable[[str], Any]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    def make(*results: MadeResult, url: str = URL) -> Path:
        for result in results:
            result.write(tmp_path / "out")
        publish(tmp_path / "out", tmp_path / "www", PublishOptions(url=url), 1_795_000_000, Log())
        return tmp_path / "www"

    return make


def reader(site: Path) -> Read:
    """Fetches JSON by its address, as a client with the site's address does."""

    def read(address: str) -> Any:
        assert address.startswith(f"{URL}/"), address
        return json.loads((site / address.removeprefix(f"{URL}/")).read_text())

    return read


def test_the_firmware_selector_finds_a_board_and_its_images(made: Callable[..., Path]) -> None:
    """main.js: .versions.json, then .overview.json of the version, then profiles.json of the target."""
    site = made(HOME, OFFICE, LINKSYS)
    read = reader(site)
    versions = read(f"{URL}/.versions.json")
    assert versions["versions_list"] == ["24.10.4", "23.05.5"]
    assert versions["stable_version"] in versions["versions_list"]
    overview = read(f"{URL}/releases/23.05.5/.overview.json")
    (profile,) = overview["profiles"]  # two configs of a board are one device
    (title,) = profile["titles"]
    assert " ".join([title["vendor"], title["model"], title["variant"]]) == "TP-Link TL-WR740N v4"
    folder = f"{URL}/releases/23.05.5/targets/{profile['target']}"
    target = read(f"{folder}/profiles.json")
    images = target["profiles"][profile["id"]]["images"]
    for image in images:
        assert sha256_of(site / folder.removeprefix(f"{URL}/") / image["name"]) == image["sha256"]
    assert (target["version_number"], target["version_code"]) == ("23.05.5", "r23630-842932a63d")
    assert target["build_at"] == "2026-11-18T11:06:40Z"  # new Date() of it
    # images of one type are told apart by what differs between the words of their names
    names = [image["name"].split("-") for image in images if image["type"] == "sysupgrade"]
    alike = next(place for place, words in enumerate(zip(*names, strict=True)) if len(set(words)) > 1)
    assert [words[alike] for words in names] == ["home", "office"]


def test_owut_reads_versions_the_target_and_the_packages(made: Callable[..., Path]) -> None:
    """collect_overview(), collect_platform(), complete_build_info(), dl_package_versions() of files/owut."""
    site = made(HOME, OFFICE, LINKSYS)
    read = reader(site)
    overview = read(f"{URL}/json/v1/overview.json")
    upstream = overview["upstream_url"]
    assert upstream == URL
    branches = {
        name: sorted(data["versions"])
        for name, data in overview["branches"].items()
        if data.get("enabled", True) and data["targets"]
    }
    assert branches == {"23.05": ["23.05.5"], "24.10": ["24.10.4"]}
    folder = overview["branches"]["23.05"]["path"].replace("{version}", "23.05.5")
    assert overview["branches"]["23.05"]["package_changes"] == []
    platform = read(f"{upstream}/{folder}/targets/ath79/tiny/profiles.json")
    device = "tplink_tl-wr740n-v4"  # board_name with its comma replaced
    assert device in platform["profiles"]
    profile, arch = platform["profiles"][device], platform["arch_packages"]
    assert platform["default_packages"] == ["base-files", "busybox", "libc"]
    assert profile["device_packages"] == ["rssileds", "-dnsmasq"]
    assert isinstance(platform["source_date_epoch"], int)
    images = [
        image
        for image in profile["images"]
        if image.get("filesystem") and image["filesystem"] != "initramfs" and "factory" not in image["type"]
    ]
    wanted = [
        image for image in images if image["filesystem"] == "squashfs" and image["type"] == "sysupgrade"
    ]
    assert wanted[0]["name"].startswith(profile["image_prefix"])
    assert "-home-" in wanted[0]["name"]
    assert platform["linux_kernel"]["version"] == "5.15.137"
    of_arch = read(f"{URL}/json/v1/{folder}/packages/{arch}-index.json")
    of_target = read(f"{URL}/json/v1/{folder}/targets/ath79/tiny/index.json")["packages"]
    available = {**of_arch, **of_target}
    assert available["python3-light"] == "3.11"
    assert set(HOME.packages) < set(available)


def test_a_device_of_another_name_is_found_by_its_aliases(made: Callable[..., Path]) -> None:
    """collect_platform() looks through supported_devices, with `,` for `_`."""
    site = made(HOME)
    target = json.loads((site / "releases/23.05.5/targets/ath79/tiny/profiles.json").read_text())
    aliases = {
        alias.replace(",", "_"): name
        for name, profile in target["profiles"].items()
        for alias in profile["supported_devices"]
    }
    assert aliases["tl-wr740n-v4"] == "tplink_tl-wr740n-v4"


def test_luci_sees_what_is_newer(made: Callable[..., Path]) -> None:
    """handleCheck() of attendedsysupgrade/overview.js: api/overview, and for snapshots api/v1/revision."""
    snapshot = HOME.but(version="SNAPSHOT", config="tip")
    site = made(HOME, LINKSYS, snapshot)
    read = reader(site)
    assert read(f"{URL}/api/overview")["latest"] == ["24.10.4", "23.05.5"]
    assert read(f"{URL}/api/v1/revision/SNAPSHOT/ath79/tiny") == {"revision": "r23630-842932a63d"}
    assert (site / "snapshots/targets/ath79/tiny/profiles.json").is_file()
    assert read(f"{URL}/.versions.json")["versions_list"] == ["24.10.4", "23.05.5", "SNAPSHOT"]
    overview = read(f"{URL}/json/v1/overview.json")
    assert overview["branches"]["SNAPSHOT"]["path"] == "snapshots"


def test_asu_can_have_the_site_as_its_upstream(made: Callable[..., Path]) -> None:
    """reload_versions(), reload_targets() and reload_profiles() of asu/util.py take these keys as given."""
    read = reader(made(HOME, LINKSYS))
    versions = read(f"{URL}/.versions.json")
    assert versions["upcoming_version"] == ""
    assert versions["oldstable_version"] == "23.05.5"
    assert read(f"{URL}/releases/24.10.4/.targets.json") == {"mvebu/cortexa9": "mips_24kc"}
    profile = read(f"{URL}/json/v1/releases/24.10.4/targets/mvebu/cortexa9/linksys_wrt1200ac.json")
    assert (profile["id"], profile["version_number"]) == ("linksys_wrt1200ac", "24.10.4")
    assert {image["type"] for image in profile["images"]} == {"sysupgrade", "factory"}


def test_without_an_address_nothing_of_a_build_server_is_there(made: Callable[..., Path]) -> None:
    """owut takes OpenWrt's own server for what overview.json does not say."""
    site = made(HOME)
    assert (site / "json").is_symlink()
    made(HOME, url="")
    assert not (site / "json").is_symlink()
    assert not (site / "api").is_symlink()
    assert (site / "releases/23.05.5/.overview.json").is_file()
    made(HOME)
    assert (site / "json/v1/overview.json").is_file()


@pytest.mark.parametrize(
    ("versions", "stable", "older", "upcoming"),
    [
        (["23.05.5", "24.10.4", "24.10.10", "22.03.7"], "24.10.10", "23.05.5", ""),
        (["24.10.4", "25.12.0-rc1"], "24.10.4", "", "25.12.0-rc1"),
        (["24.10.4", "24.10.0-rc1", "24.10-SNAPSHOT"], "24.10.4", "", ""),
        (["25.12.0-rc1"], "25.12.0-rc1", "", "25.12.0-rc1"),
        (["embedded", "SNAPSHOT"], "SNAPSHOT", "", ""),
    ],
)
def test_the_newest_versions_are_told(
    made: Callable[..., Path], versions: list[str], stable: str, older: str, upcoming: str
) -> None:
    site = made(*(HOME.but(version=version, config=f"c{place}") for place, version in enumerate(versions)))
    found = json.loads((site / ".versions.json").read_text())
    assert (found["stable_version"], found["oldstable_version"], found["upcoming_version"]) == (
        stable,
        older,
        upcoming,
    )
    assert sorted(found["versions_list"]) == sorted(versions)


def test_an_image_that_the_builder_signed_is_no_unsigned_one(made: Callable[..., Path]) -> None:
    name, _ = HOME.image("sysupgrade")
    site = made(HOME.but(more={"signed": {name: "0011223344556677"}}))
    target = json.loads((site / "releases/23.05.5/targets/ath79/tiny/profiles.json").read_text())
    images = {each["type"]: each for each in target["profiles"]["tplink_tl-wr740n-v4"]["images"]}
    assert "sha256_unsigned" not in images["sysupgrade"]
    assert images["factory"]["sha256_unsigned"] == images["factory"]["sha256"]


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("openwrt-23.05.5-ath79-tiny-x-sysupgrade.bin", "openwrt-23.05.5-home-N-ath79-tiny-x-sysupgrade.bin"),
        ("odd name.img", "home-N-odd_name.img"),
    ],
)
def test_images_are_named_by_config_and_build(file: str, named: str) -> None:
    image = PublishedImage(file=file, type="x", size=1, sha256="0" * 64, filesystem="", signed=False)
    build = PublishedBuild.model_construct(number="N", images=(image,))
    listing = Listing.model_construct(config="home", target="ath79/tiny")
    assert image_name(listing, build, image) == named


def test_names_of_versions_stay_in_their_folder() -> None:
    assert version_folder("../../x") == "releases/_.._x"
    assert version_folder("SNAPSHOT") == "snapshots"
    assert plain_name("...") == "_"
    assert plain_name("Turris OS 7.0") == "Turris_OS_7.0"
