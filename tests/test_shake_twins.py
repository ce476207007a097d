"""Every one of the kit's python3-* packages, alone with what it depends on: its modules are imported, and its
-src twin brings their sources back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from shake_kit import CATALOGUE, Contents, package_of, packages_of, root_of
from test_kit_python import NOT_IMPORTED, STANDARD, modules_of

from imagebuilder.python.catalogue import PythonPackage
from imagebuilder.python.shake_files import builtin_modules, frozen_modules
from imagebuilder.python.shake_run import Root, run_in

pytest_plugins = ["kit_fixtures"]
pytestmark = pytest.mark.kit

WITHOUT_SOURCE = {"python3-codecs", "python3-openssl", "python3-readline"}  # extension modules alone
PACKAGES = CATALOGUE.packages.values()
TWINS = [package for package in PACKAGES if package.src_name is not None]
MODULES = [package for package in PACKAGES if package.modules or package.site_modules]
# OpenWrt's own borders: alone, with what they depend on, packages lack what these imports want
BORDERS = {
    "python3-base": {"_weakrefset": "types"},
    "python3-light": {
        "_asyncio": "asyncio",
        **dict.fromkeys(("mailbox", "nntplib", "smtpd", "smtplib"), "email"),
        **dict.fromkeys(("compileall", "mimetypes", "pathlib", "zipapp", "zipfile"), "urllib"),
        **dict.fromkeys(("fractions", "statistics"), "decimal"),
        "plistlib": "xml",
        "ssl": "_ssl",
    },
    "python3-asyncio": {"asyncio": "logging"},
    "python3-cgi": {"cgi": "urllib"},
    "python3-cgitb": {"cgitb": "urllib"},
    "python3-pkg-resources": {"pkg_resources": "xml"},
    "python3-pydoc": {"doctest": "unittest", "pydoc": "urllib"},
}
IMPORT = """
import sys
failed = {{}}
for name in {names!r}:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        failed[name] = error.name
files = {{name: getattr(sys.modules.get(name), "__file__", None) for name in {names!r}}}
print([failed, files])
"""
LINES = """
import linecache
print({{path: len(linecache.getlines(path)) for path in {paths!r}}})
"""


def root_with(contents: Contents, folder: Path) -> Root:
    return Root(root_of((each.tree for each in contents.values()), folder), CATALOGUE.python)


def ask(root: Root, code: str, work: Path) -> object:
    """What the root's own interpreter prints as a literal."""
    done = run_in(root, ["/usr/bin/python3", "-W", "ignore", "-c", code], work)
    assert done.code == 0, done.stderr
    return ast.literal_eval(done.stdout)


def importable(package: PythonPackage) -> list[str]:
    return sorted({*package.modules, *package.site_modules} - NOT_IMPORTED)


@pytest.mark.parametrize("package", MODULES, ids=lambda package: package.name)
def test_a_package_imports_what_it_should(kit: Path, package: PythonPackage, tmp_path: Path) -> None:
    contents = packages_of(kit, [package.name_in_index])
    root = root_with(contents, tmp_path / "root")
    answer = ask(root, IMPORT.format(names=importable(package)), tmp_path / "work")
    assert isinstance(answer, list)
    failed, files = answer
    there = {name for each in contents.values() for name in modules_of(each.tree)}
    there |= builtin_modules(each.tree for each in contents.values()) | set(CATALOGUE.builtin_modules)
    assert failed == BORDERS.get(package.name, {})
    assert not {lacks.partition(".")[0] for lacks in failed.values()} & there
    inside = frozen_modules(each.tree for each in contents.values())  # these say where their source would be
    read = {name: file for name, file in files.items() if file and name not in inside}
    assert not [file for file in read.values() if not file.endswith((".pyc", ".so"))]


def test_together_they_import_everything(kit: Path, tmp_path: Path) -> None:
    root = root_with(packages_of(kit, ["python3", "python3-lib2to3", "python3-venv"]), tmp_path / "root")
    names = sorted({name for package in STANDARD for name in importable(package)})
    answer = ask(root, IMPORT.format(names=names), tmp_path / "work")
    assert isinstance(answer, list)
    assert answer[0] == {}


@pytest.mark.parametrize("package", TWINS, ids=lambda package: package.name)
def test_a_twin_brings_the_source_back(kit: Path, package: PythonPackage, tmp_path: Path) -> None:
    assert package.src_name is not None
    twin = package_of(kit, package.src_name)
    sources = [path for path, entry in twin.tree.items() if entry.kind == "file"]
    assert bool(sources) == (package.name not in WITHOUT_SOURCE)
    contents = packages_of(kit, [package.name_in_index, "python3-light", package.src_name])
    root = root_with(contents, tmp_path / "root")
    lines = ask(root, LINES.format(paths=sources), tmp_path / "work")
    assert isinstance(lines, dict)
    empty = {path for path in sources if twin.tree[path].data == b""}
    assert {path for path, count in lines.items() if count == 0} == empty
    answer = ask(root, IMPORT.format(names=importable(package)), tmp_path / "work")
    assert isinstance(answer, list)
    failed, files = answer
    inside = frozen_modules(each.tree for each in contents.values())
    pure = {*package.pure_modules, *package.site_modules} & set(importable(package)) - failed.keys() - inside
    assert {name for name in pure if files[name] in sources} == pure
