"""`serve --builder` on the command line: what is given wrong, and what lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.service.run import require_server
from tests.conftest import PROJECT

BOARD = "tplink-tl-wr740n-v4"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imagebuilder", "serve", *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["site", "--builder"], "--builder serves no site"),
        (["site", "--config", "router"], "these options are for a build server"),
        (["-j", "2", "site"], "these options are for a build server"),
        ([], "no site is named"),
        (["--builder"], "nobody says what the build server builds"),
        (["--builder", "--config", "no-such"], "unknown config 'no-such'"),
        (["--builder", "--config", "base"], "config 'base' names no boards"),
    ],
)
def test_what_is_given_wrong(tmp_path: Path, words: list[str], said: str) -> None:
    ended = run(*words, *(["--project", str(tmp_path)] if "--builder" in words else []))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {said}")


def test_a_config_that_cannot_be_built_is_told_before_anybody_asks(tmp_path: Path, small_tree: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/mine.toml").write_text(
        f'extends = "base"\nboards = ["{BOARD}"]\n[packages]\nadd = ["no-such-package"]\n'
    )
    given = ["--config", "mine", "--imagebuilder", str(small_tree), "--cache", str(tmp_path / "cache")]
    ended = run("--builder", *given, "--project", str(tmp_path), "--port", "0")
    assert ended.returncode == 2
    assert "no-such-package" in ended.stderr
    assert not (tmp_path / "server").exists()


@pytest.mark.parametrize("name", ["fastapi", "uvicorn"])
def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as import finds one that is not there
    with pytest.raises(HostError, match=f"needs the Python package {name}, which is not installed") as told:
        require_server()
    assert told.value.hint is not None
    assert "[server]" in told.value.hint
