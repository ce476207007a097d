"""Every one of the kit's python3-* packages, alone with what it depends on: its modules are imported, and its
-src twin brings their sources back."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest

from imagebuilder.model.edition import EDITIONS
from imagebuilder.python.catalogue.catalogue import PythonPackage, load_catalogue
from imagebuilder.python.shake.commands import Root, run_in
from imagebuilder.python.shake.shake import builtin_modules, frozen_modules
from tests.kit.test_python import NOT_IMPORTED, modules_of
from tests.support.kit_fixtures import EVERY_EDITION
from tests.support.shake_kit import Contents, Shaker, root_of

pytestmark = pytest.mark.kit

WITHOUT_SOURCE = {"python3-codecs", "python3-openssl", "python3-readline"}  # extension modules alone
PACKAGES = [
    (release, package)
    for release, edition in EDITIONS.items()
    for package in load_catalogue(edition.series).packages.values()
]
TWINS = [(release, package.name) for release, package in PACKAGES if package.src_name is not None]
MODULES = [
    (release, package.name) for release, package in PACKAGES if package.modules or package.site_modules
]
# OpenWrt's own borders: alone, with what they depend on, packages lack what these imports want
BORDERS_OF_23_05 = {
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
BORDERS_OF_25_12 = {
    "python3-base": {"_weakrefset": "types", "sysconfig": "threading"},
    "python3-light": {
        "_asyncio": "asyncio",
        **dict.fromkeys(("mailbox", "smtplib"), "email"),
        "mimetypes": "urllib",
        **dict.fromkeys(("_pylong", "fractions", "statistics"), "decimal"),
        "plistlib": "xml",
        "ssl": "_ssl",
    },
    "python3-asyncio": {"asyncio": "logging"},
    "python3-pkg-resources": {"pkg_resources": "xml"},
    "python3-pydoc": {"doctest": "unittest", "pydoc": "urllib"},
}
BORDERS = {"embedded": BORDERS_OF_23_05, "embedded-3.13": BORDERS_OF_25_12}
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


def root_with(shaker: Shaker, contents: Contents, folder: Path) -> Root:
    return Root(root_of((each.tree for each in contents.values()), folder), shaker.catalogue.python)


def ask(root: Root, code: str, work: Path) -> object:
    """What the root's own interpreter prints as a literal."""
    done = run_in(root, ["/bin/sh", "-c", f"printf %s {shlex.quote(code)} | /usr/bin/python3 -"], work)
    assert done.code == 0, done.stderr
    return ast.literal_eval(done.stdout)


def importable(package: PythonPackage) -> list[str]:
    return sorted({*package.modules, *package.site_modules} - NOT_IMPORTED)


@pytest.mark.parametrize(("edition", "package"), MODULES, indirect=["edition"], scope="session")
def test_a_package_imports_what_it_should(shaker: Shaker, package: str, tmp_path: Path) -> None:
    facts = shaker.catalogue.package(package)
    contents = shaker.packages_of([facts.name_in_index])
    root = root_with(shaker, contents, tmp_path / "root")
    answer = ask(root, IMPORT.format(names=importable(facts)), tmp_path / "work")
    assert isinstance(answer, list)
    failed, files = answer
    there = {name for each in contents.values() for name in modules_of(each.tree, shaker.library)}
    there |= builtin_modules(each.tree for each in contents.values()) | set(shaker.catalogue.builtin_modules)
    assert failed == BORDERS[shaker.edition.release].get(package, {})
    assert not {lacks.partition(".")[0] for lacks in failed.values()} & there
    inside = frozen_modules(each.tree for each in contents.values())  # these say where their source would be
    read = {name: file for name, file in files.items() if file and name not in inside}
    assert not [file for file in read.values() if not file.endswith((".pyc", ".so"))]


@EVERY_EDITION
def test_together_they_import_everything(shaker: Shaker, tmp_path: Path) -> None:
    standard = [package for package in shaker.catalogue.packages.values() if package.standard_library]
    contents = shaker.packages_of(package.name_in_index for package in standard)
    root = root_with(shaker, contents, tmp_path / "root")
    names = sorted({name for package in standard for name in importable(package)})
    answer = ask(root, IMPORT.format(names=names), tmp_path / "work")
    assert isinstance(answer, list)
    assert answer[0] == {}


@pytest.mark.parametrize(("edition", "package"), TWINS, indirect=["edition"], scope="session")
def test_a_twin_brings_the_source_back(shaker: Shaker, package: str, tmp_path: Path) -> None:
    facts = shaker.catalogue.package(package)
    assert facts.src_name is not None
    twin = shaker.package_of(facts.src_name)
    sources = [path for path, entry in twin.tree.items() if entry.kind == "file"]
    assert bool(sources) == (package not in WITHOUT_SOURCE)
    contents = shaker.packages_of([facts.name_in_index, "python3-light", facts.src_name])
    root = root_with(shaker, contents, tmp_path / "root")
    lines = ask(root, LINES.format(paths=sources), tmp_path / "work")
    assert isinstance(lines, dict)
    empty = {path for path in sources if twin.tree[path].data == b""}
    assert {path for path, count in lines.items() if count == 0} <= empty  # from 3.13 on it has one line
    answer = ask(root, IMPORT.format(names=importable(facts)), tmp_path / "work")
    assert isinstance(answer, list)
    failed, files = answer
    inside = frozen_modules(each.tree for each in contents.values())
    pure = {*facts.pure_modules, *facts.site_modules} & set(importable(facts)) - failed.keys() - inside
    assert {name for name in pure if files[name] in sources} == pure
