"""What make's profiles.json says of a device, and what counts where there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.model.result import DeviceTitle, ProfileFacts
from imagebuilder.tree.profiles_json import ProfilesJsonError, read_profiles_json

KNOWN = ProfileFacts(
    titles=(DeviceTitle(title="TP-Link TL-WDR3600"),),
    supported_devices=("tplink,tl-wdr3600-v1",),
    default_packages=("libc",),
    device_packages=("kmod-usb2",),
    revision="r1-2",
    epoch=7,
    kernel="5.15",
    filesystems={},
)
NAME = "tplink_tl-wdr3600-v1"
SYSUPGRADE = f"openwrt-23.05.2-ath79-generic-{NAME}-squashfs-sysupgrade.bin"


def made(**device: Any) -> bytes:
    """As OpenWrt's script writes it."""
    return json.dumps(
        {
            "default_packages": ["base-files", "libc"],
            "linux_kernel": {"version": "5.15.137", "release": "1", "vermagic": "af"},
            "profiles": {NAME: device},
            "source_date_epoch": 1699969091,
            "version_code": "r23630-842932a63d",
        }
    ).encode()


def test_all_that_is_told_of_a_device_is_taken_over() -> None:
    found = read_profiles_json(
        made(
            titles=[{"vendor": "TP-Link", "model": "TL-WDR3600", "variant": "v1"}],
            device_packages=["kmod-usb2", "-ppp"],
            supported_devices=["tplink,tl-wdr3600-v1", "tl-wdr4300"],
            images=[{"name": SYSUPGRADE, "filesystem": "squashfs"}, {"name": "x-kernel.bin"}],
        ),
        NAME,
        KNOWN,
    )
    assert found.titles == (DeviceTitle(vendor="TP-Link", model="TL-WDR3600", variant="v1"),)
    assert found.supported_devices == ("tplink,tl-wdr3600-v1", "tl-wdr4300")
    assert found.device_packages == ("kmod-usb2", "-ppp")
    assert found.default_packages == ("base-files", "libc")
    assert (found.revision, found.epoch, found.kernel) == ("r23630-842932a63d", 1699969091, "5.15.137")
    assert found.filesystems == {SYSUPGRADE: "squashfs"}


def test_what_it_does_not_say_is_what_is_known() -> None:
    found = read_profiles_json(json.dumps({"profiles": {NAME: {}}}).encode(), NAME, KNOWN)
    assert found.model_copy(update={"device_packages": ("kmod-usb2",)}) == KNOWN


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"{", "no JSON"),
        (b"[]", "the file is no table"),
        (b"{}", "profiles is no table"),
        (b'{"profiles": {"other": {}}}', "does not name"),
        (json.dumps({"profiles": {NAME: []}}).encode(), "is no table"),
        (made(images={}), "images is no list"),
        (made(titles=["TP-Link"]), "a title is no table"),
    ],
)
def test_anything_else_is_told(data: bytes, problem: str) -> None:
    with pytest.raises(ProfilesJsonError, match=problem):
        read_profiles_json(data, NAME, KNOWN)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["profiles", NAME, "images", "x"]), inner)
    ),
)


@given(st.binary() | _VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_facts_or_one_error(data: bytes) -> None:
    try:
        found = read_profiles_json(data, NAME, KNOWN)
    except ProfilesJsonError:
        return
    assert found.titles
