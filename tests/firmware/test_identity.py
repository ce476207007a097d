"""What an image is for: it passes only where it shows the board's processor and names the device; where it
does neither, nobody can say."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.config.board import Board
from imagebuilder.firmware.rootfs import SystemRules, cases_of
from imagebuilder.firmware.verify import verify
from imagebuilder.firmware.verify_machine import Machine, code_machine
from imagebuilder.model.firmware import Check, Outcome, outcome_of
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

XIAOMI, ARMSR, PC = "xiaomi-mi-router-3g", "qemu-armsr-armv7", "x86-64"
LITTLE_MIPS = (8, "little")
MIPSEL = {"arch": "mipsel_24kc", "machine": LITTLE_MIPS}


def checks_of(
    tmp_path: Path, data: bytes, board: str | Board, name: str = "image.bin", **more: str
) -> tuple[Check, ...]:
    (tmp_path / name).write_bytes(data)
    return verify(tmp_path / name, images.board(board) if isinstance(board, str) else board, **more)


def untold(checks: tuple[Check, ...]) -> list[str]:
    return [check.what for check in checks if check.unsure]


def ramips_kernel(*names: str, machine: tuple[int, str] = LITTLE_MIPS, model: str = "A router") -> bytes:
    """A kernel as ramips packs it: its device tree appended, in LZMA, in a uImage."""
    tree = make.device_tree(names, model) if names else b""
    return make.uimage(make.kernel("", machine=machine, tree=tree), name=b"MIPS OpenWrt Linux-4.14.171")


ERX = ("ubiquiti,edgerouterx", "mediatek,mt7621-soc")
MIR3G = ("xiaomi,mir3g", "mediatek,mt7621-soc")


@pytest.mark.parametrize(
    ("kernel", "outcome", "because"),
    [
        (ramips_kernel(*MIR3G), "passed", []),
        (ramips_kernel(*ERX), "refused", ["device tree of the kernel"]),
        (ramips_kernel(machine=make.MIPS), "refused", ["processor of the kernel code"]),
        (ramips_kernel(*MIR3G, machine=make.MIPS), "refused", ["processor of the kernel code"]),
        (ramips_kernel(), "cannot be told", ["name of the device"]),
        (make.uimage(make.noise(5000)), "cannot be told", ["processor of the image", "name of the device"]),
    ],
)
@pytest.mark.parametrize("name", ["image.bin", "x-kernel1.bin"])
def test_a_kernel_alone_is_for_the_board_that_its_device_tree_names(
    tmp_path: Path, name: str, kernel: bytes, outcome: Outcome, because: list[str]
) -> None:
    """A RAM kernel of another router, a big-endian one and any file in a uImage are none of the board's,
    though their headers have its processor."""
    checks = checks_of(tmp_path, kernel, XIAOMI, name)
    assert outcome_of(checks) == outcome
    wrong = images.refusing(checks) if outcome == "refused" else untold(checks)
    assert [line.partition(":")[0] for line in wrong] == because


@pytest.mark.parametrize(
    ("kernel", "outcome"),
    [
        (make.elf(make.MIPS), "refused"),
        (make.elf(LITTLE_MIPS), "refused"),
        (make.kernel(), "refused"),
        (make.uimage(make.kernel(), machine=2), "refused"),
        (make.bzimage(), "refused"),
        (make.uimage(make.zimage(), machine=2), "cannot be told"),
        (make.zimage(), "cannot be told"),
    ],
)
def test_a_kernel_for_another_processor_is_refused(tmp_path: Path, kernel: bytes, outcome: Outcome) -> None:
    """A kernel for a machine that has no name passes for none, but it is not refused."""
    assert outcome_of(checks_of(tmp_path, kernel, ARMSR, "x-generic-kernel.bin")) == outcome


def test_a_32_bit_kernel_is_none_for_a_64_bit_pc(tmp_path: Path) -> None:
    narrow = bytearray(make.bzimage())
    narrow[0x236] = 0
    for kernel, outcome in ((make.bzimage(), "cannot be told"), (bytes(narrow), "refused")):
        checks = checks_of(tmp_path, kernel, PC, "openwrt-19.07.4-vmlinuz.bin", release="19.07.4")
        assert outcome_of(checks) == outcome


def test_a_file_system_that_is_not_looked_into_is_not_passed(tmp_path: Path) -> None:
    ubifs = struct.pack("<I", 0x06101831) + make.noise(696)
    checks = checks_of(tmp_path, ubifs, PC)
    assert outcome_of(checks) == "cannot be told"
    assert untold(checks) == ["processor of the image", "name of the device"]


FOREIGN = (
    images.tplink(),
    images.glinet(),
    images.netgear(),
    images.archive(),
    images.xiaomi_ubi(),
    images.fit_image(),
    images.efi_disk(),
    ramips_kernel(*ERX),
    make.squashfs(),
    make.elf(),
    make.trx([make.kernel(), make.squashfs()]),
)


@pytest.mark.parametrize("image", FOREIGN, ids=range(len(FOREIGN)))
def test_a_format_that_nobody_has_stated_passes_nothing(tmp_path: Path, image: bytes) -> None:
    """Not even the board's own image, which is not refused; nor is what names no other device."""
    nameless = (images.glinet(), images.netgear(), make.squashfs())
    known = images.board("glinet-gl-ar150")
    stated = known.images["sysupgrade"].model_copy(update={"format": "unknown"})
    board = known.model_copy(update={"images": {"sysupgrade": stated}})
    for name in ("image.bin", "x-sysupgrade.bin"):
        checks = checks_of(tmp_path, image, board, name)
        assert outcome_of(checks) == ("cannot be told" if image in nameless else "refused")
        assert "format of the image" in untold(checks)


