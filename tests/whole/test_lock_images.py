"""Whole images, built of a tree that really installs and packs: they differ exactly where their locks do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.ask import compare_lock, lock_image
from imagebuilder.build import build_image
from imagebuilder.config.lock import write_lock
from imagebuilder.config.request import Request, requests
from imagebuilder.log import Log
from tests.support.nor_tree import BOARD, BOARD_TOML, IMAGE, make_nor_tree

CONFIG = f"""\
extends = "base"
description = "a test"
boards = ["{BOARD}"]
[packages]
add = ["libppp"]
[[overlay]]
name = "mine"
variables = {{ text = "hello", unused = "x" }}
"""
OVERLAY = """\
description = "words"
[modes]
"/etc/mine" = "0750"
[variables]
text = {}
unused = {}
"""


@pytest.fixture
def asked(project: Path, tmp_path: Path) -> Request:
    make_nor_tree(tmp_path / "tree")
    (project / f"boards/{BOARD}.toml").write_text(BOARD_TOML)
    (project / "configs/mine.toml").write_text(CONFIG)
    files = project / "overlays/mine/files/etc/mine"
    files.mkdir(parents=True)
    (files / "a.j2").write_text("{{ text }}\n")
    (files / "b").write_text("b\n")
    (project / "overlays/mine/overlay.toml").write_text(OVERLAY)
    places = {"output": tmp_path / "out", "cache": tmp_path / "cache"}
    tree = str(tmp_path / "tree")
    (one,) = requests(project, "mine", board=BOARD, imagebuilder=tree, **places)  # type: ignore[arg-type]
    return one


def in_file(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(project: Path) -> None:
        text = (project / name).read_text()
        assert old in text
        (project / name).write_text(text.replace(old, new))

    return change


def runs(project: Path) -> None:
    (project / "overlays/mine/files/etc/mine/b").chmod(0o755)


def is_a_link(project: Path) -> None:
    place = project / "overlays/mine/files/etc/mine/b"
    place.unlink()
    place.symlink_to("a")


CONFIG_FILE = "configs/mine.toml"
OVERLAY_FILE = "overlays/mine/overlay.toml"
BOARD_FILE = f"boards/{BOARD}.toml"
TRIMMED = '[[filespec]]\noverlay = "mine"\nrules = ["-|/etc/mine/b"]\n'


@pytest.mark.parametrize(
    "change",
    [
        in_file(CONFIG_FILE, "hello", "bye"),
        in_file(CONFIG_FILE, '"libppp"', '"micropython"'),
        in_file(CONFIG_FILE, "[packages]", '[packages]\nremove = ["ppp"]'),
        in_file(CONFIG_FILE, "[packages]", f"{TRIMMED}[packages]"),
        in_file(CONFIG_FILE, 'name = "mine"', 'name = "base"\n[[overlay]]\nname = "mine"'),
        in_file(OVERLAY_FILE, "0750", "0700"),
        runs,
        is_a_link,
    ],
)
def test_another_image_has_another_lock(asked: Request, change: Callable[[Path], None]) -> None:
    assert both(asked, change) == (True, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        in_file(CONFIG_FILE, "a test", "another"),
        in_file(CONFIG_FILE, 'unused = "x"', 'unused = "y"'),
        in_file(CONFIG_FILE, "[packages]", '[budget]\nflash_free = "64K"\n[packages]'),
        in_file(OVERLAY_FILE, "words", "other words"),
        in_file(BOARD_FILE, "A board", "The board"),
    ],
)
def test_what_no_image_tells_no_lock_tells(asked: Request, change: Callable[[Path], None]) -> None:
    assert both(asked, change) == (False, False)


def both(asked: Request, change: Callable[[Path], None]) -> tuple[bool, bool]:
    """Whether a change gives another image, and another lock."""
    write_lock(asked.library, "mine", {BOARD: lock_image(asked, Log())})
    before = (build_image(asked, Log())[0] / IMAGE).read_bytes()
    change(asked.library.root)
    after = (build_image(asked, Log())[0] / IMAGE).read_bytes()
    return before != after, compare_lock(asked, Log()) != ()
