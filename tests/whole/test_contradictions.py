"""What a config says and its tree or its board contradict is told before anything is built."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.ask import plan_and_budgets
from imagebuilder.config.board import Board
from imagebuilder.config.library import Library
from imagebuilder.config.request import Request, requests
from imagebuilder.contradictions import is_of
from imagebuilder.errors import FaultsError, HostError, UserError
from imagebuilder.host.fs import sha256_of
from imagebuilder.log import Event, Log, Note, Warned
from imagebuilder.model.package import Package
from imagebuilder.model.tree import Tree, TreeError
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.resolution import PlanError
from imagebuilder.rootfs.tree import EMPTY
from tests.support.planning import plan_image

BOARD = "tplink-tl-wr740n-v4"
Ask = Callable[..., Request]


@pytest.fixture
def ask(project: Path, small_tree: Path, tmp_path: Path) -> Ask:
    """A request for a config with this text, on the small tree, which is a 23.05.5."""

    def make(text: str) -> Request:
        (project / "configs/mine.toml").write_text(text)
        places = {"output": tmp_path / "out", "cache": tmp_path / "cache"}
        (asked,) = requests(project, "mine", board=BOARD, imagebuilder=str(small_tree), **places)  # type: ignore[arg-type]
        return asked

    return make


@pytest.mark.parametrize("release", ["22.03", "23.05.4", "latest", "snapshot", "embedded"])
def test_a_release_beside_a_tree_of_another(ask: Ask, small_tree: Path, release: str) -> None:
    asked = ask(f'release = "{release}"\n')
    with pytest.raises(TreeError, match=rf"'mine' is for release {release} \(.*mine\.toml\)") as caught:
        plan_image(asked, Log())
    assert f"{small_tree} is OpenWrt 23.05.5" in caught.value.message
    assert "--release 23.05.5 builds with this one" in (caught.value.hint or "")
    assert plan_image(asked.for_release("23.05.5"), Log()).tree.version == "23.05.5"


def test_all_that_the_host_lacks_is_named_at_once(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox's programs with those of the tree."""
    asked = ask("")
    monkeypatch.setattr("imagebuilder.host.tools.CLEAN_PATH", "/nonexistent")
    with pytest.raises(HostError, match=r"^this machine lacks: make .* bwrap .* gawk "):
        plan_image(asked, Log())
    with pytest.raises(HostError, match=r"^this machine lacks: make ") as caught:
        plan_image(replace(asked, sandbox=False), Log())
    assert "bwrap" not in caught.value.message


@pytest.mark.parametrize("release", ["23.05", "23.05.5"])
def test_a_release_beside_a_tree_that_is_of_it(ask: Ask, release: str) -> None:
    assert plan_image(ask(f'release = "{release}"\n'), Log()).tree.version == "23.05.5"


def test_a_release_and_a_tree_of_one_config(ask: Ask, small_tree: Path) -> None:
    asked = replace(ask(f'release = "22.03"\nimagebuilder = "{small_tree}"\n'), imagebuilder=None)
    with pytest.raises(TreeError, match=r"is for release 22\.03"):
        plan_image(asked, Log())


def test_a_release_that_the_command_line_names_binds_the_tree(ask: Ask) -> None:
    with pytest.raises(TreeError, match=r"--release 22\.03\.5, and the ImageBuilder .* is OpenWrt 23\.05\.5"):
        plan_image(ask("").for_release("22.03.5"), Log())


@pytest.mark.parametrize(
    ("version", "series", "wanted", "of_it"),
    [
        ("17.01.7", "", "17.01", True),
        ("17.01.7", "", "17.01.7", True),
        ("17.01.7", "", "17.01.6", False),
        ("23.05-SNAPSHOT", "", "23.05", True),
        ("23.05-SNAPSHOT", "", "snapshot", False),
        ("snapshot", "", "snapshot", True),
        ("snapshot", "", "latest", False),
        ("99.12.0", "", "latest", True),
        ("17.01.7", "", "latest", False),
        ("embedded", "", "embedded", True),
        ("embedded-3.13", "", "embedded", False),
        ("3.201", "19.07", "19.07", True),
        ("3.201", "19.07", "19.07.8", False),
        ("3.201", "19.07", "latest", False),
    ],
)
def test_what_a_tree_is_of(version: str, series: str, wanted: str, of_it: bool) -> None:
    tree = Tree(
        folder="/t",
        distribution="OpenWrt",
        version=version,
        series=series,
        target="a/b",
        arch="mips_24kc",
        package_manager="opkg",
        default_packages=(),
        profiles={},
        disables_services=True,
    )
    assert is_of(tree, wanted) is of_it