def damaged_images() -> dict[str, bytes]:
    uimage, elf, bare = ramips_kernel(*MIR3G), make.elf(), make.kernel()
    longer = uimage[:0x0C] + b"\x7f" + uimage[0x0D:]
    head = longer[:4] + bytes(4) + longer[8:64]
    wrong_length = longer[:4] + struct.pack(">I", zlib.crc32(head)) + longer[8:]
    tplink = images.tplink()
    return {
        "a uImage that is cut in its kernel": uimage[:-1000],
        "a uImage whose length is wrong": longer,
        "a uImage whose length is wrong and its checksum right": wrong_length,
        "an ELF that is cut": elf[:-1000],
        "an ELF without most of its header": elf[:40].ljust(600, b"\0"),
        "a uImage of a cut ELF": make.uimage(elf[:-1000], compression=0),
        "a uImage of cut LZMA": make.uimage(bare[: len(bare) // 2]),
        "a uImage with a cut squashfs": images.glinet()[: images.glinet().index(b"hsqs") + 3000],
        "a zImage that is cut": make.zimage()[:-1000],
        "a TP-Link header alone": tplink[:600],
        "an archive that is cut": images.archive(metadata=False)[:9000],
        "a device tree that is cut": make.device_tree(["x,y"]).ljust(600, b"\0")[:80].ljust(600, b"\0"),
    }


@pytest.mark.parametrize("case", damaged_images())
def test_a_damaged_part_is_a_failed_check_for_every_board(tmp_path: Path, case: str) -> None:
    data = damaged_images()[case]
    for board in (XIAOMI, ARMSR, PC, "qemu-malta-be", "glinet-gl-ar150", "tplink-tl-wr740n-v4"):
        assert outcome_of(checks_of(tmp_path, data, board)) == "refused", board


CHANGES = 40
# parts of which no checksum of their own or of what lies around them covers every byte
UNCOVERED = ("ubi",)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("tplink-sysupgrade", "x-sysupgrade.bin"),
        ("tplink-factory", "x-factory.bin"),
        ("uimage-squashfs", "x-sysupgrade.bin"),
        ("ubi-factory", "x-factory.img"),
        ("sysupgrade-tar", "x-sysupgrade.bin"),
        ("signed", "x-sysupgrade.bin"),
        ("pi-card", "x-sysupgrade.img.gz"),
    ],
)
def test_a_changed_byte_is_never_passed_where_a_checksum_covers_it(
    tmp_path: Path, name: str, file: str
) -> None:
    sample = next(one for one in images.samples() if one.name == name)
    assert outcome_of(checks_of(tmp_path, sample.data, sample.board, file)) == "passed"
    for at, value in images.renamed(sample, changing=()).places(CHANGES, seed=11):
        checks = checks_of(tmp_path, images.changed(sample, at, value), sample.board, file)
        if outcome_of(checks) != "refused":
            inside = [part for part in images.read(sample.data).walk() if part.kind in UNCOVERED]
            assert any(part.offset <= at < part.offset + part.size for part in inside), hex(at)


