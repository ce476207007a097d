"""A secret is in the image and nowhere else: not in output, logs, results, cache, or what is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.workspace import open_workspace

BOARD = "tplink-tl-wr740n-v4"
VALUE = "correct-horse-battery-staple"
AddConfig = Callable[[str, str], str]
CONFIG = """\
extends = "router"

[[overlay]]
name = "wifi-client"

[overlay.variables]
ssid = "home"
key  = { secret = "WIFI_KEY" }
"""


@pytest.fixture
def tree(small_tree: Path) -> Path:
    """The small tree, in which make fails unless the files that it was given hold the secret."""
    makefile = (small_tree / "Makefile").read_text()
    begin = "\t@echo 'Building images...'\n"
    assert begin in makefile
    (small_tree / "expected").write_text(VALUE)
    look = "\t@grep -rqF -f expected $(FILES)\n"
    (small_tree / "Makefile").write_text(makefile.replace(begin, look + begin))
    return small_tree


def build(project: Path, tree: Path, folder: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Exit code, and all that was printed."""
    argv = [
        sys.executable,
        "-m",
        "imagebuilder",
        *options,
        "mine",
        "--board",
        BOARD,
        "--project",
        str(project),
    ]
    argv += ["--imagebuilder", str(tree), "--cache", str(folder / "cache"), "--verbose"]
    if options[0] == "build":
        argv += ["--output", str(folder / "out")]
    ended = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    return ended.returncode, ended.stdout + ended.stderr


def files_with_value(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and VALUE.encode() in path.read_bytes()]


@pytest.mark.parametrize("source", ["environment", "file", "command"])
def test_a_secret_is_in_what_make_is_given_and_nowhere_else(
    project: Path, tree: Path, tmp_path: Path, add_config: AddConfig, source: str
) -> None:
    add_config("mine", CONFIG)
    environment = {"WIFI_KEY": VALUE} if source == "environment" else {}
    if source == "file":
        (project / "secrets.toml").write_text(f'WIFI_KEY = "{VALUE}"\n')
    if source == "command":
        (tmp_path / "key").write_text(f"{VALUE}\n")
        (project / "secrets.toml").write_text(f'WIFI_KEY = {{ command = ["cat", "{tmp_path}/key"] }}\n')
    for command in ("plan", "build"):
        code, printed = build(project, tree, tmp_path, command, **environment)
        assert code == 0, printed
        assert VALUE not in printed
    place = tmp_path / "out/mine" / BOARD
    assert files_with_value(tmp_path / "out") == []
    assert files_with_value(tmp_path / "cache") == []
    result = json.loads((place / "result.json").read_text())
    assert result["secrets"] == ["wifi-client.key"]
    assert result["warnings"] == ["the overlay 'wifi-client' needs WiFi, and nothing in this image drives it"]


def test_a_failed_build_keeps_no_secret(
    project: Path, tree: Path, tmp_path: Path, add_config: AddConfig
) -> None:
    add_config("mine", CONFIG)
    (tree / "behaviour-fails").touch()
    code, printed = build(project, tree, tmp_path, "build", WIFI_KEY=VALUE)
    assert code == 2
    assert VALUE not in printed
    assert files_with_value(tmp_path / "out") == []


def test_a_missing_secret_says_where_it_may_come_from(
    project: Path, tree: Path, tmp_path: Path, add_config: AddConfig
) -> None:
    add_config("mine", CONFIG)
    code, printed = build(project, tree, tmp_path, "build")
    assert code == 2
    assert "the secret 'WIFI_KEY' is nowhere" in printed
    assert f"write it into {project}/secrets.toml" in printed


def test_a_secret_in_clear_is_warned_about_and_not_repeated(
    project: Path, tree: Path, tmp_path: Path, add_config: AddConfig
) -> None:
    add_config("mine", CONFIG.replace('{ secret = "WIFI_KEY" }', f'"{VALUE}"'))
    code, printed = build(project, tree, tmp_path, "build")
    assert code == 0, printed
    assert "warning: the secret wifi-client.key stands in a config file in clear" in printed
    assert VALUE not in printed
    assert files_with_value(tmp_path / "out") == []
    assert git_ignores("secrets.toml")


def test_where_a_build_works_is_for_nobody_else(tmp_path: Path) -> None:
    """The files with secrets and the tree's signing key lie there while make runs."""
    with open_workspace(tmp_path, "config", "board") as workspace:
        assert workspace.work.stat().st_mode & 0o777 == 0o700


def git_ignores(name: str) -> bool:
    project = Path(__file__).resolve().parents[2]
    return f"/{name}" in (project / ".gitignore").read_text().splitlines()
