"""Whether an image is for the board: hardware ids, device names, compatibility version, processor.

The rules are those of OpenWrt's sysupgrade (fwtool_check_image, platform_check_image) and of TP-Link's
updater.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagebuilder.firmware.checks import equal, holds, same_number
from imagebuilder.firmware.subject import Subject, in_image, of_kind, on_boot_partition
from imagebuilder.firmware.uimage import KERNEL_TYPE
from imagebuilder.model.board import Board
from imagebuilder.model.firmware import Check, Level, Part
from imagebuilder.model.tplink import FLASH_LAYOUTS

# targets whose sysupgrade refuses an image without metadata
METADATA_REQUIRED = frozenset(
    [
        "airoha",
        "apm821xx",
        "ath79",
        "bcm27xx",
        "bcm53xx",
        "bmips",
        "gemini",
        "imx",
        "ipq40xx",
        "ipq806x",
        "ixp4xx",
        "kirkwood",
        "lantiq",
        "layerscape",
        "mediatek",
        "microchipsw",
        "mpc85xx",
        "mvebu",
        "qoriq",
        "qualcommax",
        "qualcommbe",
        "ramips",
        "realtek",
        "rockchip",
        "siflower",
        "stm32",
        "tegra",
    ]
)
_WITHOUT_BEFORE_1907 = ("ramips",)
_REGION_TEXT = re.compile(r"(?:00000000;([0-9A-F]{8});\1)?", re.IGNORECASE)
_REGIONS = (0, 1)
_US_TEXT = "55530000"
_VERSION_2_HWIDS = (0x65000002,)  # WDR6500 v2
# how architectures begin, to uImage's and ELF's names of the machine, and the byte order
_MACHINES = (
    ("mipsel", "mips", "little endian"),
    ("mips64el", "mips", "little endian"),
    ("mips", "mips", "big endian"),
    ("arm_", "arm", "little endian"),
    ("armeb", "arm", "big endian"),
    ("aarch64", "aarch64", "little endian"),
    ("x86_64", "x86_64", "little endian"),
    ("i386", "x86", "little endian"),
    ("powerpc", "powerpc", "big endian"),
    ("riscv", "riscv", "little endian"),
)


def machine_of(arch: str) -> tuple[str, str]:
    """The machine and byte order of an architecture's name; empty where it is not known."""
    return next(((machine, order) for begin, machine, order in _MACHINES if arch.startswith(begin)), ("", ""))


def tplink_checks(part: Part, board: Board, *, kind: str) -> Iterator[Check]:
    """A TP-Link header against the board's."""
    facts = board.tplink
    if facts is None:
        yield Check("TP-Link header", f"none: {board.id} has no hardware id", "one", False)
        return

    def number(name: str) -> int:
        value = part.value(name)
        return value if isinstance(value, int) else -1

    yield same_number("hardware id", facts.hwid, number("hardware id"))
    yield equal("hardware revision", facts.hwrev, number("hardware revision"))
    version = 2 if facts.hwid in _VERSION_2_HWIDS else 1
    yield equal("version of the TP-Link header", version, number("header version") >> 24)
    region, text = number("region"), str(part.value("region text"))
    agrees = _REGION_TEXT.fullmatch(text) is not None and (region == 1) == text.endswith(_US_TEXT)
    yield holds(
        "region",
        region in _REGIONS and agrees,
        expected="0 without the United States' text, or 1 with it",
        found=f"{region} {text}".strip(),
    )
    length = FLASH_LAYOUTS.get(facts.flash_layout)
    found = number("firmware length")
    if length is None:  # of a fork's tool
        expected = f"those of {facts.flash_layout}, a layout that is not known here"
        yield Check("flash layout", expected, f"{found} bytes", False, "warning")
    else:
        expected = f"{length} bytes ({facts.flash_layout})"
        yield holds("flash layout", length == found, expected=expected, found=f"{found} bytes")
    yield equal("boot loader in the image, bytes", 0, number("boot loader length"))
    printed = "?" not in f"{part.value('vendor')}{part.value('version')}"
    yield holds(
        "vendor and version text",
        printed,
        expected="can be printed",
        found=str(part.value("version")),
        level="warning",
    )
    if kind == "factory":
        yield equal("length of a factory image", found, part.size)


def _metadata_required(subject: Subject, release: str) -> bool:
    target = subject.profile.target.split("/")[0]
    old = release[:2].isdigit() and release[:5] < "19.07"
    return target in METADATA_REQUIRED and not (old and target in _WITHOUT_BEFORE_1907)


