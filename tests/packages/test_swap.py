"""Packages that stand in for defaults of the tree or the profile."""

from __future__ import annotations

import pytest

from imagebuilder.model.package import Swap, Wish
from imagebuilder.packages.opkg.opkg import parse_index
from imagebuilder.packages.package_list import read_list
from imagebuilder.packages.swap import families, find_swaps
from imagebuilder.packages.universe import Universe, clash

# what the indexes of OpenWrt say of them: 17.01, 19.07, 21.02 and later
LEDE = """\
dnsmasq 2.78
dnsmasq-full 2.78
wpad 1
wpad-mini 1
hostapd 1; Conflicts: wpad, wpad-mini, wpad-mesh
ip-tiny 4; Provides: ip; Conflicts: ip-full
ip-full 4; Provides: ip
"""
OPENWRT = """\
dnsmasq 2.80
dnsmasq-full 2.80; Provides: dnsmasq
wpad-basic 1; Provides: hostapd, wpa-supplicant; Conflicts: hostapd, wpad, wpad-mini
wpad 1; Provides: hostapd, wpa-supplicant; Conflicts: hostapd, wpad-basic, wpad-mini
wpa-supplicant 1; Conflicts: wpad, wpad-basic, wpad-mini
busybox 1.36; Conflicts: busybox-selinux
busybox-selinux 1.36; Provides: busybox
uclient-fetch 1; Provides: wget; Alternatives: 200:/usr/bin/wget:/bin/uclient-fetch
wget-ssl 1; Provides: wget; Alternatives: 300:/usr/bin/wget:/usr/libexec/wget-ssl
ca-bundle 1; Provides: ca-certs
ca-certificates 1; Provides: ca-certs
ip-tiny 5; Provides: ip; Alternatives: 200:/sbin/ip:/usr/libexec/ip-tiny
ip-full 5; Provides: ip; Alternatives: 300:/sbin/ip:/usr/libexec/ip-full
libustream-wolfssl20201210 1; Provides: libustream-wolfssl; ABIVersion: 20201210
libustream-openssl2020 1; Provides: libustream-openssl; ABIVersion: 2020; Conflicts: libustream-wolfssl
luci-ssl-openssl 1; Depends: libustream-openssl2020
loner 1; Conflicts: ppp
ppp 1
iw 5
iw-full 5; Provides: iw
"""


def universe(text: str) -> Universe:
    lines = []
    for line in text.splitlines():
        first, *fields = line.split("; ")
        name, version = first.split(" ")
        lines.append("\n".join([f"Package: {name}", f"Version: {version}", *fields, ""]))
    return Universe(parse_index("\n".join(lines)))


def swaps(
    text: str, add: str, defaults: str, *, remove: str = "", replace: bool | None = None
) -> tuple[Swap, ...]:
    wish = Wish.of(add.split(), remove.split())
    return find_swaps(wish, read_list(defaults.split()), universe(text), clash, replace=replace)


@pytest.mark.parametrize(
    ("text", "add", "default"),
    [
        (LEDE, "hostapd", "wpad-mini"),
        (OPENWRT, "wpad", "wpad-basic"),
        (OPENWRT, "wpa-supplicant", "wpad-basic"),
        (OPENWRT, "busybox-selinux", "busybox"),
        (OPENWRT, "libustream-openssl", "libustream-wolfssl"),
        (OPENWRT, "luci-ssl-openssl", "libustream-wolfssl"),
        (LEDE, "ip-full", "ip-tiny"),
    ],
)
def test_a_default_that_conflicts_makes_room(text: str, add: str, default: str) -> None:
    (swap,) = swaps(text, add, f"{default} ppp")
    assert (swap.gone, swap.by, swap.declared, swap.done) == (default, add, True, True)
    assert str(swap).startswith(f"{add} takes the place of the default {default}: ")
    (asked,) = swaps(text, add, default, replace=False)
    assert not asked.done


@pytest.mark.parametrize(
    ("text", "add", "default", "reason"),
    [
        (LEDE, "dnsmasq-full", "dnsmasq", "both bring /usr/sbin/dnsmasq"),
        (LEDE, "wpad", "wpad-mini", "both bring /usr/sbin/hostapd"),
        (OPENWRT, "dnsmasq-full", "dnsmasq", "dnsmasq-full provides dnsmasq"),
        (OPENWRT, "iw-full", "iw", "iw-full provides iw"),
        (OPENWRT, "iw", "iw-full", "iw-full provides iw"),
    ],
)
def test_one_that_says_nothing_is_told_of(text: str, add: str, default: str, reason: str) -> None:
    (swap,) = swaps(text, add, default)
    assert str(swap) == (
        f"{add} would take the place of the default {default}, which goes in beside it: {reason};"
        f' say remove = ["{default}"], or replace = true, in [packages]'
    )
    (done,) = swaps(text, add, default, replace=True)
    assert done.done


@pytest.mark.parametrize(
    ("add", "defaults"),
    [
        ("wget-ssl", "uclient-fetch"),  # Alternatives: both may be there
        ("ip-full", "ip-tiny"),
        ("ca-certificates", "ca-bundle"),  # a name that both provide says nothing of files
        ("loner", "ppp"),  # a conflict of foreigners is for people to solve
        ("wpad wpad-basic", "wpad-basic"),  # named by somebody
        ("dnsmasq", "dnsmasq"),
        ("nowhere", "dnsmasq"),
        ("dnsmasq-full", "nowhere"),
    ],
)
def test_what_stays(add: str, defaults: str) -> None:
    assert swaps(OPENWRT, add, defaults) == ()


def test_what_is_removed_already_needs_no_swap() -> None:
    assert swaps(LEDE, "dnsmasq-full", "dnsmasq", remove="dnsmasq") == ()
    assert swaps(LEDE, "dnsmasq-full", "dnsmasq -dnsmasq") == ()
    assert swaps(LEDE, "dnsmasq-full", "dnsmasq", remove="dnsmasq-full") == ()


def test_foreigners_make_room_where_the_config_says_replace() -> None:
    (swap,) = swaps(OPENWRT, "loner", "ppp", replace=True)
    assert (swap.gone, swap.done) == ("ppp", True)


def test_every_default_is_swapped_once_and_by_what_declares_it() -> None:
    (swap,) = swaps(LEDE, "wpad hostapd", "wpad-mini")
    assert (swap.by, swap.declared) == ("hostapd", True)


def test_families_have_members_and_say_what_they_bring() -> None:
    assert all(brings and len(members) > 1 for brings, members in families())
