"""Which board is booted in a router's place, and with how much memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import UserError
from imagebuilder.log import Event, Log
from imagebuilder.trial.machines import NoMachineError
from imagebuilder.trial.twins import BootedBoard, booted_board, booted_request

LIBRARY = Library(Path())
MIB = 1 << 20


def test_a_board_that_qemu_has_is_booted_itself() -> None:
    for name, memory in (("qemu-malta-be", 256), ("x86-64", 256), ("qemu-armsr-armv7", 1024)):
        booted = booted_board(LIBRARY, name, None)
        assert (booted.board.id, booted.twin_of, booted.memory) == (name, None, memory * MIB)
        assert booted.told == name


@pytest.mark.parametrize(
    ("board", "release", "twin", "ram"),
    [
        ("tplink-tl-wr740n-v4", "21.02.7", "qemu-malta-be", 32),
        ("glinet-gl-ar150", None, "qemu-malta-be", 64),
        ("linksys-wrt1200ac", "24.10.4", "qemu-armsr-armv7", 512),
        ("raspberrypi-3b", "17.01.7", "qemu-armsr-armv7", 1024),  # 32 bits until 18.06
        ("raspberrypi-3b", "24.10.4", "qemu-armsr-armv8", 1024),
    ],
)
def test_a_router_is_booted_as_its_twin_with_its_own_ram(
    board: str, release: str | None, twin: str, ram: int
) -> None:
    booted = booted_board(LIBRARY, board, release)
    assert (booted.board.id, booted.memory) == (twin, ram * MIB)
    assert booted.twin_of is not None
    assert booted.told == f"{twin}, the twin of {board}, with its {ram} MiB of RAM"


def test_why_there_is_no_machine_is_said() -> None:
    with pytest.raises(NoMachineError) as error:
        booted_board(LIBRARY, "xiaomi-mi-router-3g", "24.10.4")
    assert "boards/xiaomi-mi-router-3g.toml names no twin" in error.value.message
    with pytest.raises(NoMachineError) as error:
        booted_board(LIBRARY, "tplink-tl-wr740n-v4", "17.01.7")
    assert "its twin qemu-malta-be, which release 17.01.7 does not build" in error.value.message
    assert error.value.hint == "it is there in >=26 or >=21.02,<26: --release says another one"
    with pytest.raises(UserError, match="unknown board 'no-board'"):
        booted_board(LIBRARY, "no-board", None)


def project(tmp_path: Path, more: str = "", board: str = "tplink-tl-wr740n-v4", ram: str = "") -> Request:
    """A request of a project with one config for one board. ram: of a board file of its own."""
    (tmp_path / "configs").mkdir()
    text = f'extends = "base"\ndescription = "x"\nboards = ["{board}"]\n{more}'
    (tmp_path / "configs" / "mine.toml").write_text(text)
    if ram:
        own = LIBRARY.board_path(board).read_text("utf-8").splitlines()
        lines = [ram if line.startswith("ram ") else line for line in own]
        (tmp_path / "boards").mkdir()
        (tmp_path / "boards" / f"{board}.toml").write_text("\n".join(lines))
    return requests(tmp_path, "mine")[0]


def booted(request: Request, said: list[Event] | None = None) -> tuple[Request, BootedBoard]:
    config = load_config(request.library, request.config, request.board).config
    return booted_request(request, config, Log([said.append] if said is not None else []))


def test_a_config_is_built_for_the_twin_of_its_board(tmp_path: Path) -> None:
    asked = project(tmp_path, 'release = "21.02"\nimagebuilder = "trees/ath79"\n')
    said: list[Event] = []
    request, plan = booted(asked, said)
    assert request.board == "qemu-malta-be"
    assert request.release == "21.02.7"  # so that the config's tree, which is the router's, is not taken
    assert request.config == asked.config
    assert plan.memory == 32 * MIB
    assert "booted is qemu-malta-be, the twin of tplink-tl-wr740n-v4" in str(said)


def test_a_tree_that_is_given_is_the_twins(tmp_path: Path) -> None:
    asked = replace(project(tmp_path), imagebuilder="/trees/malta")
    request, _ = booted(asked)
    assert (request.board, request.imagebuilder, request.release) == ("qemu-malta-be", "/trees/malta", None)


def test_a_twin_of_no_release_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(NoMachineError, match="nothing says of which release") as error:
        booted(project(tmp_path, 'imagebuilder = "trees/ath79"\n'))
    assert error.value.hint == "--release says it, or --imagebuilder names a tree for malta/be"


def test_a_board_that_is_a_machine_is_built_as_it_was_asked_for(tmp_path: Path) -> None:
    asked = project(tmp_path, 'release = "embedded"\n', "qemu-x86-64")
    request, plan = booted(asked)
    assert request == asked
    assert plan.twin_of is None


def test_ram_that_nobody_knows_is_the_twins_own(tmp_path: Path) -> None:
    asked = project(tmp_path, 'release = "21.02"\n', ram='ram = "unknown"')
    _, plan = booted(asked)
    assert plan.memory == 256 * MIB
    assert plan.told.endswith("with 256 MiB of RAM")
