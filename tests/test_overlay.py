"""Overlays: templates, variables, modes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.errors import FaultsError, UserError
from imagebuilder.load.library import Library
from imagebuilder.load.overlay import load_overlay
from imagebuilder.model.filetree import FileTree, file_of
from imagebuilder.model.overlay import Overlay, Variable
from imagebuilder.stage.filetree import content
from imagebuilder.stage.overlay import OverlayError, combined, overlay_tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files/etc").mkdir(parents=True)
    return tmp_path


def overlay(**variables: Variable) -> Overlay:
    return Overlay(name="test", variables=variables)


def test_templates_and_modes(folder: Path) -> None:
    (folder / "files/etc/conf.j2").write_text("name={{ name | sh }}\nlist={{ many | py }}\n{# gone #}")
    (folder / "files/etc/conf.j2").chmod(0o600)
    (folder / "files/etc/run").write_text("{{ untouched }}")
    (folder / "files/etc/run").chmod(0o700)
    (folder / "files/etc").chmod(0o700)
    (folder / "files/etc/link").symlink_to("run")
    tree = overlay_tree(
        overlay(name=Variable(), many=Variable(type="list")), folder, {"name": "it's $(here)", "many": ["a"]}
    )
    assert content(tree["/etc/conf"]) == b"name='it'\"'\"'s $(here)'\nlist=['a']\n"
    assert content(tree["/etc/run"]) == b"{{ untouched }}"
    assert {path: entry.mode for path, entry in tree.items() if entry.kind != "symlink"} == {
        "/etc": 0o755,
        "/etc/conf": 0o644,
        "/etc/run": 0o755,
    }
    assert tree["/etc/link"].target == "run"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one\n{{ nothing }}\n", r"conf\.j2:2: 'nothing' is undefined"),
        ("one\ntwo\n{% if %}\n", r"conf\.j2:3: "),
        ("{{ name", r"conf\.j2:1: "),
        ("\n{{ name.first }}", r"conf\.j2:2: "),
    ],
)
def test_template_errors_name_file_and_line(folder: Path, text: str, words: str) -> None:
    (folder / "files/etc/conf.j2").write_text(text)
    with pytest.raises(OverlayError, match=words):
        overlay_tree(overlay(name=Variable(default="x")), folder, {})


def test_a_template_that_is_no_text(folder: Path) -> None:
    (folder / "files/etc/conf.j2").write_bytes(b"\xff\xfe")
    with pytest.raises(OverlayError, match="must be UTF-8"):
        overlay_tree(overlay(), folder, {})


def test_a_template_beside_its_result(folder: Path) -> None:
    (folder / "files/etc/conf.j2").touch()
    (folder / "files/etc/conf").touch()
    with pytest.raises(OverlayError, match=r"holds both /etc/conf and /etc/conf\.j2"):
        overlay_tree(overlay(), folder, {})


def test_variables_are_checked(folder: Path) -> None:
    declared = overlay(count=Variable(type="integer", default=1), name=Variable(description="say who"))
    with pytest.raises(OverlayError, match="has no variable 'nam'") as unknown:
        overlay_tree(declared, folder, {"nam": "x"})
    assert unknown.value.hint == "did you mean 'name'?"
    with pytest.raises(OverlayError, match=r"wants the variable 'name' \(string\)") as missing:
        overlay_tree(declared, folder, {})
    assert missing.value.hint == "say who"
    for wrong in ("1", True, 1.5):
        with pytest.raises(OverlayError, match="'count' must be a integer"):
            overlay_tree(declared, folder, {"name": "x", "count": wrong})
    assert overlay_tree(declared, folder, {"name": "x", "count": 2})["/etc"].kind == "dir"


def test_a_file_that_two_overlays_bring() -> None:
    one, two = FileTree({"/etc/a": file_of(b"1")}), FileTree({"/etc/b": file_of(b"2")})
    assert list(combined([("one", one), ("two", two)])) == ["/etc", "/etc/a", "/etc/b"]
    with pytest.raises(OverlayError, match="the overlays 'one' and 'two' both bring /etc/a"):
        combined([("one", one), ("two", one)])


def test_a_wrong_declaration(library: Library, project: Path) -> None:
    (project / "overlays/demo/overlay.toml").write_text('name = "demo"\n[variables.x]\ntpye = "string"\n')
    with pytest.raises(FaultsError, match=r"overlay\.toml:3: variables\.x\.tpye: unknown key"):
        load_overlay(library, "demo")
    with pytest.raises(UserError, match="unknown overlay 'dem'"):
        load_overlay(library, "dem")


def test_every_shipped_overlay_renders(library: Library, add_config: Callable[[str, str], str]) -> None:
    for name in library.overlay_names():
        declared, folder = load_overlay(library, name)
        assert declared.name == name
        overlay_tree(declared, folder, {})
