"""Facts of a build that was never made, for pages about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imagebuilder.model.budget import Amount, FlashBudget, FlashPart, RamBudget, RamNeed
from imagebuilder.model.firmware import Check, PackageShare, PythonInside, RootFacts, RootFile
from imagebuilder.model.package import Package, Selected
from imagebuilder.model.result import (
    ImageFile,
    InstalledPackage,
    LoadedBytecode,
    PackageSize,
    Result,
    RootfsSizes,
    Start,
    TreeFacts,
)
from imagebuilder.model.trial import TrialCheck, TrialFigure, TrialFinding, TrialReport
from imagebuilder.report.page import PageFacts

IMAGE = "openwrt-23.05.5-ath79-tiny-tplink_tl-wr740n-v4-squashfs-sysupgrade.bin"
KIB = 1 << 10


def package(name: str, *way: str, description: str = "") -> Selected:
    """A package that the way leads to; its last name is the package's own."""
    described = Package(name, "1.0-r1", description=description, extra={"License": "GPL-2.0"})
    return Selected(described, (*(way or ("the default packages of ath79/tiny",)), name))


PACKAGES = (
    package("python3-base", "python.variant", "python3-light", description="Python 3.11 interpreter"),
    package("busybox", description="Core utilities"),
    package("kmod-ath9k"),
    package("tcpdump-mini", "packages.add in /project/configs/router.toml"),
    package("kernel"),
)


def root_of(files: dict[str, tuple[str, int]], names: Sequence[str] = ()) -> RootFacts:
    """A root file system. files: of each path the package ("" for none) and the bytes that it takes. names:
    of packages that have none of them."""
    sums: dict[str, int] = dict.fromkeys(names, 0)
    for owner, size in files.values():
        sums[owner] = sums.get(owner, 0) + size
    shares = tuple(
        PackageShare(name, "1.0-r1", size, size * 3, 1)
        for name, size in sorted(sums.items(), key=lambda one: -one[1])
    )
    return RootFacts(
        {"RELEASE": "23.05.5"},
        dict.fromkeys(sums, "1.0-r1"),
        PythonInside("3.11.7", "light", "python3-base"),
        shares,
        tuple(RootFile(path, "file", 0o644, size * 3, size) for path, (_, size) in files.items()),
        5 * KIB,
        sum(sums.values()) + 5 * KIB,
        {path: owner for path, (owner, _) in files.items() if owner},
    )


FILES = {
    "/usr/bin/python3.11": ("python3-base", 1500 * KIB),
    **{f"/usr/lib/python3.11/module{n}.pyc": ("python3-base", 20 * KIB - n * 97) for n in range(40)},
    "/bin/busybox": ("busybox", 300 * KIB),
    "/lib/modules/ath9k.ko": ("kmod-ath9k", 200 * KIB),
    "/usr/sbin/tcpdump": ("tcpdump-mini", 150 * KIB),
    "/etc/config/system": ("", 2 * KIB),
}
ROOT = root_of(FILES, ("kernel",))


def flash_budget() -> FlashBudget:
    """A flash of 8 MiB that is half full."""
    return FlashBudget(
        measured=True,
        kernel=Amount(bytes=1400 * KIB, source="the tree's kernel"),
        rootfs=Amount(bytes=3000 * KIB, source="measured"),
        parts=(
            FlashPart(name="kernel", bytes=1400 * KIB),
            FlashPart(name="base", bytes=700 * KIB),
            FlashPart(name="python", bytes=2300 * KIB),
        ),
        packages=(),
        images=(),
        partition=8 << 20,
        partition_source="the board's file",
        used=4500 * KIB,
        free=(8 << 20) - 4500 * KIB,
        wanted_free=0,
        excess=0,
        verdict="fits",
    )


def ram_budget() -> RamBudget:
    """64 MiB of RAM, 40 of them free."""
    needs = (
        RamNeed(name="kernel and services", amount=Amount(bytes=20 << 20, uncertainty=1 << 20, source="x")),
        RamNeed(name="the interpreter", amount=Amount(bytes=4 << 20, source="x")),
    )
    return RamBudget(
        ram=64 << 20,
        needs=needs,
        used=24 << 20,
        uncertainty=1 << 20,
        free=40 << 20,
        wanted_free=0,
        excess=0,
        verdict="fits",
    )


