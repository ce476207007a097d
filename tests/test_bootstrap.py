"""build.py before there is anything else: old Pythons, no pip, no network, no room."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from imagebuilder.host.run import clean_environment, run

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bootstrap(tmp_path: Path) -> ModuleType:
    """build.py as a module, as if it stood in an empty folder."""
    spec = importlib.util.spec_from_file_location("bootstrap", PROJECT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE = tmp_path
    module.VENV = tmp_path / ".venv"
    module.PYTHON = module.VENV / "bin/python"
    module.STAMP = module.VENV / "installed"
    module.LOG = module.VENV / "install.log"
    return module  # type: ignore[no-any-return]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_an_old_python_can_read_it() -> None:
    tree = ast.parse((PROJECT / "build.py").read_text(), feature_version=(3, 6))
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "__future__" not in imported  # 3.6 does not know its annotations
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            annotations = [each.annotation for each in node.args.args] + [node.returns]
            assert all(each is None or isinstance(each, ast.Name | ast.Constant) for each in annotations)


def test_an_old_python_says_so(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "argv", ["build.py", "demo"])
    for path, hint in (("newer", "hint: python3.12 build.py demo"), ("none", "install Python 3.11 or newer")):
        (tmp_path / path).mkdir()
        monkeypatch.setenv("PATH", str(tmp_path / path))
        if path == "newer":
            for name in ("python3.12", "python3.9"):
                (tmp_path / path / name).write_text("#!/bin/sh\n")
                (tmp_path / path / name).chmod(0o755)
        with pytest.raises(SystemExit) as ended:
            bootstrap.main()
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert "the builder needs 3.11 or newer" in said
        assert hint in said


@pytest.mark.parametrize("case", [(100, "", 200), (250, "[test]", 320), (400, "[test]", 0)])
def test_room_is_asked_for_before_anything_is_fetched(
    bootstrap: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: tuple[int, str, int],
) -> None:
    free, extras, wanted = case
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free << 20))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(bootstrap.HERE))
    if not wanted:
        bootstrap.check_room(with_tests=True)
        return
    with pytest.raises(SystemExit):
        bootstrap.install(extras)
    said = capsys.readouterr().err
    assert (
        f"error: the environment needs {wanted} MiB below {bootstrap.HERE}, and {free} MiB are free" in said
    )
    assert not bootstrap.VENV.exists()


def test_a_folder_that_cannot_be_written_to_is_named(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SystemExit):
        bootstrap.install("")
    assert f"error: {bootstrap.HERE} cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    "case",
    [
        ({"debian"}, 1000, "sudo apt-get install python3.11-venv"),
        ({"fedora"}, 0, "dnf install python3-pip"),
        ({"almalinux", "rhel", "centos"}, 0, "dnf install python3.11-pip"),
        ({"arch"}, 0, "pacman -S python-pip"),
        ({"opensuse", "suse"}, 0, "zypper install python311-pip"),
        ({"alpine"}, 0, "apk add py3-pip"),
        (set(), 0, "install Python's ensurepip, or pip"),
    ],
)
def test_a_python_without_pip_names_the_package(
    bootstrap: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: tuple[set[str], int, str],
) -> None:
    system, user, hint = case
    monkeypatch.setattr(sys, "version_info", (3, 11, 2))
    monkeypatch.setattr(bootstrap, "has_module", lambda _: False)
    monkeypatch.setattr(bootstrap, "system_words", lambda: system)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(bootstrap, "run", None)
    with pytest.raises(SystemExit):
        bootstrap.make_environment()
    assert f"hint: {hint}\n" in capsys.readouterr().err


def test_debian_gets_the_package_with_the_proxies_passed_on(
    bootstrap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def note(_failed: str, argv: list[object], _settings: object, inherited: tuple[str, ...] = ()) -> None:
        ran.append([str(word) for word in argv])
        assert "https_proxy" in inherited or str(argv[0]) == sys.executable

    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    monkeypatch.setattr(bootstrap, "has_module", lambda _: False)
    monkeypatch.setattr(bootstrap, "system_words", lambda: {"ubuntu", "debian"})
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(bootstrap, "run", note)
    bootstrap.make_environment()
    assert [words[-1] for words in ran] == ["update", "python3.13-venv", str(bootstrap.VENV)]


def test_a_pip_that_is_there_will_do(bootstrap: Any) -> None:
    """Without ensurepip, and with a pip of the host's, which installs into the environment from outside."""
    shutil.copy(PROJECT / "pyproject.toml", bootstrap.HERE)
    bootstrap.has_module = lambda name: name == "pip"
    bootstrap.make_environment()
    assert bootstrap.PYTHON.exists()
    assert not (bootstrap.VENV / "bin/pip").exists()
    ran: list[list[str]] = []
    bootstrap.run = lambda _failed, argv, _settings: ran.append([str(word) for word in argv])
    bootstrap.install("")
    assert ran[0][1:6] == ["-m", "pip", "--python", str(bootstrap.PYTHON), "install"]


