"""Whether an image is for the board: hardware ids, device names, compatibility version, processor.

The rules are those of OpenWrt's sysupgrade (fwtool_check_image, platform_check_image) and of TP-Link's
updater.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from imagebuilder.config.board import Board
from imagebuilder.firmware.checks import equal, holds, same_number
from imagebuilder.firmware.inspection import kernel_version
from imagebuilder.firmware.subject import Subject, in_image, of_kind, on_boot_partition
from imagebuilder.model.firmware import FLASH_LAYOUTS, Check, Level, Part, Proof
from imagebuilder.model.release import Release

# from which series on a target's sysupgrade refuses an image without metadata (target/linux/*/base-files/lib/
# upgrade/platform.sh: REQUIRE_IMAGE_METADATA=1)
METADATA_REQUIRED_SINCE = {
    **dict.fromkeys(("ipq806x", "lantiq", "mvebu", "oxnas", "rb532"), "17.01"),
    **dict.fromkeys(("apm821xx", "brcm2708", "ipq40xx", "kirkwood", "mpc85xx"), "18.06"),
    **dict.fromkeys(("ath79", "gemini", "ramips", "tegra"), "19.07"),
    **dict.fromkeys(("bcm27xx", "bcm53xx", "layerscape", "mediatek", "realtek"), "21.02"),
    **dict.fromkeys(("bmips", "imx", "qoriq"), "22.03"),
    "ipq807x": "23.05",
    **dict.fromkeys(("qualcommax", "rockchip", "siflower", "stm32"), "24.10"),
    **dict.fromkeys(("ixp4xx", "microchipsw"), "25.12"),
    **dict.fromkeys(("airoha", "qualcommbe"), "26"),
}
# the oldest kernel of a series; forks that number no release still have one
_OLDEST_KERNELS = {"17.01": (4, 4), "18.06": (4, 9), "19.07": (4, 14), "21.02": (5, 4), "22.03": (5, 10)}
_KERNEL = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")
_REGION_TEXT = re.compile(r"(?:00000000;([0-9A-F]{8});\1)?", re.IGNORECASE)
_REGIONS = (0, 1)
_US_TEXT = "55530000"
_SUPPORTED = re.compile(
    r"\{product_name:(?P<name>[^,}]{1,64}),product_ver:(?P<version>[0-9]{1,3})[^}]{0,200}\}"
    r"|(?P<old>[A-Za-z0-9 _.-]{2,64})\([^)]{0,100}\)(?::(?P<old_version>[0-9]{1,3}))?"
)
_LEAST_LETTERS = 4
# parts of vendors' headers that hold a model's name: its field, and what that is called
_NAMING_HEADERS = {
    "dni": ("device", "device of the NETGEAR header"),
    "model-header": ("model", "model in the header"),
    "buffalo": ("product", "product of the Buffalo header"),
    "openmesh": ("type", "device of the OpenMesh header"),
}
# what profiles of targets without devices are called
_NO_NAMES = frozenset(("generic", "default"))


def tplink_checks(part: Part, board: Board, *, kind: str) -> Iterator[Check]:
    """A TP-Link header against the board's."""
    facts = board.tplink
    if facts is None:
        yield Check("TP-Link header", f"none: {board.id} has no hardware id", "one", False)
        return

    def number(name: str) -> int:
        value = part.value(name)
        return value if isinstance(value, int) else -1

    yield same_number("hardware id", facts.hwid, number("hardware id"), proves="device")
    yield equal("hardware revision", facts.hwrev, number("hardware revision"))
    yield equal("version of the TP-Link header", facts.header_version, number("header version") >> 24)
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


def tplink_v2_checks(part: Part, board: Board) -> Iterator[Check]:
    """A TP-Link header of version 2 or 3 against the board's ids, where its file has them."""
    facts, hwid, hwrev = board.tplink, part.value("hardware id"), part.value("hardware revision")
    if facts is not None and isinstance(hwid, int):
        yield same_number("hardware id", facts.hwid, hwid, proves="device")
        yield equal("hardware revision", facts.hwrev, hwrev)


def _metadata_required(subject: Subject) -> bool:
    """Whether the sysupgrade of that release wants metadata: the image's own says so, else its target's did
    from some series on. A fork's release may have no number, its kernel has."""
    if subject.rules.requires_metadata is not None:
        return subject.rules.requires_metadata
    since = METADATA_REQUIRED_SINCE.get(subject.profile.target.split("/")[0])
    if since is None:
        return False
    release = Release(subject.release)
    if release.name and not release.numbered:
        kernel = _KERNEL.match(kernel_version(subject.read.part))
        if kernel is not None:
            oldest = _OLDEST_KERNELS.get(since, max(_OLDEST_KERNELS.values()))
            return (int(kernel[1]), int(kernel[2])) >= oldest
    return not release.numbered or release.since(since)


