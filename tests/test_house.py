"""The house rules, as tests: who may import whom, types, style, and who may print or exit."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from imagebuilder.host.run import clean_environment, run
from imagebuilder.made_of import BuildInputs
from imagebuilder.model.result import Result

PROJECT = Path(__file__).resolve().parents[1]
MODULES = sorted((PROJECT / "imagebuilder").rglob("*.py"))
MAKE_CALLS = {PROJECT / "imagebuilder/kit/__main__.py"}
# a copy of the process, which goes no further
A_CHILD_ENDS = {PROJECT / "imagebuilder/host" / name for name in ("children.py", "confined.py")}
A_CHILD_ENDS |= {PROJECT / "imagebuilder/python/apps/python_launcher.py"}


def python_tool(*argv: str) -> str:
    """Run a tool of this virtual environment in the project; its output, errors included."""
    environment = clean_environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin", HOME="/nonexistent")
    ended = run(argv, cwd=PROJECT, env=environment, check=False)
    assert ended.code == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_import_contract() -> None:
    printed = python_tool("lint-imports", "--no-cache")
    assert "0 broken" in printed


def test_the_contract_knows_every_package() -> None:
    """A new package or module at the top must be given its place in the table."""
    table = (PROJECT / "pyproject.toml").read_text()
    names = {path.relative_to(PROJECT / "imagebuilder").parts[0].removesuffix(".py") for path in MODULES}
    names -= {"__init__", "__main__"}
    assert [name for name in sorted(names) if f"imagebuilder.{name}" not in table] == []


def test_ruff() -> None:
    python_tool("ruff", "check", "--no-cache", ".")
    python_tool("ruff", "format", "--no-cache", "--check", ".")


def test_mypy() -> None:
    assert "Success" in python_tool("mypy", "--no-incremental")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if path.is_relative_to(PROJECT / "imagebuilder/cli") or path in MAKE_CALLS | A_CHILD_ENDS:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            assert node.id not in ("print", "SystemExit", "input"), f"{path}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("sys.exit", "os._exit"), f"{path}:{node.lineno}"


_ELSEWHERE = {
    **dict.fromkeys(("mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile"), "host/handover.py"),
    **dict.fromkeys(("rmtree", "copytree", "os.walk", "rglob", "removedirs", "flock"), "host/handover.py"),
}
# what goes through this program's own files alone, and not through what others made
_OWN_FILES = {("kit/prepare.py", "rglob"), ("kit/materials.py", "rglob"), ("kit/materials.py", "os.walk")}
_OWN_FILES |= {("kit/tree.py", "os.walk")}
# runs with pip in the sandbox, below a TMPDIR that goes with it
_OWN_FILES |= {("python/requirements/index_sources.py", each) for each in ("mkdtemp", "tempfile.mkdtemp")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_temporary_folders_and_walks_are_made_in_one_place(path: Path) -> None:
    """host/handover.py tells what the living hold from what the dead left; host/walk.py does not recurse."""
    name = str(path.relative_to(PROJECT / "imagebuilder"))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            for what in (node.attr, ast.unparse(node)):
                own = (name, what) in _OWN_FILES or name == _ELSEWHERE.get(what, name)
                assert own, f"{path}:{node.lineno}: {what}"


def test_a_package_manager_is_told_by_its_name_in_one_place() -> None:
    """Which one a tree has is looked up in packages/managers.py; all else asks the manager itself."""
    names = {
        path.name for path in (PROJECT / "imagebuilder/packages").iterdir() if (path / "manager.py").is_file()
    }
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            if isinstance(node, ast.MatchValue):
                sides = [node.value]
            found += [path for side in sides if isinstance(side, ast.Constant) and side.value in names]
    assert names == {"apk", "opkg"}
    assert found == []
    lines = (PROJECT / "imagebuilder/packages/managers.py").read_text().splitlines()
    assert sum(f'"{name}": ' in line for line in lines for name in names) == len(names)


def test_no_public_class_has_the_name_of_another() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(PROJECT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_rooms_are_not_too_large(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path}:{node.lineno} {node.name}"


@pytest.mark.parametrize(("name", "model"), [("result", Result), ("inputs", BuildInputs)])
def test_the_documented_schemas_of_what_lies_beside_images_are_the_models(
    name: str, model: type[BaseModel]
) -> None:
    documented = json.loads((PROJECT / f"imagebuilder/report/{name}.schema.json").read_text())
    assert documented == model.model_json_schema(mode="serialization")


SECURITY = (PROJECT / "SECURITY.md").read_text()
HELD_BY = "held by"
UNHELD = ("unheld", "not defended", "not checked: ")


def promises() -> list[tuple[str, str]]:
    """The promises of SECURITY.md, and what their lines say of who holds them."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in SECURITY.splitlines()]
    heads = [number for number, row in enumerate(rows) if len(row) == 2 and row[1] == HELD_BY]
    found = []
    for head in heads:
        for row in rows[head + 2 :]:
            if len(row) != 2:
                break
            found.append((row[0], row[1]))
    return found


@pytest.mark.parametrize(("promise", "held"), promises())
def test_each_promise_of_the_threat_model_has_tests_or_says_that_it_has_none(promise: str, held: str) -> None:
    if held.startswith(UNHELD):
        assert "`" not in held
        return
    assert held
    assert re.fullmatch(r"(`tests/[a-z_/]+\.py::test_[a-z0-9_]+` ?)+", held), promise


def test_the_tests_of_the_threat_model_are_there() -> None:
    """A test that was renamed or taken away leaves a promise that nobody keeps."""
    named = sorted(set(re.findall(r"`(tests/[^`:]+)::([^`]+)`", SECURITY)))
    assert len(named) > 60
    there = {
        (path, node.name)
        for path in {path for path, _ in named}
        for node in ast.parse((PROJECT / path).read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert [f"{path}::{name}" for path, name in named if (path, name) not in there] == []
    assert SECURITY.count("`tests/") == len(
        re.findall(r"`tests/[^`:]+::[^`]+`|`tests/test_house.py`", SECURITY)
    )