def test_an_index_that_cannot_be_reached_is_one_error(tmp_path: Path) -> None:
    for name in ("build.py", "pyproject.toml", "README.md"):
        shutil.copy(PROJECT / name, tmp_path / name)
    shutil.copytree(PROJECT / "imagebuilder/host", tmp_path / "imagebuilder/host")
    shutil.copy(PROJECT / "imagebuilder/__init__.py", tmp_path / "imagebuilder")
    unreachable = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    environment = clean_environment(**unreachable, PIP_FIND_LINKS="", HOME="/proc/nonexistent")
    python = getattr(sys, "_base_executable", sys.executable)
    ended = run([python, str(tmp_path / "build.py"), "boards"], env=environment, check=False, timeout=120)
    assert ended.code == 2
    first, error, hint = ended.stderr.splitlines()
    assert first == "preparing the virtual environment beside build.py (the first run only)"
    assert error.startswith("error: the environment could not be made: the network cannot be reached: ")
    assert "Connection refused" in error
    assert str(tmp_path / ".venv/install.log") in hint
    assert "127.0.0.1" in (tmp_path / ".venv/install.log").read_text()


def test_an_environment_is_up_to_date_for_the_dependencies_that_it_was_made_from(bootstrap: Any) -> None:
    dependencies = bootstrap.HERE / "pyproject.toml"
    dependencies.write_text('[project]\nname = "x"\n')
    bootstrap.PYTHON.parent.mkdir(parents=True)
    bootstrap.PYTHON.touch()
    assert not bootstrap.is_installed("")
    bootstrap.STAMP.write_text(f"{'7' * 64}\n\n[test]\n")  # as build.py wrote it before
    assert not bootstrap.is_installed("")
    bootstrap.STAMP.write_text(",[test]\n" + bootstrap.wanted_stamp())
    assert bootstrap.is_installed("")
    assert bootstrap.is_installed("[test]")
    bootstrap.STAMP.write_text("\n" + bootstrap.wanted_stamp())
    assert bootstrap.is_installed("")
    assert not bootstrap.is_installed("[test]")
    dependencies.write_text('[project]\nname = "y"\n')
    assert not bootstrap.is_installed("")
    dependencies.write_text('[project]\nname = "x"\n')
    bootstrap.PYTHON.unlink()
    assert not bootstrap.is_installed("")


def test_what_was_typed(bootstrap: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It starts another Python, whose messages name what the user typed."""
    script = tmp_path / "build.py"
    script.write_text("")
    script.chmod(0o755)
    for interpreter, name, typed in (
        ("python3", "build.py", "python3 build.py"),
        ("python3", str(script), str(script)),
        ("python3.12", str(script), f"python3.12 {script}"),
        ("/my venv/bin/python", "build.py", "'/my venv/bin/python' build.py"),
    ):
        monkeypatch.setattr(sys, "orig_argv", [interpreter, name, "plan"])
        monkeypatch.setattr(sys, "argv", [name, "plan"])
        assert bootstrap.called() == typed
