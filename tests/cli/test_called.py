"""Messages name the program as it was started."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import imagebuilder
from imagebuilder.called import BOOTSTRAP, COMMAND, COMMANDS, OPTION, how_called

PROJECT = Path(__file__).resolve().parents[2]


def usage(*start: str) -> str:
    """The usage line, which is folded where it is long."""
    words = [sys.executable, *start, "plan", "--nonsense"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    return " ".join(ended.stderr.partition("Try ")[0].split())


def test_usage_lines() -> None:
    """Of what has to be typed, and of build.py, which starts the program anew."""
    shown = usage("-m", "imagebuilder")
    assert shown.startswith(f"Usage: {sys.executable} -m imagebuilder plan [OPTIONS] ")
    given = usage("-X", f"{OPTION}=python3 build.py", "-m", "imagebuilder")
    assert given.startswith("Usage: python3 build.py plan [OPTIONS] ")


# pages that are written in a checkout, and what is to be done in one
ABOUT_A_CHECKOUT = {"called.py", "cli/app.py", "cli/manual.py", "config/schema.py", "report/firmware.py"}


def test_no_message_names_the_program_by_itself() -> None:
    """What is typed is known to called.py: `typed("lock home")`."""
    found = set()
    for path in (PROJECT / "imagebuilder").rglob("*.py"):
        tree = ast.parse(path.read_text())
        owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        said = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            named = (
                isinstance(node, ast.Constant) and isinstance(node.value, str) and "build.py" in node.value
            )
            if named and id(node) not in said:
                found.add(str(path.relative_to(PROJECT / "imagebuilder")))
    assert found == ABOUT_A_CHECKOUT


def test_build_py_says_it() -> None:
    assert f'"{OPTION}="' in (PROJECT / BOOTSTRAP).read_text()


def test_the_commands_are_those_that_are_installed() -> None:
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    assert tuple(scripts) == COMMANDS


def test_the_name_that_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, elsewhere = tmp_path / "bin", tmp_path / "other place"
    for folder in (on_path, elsewhere):
        folder.mkdir()
        (folder / COMMAND).write_text("#!/bin/sh\n")
        (folder / COMMAND).chmod(0o755)
    monkeypatch.setenv("PATH", f"{on_path}:/usr/bin")
    assert how_called(str(on_path / COMMAND), ["python3", str(on_path / COMMAND)]) == COMMAND
    assert how_called(str(elsewhere / COMMAND), []) == f"'{elsewhere / COMMAND}'"
    module = str(Path(imagebuilder.__file__).with_name("__main__.py"))
    assert how_called(module, ["python3.12", "-m", "imagebuilder"]) == "python3.12 -m imagebuilder"
    assert how_called(module, ["/my venv/python"]) == "'/my venv/python' -m imagebuilder"
    assert how_called("/usr/bin/pytest", ["pytest"]) == COMMAND  # somebody's own program
    assert how_called(module, ["python"], "./build.py") == "./build.py"


def test_the_version() -> None:
    said = subprocess.check_output([sys.executable, "-m", "imagebuilder", "--version"], text=True)
    assert said == f"{COMMAND} {imagebuilder.__version__}\n"