def metadata_checks(subject: Subject, release: str) -> Iterator[Check]:
    """What the device's own sysupgrade compares first."""
    found = subject.read.metadata
    profile = subject.profile
    if subject.sysupgrade and (found is None or subject.read.metadata_packed):
        needed = _metadata_required(subject, release)
        yield holds(
            "metadata",
            not needed,
            expected="behind the image, as the file has it" if needed else "not needed by this target",
            found="none" if found is None else "only in what is compressed, where sysupgrade does not look",
        )
    if found is None:
        return
    wanted = profile.supported_devices or (profile.name,)
    listed = any(name in wanted for name in found.devices)
    devices = ", ".join(found.devices) or "none"
    yield holds("supported devices", listed, expected=" or ".join(wanted), found=devices)
    yield equal("compat version", profile.compat_version, found.compat_version)
    if "/" in found.version.get("target", ""):
        yield equal("target in the metadata", profile.target, found.version["target"])


def _plain(name: str) -> str:
    return name.replace(",", "_").lower()


def name_checks(subject: Subject) -> Iterator[Check]:
    """Names of the device that do not depend on metadata: of a sysupgrade archive, and in the kernel."""
    known = {_plain(name) for name in subject.names()}
    sure = any(one.supported_devices for one in subject.board.profile)
    expected = " or ".join(subject.names())
    for part in of_kind(subject.part, "sysupgrade-tar"):
        board = str(part.value("board"))
        yield holds("board of the archive", _plain(board) in known, expected=expected, found=board)
    for part in of_kind(subject.part, "kernel", "elf"):
        named = part.value("board")
        if isinstance(named, str) and (sure or subject.board.tplink is None):
            # 17.01 often names another device here; only later releases' facts tell which
            level: Level = "error" if sure else "warning"
            same = _plain(named) in known
            yield holds(
                "board in the kernel's command line", same, expected=expected, found=named, level=level
            )
    for part in in_image(subject.part, "device-tree"):
        devices = part.value("compatible")
        if isinstance(devices, tuple) and devices:
            # up to 19.07 some profiles have no vendor in front, and their device trees have one
            bare = [name.rpartition(",")[2].replace(" ", "-") for name in devices]
            same = any(_plain(name) in known for name in (*devices, *bare))
            level = "error" if sure else "warning"  # 17.01's may name it as they like
            found = ", ".join(devices)
            yield holds("device tree of the kernel", same, expected=expected, found=found, level=level)
    yield from _boot_tree_checks(subject)
    for part in of_kind(subject.part, "dni"):
        device = str(part.value("device"))
        same = any(name.endswith(device.lower()) for name in known)
        level = "warning"  # a few have a name of their own for a series of devices
        yield holds("device of the NETGEAR header", same, expected=expected, found=device, level=level)
    for part in of_kind(subject.part, "safeloader"):
        devices = part.value("support-list")
        text = " ".join(devices) if isinstance(devices, tuple) else ""
        models = {name.rpartition(",")[2].rpartition("_")[2] for name in known}
        same = any(
            re.sub(r"[^a-z0-9]", "", model) in re.sub(r"[^a-z0-9]", "", text.lower()) for model in models
        )
        yield holds("support list", same, expected=expected, found=text[:120])


def _boot_tree_checks(subject: Subject) -> Iterator[Check]:
    """A boot partition may have trees for several boards, and overlays (.dtbo) for what is plugged into them;
    the loader takes the board's, so that one has to be there. Names without a vendor tell nothing: releases
    up to 18.06 have others (`rpi-3-b`) than the trees."""
    known = {_plain(name) for name in subject.names() if "," in name or "_" in name}
    trees = [
        part for part in on_boot_partition(subject.part, "device-tree") if not part.name.endswith(".dtbo")
    ]
    values = [part.value("compatible") for part in trees]
    devices = [name for value in values if isinstance(value, tuple) for name in value]
    if devices and known:
        same = any(_plain(name) in known for name in devices)
        expected = " or ".join(subject.names())
        found = ", ".join(dict.fromkeys(devices))
        yield holds("device tree on the boot partition", same, expected=expected, found=found)


def machine_checks(subject: Subject) -> Iterator[Check]:
    """The processor that kernel and packages are for."""
    machine, order = machine_of(subject.profile.arch)
    files = tuple(on_boot_partition(subject.part, "uimage"))
    for part in of_kind(subject.part, "uimage", "elf"):
        if part in files and part.value("type") != KERNEL_TYPE:
            continue  # of a boot script U-Boot reads no machine; all of sunxi's say arm
        found = part.fields["machine"].meaning
        fits = found == machine or {found, machine} == {"x86", "x86_64"}
        yield holds(f"machine of {part.name}", fits, expected=machine or subject.profile.arch, found=found)
        if part.kind == "elf":
            yield holds(
                "byte order of the kernel",
                part.fields["order"].meaning == order,
                expected=order,
                found=part.fields["order"].meaning,
            )
    if subject.facts is not None and "ARCH" in subject.facts.release:
        yield equal("architecture of the packages", subject.profile.arch, subject.facts.release["ARCH"])