def short_images() -> dict[str, tuple[str, str, bytes]]:
    tree = make.device_tree(MIR3G)
    code = make.kernel("", size=400, machine=LITTLE_MIPS, tree=tree)
    tar = make.sysupgrade_tar("mir3g", {"kernel": make.uimage(code), "root": b"hsqs" + bytes(600)})
    return {
        "a uImage": (XIAOMI, "x-kernel1.bin", make.uimage(code)),
        "an ELF": ("qemu-malta-be", "x-vmlinux.bin", make.elf()),
        "an archive": (XIAOMI, "x-sysupgrade.bin", make.metadata(tar, supported_devices=["xiaomi,mir3g"])),
    }


@pytest.mark.parametrize("case", short_images())
def test_no_beginning_of_an_image_passes(tmp_path: Path, case: str) -> None:
    board, name, data = short_images()[case]
    for size in (*range(1, len(data), max(1, len(data) // 1000)), len(data) - 1):
        checks = checks_of(tmp_path, data[:size], board, name)
        assert outcome_of(checks) == "refused", size


RAMIPS = (
    '#!/bin/sh\n\tcase "$machine" in\n\t*"GL-MT300N-V2")\n\t\tname="gl-mt300n-v2"\n\t\t;;\n'
    '\t*"Kingston MLW221"|\\\n\t"Kingston MLWG2")\n\t\tname="mlw221"\n\t\t;;\n\tesac\n'
)


def old_ramips_board(*devices: str) -> Board:
    """A board of 18.06 as `boards add` writes it: names have no vendor."""
    profile = {"target": "ramips/mt76x8", "arch": "mipsel_24kc", "releases": "18.06"}
    return Board.model_validate(
        {
            "id": "gl-mt300n-v2",
            "name": "GL-MT300N-V2",
            "soc": "MT7628",
            "ram": "128M",
            "flash": "16M",
            "profile": [{**profile, "name": "gl-mt300n-v2", "supported_devices": devices}],
            "images": {"sysupgrade": {"format": "uimage-squashfs"}},
        }
    )


def old_ramips_image(*names: str, model: str, scripts: str = RAMIPS, devices: tuple[str, ...] = ()) -> bytes:
    root = make.squashfs(
        release="18.06.4",
        target="ramips/mt76x8",
        scripts=(("lib/ramips.sh", scripts), ("lib/upgrade/platform.sh", "platform_check_image() {\n")),
        **MIPSEL,  # type: ignore[arg-type]
    )
    image = make.nor_sysupgrade(ramips_kernel(*names, model=model), root)
    return make.metadata(image, supported_devices=devices) if devices else image


VENDORED, SOC = "glinet,gl-mt300n-v2", "mediatek,mt7628an-soc"
OWN, OTHER = ("gl-mt300n-v2",), ("mlw221",)


@pytest.mark.parametrize(
    ("tree", "model", "listed", "outcome"),
    [
        (VENDORED, "GL-MT300N-V2", (), "passed"),
        (VENDORED, "GL-MT300N-V2", OWN, "passed"),
        (SOC, "GL.iNet GL-MT300N-V2", (), "passed"),
        (SOC, "a model that no script knows", (), "cannot be told"),
        (SOC, "a model that no script knows", OWN, "passed"),
        (SOC, "Kingston MLWG2", (), "refused"),
        (SOC, "Kingston MLWG2", OWN, "refused"),
        (SOC, "ZyXEL Kingston MLWG2", (), "cannot be told"),
        (VENDORED, "GL-MT300N-V2", OTHER, "refused"),
    ],
)
def test_a_device_is_called_what_the_images_own_system_calls_it(
    tmp_path: Path, tree: str, model: str, listed: tuple[str, ...], outcome: Outcome
) -> None:
    """As 18.06's sysupgrade does it: the scripts of the target make a name of the model; where they know
    none, it is the device tree's, with a vendor that the profile has not."""
    image = old_ramips_image(tree, model=model, devices=listed)
    checks = checks_of(tmp_path, image, old_ramips_board("gl-mt300n-v2"), "x-sysupgrade.bin")
    assert outcome_of(checks) == outcome, images.refusing(checks)


@pytest.mark.parametrize(
    ("devices", "listed", "outcome"),
    [
        (("glinet,gl-mt300n-v2",), (), "passed"),
        (("glinet,gl-mt300n-v2",), ("gl-mt300n-v2",), "refused"),
        (("glinet,gl-mt300a",), (), "refused"),
    ],
)
def test_metadata_may_name_a_vendor_where_the_board_knows_only_its_profile(
    tmp_path: Path, devices: tuple[str, ...], listed: tuple[str, ...], outcome: Outcome
) -> None:
    """Where the board's file lists devices, sysupgrade compares them to the letter."""
    image = old_ramips_image(VENDORED, model="GL-MT300N-V2", devices=devices)
    checks = checks_of(tmp_path, image, old_ramips_board(*listed), "x-sysupgrade.bin")
    assert outcome_of(checks) == outcome


@pytest.mark.parametrize(
    ("release", "kernel", "script", "refused"),
    [
        ("18.06.4", b"", None, False),
        ("19.07.8", b"", None, True),
        ("19.07.8", b"", "platform_check_image() {\n", False),
        ("18.06.4", b"", "REQUIRE_IMAGE_METADATA=1\n", True),
        ("18.06.4", b"", "#REQUIRE_IMAGE_METADATA=1\n", False),
        ("Bleeding Edge", b"Linux-3.18.20", None, False),
        ("2019-02-01-git-0231ad4b5", b"Linux-3.14.79", None, False),
        ("Bleeding Edge", b"Linux-6.6.100", None, True),
        ("SNAPSHOT", b"Linux-6.6.100", None, True),
    ],
)
def test_metadata_is_wanted_as_the_images_own_version_wants_it(
    tmp_path: Path, release: str, kernel: bytes, script: str | None, refused: bool
) -> None:
    """A release that has no number is as old as its kernel."""
    scripts = () if script is None else (("lib/upgrade/platform.sh", script),)
    facts = {"target": "ramips/mt76x8", "release": release, "scripts": scripts}
    root = make.squashfs(**facts, **MIPSEL)  # type: ignore[arg-type]
    code = b"Linux version " + (kernel.removeprefix(b"Linux-") or b"4.14.171") + b" (x) " + make.noise(3000)
    image = make.nor_sysupgrade(make.uimage(make.gz(code), compression=1, name=b"MIPS " + kernel), root)
    checks = checks_of(tmp_path, image, old_ramips_board(), "x-sysupgrade.bin")
    assert any(line.startswith("metadata") for line in images.refusing(checks)) == refused


def test_what_shell_scripts_say_of_names() -> None:
    assert cases_of(RAMIPS) == [
        ('*"GL-MT300N-V2"', "gl-mt300n-v2"),
        ('*"Kingston MLW221"', "mlw221"),
        ('"Kingston MLWG2"', "mlw221"),
    ]
    assert cases_of('*"A"|*ALL0258N)\nboard="b"\n*)\nname="none"\n"C")\n:\nname="c"\n') == [
        ('*"A"', "b"),
        ("*ALL0258N", "b"),
    ]


@pytest.mark.parametrize(
    ("pattern", "model", "fits"),
    [
        ('*"MLW221"', "Kingston MLW221", True),
        ('*"MLW221"', "MLW221x", False),
        ('"MLW*"', "MLW221", False),
        ('"MLW*"', "MLW*", True),
        ("MLW*1", "MLW221", True),
        ("MLW*LW", "MLW", False),
        ("A*B*C", "A-C-B", False),
        ("A*B*C", "A-B-C", True),
    ],
)
def test_a_pattern_of_a_shells_case(pattern: str, model: str, fits: bool) -> None:
    assert SystemRules(names=((pattern, "yes"),)).board_name(model) == ("yes" if fits else "")


@given(st.text(max_size=400), st.text(max_size=40))
def test_any_script_gives_names_or_none(script: str, model: str) -> None:
    for text in (script, f'case x in\n{script})\nname="a"\n'):
        name = SystemRules(names=tuple(cases_of(text))).board_name(model)
        assert name in ("", *(known for _, known in cases_of(text)))


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        (make.MIPS, Machine("mips", "big endian")),
        (LITTLE_MIPS, Machine("mips", "little endian")),
        (make.ARM, Machine("arm", "little endian")),
        ((183, "little"), Machine("aarch64", "little endian")),
        ((20, "big"), Machine("powerpc", "big endian")),
    ],
)
def test_bare_code_tells_its_processor(machine: tuple[int, str], told: Machine) -> None:
    assert code_machine(make.functions(machine)) == told
    assert code_machine(make.functions(machine, 20)) is None
    assert code_machine(make.functions(machine) + make.functions(make.MIPS, 150)) != told or told == Machine(
        "mips", "big endian"
    )


@given(st.binary(max_size=4096))
def test_bytes_that_are_no_code_tell_nothing(data: bytes) -> None:
    assert code_machine(data) is None