def test_an_archive_that_is_not_the_trusted_one(ask: Ask, small_tree: Path, tmp_path: Path) -> None:
    """Of a folder nobody can tell, and that is said."""
    archive = tmp_path / "tree.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(small_tree, "tree")
    asked = replace(ask(f'trust = "sha256:{"0" * 64}"\n'), imagebuilder=str(archive))
    with pytest.raises(TreeError, match=f"is sha256:{sha256_of(archive)}, and config 'mine'"):
        plan_image(asked, Log())
    asked = replace(ask(f'trust = "sha256:{sha256_of(archive)}"\n'), imagebuilder=str(archive))
    assert plan_image(asked, Log()).tree.version == "23.05.5"
    told: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Warned):
            told.append(event.text)

    plan_image(replace(asked, imagebuilder=str(small_tree)), Log().also(watch))
    assert told == [f"trust is of an archive, and {small_tree} is a folder: it is taken as given"]


@pytest.mark.parametrize("place", ["[image]\n", f"[board.{BOARD}.image]\n"])
def test_a_partition_where_there_is_no_disk(ask: Ask, place: str) -> None:
    with pytest.raises(
        FaultsError, match=r"mine\.toml:2: .*image\.rootfs_partsize: .* for no disk"
    ) as caught:
        plan_image(ask(f"{place}rootfs_partsize = 64\n"), Log())
    assert caught.value.faults[0].hint == "leave it out"


def test_a_partition_for_several_boards_is_told_of(ask: Ask) -> None:
    told: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Note):
            told.append(event.text)

    asked = ask(f'boards = ["{BOARD}", "qemu-x86-64"]\n[image]\nrootfs_partsize = 64\n')
    plan_and_budgets(asked, Log().also(watch))
    assert any("image.rootfs_partsize: does not count here" in text for text in told)


def test_a_tree_that_makes_partitions_takes_their_size(ask: Ask, small_tree: Path) -> None:
    with (small_tree / ".config").open("a") as settings:
        settings.write("CONFIG_TARGET_ROOTFS_PARTSIZE=104\nCONFIG_TARGET_KERNEL_PARTSIZE=2\n")
    plan = plan_image(ask("[image]\nrootfs_partsize = 2\n"), Log())
    assert plan.make[-1] == "CONFIG_TARGET_ROOTFS_PARTSIZE=2"
    with pytest.raises(
        FaultsError, match="3 MiB, beside 2 MiB for the kernel are more than the 4.0 MiB"
    ) as caught:
        plan_image(ask("[image]\nrootfs_partsize = 3\n"), Log())
    assert caught.value.faults[0].hint == "less than 2 can fit"


def on_the_kit(project: Path, kit: Path, size: int) -> Request:
    (project / "configs/mine.toml").write_text(
        f'boards = ["qemu-x86-64"]\nrelease = "embedded"\n[image]\nrootfs_partsize = {size}\n'
    )
    (asked,) = requests(project, "mine", cache=kit_cache(kit))
    return asked


def kit_cache(kit: Path) -> Path:
    return next(each for each in kit.parents if (each / "CACHEDIR.TAG").is_file())


@pytest.mark.kit
def test_a_partition_that_is_larger_than_the_disk(project: Path, kit: Path) -> None:
    words = "400 MiB are more than the 128.0 MiB that qemu-x86-64 has"
    with pytest.raises(FaultsError, match=words) as caught:
        plan_image(on_the_kit(project, kit, 400), Log())
    assert caught.value.faults[0].hint == "less than 128 can fit"


@pytest.mark.kit
def test_a_partition_that_is_too_small(project: Path, kit: Path) -> None:
    """The size that would be enough is said, and is."""
    budgets = plan_and_budgets(on_the_kit(project, kit, 1), Log())[1]
    (larger,) = (each for each in budgets.advice if each.kind == "partition")
    assert (budgets.flash and budgets.flash.verdict, larger.fits) == ("too big", True)
    enough = int(larger.text.partition(" = ")[2].partition(",")[0])
    flash = plan_and_budgets(on_the_kit(project, kit, enough), Log())[1].flash
    assert flash is not None
    assert flash.verdict == "fits"


def test_an_image_that_could_not_start(ask: Ask) -> None:
    with pytest.raises(PlanError, match="'busybox' cannot be removed: its shell") as caught:
        plan_image(ask('[packages]\nremove = ["busybox"]\n'), Log())
    assert caught.value.hint == "take it out of packages.remove"


def test_another_busybox_in_its_place(ask: Ask, small_tree: Path) -> None:
    write_ipk(small_tree / "packages", Package("busybox-selinux", "1"), EMPTY, epoch=1_700_000_000)
    plan = plan_image(ask('[packages]\nadd = ["busybox-selinux"]\nremove = ["busybox"]\n'), Log())
    assert "busybox" not in {each.name for each in plan.install}


def test_boards_and_their_disks(library: Library) -> None:
    """What the checks go by is said of every board: a disk, or flash of a known kind."""
    from imagebuilder.budget.flash import is_disk  # noqa: PLC0415

    boards: list[Board] = library.boards()
    assert {each.id for each in boards if is_disk(each)} >= {"qemu-x86-64", "x86-64", "raspberrypi-3b"}
    assert not is_disk(library.board(BOARD))


def test_no_release_is_said_twice(ask: Ask) -> None:
    with pytest.raises(UserError, match=r"'23\.5' is no release"):
        ask("").for_release("23.5")
