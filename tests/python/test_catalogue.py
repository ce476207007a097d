"""How OpenWrt 23.05 cuts CPython into packages."""

from __future__ import annotations

import dataclasses
import re

import pytest

from imagebuilder.python.catalogue.catalogue import CatalogueError, HookStep, known_series, load_catalogue
from imagebuilder.rootfs.filespec import parse

BOOK = load_catalogue("23.05")


def test_the_series_states_where_its_facts_come_from() -> None:
    assert known_series() == (
        *("17.01", "18.06", "19.07", "21.02", "22.03", "23.05", "24.10", "25.12", "snapshot"),
    )
    assert re.fullmatch(r"[0-9a-f]{40}", BOOK.commit)
    assert (BOOK.python, BOOK.version, BOOK.magic_number) == ("3.11", "3.11.7", 3495)
    assert BOOK.library == "/usr/lib/python3.11"
    with pytest.raises(CatalogueError, match="no Python catalogue for OpenWrt 19"):
        load_catalogue("19")


def test_variants_grow_from_base_to_full() -> None:
    base, light, full = (
        [package.name for package in BOOK.closure([BOOK.variant_package(variant).name])]
        for variant in ("base", "light", "full")
    )
    assert base == ["libpython3", "python3-base"]
    assert light == [*base, "python3-light"]
    assert full[:3] == light
    assert full[-1] == "python3"
    assert {"python3-asyncio", "python3-openssl", "python3-xml"} < set(full)
    assert {"python3-dev", "python3-lib2to3", "python3-venv", "python3-pip"}.isdisjoint(full)
    assert [BOOK.variant_package(variant).name for variant in ("base", "light", "full")] == [
        *["python3-base", "python3-light", "python3"]
    ]


def test_dependencies_come_before_those_that_need_them() -> None:
    names = [package.name for package in BOOK.closure(list(BOOK.packages))]
    assert sorted(names) == sorted(BOOK.packages)
    for package in BOOK.packages.values():
        for needed in package.depends:
            if needed in BOOK.packages:
                assert names.index(needed) < names.index(package.name)
    with pytest.raises(CatalogueError, match="has no Python package python4"):
        BOOK.closure(["python4"])


def test_no_placeholder_is_left() -> None:
    for package in BOOK.packages.values():
        assert "{" not in repr(dataclasses.asdict(package)).replace("{'", "")


def test_the_filespecs_are_readable_rules() -> None:
    for package in BOOK.packages.values():
        rules = parse("\n".join("|".join(rule) for rule in package.filespec), origin=package.name)
        assert [(rule.op, rule.path) for rule in rules] == list(package.filespec)
    assert BOOK.package("python3-uuid").filespec == (
        ("+", "/usr/lib/python3.11/uuid.py"),
        ("+", "/usr/lib/python3.11/lib-dynload/_uuid.cpython-311-*.so"),
    )


def test_what_light_drops_is_what_others_take_or_what_nobody_ships() -> None:
    taken = {
        path
        for package in BOOK.packages.values()
        if package.name != "python3-light"
        for op, path in package.filespec
        if op == "+"
    }
    dropped = {path for op, path in BOOK.package("python3-light").filespec if op == "-"}
    nobody = {path.rpartition("/")[2].removesuffix(".py") for path in dropped - taken}
    assert nobody == {*BOOK.shipped_in_no_package, "cygwinccompiler"}


def test_hooks_and_names() -> None:
    assert BOOK.package("python3-base").install_hook == (
        HookStep("mkdir", "/usr/bin"),
        HookStep("symlink", "/usr/bin/python3", "python3.11"),
        HookStep("symlink", "/usr/bin/python", "python3.11"),
    )
    library = BOOK.package("libpython3")
    assert (library.name_in_index, library.abi_version, library.src_name) == ("libpython3-3.11", "3.11", None)
    assert library.install_hook[1] == HookStep("copy", "/usr/lib/libpython3.11.so*", "/usr/lib/")
    assert BOOK.package("python3-light").src_name == "python3-light-src"
    assert not BOOK.package("python3-pip").standard_library
    assert len([package for package in BOOK.packages.values() if package.src_twin]) == 30


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("os", "python3-base"),
        ("os.path", "python3-base"),
        ("json", "python3-light"),
        ("asyncio.events", "python3-asyncio"),
        ("_ssl", "python3-openssl"),
        ("sys", "libpython3"),
        ("zlib", "python3-light"),
        ("xmlrpc.client", "python3-xml"),
    ],
)
def test_a_module_has_one_package(module: str, package: str) -> None:
    assert BOOK.provider(module).name == package


def test_a_module_that_openwrt_leaves_out() -> None:
    with pytest.raises(CatalogueError) as caught:
        BOOK.provider("tkinter.ttk")
    assert caught.value.hint == "OpenWrt leaves it out of Python 3.11"
    with pytest.raises(CatalogueError) as caught:
        BOOK.provider("numpy")
    assert caught.value.hint is None


def test_modules_are_in_one_package_only() -> None:
    seen = [module for package in BOOK.packages.values() for module in package.modules]
    assert len(seen) == len(set(seen)) > 200
    assert len(BOOK.builtin_modules) == 31
    assert set(seen).isdisjoint(BOOK.builtin_modules)
