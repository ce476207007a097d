"""`boards`, `boards search`, `boards add` and `boards check`, on the small tree and on the genuine one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.ask import look_at_tree
from imagebuilder.config.board import Partition, TplinkHeader
from imagebuilder.config.boards_write import FILL_IN, _emulation, board_text, places_to_fill_in, write_board
from imagebuilder.config.bring import BroughtImage
from imagebuilder.config.bring_write import boards_for
from imagebuilder.config.device import DeviceFacts, ImageFacts
from imagebuilder.config.library import Library
from imagebuilder.config.request import requests
from imagebuilder.config.toml import parse_toml
from imagebuilder.errors import UserError
from imagebuilder.host.run import run
from imagebuilder.log import Log
from imagebuilder.model.tree import TreeError
from imagebuilder.seen import known_facts
from imagebuilder.tree.device_facts import device_facts
from tests.support.planning import plan_image

PROJECT = Path(__file__).resolve().parents[2]
Cli = Callable[..., subprocess.CompletedProcess[str]]

# what a tree's makefiles say of the small tree's two devices, in the way of OpenWrt's
IMAGE_MAKEFILE = """\
define Device/Default
  IMAGES := sysupgrade.bin
endef
define Device/tplink-4mlzma
  TPLINK_FLASHLAYOUT := 4Mlzma
  TPLINK_HWREV := 0x1
  SOC := ar9331
  IMAGE_SIZE := 3904k
  IMAGES += factory.bin
  IMAGE/sysupgrade.bin := tplink-v1-image sysupgrade | append-metadata
  IMAGE/factory.bin := tplink-v1-image factory
endef
define Device/tplink_tl-wr740n-v4
  $(Device/tplink-4mlzma)
  TPLINK_HWID := 0x07400004
  SUPPORTED_DEVICES := tplink,tl-wr740n-v4 tl-wr741nd-v4
endef
define Device/tplink_tl-wr741nd-v4
  $(Device/tplink-4mlzma)
  TPLINK_HWID := 0x07410004
  SUPPORTED_DEVICES := tplink,tl-wr741nd-v4
  DEVICE_COMPAT_VERSION := 2.0