def metadata_checks(subject: Subject) -> Iterator[Check]:
    """What the device's own sysupgrade compares first."""
    found = subject.read.metadata
    profile = subject.profile
    if subject.sysupgrade and (found is None or subject.read.metadata_packed):
        needed = _metadata_required(subject)
        yield holds(
            "metadata",
            not needed,
            expected="behind the image, as the file has it" if needed else "not needed by this target",
            found="none" if found is None else "only in what is compressed, where sysupgrade does not look",
        )
    if found is None:
        return
    wanted = profile.supported_devices or (profile.name,)
    known = _known(wanted)
    same = known & {_plain(name) for name in found.devices}
    if not profile.supported_devices:
        same |= {name for name in found.devices if _without_vendor(name, known)}
    devices = ", ".join(found.devices) or "none"
    proves: Proof = "device" if same else ""
    listed = bool(same) or any(name in wanted for name in found.devices)
    yield holds("supported devices", listed, expected=" or ".join(wanted), found=devices, proves=proves)
    yield equal("compat version", profile.compat_version, found.compat_version)
    if "/" in found.version.get("target", ""):
        yield equal("target in the metadata", profile.target, found.version["target"])


def _plain(name: str) -> str:
    return name.replace(",", "_").lower()


def _known(names: Iterable[str]) -> frozenset[str]:
    """Names as they are compared; those that name no device are left out."""
    return frozenset(_plain(name) for name in names) - _NO_NAMES


def name_checks(subject: Subject) -> Iterator[Check]:
    """Names of the device that do not depend on metadata: of a sysupgrade archive, in the kernel, and in
    vendors' headers."""
    known = _known(subject.names())
    sure = any(one.supported_devices for one in subject.board.profile)
    expected = " or ".join(subject.names())
    for part in of_kind(subject.part, "sysupgrade-tar"):
        board = part.value("board")
        if isinstance(board, str):
            same = _plain(board) in known
            fits = same or board in subject.names()
            proves: Proof = "device" if same else ""
            yield holds("board of the archive", fits, expected=expected, found=board, proves=proves)
    yield from _command_line_checks(subject, known, sure=sure)
    for part in in_image(subject.part, "device-tree"):
        yield from _tree_checks(subject, part, known)
    yield from _boot_tree_checks(subject)
    yield from _header_checks(subject, known)


def _command_line_checks(subject: Subject, known: frozenset[str], *, sure: bool) -> Iterator[Check]:
    """`board=` in the kernel's command line. 17.01 often names another device there, and only the board's
    file (boardname) or later releases' names tell which: without them it is no reason to refuse."""
    stated = {one.boardname for one in subject.board.profile if one.boardname}
    exact = subject.profile.boardname is not None
    expected = sorted(stated) if exact else subject.names()
    near = {_letters(name) for name in known}  # GL-AR150, XIAOMI_R3G
    level: Level = "error" if sure or exact else "warning"
    for part in of_kind(subject.part, "kernel", "elf"):
        named = part.value("board")
        if isinstance(named, str) and (sure or exact or subject.board.tplink is None):
            yield holds(
                "board in the kernel's command line",
                named in stated if exact else _letters(named) in near,
                expected=" or ".join(expected),
                found=named,
                level=level,
                proves="device",
            )


def _tree_checks(subject: Subject, part: Part, known: frozenset[str]) -> Iterator[Check]:
    """The kernel's device tree, by the name that a device with it has: what the image's own scripts say of
    its model, or the first name in it; a name further behind may be that of a device that is much alike."""
    names = part.value("compatible")
    if not isinstance(names, tuple) or not names:
        return
    scripted = subject.rules.board_name(str(part.value("model") or ""))
    own = scripted or names[0]
    proven = _plain(own) in known or _without_vendor(own, known)
    same = proven or any(_plain(name) in known or _without_vendor(name, known) for name in names)
    # names without a vendor are older than the rule that board names are those of device trees
    sure = any("," in name for one in subject.board.profile for name in one.supported_devices)
    sure = sure or (scripted != "" and subject.profile.supported_devices != ())
    level: Level = "error" if sure else "warning"
    found = ", ".join((scripted, *names) if scripted else names)
    yield holds(
        "device tree of the kernel",
        same,
        expected=" or ".join(subject.names()),
        found=found,
        level=level,
        proves="device" if proven else "",
    )