def result_of(packages: Sequence[Selected] = PACKAGES, root: RootFacts | None = ROOT, **other: Any) -> Result:
    """A build's result. other: in place of what it says else."""
    image = ImageFile(file=IMAGE, type="sysupgrade", size=4500 * KIB, sha256="ab" * 32, required=True)
    sizes = None
    if root is not None:
        shares = tuple(
            PackageSize(name=each.name, version=each.version, stored=each.stored, size=each.size, files=1)
            for each in root.shares
        )
        sizes = RootfsSizes(image=IMAGE, stored=root.stored, tables=root.tables, packages=shares)
    tree = TreeFacts(
        source="/trees/ib",
        distribution="OpenWrt",
        version="23.05.5",
        target="ath79/tiny",
        arch="mips_24kc",
        package_manager="opkg",
        trust="a local tree, as given",
    )
    said: dict[str, Any] = {
        "builder": "0.1.0",
        "config": "router",
        "board": "tplink-tl-wr740n-v4",
        "profile": "tplink_tl-wr740n-v4",
        "python": "light",
        "tree": tree,
        "feeds": {"packages": "signed by the key of 23.05"},
        "view": "overlay",
        "sandboxed": True,
        "make": ("image", "PROFILE=tplink_tl-wr740n-v4"),
        "packages": tuple(InstalledPackage(name=each.name, version=each.version) for each in packages),
        "images": (image,),
        "checks": {IMAGE: 2},
        "unchecked": (),
        "rootfs": sizes,
        "flash": flash_budget(),
        "ram": ram_budget(),
        "overlays": ("base",),
        "filespecs": (),
        "trimmed": (),
        "shaken": (),
        "starts": (Start(command="python3 /dev/null", modules=33, look_ups=19, seconds=0.4),),
        "bytecode": LoadedBytecode(files=348, modules=3, by="Python 3.11"),
        "uncompiled": (),
        "secrets": (),
        "signed": {},
        "disabled_services": ("odhcpd",),
        "warnings": ("a warning of the build",),
        "steps": (),
        "trial": TRIAL,
    }
    return Result(**{**said, **other})


TRIAL = TrialReport(
    by="qemu-mips -cpu 24Kc",
    why="",
    checks=(
        TrialCheck(
            name="interpreter",
            what="Python 3.11 starts",
            expected="version 3.11.7",
            found="version 3.11.7",
            outcome="ok",
        ),
        TrialCheck(
            name="modules",
            what="every module can be imported",
            expected="",
            found="300 modules",
            outcome="warned",
            findings=(
                TrialFinding(
                    file="/usr/lib/python3.11/site-packages/fast.pyc",
                    package="python3-fast",
                    text="fast: <no> module",
                    level="warning",
                ),
                TrialFinding(
                    file="/usr/lib/python3.11/this.pyc", package="", text="of the release", level="note"
                ),
            ),
        ),
        TrialCheck(
            name="shell-scripts",
            what="scripts parse",
            expected="",
            found="",
            outcome="not run",
            why="the image has no /bin/sh",
        ),
    ),
    figures=(
        TrialFigure(
            way="bytecode",
            command="python3 /.hello.py",
            seconds=0.4,
            modules=33,
            look_ups=19,
            memory=None,
        ),
    ),
    made=("app-meter",),
)
CHECKS = {
    IMAGE: (
        Check("hardware id", "0x07400004", "0x07400004", True),
        Check("size", "at most 8 MiB", "4.4 MiB", True),
        Check("name of the device", "one of this board's", "none", False, "unsure"),
    )
}


def page_facts(**other: Any) -> PageFacts:
    """What a page is made of. other: in place of what it is else."""
    said: dict[str, Any] = {
        "result": result_of(),
        "board": "TP-Link TL-WR740N/ND v4",
        "formats": {"sysupgrade": "tplink-v1"},
        "note": "",
        "packages": PACKAGES,
        "checks": CHECKS,
        "root": ROOT,
        "epoch": 1_700_000_000,
        "project": "/project",
        "papers": ("result.json", "manifest", "sbom.cdx.json", "lock.toml", "sha256sums"),
    }
    return PageFacts(**{**said, **other})