endef
TARGET_DEVICES += tplink_tl-wr740n-v4 tplink_tl-wr741nd-v4
"""


@pytest.fixture
def telling_tree(small_tree: Path) -> Path:
    """The small tree with image makefiles."""
    folder = small_tree / "target/linux/ath79/image"
    folder.mkdir(parents=True)
    (folder / "Makefile").write_text(IMAGE_MAKEFILE)
    kernel = small_tree / "build_dir/target-x/linux-ath79_tiny/tplink_tl-wr741nd-v4-kernel.bin"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_bytes(b"kernel" * 200_000)
    return small_tree


@pytest.fixture
def boards(project: Path, tmp_path: Path) -> Cli:
    def call(*argv: str | Path, command: str = "boards") -> subprocess.CompletedProcess[str]:
        cache = ["--cache", str(tmp_path / "cache")] if {"add", "check", "router"} & {*argv} else []
        return subprocess.run(
            [sys.executable, "-m", "imagebuilder", command, *map(str, argv), "--project", project, *cache],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return call


# --- lists


def test_the_list_and_its_filters(boards: Cli) -> None:
    listed = boards().stdout
    assert "tplink-tl-wr740n-v5" in listed
    assert "openmoko-neo1973" in listed
    assert "OpenWrt's target s3c24xx was dropped" in listed
    roomy = boards("--flash", ">=8M", "--ram", ">=64M").stdout
    assert "glinet-gl-ar150" in roomy
    assert "tl-wr740n" not in roomy
    assert "openmoko" not in roomy
    found = boards("search", "tp-link", "v4").stdout
    assert "tplink-tl-wr740n-v4" in found
    assert "v5" not in found
    assert "no board is like that" in boards("search", "nosuch").stdout
    assert "s3c24xx" in boards("search", "freerunner").stdout


def test_the_list_as_json(boards: Cli) -> None:
    facts = {each["id"]: each for each in json.loads(boards("--json").stdout)}
    assert facts["gumstix-overo"]["supported"] is False
    assert "omap" in facts["gumstix-overo"]["reason"]
    assert facts["glinet-gl-ar150"]["supported"] is True
    assert facts["glinet-gl-ar150"]["flash"] == 16 << 20
    assert facts["raspberrypi-2"]["flash"] == "removable"
    assert [each["id"] for each in json.loads(boards("search", "mir3g", "--json").stdout)] == [
        "xiaomi-mi-router-3g"
    ]
    assert json.loads(boards("search", "nosuch", "--json").stdout) == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--flash", "8M"), "--flash '8M' compares nothing"),
        (("search",), "Missing argument"),
        (("add", "x"), "no ImageBuilder was given"),
        (("check", "nosuch", "--imagebuilder", "x"), "unknown board 'nosuch'"),
        (("check", "--imagebuilder", "nowhere"), "there is no ImageBuilder at nowhere"),
        (("add", "x", "--imagebuilder", "x", "--ram", "much"), "--ram 'much': expected a size"),
        (("--ram", ">=1M", "search", "x"), f"command: {sys.executable} -m imagebuilder boards search …"),
    ],
)
def test_mistakes(boards: Cli, argv: tuple[str, ...], words: str) -> None:
    ended = boards(*argv)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_board_that_is_not_supported_says_why(boards: Cli, small_tree: Path) -> None:
    for command, argv in (
        ("show", ("telit-modules",)),
        ("plan", ("router", "--board", "telit-modules", "--imagebuilder", small_tree)),
    ):
        ended = boards(*argv, command=command)
        assert ended.returncode == 2
        assert (
            "'telit-modules' (Telit GSM/GPRS modules with Python, AarLogic) is not supported" in ended.stderr
        )


def test_a_data_sheet(boards: Cli) -> None:
    sheet = boards("tplink-tl-wr740n-v5", command="show").stdout
    for words in (
        "0x07400005, revision 0x1",
        "kernel_and_rootfs 3669504 bytes",
        "0x003f0000",
        "qemu-malta-be",
    ):
        assert words in sheet
    assert "tplink,tl-wr740n-v5, tl-wr741nd-v4" in sheet
    assert "only an ImageBuilder makes it" in sheet
    sheet = boards("qemu-malta-be", command="show").stdout
    assert "qemu-system-mips -machine malta -cpu 24Kc -m 256M" in sheet


# --- add


def test_a_board_from_what_a_tree_says(boards: Cli, project: Path, telling_tree: Path) -> None:
    argv = ("add", "tplink_tl-wr741nd-v4", "--imagebuilder", telling_tree)
    ended = boards(*argv, "--json")
    assert ended.returncode == 0, ended.stderr
    facts = json.loads(ended.stdout)
    path = project / "boards/tplink-tl-wr741nd-v4.toml"
    assert facts == {
        "board": "tplink-tl-wr741nd-v4",
        "file": str(path),
        "fill_in": [{"line": 7, "wanted": 'the memory, "32M"'}],
    }
    assert path.read_text().splitlines()[6].startswith('ram   = "unknown"')
    board = Library(project).board("tplink-tl-wr741nd-v4")
    assert (board.name, board.soc, board.ram, board.flash) == (
        "TP-Link TL-WR741ND v4",
        "ar9331",
        None,
        4 << 20,
    )
    assert board.tplink == TplinkHeader(hwid=0x07410004, hwrev=1, flash_layout="4Mlzma")
    assert (board.layout.firmware, board.layout.kernel_and_rootfs) == (3997696, 3669504)
    assert {name: image.format for name, image in board.images.items()} == {
        "sysupgrade": "tplink-v1",
        "factory": "tplink-v1",
    }
    (profile,) = board.profile
    assert (profile.releases, profile.target, profile.arch) == ("23.05", "ath79/tiny", "mips_24kc")
    assert (profile.supported_devices, profile.compat_version) == (("tplink,tl-wr741nd-v4",), "2.0")
    assert board.emulation.twin == "qemu-malta-be"
    planned = boards(
        *("router", "--board", board.id, "--imagebuilder", telling_tree, "--json"), command="plan"
    )
    assert json.loads(planned.stdout)[0]["profile"]["name"] == "tplink_tl-wr741nd-v4"
    again = boards(*argv, "--ram", "32M")
    assert again.returncode == 2
    assert "there is a board 'tplink-tl-wr741nd-v4' already" in again.stderr
    forced = boards(*argv, "--ram", "32M", "--force")
    assert "fill in" not in forced.stdout
    assert Library(project).board(board.id).ram == 32 << 20


def test_a_board_that_little_is_known_of(boards: Cli, project: Path, small_tree: Path) -> None:
    ended = boards("add", "tplink_tl-wr741nd-v4", "--imagebuilder", small_tree, "--name", "mine")
    assert ended.returncode == 0, ended.stderr
    path = project / "boards/mine.toml"
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert (f"{path}:{number}: " in ended.stdout) is ("FILL IN:" in line)
    assert len(places_to_fill_in(path.read_text())) == 6
    board = Library(project).board("mine")
    assert (board.soc, board.ram, board.flash, board.tplink) == ("unknown", None, None, None)
    assert board.layout.firmware is None
    assert board.images["sysupgrade"].format == "unknown"
    shown = boards("mine", command="show").stdout
    assert "unknown" in shown
    assert "mine " in boards().stdout
    assert "mine " not in boards("--ram", ">=0").stdout


def test_what_add_refuses(boards: Cli, project: Path, telling_tree: Path) -> None:
    before = sorted(project.rglob("*"))
    argv = ("--imagebuilder", telling_tree)
    unknown = boards("add", "tl-wr741nd", *argv)
    assert unknown.returncode == 2
    assert "has no profile 'tl-wr741nd'" in unknown.stderr
    assert "nearest profiles: tplink_tl-wr741nd-v4" in unknown.stderr
    twice = boards("add", "tplink_tl-wr740n-v4", *argv)
    assert twice.returncode == 2
    assert "there is a board 'tplink-tl-wr740n-v4' already" in twice.stderr
    assert "--name" in twice.stderr
    for name in ("../x", "", "Big", "unsupported", "a b"):
        ended = boards("add", "tplink_tl-wr741nd-v4", *argv, "--name", name)
        assert f"'{name}' cannot be a board's name" in ended.stderr
    small = boards("add", "tplink_tl-wr741nd-v4", *argv, "--flash", "2M")
    assert small.returncode == 2
    assert "layout.firmware: ends at 3997696 bytes, but the flash has 2097152" in small.stderr
    assert sorted(project.rglob("*")) == before


def test_an_own_board_beside_the_one_that_comes_along(boards: Cli, project: Path, telling_tree: Path) -> None:
    """A name that somebody chose is meant."""
    argv = ("add", "tplink_tl-wr740n-v4", "--imagebuilder", telling_tree, "--name", "attic")
    ended = boards(*argv, "--ram", "64M")
    assert ended.returncode == 0, ended.stderr
    library = Library(project)
    assert library.board("attic").ram == 64 << 20
    assert library.board("tplink-tl-wr740n-v4").ram == 32 << 20
    assert "there is a board 'attic' already" in boards(*argv).stderr
    kernels = telling_tree / "build_dir/target-x/linux-ath79_tiny"
    (kernels / "tplink_tl-wr740n-v4-kernel.bin").write_bytes(b"kernel" * 200_000)
    planned = boards("router", "--board", "attic", "--imagebuilder", telling_tree, "--json", command="plan")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)[0]["profile"]["name"] == "tplink_tl-wr740n-v4"


def test_what_is_imported_is_for_the_own_board(tmp_path: Path, telling_tree: Path) -> None:
    library = Library(tmp_path)
    image = BroughtImage(
        "a script", profiles=("tplink_tl-wr740n-v4",), target="ath79/tiny", release="23.05.5"
    )
    assert boards_for(library, image) == (("tplink-tl-wr740n-v4",), ())
    facts = device_facts(look_at_tree(str(telling_tree), tmp_path / "cache", Log()), "tplink_tl-wr740n-v4")
    write_board(library, facts, "attic")
    assert boards_for(library, image) == (("attic",), ())
    write_board(library, facts, "barn")
    names, (note,) = boards_for(library, image)
    assert names == ()
    assert "that of several boards: attic, barn" in note


def test_a_tree_that_says_nothing_of_images(tmp_path: Path) -> None:
    """x86 before 21.02: a board for the same profile does, and only what it requires is required."""
    library = Library(tmp_path)
    more = {"profile": "Generic", "version": "19.07.4", "target": "x86/64", "arch": "x86_64"}
    with pytest.raises(UserError, match="'Generic' of x86/64 is the board 'x86-64' already") as refused:
        write_board(library, FACTS.model_copy(update=more))
    assert "--name" in (refused.value.hint or "")
    written = write_board(library, FACTS.model_copy(update=more), "mine")
    (profile,) = library.board("mine").profiles_for("19.07.4")
    images = library.board("mine").for_profile(profile).images
    assert {name: (image.format, image.file) for name, image in images.items()} == {
        "combined": ("bios-disk", "combined-{fs}")
    }
    assert "# as in boards/x86-64.toml" in written.path.read_text()
    other = write_board(library, FACTS.model_copy(update={**more, "profile": "Geode"}), "other")
    assert 'sysupgrade = { format = "unknown", required = true }' in other.path.read_text()


@pytest.mark.kit
def test_a_board_for_the_kit_has_the_image_that_the_kit_makes(tmp_path: Path, kit: Path) -> None:
    tree = look_at_tree(str(kit), tmp_path / "cache", Log())
    write_board(Library(tmp_path), known_facts(tree, "qemu-x86-64"), "mine", ram=256 << 20)
    (tmp_path / "firmware.toml").write_text("")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/home.toml").write_text('boards = ["mine"]\nrelease = "embedded"\n')
    built = run([sys.executable, "-m", "imagebuilder", "build", "home", "--json"], cwd=tmp_path)
    (image,) = json.loads(built.stdout)[0]["images"]
    assert image["type"] == "combined-efi"


FACTS = DeviceFacts(
    profile="acme_one",
    title="Acme One",
    distribution="OpenWrt",
    version="24.10.4",
    target="ath79/generic",
    arch="mips_24kc",
    images={},
)


def test_a_board_with_a_disk(library: Library) -> None:
    facts = FACTS.model_copy(
        update={"arch": "aarch64_cortex-a53", "images": {"factory": ImageFacts(format="sd-card")}}
    )
    written = write_board(library, facts)
    board = library.board("acme-one")
    assert board.flash == "removable"
    assert "firmware" not in written.path.read_text()
    assert board.emulation.twin == "qemu-armsr-armv8"


def test_comments_stand_apart_from_long_values() -> None:
    text = board_text(FACTS.model_copy(update={"boardname": "x" * 40}), [])
    assert f'boardname = "{"x" * 40}" # board= of' in text


def test_a_tree_whose_release_has_no_name(library: Library) -> None:
    for version in ("19.02-PandoraBox", "r10969"):
        if version[0].isdigit():
            assert 'releases = "19.02"' in board_text(FACTS.model_copy(update={"version": version}), [])
            continue
        with pytest.raises(UserError, match="which no board file can name"):
            write_board(library, FACTS.model_copy(update={"version": version}))
    for version in ("snapshot", "embedded"):
        assert f'releases = "{version}"' in board_text(FACTS.model_copy(update={"version": version}), [])


texts = st.text(max_size=12)
sizes = st.none() | st.integers(0, 1 << 40)


@given(
    title=texts,
    soc=st.none() | texts,
    arch=st.sampled_from(["mips_24kc", "riscv64", "arm_cortex-a9_vfpv3", "x86_64"]),
    image_size=sizes,
    ram=sizes,
    devices=st.none() | st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)),
    parts=st.lists(st.integers(0, 1 << 30), max_size=3),
)
def test_whatever_a_tree_says_the_file_loads(
    *,
    title: str,
    soc: str | None,
    arch: str,
    image_size: int | None,
    ram: int | None,
    devices: list[str] | None,
    parts: list[int],
) -> None:
    facts = FACTS.model_copy(
        update={
            "title": title,
            "soc": soc,
            "arch": arch,
            "image_size": image_size,
            "supported_devices": None if devices is None else tuple(devices),
            "partitions": tuple(Partition(name=f"p{size}", offset=size, size=size) for size in parts),
        }
    )
    library = Library(PROJECT)
    text = board_text(facts, library.board_names(), ram=ram)
    board = library.checked_board("x", parse_toml(text.encode(), Path("x.toml")))
    assert (board.ram, board.layout.firmware) == (ram, image_size)
    assert [part.size for part in board.layout.partitions] == parts
    assert list(board.profile[0].supported_devices) == (devices or [])


# --- check


def test_a_board_that_agrees_with_its_tree(boards: Cli, telling_tree: Path) -> None:
    argv = ("check", "tplink-tl-wr740n-v4", "--imagebuilder", telling_tree)
    ended = boards(*argv)
    assert ended.returncode == 0, ended.stdout
    assert "0 differ" in ended.stdout
    facts = json.loads(boards(*argv, "--json").stdout)
    checked = {(each["board"], each["fact"]) for each in facts["checks"]}
    for fact in ("profile", "package architecture", "hardware id", "supported devices", "image factory"):
        assert ("tplink-tl-wr740n-v4", fact) in checked


def test_a_board_that_differs_from_its_tree(boards: Cli, project: Path, telling_tree: Path) -> None:
    path = project / "boards/tplink-tl-wr740n-v4.toml"
    text = path.read_text()
    for was, wrong in (
        ("hwid = 0x07400004", "hwid = 0x07400005"),
        ('firmware          = "3904K"', 'firmware          = "3900K"'),
        ("factory    =", "recovery   ="),
        ('"tl-wr741nd-v4"]', '"tl-wr741n-v4"]'),
    ):
        assert was in text
        text = text.replace(was, wrong)
    path.write_text(text)
    ended = boards("check", path.stem, "--imagebuilder", telling_tree)
    assert ended.returncode == 2
    lines = [line.split() for line in ended.stdout.splitlines() if line.startswith("DIFFERS")]
    assert [line[2:] for line in lines] == [
        ["image", "size", "(IMAGE_SIZE)", "3993600", "bytes", "3997696", "bytes"],
        ["hardware", "id", "0x07400005", "0x07400004"],
        *[
            [
                "supported",
                "devices",
                "tl-wr741n-v4",
                "tplink,tl-wr740n-v4",
                "tl-wr741nd-v4",
                "tplink,tl-wr740n-v4",
            ]
        ],
        ["image", "recovery", "tplink-v1", "not", "made"],
    ]
    assert "4 differ" in ended.stdout


def test_a_board_that_the_tree_has_no_profile_for(boards: Cli, project: Path, telling_tree: Path) -> None:
    ended = boards("check", "linksys-wrt1200ac", "--imagebuilder", telling_tree)
    assert ended.returncode == 2
    assert "'linksys-wrt1200ac' is not built by OpenWrt 23.05.5 for ath79/tiny" in ended.stderr
    everything = boards("check", "--imagebuilder", telling_tree)
    assert "not built by this tree: beaglebone-black" in everything.stdout
    assert "tplink-tl-wr740n-v5" in everything.stdout
    assert everything.returncode == 2, "the tree covers the target and has no profile for v5"


# --- what else a tree may hold


def test_profiles_json_says_more(telling_tree: Path, small_tree: Path, tmp_path: Path) -> None:
    made = {"supported_devices": ["a,b"], "images": [{"type": "sysupgrade"}, {"type": "factory"}, {}]}
    document = {"profiles": {"tplink_tl-wr741nd-v4": made}}
    (small_tree / "profiles.json").write_text(json.dumps(document))
    (small_tree / "target/linux/ath79/image/Makefile").unlink()
    tree = look_at_tree(str(small_tree), tmp_path / "cache", Log())
    facts = device_facts(tree, "tplink_tl-wr741nd-v4")
    assert facts.images == dict.fromkeys(("sysupgrade", "factory"), ImageFacts(format="unknown"))
    assert facts.supported_devices == ("a,b",)
    assert device_facts(tree, "tplink_tl-wr740n-v4").images == {}
    for text in ("{", "[]", '{"profiles": []}', "\0"):
        (small_tree / "profiles.json").write_text(text)
        with pytest.raises(TreeError, match=r"profiles\.json is no profiles\.json as OpenWrt writes it"):
            device_facts(tree, "tplink_tl-wr741nd-v4")


def test_targetinfo_says_which_devices(small_tree: Path, tmp_path: Path) -> None:
    (small_tree / ".targetinfo").write_text(
        "Target: ath79/tiny\nTarget-Profile: DEVICE_tplink_tl-wr741nd-v4\n"
        "Target-Profile-hasImageMetadata: 1\nTarget-Profile-SupportedDevices: a,b c\n@@\n"
    )
    tree = look_at_tree(str(small_tree), tmp_path / "cache", Log())
    assert device_facts(tree, "tplink_tl-wr741nd-v4").supported_devices == ("a,b", "c")
    assert device_facts(tree, "tplink_tl-wr740n-v4").supported_devices is None


# --- on the genuine tree


@pytest.mark.genuine
def test_a_new_board_of_the_genuine_tree_can_be_planned(
    genuine_tree: Path, library: Library, tmp_path: Path
) -> None:
    tree = look_at_tree(str(genuine_tree), tmp_path / "cache", Log())
    facts = device_facts(tree, "tl-mr3020-v1")
    written = write_board(library, facts, "tplink-tl-mr3020-v1", ram=32 << 20)
    assert [wanted for _, wanted in written.fill_in] == ['the chip, "Atheros AR9331"']
    board = library.board("tplink-tl-mr3020-v1")
    assert board.tplink == TplinkHeader(hwid=0x30200001, hwrev=1, flash_layout="4Mlzma")
    assert (board.flash, board.layout.kernel_and_rootfs) == (4 << 20, 3669504)
    (asked,) = requests(
        library.root, "router", board=board.id, imagebuilder=str(genuine_tree), cache=tmp_path / "cache"
    )
    assert "kmod-usb-ledtrig-usbport" in plan_image(asked, Log()).wanted.add


@pytest.mark.genuine
def test_every_profile_of_the_genuine_tree_makes_a_board(
    genuine_tree: Path, library: Library, tmp_path: Path
) -> None:
    tree = look_at_tree(str(genuine_tree), tmp_path / "cache", Log())
    names = library.board_names()
    for profile in tree.profiles:
        text = board_text(device_facts(tree, profile), names)
        library.checked_board("x", parse_toml(text.encode(), Path("x.toml")))


@pytest.mark.genuine
def test_the_shipped_boards_agree_with_the_genuine_tree(genuine_tree: Path, boards: Cli) -> None:
    ended = boards("check", "--imagebuilder", genuine_tree)
    assert ended.returncode == 0, ended.stdout
    assert "3 boards, 32 facts compared, 0 differ" in ended.stdout


# --- how its programs are emulated


@pytest.mark.parametrize(
    ("arch", "processor"),
    [
        ("mips_24kc", ("mips", "24Kc")),
        ("mipsel_24kc", ("mipsel", "24Kc")),
        ("mipsel_24kc_24kf", ("mipsel", "24Kf")),
        ("mipsel_24kec_dsp", ("mipsel", "24KEc")),
        ("mipsel_1004kc_dsp", ("mipsel", "34Kf")),
        ("mips_34kc_dsp", ("mips", "34Kf")),
        ("mipsel_74kc_dsp2", ("mipsel", "74Kf")),
        ("mips64_octeonplus", ("mips64", "Octeon68XX")),
        ("arm_cortex-a7_neon-vfpv4", ("arm", "cortex-a7")),
        ("arm_cortex-a5_vfpv4", ("arm", "cortex-a7")),
        ("arm_arm926ej-s", ("arm", "arm926")),
        ("aarch64_cortex-a53", ("aarch64", "cortex-a53")),
        ("i386_pentium4", ("i386", "n270")),
        ("riscv64_riscv64", ("riscv64", "rv64")),
        ("x86_64", ("x86_64", "qemu64")),
    ],
)
def test_the_emulated_processor_knows_the_architectures_instructions(
    arch: str, processor: tuple[str, str]
) -> None:
    written = "\n".join(_emulation(arch, ()))
    assert f'binary = "{processor[0]}", cpu = "{processor[1]}"' in written
    named = shutil.which(f"qemu-{processor[0]}")
    if named is not None:  # its own list, where it is on this machine
        assert processor[1].lower() in run([named, "-cpu", "help"], check=False).stdout.lower()


@pytest.mark.parametrize("arch", ["mipsel_interaptiv_msa", "arc_archs", "mips_r6", "sparc"])
def test_an_architecture_that_nobody_knows_is_left_to_be_filled_in(arch: str) -> None:
    (_, line) = _emulation(arch, ())
    assert FILL_IN in line
    assert arch in line
