"""A plan of LEDE 17.01.7's real index figures for a WR740N, without its tree."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from imagebuilder.budget.advice import Situation
from imagebuilder.budget.flash import FlashFacts, at_most, flash_budget, predict_rootfs
from imagebuilder.config.board import Board
from imagebuilder.config.library import Library
from imagebuilder.model.budget import Amount, FlashBudget
from imagebuilder.model.package import Dependency, Package, Selected, Wish
from imagebuilder.packages.hardware import uses
from imagebuilder.packages.opkg.resolve import resolve
from imagebuilder.packages.package_list import package_list
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
TREE = FlashFacts(SQUASHFS, "mips_24kc", "17.01.7", TPLINK)
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


def resolved(wish: Wish) -> Sequence[Selected]:
    return resolve(wish, index()).selected


def packages_for(wish: Wish) -> list[Package]:
    return [each.package for each in resolved(wish)]


def predictor(*, wanted_free: int = 0, sure: bool = False) -> Callable[[Sequence[Selected]], FlashBudget]:
    def predict(selected: Sequence[Selected]) -> FlashBudget:
        rootfs = predict_rootfs((each.package for each in selected), TREE)
        python = [each.name for each in selected if each.name.startswith(("python", "micropython"))]
        rootfs = at_most(rootfs) if sure else rootfs
        return flash_budget(rootfs, TREE, board(), wanted_free=wanted_free, python=python)

    return predict


def situation(variant: str, **more: object) -> Situation:
    added = more.pop("added", frozenset())
    wish = Wish.of((*VARIANTS[variant], *sorted(added)), more.pop("removed", ()))  # type: ignore[call-overload, arg-type]
    wanted = package_list(dict.fromkeys(DEFAULTS, ""), wish)
    hardware = uses([each.package for each in resolved(wanted)])
    return Situation(
        wanted,
        variant=variant,
        variants=VARIANTS,
        added=added,  # type: ignore[arg-type]
        hardware=hardware,
        **more,  # type: ignore[arg-type]
    )
