"""Which releases there are, what names mean, where files lie, and what servers list."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.config.library import Library
from imagebuilder.config.releases import (
    ReleaseError,
    ReleaseList,
    ReleaseListError,
    parse_versions,
    profile_for_release,
    resolve_release,
    shipped_releases,
)
from imagebuilder.errors import UserError
from imagebuilder.log import Log
from imagebuilder.server.devices import DeviceListError, parse_overview, parse_profiles
from imagebuilder.server.mirror import DOWNLOAD_SERVER, MirrorError, TargetPlace, parse_mirror, parse_mirrors
from tests.support.download_server import Told, small_board

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = shipped_releases()


def versions(*listed: str, stable: str = "", oldstable: str = "") -> bytes:
    facts = {"stable_version": stable, "oldstable_version": oldstable, "versions_list": list(listed)}
    return json.dumps(facts).encode()


def test_the_shipped_list_is_whole_and_the_newest_is_first() -> None:
    assert SHIPPED.versions[0] == "25.12.5"
    assert SHIPPED.versions[-1] == "17.01.1"
    assert SHIPPED.series() == ("25.12", "24.10", "23.05", "22.03", "21.02", "19.07", "18.06", "17.01")
    order = SHIPPED.versions.index
    assert order("24.10.0") < order("24.10.0-rc7") < order("24.10.0-rc1") < order("23.05.6")
    assert order("19.07.10") < order("19.07.9")


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("24.10.4", "24.10.4"),
        ("24.10", "24.10.8"),
        ("19.07", "19.07.10"),
        ("latest", "25.12.5"),
        ("25.12.0-rc3", "25.12.0-rc3"),
        ("snapshot", "snapshot"),
        ("embedded", "embedded"),
        ("24.10.9", "24.10.9"),  # newer than the list: it may be the list that is old
    ],
)
def test_what_a_name_means(wanted: str, meant: str) -> None:
    assert resolve_release(wanted, SHIPPED, Log()) == meant


@pytest.mark.parametrize(
    "wanted", ["24.10.4x", "23.04", "23.05.0-rc9", "16.02.1", "", "Latest", "21.02.0-rc1"]
)
def test_a_release_that_there_is_not(wanted: str) -> None:
    with pytest.raises(ReleaseError) as raised:
        resolve_release(wanted, SHIPPED, Log())
    assert raised.value.hint


def test_a_series_that_has_candidates_only() -> None:
    known = parse_versions(versions("26.06.0-rc1", "25.12.5"), "here")
    assert resolve_release("latest", known, Log()) == "25.12.5"
    with pytest.raises(ReleaseError) as raised:
        resolve_release("26.06", known, Log())
    assert "26.06.0-rc1" in str(raised.value.hint)


def test_the_servers_list_adds_releases_and_hides_none() -> None:
    listed = parse_versions(
        versions("26.06.1", "24.10.2", stable="26.06.1", oldstable="25.12.5"), "the server"
    )
    both = SHIPPED.merged(listed)
    assert both.newest() == "26.06.1"
    assert both.newest("24.10") == "24.10.8"
    assert both.origin == "the server"
    assert both.maintained_series() == ("26.06", "25.12")
    old = parse_versions(versions("23.05.1", stable="23.05.1"), "a mirror")
    assert SHIPPED.merged(old).stable == old.merged(SHIPPED).stable == "25.12.5"


def test_end_of_life_is_what_the_list_says() -> None:
    assert SHIPPED.maintained_series() == ("25.12", "24.10")
    for release in ("24.10.1", "25.12.0-rc1", "snapshot", "embedded", "26.06.0"):
        assert SHIPPED.end_of_life(release) is None
    told = SHIPPED.end_of_life("23.05.6")
    assert told is not None
    assert "no security fixes" in told
    assert "2026-08" in told
    without = ReleaseList(("26.06.0-rc1", "25.12.1", "24.10.1", "23.05.1"), "", "", "a mirror")
    assert without.maintained_series() == ("25.12", "24.10")


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_any_bytes_are_a_list_or_one_clear_error(data: bytes) -> None:
    for parse in (parse_versions, parse_profiles, parse_overview):
        with contextlib.suppress(ReleaseListError, DeviceListError):
            parse(data, "here")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.none()
            | st.text()
            | st.lists(st.text() | st.none())
            | st.dictionaries(st.text(), st.none())
            for name in (
                "versions_list",
                "stable_version",
                "target",
                "profiles",
                "version_number",
                "id",
                "titles",
            )
        },
    )
)
def test_any_json_is_a_list_or_one_clear_error(facts: dict[str, object]) -> None:
    for data in (facts, {"profiles": [facts]}, {"target": "a/b", "profiles": {"x": facts}}):
        for parse in (parse_versions, parse_profiles, parse_overview):
            with contextlib.suppress(ReleaseListError, DeviceListError):
                parse(json.dumps(data).encode(), "here")


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(ReleaseListError):
        parse_versions(b"[" * 100_000, "here")
    with pytest.raises(DeviceListError):
        parse_profiles(b"[" * 100_000, "here")


def test_the_board_that_a_release_does_not_build_names_the_newest_that_does() -> None:
    board = Library(PROJECT).board("tplink-tl-wr740n-v4")
    for release in ("23.05.6", "24.10.2", "24.10.4", "25.12.5", "snapshot"):
        with pytest.raises(ReleaseError) as raised:
            profile_for_release(board, release, SHIPPED)
        assert "24.10.1 is the newest release that has it" in raised.value.message
    assert profile_for_release(board, "24.10.1", SHIPPED).target == "ath79/tiny"
    assert profile_for_release(board, "19.07.10", SHIPPED).target == "ath79/tiny"
    assert profile_for_release(board, "18.06.9", SHIPPED).target == "ar71xx/tiny"
    assert profile_for_release(board, "17.01.7", SHIPPED).target == "ar71xx/generic"


def test_a_board_that_no_listed_release_has() -> None:
    board = small_board(releases=">=30.01")
    with pytest.raises(ReleaseError) as raised:
        profile_for_release(board, "24.10.4", SHIPPED)
    assert "newest release" not in raised.value.message
    assert ">=30.01" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("release", "target", "path"),
    [  # names that OpenWrt's server has had
        (
            "24.10.4",
            "ath79/tiny",
            "releases/24.10.4/targets/ath79/tiny/openwrt-imagebuilder-24.10.4-ath79-tiny.Linux-x86_64.tar.zst",
        ),
        (
            "23.05.5",
            "x86/64",
            "releases/23.05.5/targets/x86/64/openwrt-imagebuilder-23.05.5-x86-64.Linux-x86_64.tar.xz",
        ),
        (
            "17.01.4",
            "ar71xx/generic",
            "releases/17.01.4/targets/ar71xx/generic/"
            "lede-imagebuilder-17.01.4-ar71xx-generic.Linux-x86_64.tar.xz",
        ),
        (
            "snapshot",
            "x86/64",
            "snapshots/targets/x86/64/openwrt-imagebuilder-x86-64.Linux-x86_64.tar.zst",
        ),
    ],
)
def test_where_an_imagebuilder_lies(release: str, target: str, path: str) -> None:
    place = TargetPlace(release, target)
    assert f"{place.folder}/{place.archive_names()[0]}" == path
    assert parse_mirror("https://mirror.example/openwrt/").source(path).address.endswith(f"/openwrt/{path}")


def test_a_target_without_subtargets_may_leave_generic_out() -> None:
    names = TargetPlace("17.01.7", "mvebu/generic").archive_names()
    assert "lede-imagebuilder-17.01.7-mvebu.Linux-x86_64.tar.xz" in names


def test_mirrors(tmp_path: Path) -> None:
    assert [mirror.base for mirror in parse_mirrors([])] == [DOWNLOAD_SERVER]
    (tmp_path / "a b").mkdir()
    folder, remote = parse_mirrors([str(tmp_path / "a b"), "https://[::1]:8443/x//"])
    assert folder.source("p/q+r").address == str(tmp_path / "a b/p/q+r")
    assert not folder.source("p").remote
    assert remote.source("packages/libstdc++ 1%.ipk").address == (
        "https://[::1]:8443/x/packages/libstdc++%201%25.ipk"
    )


def test_credentials_of_a_mirror_are_never_shown() -> None:
    mirror = parse_mirror("https://user:se%40cret@mirror.example/x")
    assert mirror.auth == ("user", "se@cret")
    source = mirror.source("p")
    for shown in (repr(mirror), str(mirror), repr(source), source.address):
        assert "cret" not in shown
        assert "user" not in shown
    for bad in (
        "https://user:secret@mirror.example:x/",
        "https://user:secret@/x",
        "https://u:secret@h/x?t=1",
    ):
        with pytest.raises(MirrorError) as raised:
            parse_mirror(bad)
        assert "secret" not in f"{raised.value.message}{raised.value.hint}"


@pytest.mark.parametrize(
    "bad", ["", "ftp://x/y", "/no/such/folder", "https://", "https://[::1/x", "file:///tmp"]
)
def test_what_is_no_mirror(bad: str) -> None:
    with pytest.raises(MirrorError):
        parse_mirror(bad)


@given(st.text() | st.text().map("https://".__add__))
def test_any_text_is_a_mirror_or_one_clear_error(text: str) -> None:
    with contextlib.suppress(MirrorError):
        parse_mirror(text)


PROFILES = {
    "target": "ath79/tiny",
    "version_number": "24.10.1",
    "arch_packages": "mips_24kc",
    "profiles": {
        "tplink_tl-wr740n-v4": {
            "titles": [{"vendor": "TP-Link", "model": "TL-WR740N", "variant": "v4"}],
            "supported_devices": ["tplink,tl-wr740n-v4"],
            "device_packages": ["rssileds"],
        },
        "other": {"titles": [{"title": "Some Other"}]},
    },
}


def test_what_a_target_builds() -> None:
    listed = parse_profiles(json.dumps(PROFILES).encode(), "here")
    assert (listed.target, listed.version, listed.arch) == ("ath79/tiny", "24.10.1", "mips_24kc")
    first, other = listed.devices
    assert first.titles == ("TP-Link TL-WR740N v4",)
    assert first.packages == ("rssileds",)
    assert first.matches(["wr740n", "tp link"])
    assert not other.matches(["740"])


def test_what_a_release_builds() -> None:
    profiles = [
        {"id": "b", "target": "x86/64", "titles": []},
        {"id": "a", "target": "ath79/tiny", "titles": [{"title": "A"}]},
    ]
    found = parse_overview(json.dumps({"release": "24.10.1", "profiles": profiles}).encode(), "here")
    assert [(each.target, each.id, each.titles) for each in found] == [
        ("ath79/tiny", "a", ("A",)),
        ("x86/64", "b", ("b",)),
    ]


def test_what_was_resolved_is_told(told: Told) -> None:
    resolve_release("24.10", SHIPPED, told.log)
    assert "24.10.8" in told.notes
    assert "2026-08" in told.notes
    assert issubclass(ReleaseError, UserError)
