"""The kit's Python: cut as OpenWrt's catalogue says, apart from the stated deviations, and able to run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from imagebuilder.host.run import clean_environment, run
from imagebuilder.kit.layout import PACKAGES_DIR
from imagebuilder.kit.recipe import deviations
from imagebuilder.model.edition import EDITIONS, Edition
from imagebuilder.model.filespec import site_packages
from imagebuilder.packages.opkg.ipk_reader import read_ipk
from imagebuilder.python.catalogue.catalogue import Catalogue, load_catalogue
from imagebuilder.rootfs.tree import FileTree
from tests.support.kit_fixtures import EVERY_EDITION
from tests.support.kit_making import Make

pytestmark = pytest.mark.kit

STANDARD = [
    (release, package.name)
    for release, edition in EDITIONS.items()
    for package in load_catalogue(edition.series).packages.values()
    if package.standard_library
]
EVERY_PACKAGE = pytest.mark.parametrize(
    ("edition", "package"), STANDARD, indirect=["edition"], scope="session"
)
# turtle and its like are there, but import what OpenWrt leaves out; these two act when they are imported
NOT_IMPORTED = {"antigravity", "this", "turtle", "_sysconfigdata_*", "_aix_support", "_bootsubprocess"}
NOT_IMPORTED |= {"_ios_support"}  # wants the library of another system


@pytest.fixture(scope="session")
def catalogue(edition: Edition) -> Catalogue:
    return load_catalogue(edition.series)


def tree_of(kit: Path, name: str) -> FileTree:
    (file,) = (kit / PACKAGES_DIR).glob(f"{name}_*.ipk")
    return read_ipk(file).tree


def modules_of(tree: FileTree, library: str) -> set[str]:
    """Top-level modules that a package brings, by its files."""
    names = set()
    for path in tree.below(library):
        inner = path.removeprefix(f"{library}/")
        if (found := re.fullmatch(r"lib-dynload/(\w+)\.cpython-.*\.so", inner)) or (
            found := re.fullmatch(r"([\w-]+)\.pyc|(\w+)/__init__\.pyc", inner)
        ):
            names.add(found[1] or found[2])
    return {"_sysconfigdata_*" if name.startswith("_sysconfigdata_") else name for name in names}


@EVERY_PACKAGE
def test_a_package_has_openwrts_modules_apart_from_the_deviations(
    kit: Path, edition: Edition, catalogue: Catalogue, package: str
) -> None:
    changes, facts = deviations(edition), catalogue.package(package)
    added = {Path(path).stem for path in changes.added_to(package)}
    expected = set(facts.modules) - {
        name for entry in changes.builtin if entry.package == package for name in entry.modules
    }
    assert modules_of(tree_of(kit, facts.name_in_index), catalogue.library) == expected | added


@EVERY_PACKAGE
def test_bytecode_is_in_the_package_and_sources_are_in_its_twin(
    kit: Path, catalogue: Catalogue, package: str
) -> None:
    facts = catalogue.package(package)
    shipped = tree_of(kit, facts.name_in_index)
    assert not [path for path in shipped if path.endswith(".py")]
    if facts.src_name is not None:
        twin = tree_of(kit, facts.src_name)
        assert {f"{path}c" for path in twin if twin[path].kind == "file"} == {
            path for path in shipped if path.endswith(".pyc")
        }


@EVERY_EDITION
def test_no_file_is_in_two_packages(kit: Path) -> None:
    owners: dict[str, str] = {}
    for file in sorted((kit / PACKAGES_DIR).glob("*.ipk")):
        tree = read_ipk(file).tree
        for path in tree:
            if tree[path].kind != "dir":
                assert owners.setdefault(path, file.name) == file.name, path


def ask(root: Path, code: str) -> object:
    """What the rootfs' own interpreter prints as a literal, run through the rootfs' own loader."""
    argv = [f"{root}/lib/ld-linux-x86-64.so.2", "--library-path", f"{root}/lib:{root}/usr/lib"]
    argv += [str((root / "usr/bin/python3").resolve()), "-"]
    environment = clean_environment(PYTHONHOME=f"{root}/usr")
    return ast.literal_eval(run(argv, env=environment, stdin=code.encode(), timeout=60).stdout)


IMPORT_ALL = """
failed = {{}}
for name in {names!r}:
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        failed[name] = error.name
print(failed)
"""


@EVERY_EDITION
@pytest.mark.parametrize("variant", ["base", "light", "full"])
def test_a_variant_imports_all_that_it_should(make: Make, catalogue: Catalogue, variant: str) -> None:
    made = make(PACKAGES=catalogue.variants[variant])
    assert made.code == 0, made.stderr
    there = {
        name for each in catalogue.closure([catalogue.variant_package(variant).name]) for name in each.modules
    }
    there |= set(catalogue.builtin_modules)
    failed = ask(made.root, IMPORT_ALL.format(names=sorted(there - NOT_IMPORTED)))
    assert isinstance(failed, dict)
    # OpenWrt's own borders: light has fractions, for instance, which imports decimal, which it has not
    assert {name: lacks for name, lacks in failed.items() if lacks.partition(".")[0] in there} == {}
    if variant == "full":
        assert failed == {}


@EVERY_EDITION
def test_a_smaller_variant_lacks_what_openwrts_lacks(make: Make) -> None:
    code = "import importlib.util as u; print([n for n in {} if u.find_spec(n)])"
    root = make(PACKAGES="python3-light").root
    missing = ["asyncio", "email", "logging", "sqlite3", "ctypes", "decimal", "idlelib", "tkinter", "test"]
    assert ask(root, code.format(missing)) == []


@EVERY_EDITION
def test_python_looks_in_site_packages_and_writes_no_bytecode(
    make: Make, catalogue: Catalogue, tmp_path: Path
) -> None:
    module = tmp_path / f"files{site_packages(catalogue.python)}/mine.py"
    module.parent.mkdir(parents=True)
    module.write_text("ANSWER = 42\n")
    root = make(PACKAGES="python3-light", FILES=str(tmp_path / "files")).root
    said = ask(
        root,
        "import sys, sysconfig, mine; print({'answer': mine.ANSWER, 'path': sys.path,"
        " 'silent': sys.dont_write_bytecode, 'purelib': sysconfig.get_path('purelib')})",
    )
    assert isinstance(said, dict)
    installed = f"{root}{site_packages(catalogue.python)}"
    assert said["answer"] == 42
    assert said["path"][-1] == installed
    assert said["silent"] is True
    assert said["purelib"] == installed
    assert not list(root.rglob("__pycache__"))


@EVERY_EDITION
def test_pip_is_there(make: Make) -> None:
    root = make(PACKAGES="python3-pip").root
    assert (root / "usr/bin/pip3").read_text().startswith("#!/usr/bin/python3\n")
    assert isinstance(ask(root, "import pip; print(repr(pip.__version__))"), str)
