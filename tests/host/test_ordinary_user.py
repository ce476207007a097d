"""A program as an ordinary user: who it is, what it sees, and what is said where that cannot be."""

from __future__ import annotations

import grp
import os
import pwd
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from imagebuilder.cli.app import app
from imagebuilder.host import ordinary_user as module
from imagebuilder.host.ordinary_user import (
    NoOrdinaryUserError,
    environment,
    ordinary_user,
    own_places,
    unused_number,
)
from imagebuilder.host.run import Completed, run

PROJECT = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter, other than pytest's own."""
    with tempfile.TemporaryDirectory(prefix="user-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def home(place: Path) -> Path:
    (place / "home").mkdir()
    return place / "home"


def test_the_number_is_nobodys() -> None:
    number = unused_number()
    assert number not in {each.pw_uid for each in pwd.getpwall()} | {each.gr_gid for each in grp.getgrall()}
    assert number not in (0, 65534)


@as_root
def test_who_runs_there(home: Path) -> None:
    number = unused_number()
    argv = ordinary_user(home, own_places(PROJECT), number)
    script = 'id -u; id -g; id -G; echo "$HOME"; touch "$HOME/mine" && stat -c %u "$HOME/mine"'
    done = run([*argv, "sh", "-c", script], env=environment(home))
    assert done.stdout.split() == [str(number)] * 3 + [str(home), str(number)]
    assert run([*argv, "cat", "/etc/shadow"], check=False).code != 0
    assert run([*argv, "touch", str(PROJECT / "README.md")], check=False).code != 0


@as_root
def test_what_only_root_may_enter_is_shown_in_part(place: Path) -> None:
    """As a Python or a project below /root: they are seen, and what lies beside them is not."""
    closed = place / "closed"
    for name in ("python/lib", "deep/project", "secret", "home"):
        (closed / name).mkdir(parents=True)
        (closed / name / "file").write_text(name)
    for name in ("", "python", "deep"):
        (closed / name).chmod(0o700)
    home = closed / "home"
    wanted = [closed / "python/lib", closed / "deep/project"]
    argv = ordinary_user(home, [*own_places(PROJECT), *wanted], unused_number())
    show = ["find", str(closed), "-type", "f"]
    seen = run([*argv, *show]).stdout.split()
    assert sorted(seen) == [f"{closed}/{name}/file" for name in ("deep/project", "home", "python/lib")]
    assert run([*argv, "sh", "-c", f'echo changed > "{closed}/python/lib/file"'], check=False).code != 0
    assert run([*argv, "sh", "-c", f'echo changed > "{closed}/home/file"']).code == 0
    assert (home / "file").read_text() == "changed\n"
    assert len(run(show).stdout.split()) == 4  # nothing of this machine is changed


@as_root
def test_a_python_that_others_cannot_read(home: Path) -> None:
    with pytest.raises(
        NoOrdinaryUserError, match="/nonexistent/python does not run as an ordinary user here"
    ):
        ordinary_user(home, [PROJECT], unused_number(), Path("/nonexistent/python"))


def test_an_ordinary_user_cannot_be_another(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    with pytest.raises(NoOrdinaryUserError, match="only root"):
        ordinary_user(home, [PROJECT], 61_000)


@pytest.mark.parametrize("more", [[], ["--lowest"]])
def test_the_tests_are_run_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: list[str]) -> None:
    """With --lowest by the Python of those versions, which is shown there."""
    python = Path("/lowest/bin/python") if more else Path(sys.executable)
    monkeypatch.setattr("imagebuilder.host.lowest.lowest_environment", lambda *_: python)
    called: list[Sequence[str]] = []

    def stream(words: Sequence[str], *_: object, **__: object) -> Completed:
        called.append(words)
        return Completed(tuple(words), 3, "", "")

    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr("imagebuilder.host.tools.missing_tools", lambda _uses: [])
    become: dict[str, Any] = {}

    def ordinary_user(_home: Path, places: Sequence[Path], _number: int, python: Path) -> list[str]:
        become.update(places=places, python=python)
        return ["become"]

    monkeypatch.setattr(module, "ordinary_user", ordinary_user)
    monkeypatch.setattr("imagebuilder.host.run.stream", stream)
    assert CliRunner().invoke(app, ["test", "--as-user", *more, "-k", "overlay"]).exit_code == 3
    (words,) = called
    assert words[:6] == ["become", str(python), "-m", "pytest", "-n", "auto"]
    assert become["python"] == python
    assert {PROJECT, python.parent.parent.resolve()} <= set(become["places"])
    assert words[-2:] == ["-k", "overlay"]
    ignored = [word.removeprefix("--ignore=") for word in words if word.startswith("--ignore=")]
    assert "tests/whole" not in ignored
    assert [path for path in ignored if not (PROJECT / path).exists()] == []
    assert list(tmp_path.iterdir()) == []


def test_a_genuine_tree_is_left_out() -> None:
    assert CliRunner().invoke(app, ["test", "--as-user", "--imagebuilder", "/tree"]).exit_code == 2


def test_where_nobody_else_can_be_had_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """CI goes on there, as without a package index."""
    monkeypatch.setattr("imagebuilder.host.tools.missing_tools", lambda _uses: [])
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    monkeypatch.chdir(PROJECT)
    done = CliRunner().invoke(app, ["test", "--as-user"])
    assert done.exit_code == 75
    assert "only root can run something as another user" in done.output
