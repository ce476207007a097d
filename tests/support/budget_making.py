"""A plan of LEDE 17.01.7's real index figures for a WR740N, without its tree."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.budget.advice_moves import Situation
from imagebuilder.budget.flash import Tree, at_most, flash_budget, predict_rootfs
from imagebuilder.config.board import Board
from imagebuilder.config.library import Library
from imagebuilder.model.budget import Amount, FlashBudget
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.resolve import package_list, resolve
from imagebuilder.tree.measure import ProfileImages, SquashfsOptions

PROJECT = Path(__file__).resolve().parents[2]
SQUASHFS = SquashfsOptions("mksquashfs4", "xz", 256 << 10, False, ())
TPLINK = ProfileImages(
    kernel=Amount(bytes=1276388, source="tl-wr740n-v4-kernel.bin"),
    recipes={
        "sysupgrade.bin": "append-rootfs | mktplinkfw sysupgrade",
        "factory.bin": "append-rootfs | mktplinkfw factory",
    },
    values={"TPLINK_FLASHLAYOUT": "4Mlzma", "BLOCKSIZE": "64k", "IMAGE_SIZE": "3904k"},
    partition=None,
    block=0x10000,
)
TREE = Tree(SQUASHFS, "mips_24kc", "17.01.7", TPLINK)
DEFAULTS = (
    *("base-files", "libc", "libgcc", "busybox", "dropbear", "mtd", "uci", "opkg", "netifd", "fstools"),
    *("uclient-fetch", "logd", "kmod-gpio-button-hotplug", "swconfig", "kmod-ath9k", "wpad-mini", "kernel"),
    *("uboot-envtools", "dnsmasq", "iptables", "ip6tables", "ppp", "ppp-mod-pppoe", "firewall"),
    *("odhcpd", "odhcp6c"),
)
VARIANTS = {
    "none": (),
    "full": ("python3",),
    "light": ("python3-light",),
    "base": ("python3-base",),
    "micropython": ("micropython",),
}


@dataclass(frozen=True)
class Offered:
    """A package of a plan, as planning sees it."""

    name: str
    section: str
    size: int
    installed_size: int
    why: tuple[str, ...] = ()


def index() -> list[Package]:
    facts = json.loads((PROJECT / "tests/data/lede-17.01.7-wr740n.json").read_text())["packages"]
    return [
        Package(
            name=name,
            version="1",
            depends=tuple((Dependency(each),) for each in depends),
            provides=tuple(provides),
            size=size,
            installed_size=installed,
            section=section,
        )
        for name, (size, installed, section, depends, provides) in facts.items()
    ]


def board(name: str = "tplink-tl-wr740n-v4", release: str = "17.01.7") -> Board:
    found = Library(PROJECT).board(name)
    return found.for_profile(found.profiles_for(release)[0])


def resolved(requested: Sequence[str], removed: Sequence[str]) -> list[Offered]:
    found = resolve(list(requested), list(removed), index())
    return [
        Offered(each.name, each.section, each.size, each.installed_size, ("asked", *found.why(each.name)))
        for each in found.packages
    ]


def predictor(*, wanted_free: int = 0, sure: bool = False) -> Callable[[Sequence[Offered]], FlashBudget]:
    def predict(packages: Sequence[Offered]) -> FlashBudget:
        rootfs = predict_rootfs(packages, TREE)
        python = [each.name for each in packages if each.name.startswith(("python", "micropython"))]
        rootfs = at_most(rootfs) if sure else rootfs
        return flash_budget(rootfs, TREE, board(), wanted_free=wanted_free, python=python)

    return predict


def situation(variant: str, **more: object) -> Situation:
    added = more.pop("added", frozenset())
    requested = package_list(DEFAULTS, (), (*VARIANTS[variant], *sorted(added))).names  # type: ignore[call-overload]
    return Situation(requested, variant=variant, variants=VARIANTS, added=added, **more)  # type: ignore[arg-type]