def _without_vendor(name: str, known: frozenset[str]) -> bool:
    """Up to 19.07 some profiles have no vendor in front, and their device trees have one. Where another
    profile of the board names its vendor, it has to be that one."""
    vendor, _, model = name.rpartition(",")
    bare = _plain(model.replace(" ", "-"))
    vendors = {one.removesuffix(f"_{bare}") for one in known if one.endswith(f"_{bare}")}
    return bare in known and (not vendors or not vendor or _plain(vendor) in vendors)


def _boot_tree_checks(subject: Subject) -> Iterator[Check]:
    """A boot partition may have trees for several boards, and overlays (.dtbo) for what is plugged into them;
    the loader takes the board's, so that one has to be there. Names without a vendor tell nothing: releases
    up to 18.06 have others (`rpi-3-b`) than the trees."""
    known = {name for name in _known(subject.names()) if "_" in name}
    trees = [
        part for part in on_boot_partition(subject.part, "device-tree") if not part.name.endswith(".dtbo")
    ]
    values = [part.value("compatible") for part in trees]
    devices = [name for value in values if isinstance(value, tuple) for name in value]
    if devices and known:
        same = any(_plain(name) in known for name in devices)
        expected = " or ".join(subject.names())
        found = ", ".join(dict.fromkeys(devices))
        yield holds(
            "device tree on the boot partition", same, expected=expected, found=found, proves="device"
        )


def _header_checks(subject: Subject, known: frozenset[str]) -> Iterator[Check]:
    """Names in the headers of boot loaders and vendors."""
    expected = " or ".join(subject.names())
    models = {_letters(name.rpartition("_")[2]) for name in known}
    sure_models = tuple(
        model for model in models if len(model) >= _LEAST_LETTERS and re.search("[0-9]", model)
    )
    for kind, (field, what) in _NAMING_HEADERS.items():
        for part in of_kind(subject.part, kind):
            named = str(part.value(field) or "")
            same = _letters(named) in models or _letters(named).endswith(sure_models)
            # a warning: some have a name of their own for a series of devices
            yield holds(what, same, expected=expected, found=named, level="warning", proves="device")
    for part in of_kind(subject.part, "uimage", "vendor-uimage"):
        title = str(part.value("name") or "")
        if {_letters(word) for word in (title, *title.split())} & {*sure_models}:
            yield holds("name in the uImage", True, expected=expected, found=title, proves="device")
    for part in of_kind(subject.part, "safeloader"):
        yield _support_check(part, models, expected)


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _support_check(part: Part, models: set[str], expected: str) -> Check:
    """SafeLoader's list of devices: `CPE210(TP-LINK|UN|N300-2):1.1` or `{product_name:Archer C7,
    product_ver:5.0.0,…}`. OpenWrt calls them by model and version (`cpe210-v1`, `archer-c7-v5`)."""
    lines = part.value("support-list")
    text = " ".join(lines) if isinstance(lines, tuple) else ""
    listed = [
        (_letters(found["name"] or found["old"]), found["version"] or found["old_version"] or "")
        for found in _SUPPORTED.finditer(text)
    ]
    exact = {name + mark for name, version in listed for mark in ("", f"v{version}")} - {""}
    known = {model for model in models if len(model) >= _LEAST_LETTERS}
    same = any(name in models or name.endswith(tuple(known)) for name in exact)  # Archer C2600: c2600
    bare = {re.sub(r"v[0-9]+$", "", model) for model in known}
    near = any(name in model or model in name for name, _ in listed if name for model in bare if model)
    level: Level = "warning" if near else "error"  # a version or a series that OpenWrt calls otherwise
    return holds("support list", same, expected=expected, found=text[:120], level=level, proves="device")


def identity_checks(checks: Sequence[Check], board: Board) -> Iterator[Check]:
    """Whether anything in the image says that it is for this processor and for this very device; what other
    checks have found is looked through. Where nothing does, it cannot be told."""
    for proof, what, expected in (
        ("processor", "processor of the image", "one that kernel or programs show"),
        ("device", "name of the device", f"something that names {board.id}"),
    ):
        proofs = [check for check in checks if check.proves == proof]
        shown = next((check for check in proofs if check.ok), None)
        others = ", ".join(dict.fromkeys(check.found for check in proofs))
        found = f"only {others}" if others else "nothing in it tells"
        if shown is not None:
            found = f"by the {shown.what}"
        yield holds(what, shown is not None, expected=expected, found=found, level="unsure")
