"""What one request reads, it reads once: deep code gets values, not a way to read files again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder import decide
from imagebuilder.ask import fetch_image
from imagebuilder.build import build_image
from imagebuilder.config import library, places
from imagebuilder.config.request import Request, requests
from imagebuilder.config.toml import TomlFile, read_toml
from imagebuilder.log import Log
from tests.support.planning import plan_image

CONFIG = """\
extends = "router"
boards = ["tplink-tl-wr740n-v4"]
[[overlay]]
name = "base"
variables = { hostname = "x" }
"""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file of the project was read, each tree, and what a tree says of its images."""
    counted: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            counted[name] += 1
            return function(*arguments, **named)

        return call

    def file(path: Path) -> TomlFile:
        along = "shipped " if path.is_relative_to(places.shipped_folder()) else ""
        counted[f"{along}{path.parent.name}/{path.name}"] += 1
        return read_toml(path)

    monkeypatch.setattr(library, "read_toml", file)
    monkeypatch.setattr(decide, "read_tree", counting("tree", decide.read_tree))
    monkeypatch.setattr(decide, "open_budgeting", counting("images", decide.open_budgeting))
    return counted


@pytest.fixture
def asked(
    project: Path, small_tree: Path, tmp_path: Path, add_config: Callable[[str, str], str]
) -> Callable[[], Request]:
    add_config("mine", CONFIG)

    def make() -> Request:
        (one,) = requests(
            project, "mine", imagebuilder=str(small_tree), output=tmp_path / "out", cache=tmp_path / "cache"
        )
        return one

    return make


@pytest.mark.parametrize("ask", [plan_image, fetch_image, build_image])
def test_each_file_of_the_project_and_each_fact_of_the_tree_is_read_once(
    ask: Callable[[Request, Log], object], asked: Callable[[], Request], read: Counter[str]
) -> None:
    request = asked()
    read.clear()
    ask(request, Log())
    assert {"configs/mine.toml", "configs/router.toml", "base/overlay.toml", "tree", "images"} <= read.keys()
    assert "boards/tplink-tl-wr740n-v4.toml" in read
    assert {name: times for name, times in read.items() if times != 1} == {}


def test_what_was_changed_in_between_is_read_anew(asked: Callable[[], Request], project: Path) -> None:
    """`plan --fit` changes the config, and plans again."""
    request = asked()
    before = plan_image(request, Log())
    path = project / "configs/mine.toml"
    path.write_text(CONFIG.replace("[[overlay]]", '[packages]\nremove = ["rssileds"]\n[[overlay]]'))
    assert plan_image(request, Log()).wish.remove == ("rssileds",) != before.wish.remove
