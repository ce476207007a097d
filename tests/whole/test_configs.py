"""Every shipped config: built and run where a tree is at hand, planned for each of its other boards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagebuilder.ask import plan_and_budgets
from imagebuilder.build import build_image
from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.request import requests
from imagebuilder.host.fs import user_cache
from imagebuilder.log import Log
from imagebuilder.trial.machines import booted_image
from tests.support.planning import plan_image

PROJECT = Path(__file__).resolve().parents[2]
LIBRARY = Library(PROJECT)
KIT_BOARD = "qemu-x86-64"
PAIRS = [
    (name, board) for name in LIBRARY.config_names() for board in load_config(LIBRARY, name).config.boards
]
PYTHON = {
    "none": {"base-files"},
    "micropython": {"micropython", "micropython-mbedtls"},  # the second from 22.03 on
    "base": {"python3-base"},
    "light": {"python3-light"},
    "full": {"python3"},
    "auto": {"python3-base", "python3-light"},
}
# what is shaken is read at plan time, and a small tree has no Python to be read
SHAKEN = {(name, board) for name, board in PAIRS if load_config(LIBRARY, name, board).config.python.shake}


def test_there_is_one_for_each_kind_of_use() -> None:
    variants = {load_config(LIBRARY, name, board).config.python.variant for name, board in PAIRS}
    assert variants == {"none", "micropython", "base", "light", "full", "auto"}
    assert {name for name, _ in PAIRS} >= {
        "router",
        "micropython-wr740n",
        "sensor",
        "full-wrt1200ac",
        "nightly",
        "python-light",
        "demo",
        "node-4mb",
        "node-4mb-wired",
    }


@pytest.mark.parametrize(
    ("name", "board"), [pair for pair in PAIRS if pair[1] != KIT_BOARD and pair not in SHAKEN]
)
def test_it_is_planned_for_each_of_its_boards(
    name: str, board: str, small_tree: Path, tmp_path: Path
) -> None:
    """On a small tree that says it is the newest numbered release that builds the board."""
    releases = (
        "25.12.5",
        "24.10.4",
        "24.10.1",
        "23.05.5",
        "22.03.7",
        "21.02.7",
        "19.07.10",
        "18.06.9",
        "17.01.7",
    )
    known = LIBRARY.board(board)
    release, profile = next(
        (release, profile) for release in releases for profile in known.profiles_for(release)
    )
    target, subtarget = profile.target.split("/")
    (small_tree / ".config").write_text(
        f'CONFIG_TARGET_BOARD="{target}"\nCONFIG_TARGET_SUBTARGET="{subtarget}"\n'
        f'CONFIG_TARGET_ARCH_PACKAGES="{profile.arch}"\nCONFIG_VERSION_NUMBER="{release}"\n'
    )
    makefile = (small_tree / "Makefile").read_text()
    (small_tree / "Makefile").write_text(makefile.replace("tplink_tl-wr740n-v4", profile.name))
    (asked,) = requests(PROJECT, name, board=board, imagebuilder=str(small_tree), cache=tmp_path)
    plan = plan_image(asked, Log())
    assert plan.profile == profile
    wanted = PYTHON[load_config(LIBRARY, name, board).config.python.variant]
    assert wanted & set(plan.wanted.add)
    assert f"PROFILE={profile.name}" in plan.make


@pytest.mark.kit
@pytest.mark.parametrize("name", [name for name, board in PAIRS if board == KIT_BOARD])
def test_it_is_built_on_the_kit(name: str, tmp_path: Path) -> None:
    (asked,) = requests(PROJECT, name, board=KIT_BOARD, output=tmp_path, cache=user_cache())
    place, result = build_image(asked, Log())
    assert [image.type for image in result.images] == ["combined-efi"]
    wanted = PYTHON[load_config(LIBRARY, name, KIT_BOARD).config.python.variant]
    assert wanted & {package.name for package in result.packages}
    assert result.warnings == ()
    assert (place / "result.json").is_file()


@pytest.mark.kit
@pytest.mark.boot
def test_the_sensor_measures_as_long_as_the_device_runs(tmp_path: Path) -> None:
    (asked,) = requests(PROJECT, "sensor", board=KIT_BOARD, output=tmp_path, cache=user_cache())
    place, result = build_image(asked, Log())
    with booted_image(place / result.images[0].file, Log(), way="kernel") as guest:
        assert guest.check("cat /proc/sys/kernel/hostname").strip() == "sensor"
        owner = guest.check("ps -o user,args | grep '[s]ensor.py' | grep -v supervise")
        assert owner.split()[0] == "nobody"
        guest.check("for i in $(seq 30); do logread | grep -q free_memory && break; sleep 0.5; done")
        said = guest.check("logread | grep python-service | tail -n 1")
        assert json.loads(said[said.index("{") :])["free_memory_kib"] > 1000
        once = json.loads(guest.check("SENSOR_SECONDS=0 python3 /usr/share/sensor/sensor.py"))
        assert once["free_memory_kib"] > 1000
        assert once["uptime_seconds"] > 0


@pytest.mark.genuine
@pytest.mark.parametrize("board", ["tplink-tl-wr740n-v4", "tplink-tl-wr740n-v5"])
def test_micropython_is_planned_on_the_genuine_tree(genuine_tree: Path, board: str, tmp_path: Path) -> None:
    """Its package is not in the tree's own cache, so that it cannot be built without a network."""
    (asked,) = requests(
        PROJECT, "micropython-wr740n", board=board, imagebuilder=str(genuine_tree), cache=tmp_path
    )
    plan = plan_image(asked, Log())
    assert "micropython" in plan.wanted.add
    assert not {"ppp", "ppp-mod-pppoe"} & set(plan.wanted.add)
    assert plan.wanted.add["micropython"].startswith('python.variant = "micropython" in ')


@pytest.mark.genuine
@pytest.mark.parametrize("case", [("node-4mb", 384 << 10), ("node-4mb-wired", 896 << 10)])
def test_cpython_and_a_program_fit_into_4_mb(
    case: tuple[str, int],
    genuine_tree: Path,
    genuine_mirror: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Predicted as it is made, and its own interpreter has loaded and run all of it."""
    name, free = case
    monkeypatch.setenv("WIFI_KEY", "correct horse")
    board = "tplink-tl-wr740n-v4"
    (asked,) = requests(
        PROJECT,
        name,
        board=board,
        imagebuilder=str(genuine_tree),
        mirrors=(str(genuine_mirror),),
        output=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    _, planned = plan_and_budgets(asked, Log())
    _, result = build_image(asked, Log())
    assert planned.flash is not None
    assert result.flash is not None
    assert result.flash.free is not None
    assert result.flash.free >= free
    assert planned.flash.rootfs.bytes == pytest.approx(result.flash.rootfs.bytes, rel=0.01)
    assert result.uncompiled == ("/usr/bin/node",)
    assert result.bytecode is not None
    assert 0 < result.bytecode.files < result.bytecode.modules  # native ones are imported too
    assert result.bytecode.lacking == ()
    assert [each.command for each in result.starts] == [result.starts[0].command, "node --once"]
    assert result.starts[0].command.startswith("/usr/bin/python3.6 ")
    assert result.trial is not None
    assert (result.trial.why, result.trial.failed) == ("", ())
