"""Which packages of an image serve which hardware of a device, and what it loses without them. Pure.

Source: the sections and dependencies of kmod packages in package/kernel/linux/modules/*.mk and
package/kernel/ of OpenWrt, from lede-17.01 on: drivers of one kind of hardware need that kind's core.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagebuilder.model.package import Package

_DRIVER = "kmod-"


@dataclass(frozen=True)
class Kind:
    """words: the use of a device that it is; harm: how much that is missed, 1 hardly. cores: packages that
    all its drivers need; drivers: patterns of others, among them vendors'; programs: what else it takes."""

    words: str
    harm: int
    cores: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


HARDWARE: Mapping[str, Kind] = {
    "wifi": Kind(
        "WiFi",
        14,
        ("kmod-mac80211", "kmod-cfg80211"),
        (
            *("kmod-ath5k", "kmod-ath9k*", "kmod-ath1*", "kmod-carl9170", "kmod-b43*", "kmod-brcmfmac*"),
            *("kmod-brcm-wl*", "kmod-iwl*", "kmod-mt_wifi*", "kmod-mt7*", "kmod-mwifiex*", "kmod-mwlwifi"),
            *("kmod-qca-wifi*", "kmod-rt2*", "kmod-rtl8??*", "kmod-rtw8*", "kmod-zd1211rw"),
        ),
        ("wpad*", "hostapd*", "wpa-supplicant*"),
    ),
    "ethernet": Kind(
        "the wired network",
        14,
        ("kmod-mii", "kmod-libphy", "kmod-phylink", "kmod-ptp", "kmod-mdio", "kmod-dsa"),
        (
            *("kmod-e100*", "kmod-igb*", "kmod-igc", "kmod-ixgbe*", "kmod-r81*", "kmod-8139*", "kmod-bnx2*"),
            *("kmod-tg3", "kmod-vmxnet3", "kmod-amd-xgbe", "kmod-forcedeth", "kmod-pcnet32", "kmod-ne2k*"),
            *("kmod-via-*", "kmod-sky2", "kmod-sis*", "kmod-switch-*", "kmod-dsa-*", "kmod-dwmac*"),
            *("kmod-stmmac*", "kmod-fsl-*", "kmod-lan743x", "kmod-atl*", "kmod-virtio-net"),
        ),
    ),
    "usb": Kind("USB", 4, ("kmod-usb-core",), ("kmod-usb*",)),
    "leds": Kind("LEDs", 2, (), ("kmod-leds-*", "kmod-ledtrig-*", "kmod-usb-ledtrig-*"), ("rssileds",)),
    "i2c": Kind("what is attached by I2C", 4, ("kmod-i2c-core",), ("kmod-i2c-*",)),
    "spi": Kind("what is attached by SPI", 4, (), ("kmod-spi-*",)),
}


def drivers(kind: str, packages: Sequence[Package]) -> frozenset[str]:
    """The names of the packages of an image that drive this hardware."""
    known = HARDWARE[kind]
    found = {*known.cores} | {each.name for each in packages if _is_one(each.name, known.drivers)}
    while True:
        more = {
            each.name
            for each in packages
            if each.name.startswith(_DRIVER)
            and each.name not in found
            and any(term.name in found for group in each.depends for term in group)
        }
        if not more:
            return frozenset(found & {each.name for each in packages})
        found |= more


def serving(kind: str, packages: Sequence[Package]) -> frozenset[str]:
    """Those, and the programs without which they are of no use."""
    programs = HARDWARE[kind].programs
    return drivers(kind, packages) | {each.name for each in packages if _is_one(each.name, programs)}


def uses(packages: Sequence[Package]) -> dict[str, str]:
    """For each driver of an image the kind of hardware that it is for. LEDs of USB ports are LEDs."""
    found: dict[str, str] = {}
    for kind in ("spi", "i2c", "usb", "leds", "ethernet", "wifi"):  # what is said last counts
        found |= dict.fromkeys(drivers(kind, packages), kind)
    return found


def _is_one(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
