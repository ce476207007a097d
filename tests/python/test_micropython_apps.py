"""Apps for MicroPython: what they may import, and what becomes of them."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from imagebuilder.config.app import AppUse
from imagebuilder.errors import FaultsError
from imagebuilder.log import Log
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.python.apps.package import AppPackageError
from imagebuilder.python.catalogue.catalogue import CatalogueError, known_series, load_micropython
from imagebuilder.python.imports.imports import SourceError
from imagebuilder.python.micropython.micropython import (
    MicroPythonApp,
    MpyCross,
    MpyCrossError,
    app_package,
    check_imports,
    declare_app,
    find_mpy_cross,
    load_modules,
    open_app,
)
from imagebuilder.rootfs.files import content

FAKE_MPY_CROSS = """#!/bin/sh
case "$1" in --version) echo "MicroPython v1.20.0 on 2024-01-01; mpy-cross emitting mpy v6.1"; exit;; esac
grep -q 'def (' "$6" && { echo "SyntaxError: invalid syntax" >&2; exit 1; }
echo "mpy $1 $3" > "$5"
"""


def script(folder: Path, text: str, name: str = "my_app.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def opened(path: Path, **options: object) -> MicroPythonApp:
    return open_app(AppUse(path=str(path), **options), path.parent)  # type: ignore[arg-type]


@pytest.fixture
def mpy_cross(tmp_path: Path) -> MpyCross:
    program = tmp_path / "mpy-cross"
    program.write_text(FAKE_MPY_CROSS)
    program.chmod(0o755)
    found = find_mpy_cross("1.20.0", Log(), [str(program)])
    assert found is not None
    return found


@pytest.mark.parametrize("series", known_series())
def test_every_series_has_its_modules(series: str) -> None:
    modules = load_modules(series)
    assert modules.upstream == load_micropython(series).upstream
    bare = modules.importable([])
    assert {"sys", "gc", "math", "micropython", "ujson", "ffi"} <= bare
    assert "asyncio" not in bare or series not in ("17.01", "18.06", "19.07", "21.02", "22.03", "23.05")
    assert ("json" in bare) is (series not in ("17.01", "18.06", "19.07", "21.02"))


def test_an_unknown_series_is_refused() -> None:
    for series in ("15.05", "about"):
        with pytest.raises(CatalogueError, match="are not known"):
            load_modules(series)


def test_the_kit_has_what_debian_builds(tmp_path: Path) -> None:
    """tests/whole/test_boot_command.py imports each of these in the kit's image."""
    modules = load_modules("embedded-3.13")
    assert (modules.series, modules.upstream) == ("embedded-3.13", "1.25.0")
    there = modules.importable(["micropython-mbedtls"])
    assert {"asyncio", "json", "requests", "tls", "socket"} <= there
    assert not {"argparse", "btree", "ssl"} & there, "OpenWrt 25.12, which it plays, has them"
    with pytest.raises(
        FaultsError, match=r"MicroPython 1\.25\.0 of OpenWrt embedded-3\.13 has no module 'ssl'"
    ):
        check_imports([script(tmp_path, "import ssl\n")], "embedded-3.13", ["micropython-mbedtls"])
    with pytest.raises(CatalogueError, match="OpenWrt embedded has no MicroPython") as caught:
        load_modules("embedded")
    assert caught.value.hint == "of the kit have it: embedded-3.13"


def test_packages_add_modules() -> None:
    modules = load_modules("24.10")
    assert "logging" not in modules.importable(["micropython-mbedtls"])
    assert "logging" in modules.importable(["micropython-lib"])
    assert "umqtt" in modules.importable(["micropython-lib-src"])
    assert "sqlite3" in modules.importable(["micropython-lib-unix"])
    assert "ssl" in modules.importable([])
    assert "ssl" not in modules.importable(["micropython-nossl"])


def test_what_is_missing_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "import sys, json\nimport ctypes.util\nimport logging\n"
        "try:\n    import sqlite3\nexcept ImportError:\n    sqlite3 = None\n"
        "if sys.implementation.name == 'micropython':\n    import machine, wlan\n"
        "else:\n    import tkinter\n"
        "from collections import deque\n",
    )
    with pytest.raises(FaultsError) as caught:
        check_imports([path], "23.05", ["micropython-nossl"])
    faults = [
        (fault.line, fault.message.partition("no module ")[2], fault.hint) for fault in caught.value.faults
    ]
    bring = "bring the module with the app, or import it where ImportError is caught"
    assert faults == [
        (2, "'ctypes.util'", bring),
        (3, "'logging'", "add the package micropython-lib"),
        (9, "'wlan'", bring),
    ]
    assert caught.value.faults[0].file == str(path)


def test_names_with_u_are_offered_where_only_these_exist(tmp_path: Path) -> None:
    path = script(tmp_path, "import json\nimport ssl\n")
    with pytest.raises(FaultsError) as caught:
        check_imports([path], "19.07", [])
    assert [fault.hint for fault in caught.value.faults] == ["import ujson", "import ussl"]
    check_imports([path], "19.07", ["micropython-lib"])  # which has both, around the others
    either = script(
        tmp_path, "try:\n    import json\nexcept ImportError:\n    import ujson as json\n", "b.py"
    )
    check_imports([either], "19.07", [])
    none = script(
        tmp_path, "try:\n    import tomllib\nexcept ImportError:\n    import toml as tomllib\n", "c.py"
    )
    with pytest.raises(FaultsError, match="no module 'tomllib'"):
        check_imports([none], "24.10", [])


def test_apps_see_their_own_modules_and_one_anothers(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "pkg").mkdir(parents=True)
    (folder / "pkg/__init__.py").write_text("from . import inner\nimport other\n")
    (folder / "pkg/inner.py").write_text("")
    check_imports([folder, script(tmp_path, "import pkg.inner\n", "other.py")], "24.10", [])


def test_a_script_is_a_program(tmp_path: Path) -> None:
    app = opened(script(tmp_path, "#!/usr/bin/env micropython\nprint(1)\n"))
    package = declare_app(app, ["micropython-mbedtls"], Opkg())
    assert (package.name, package.version, package.architecture) == ("app-my-app", "0-1", "all")
    assert [str(each[0]) for each in package.depends] == ["libc", "micropython-mbedtls"]
    local = app_package(app, package)
    assert [path for path, entry in local.tree.items() if entry.kind == "file"] == ["/usr/bin/my-app"]
    assert content(local.tree["/usr/bin/my-app"]) == b"#!/usr/bin/micropython\nprint(1)\n"


def test_a_script_as_bytecode_and_a_service(tmp_path: Path, mpy_cross: MpyCross) -> None:
    app = opened(script(tmp_path, "print(1)\n"), service=True, optimize=2, arguments=("-v",))
    local = app_package(app, declare_app(app, [], Opkg()), mpy_cross)
    assert (
        content(local.tree["/usr/lib/micropython/my_app.mpy"]) == b"mpy -O2 /usr/lib/micropython/my_app.py\n"
    )
    assert content(local.tree["/usr/bin/my-app"]) == b'#!/bin/sh\nexec /usr/bin/micropython -m my_app "$@"\n'
    assert b"command /usr/bin/my-app -v\n" in content(local.tree["/etc/init.d/my-app"])
    assert set(local.scripts) == {"postinst", "prerm"}
    source = opened(script(tmp_path, "print(1)\n"), source=True)
    kept = app_package(source, declare_app(source, [], Opkg()), mpy_cross)
    assert list(kept.tree) == ["/usr", "/usr/bin", "/usr/bin/my-app"]


def test_a_project(tmp_path: Path) -> None:
    folder = tmp_path / "Sensor"
    (folder / "sensor").mkdir(parents=True)
    (folder / "sensor/__init__.py").write_text("def main(): pass\n")
    app = opened(folder)
    with pytest.raises(AppPackageError, match="no telling which of its modules is run"):
        app_package(app, declare_app(app, [], Opkg()))
    (folder / "sensor/__main__.py").write_text("print(2)\n")
    app = opened(folder)
    local = app_package(app, declare_app(app, [], Opkg()))
    assert content(local.tree["/usr/bin/sensor"]).endswith(b'micropython -m sensor.__main__ "$@"\n')
    assert content(local.tree["/usr/lib/micropython/sensor/__main__.py"]) == b"print(2)\n"
    (folder / "pyproject.toml").write_text('[project.scripts]\nsense = "sensor:main"\n')
    local = app_package(app, declare_app(app, [], Opkg()))
    assert content(local.tree["/usr/bin/sense"]).startswith(b"#!/usr/bin/micropython\nimport sys\n")


def test_mpy_cross_of_another_version_is_not_taken(mpy_cross: MpyCross) -> None:
    assert find_mpy_cross("1.23.0", Log(), [mpy_cross.program]) is None
    assert find_mpy_cross("1.20.0", Log(), ["no-such-mpy-cross", "/bin/true"]) is None


def test_what_does_not_compile_is_named(tmp_path: Path, mpy_cross: MpyCross) -> None:
    with pytest.raises(MpyCrossError, match="does not compile for MicroPython 1.20.0"):
        mpy_cross.compile("/usr/lib/micropython/x.py", b"def (:\n", 0)


def test_sources_become_utf_8_which_is_all_that_it_reads(tmp_path: Path) -> None:
    folder = tmp_path / "My Röst"
    folder.mkdir()
    (folder / "main.py").write_bytes(codecs.BOM_UTF8 + b"#!/usr/bin/env micropython\r\nimport words\r\n")
    (folder / "words.py").write_bytes("# coding: latin-1\nWORD = 'ü'\n".encode("latin-1"))
    app = opened(folder)
    assert (app.name, app.program) == ("app-my-rost", "my-rost")
    local = app_package(app, declare_app(app, (), Opkg()))
    library = "/usr/lib/micropython"
    assert content(local.tree[f"{library}/words.py"]) == "# coding: utf-8\nWORD = 'ü'\n".encode()
    assert content(local.tree[f"{library}/main.py"]).startswith(b"#!/usr/bin/env micropython\r\n")
    (folder / "words.py").write_bytes("\nWORD = 'ü'\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"My Röst/words\.py:2: it says no encoding"):
        opened(folder)
    text = codecs.BOM_UTF8 + b"#!/usr/bin/env micropython\r\nprint(1)\r\n"
    (tmp_path / "one.py").write_bytes(text)
    small = opened(tmp_path / "one.py")
    made = app_package(small, declare_app(small, (), Opkg()))
    assert content(made.tree["/usr/bin/one"]) == b"#!/usr/bin/micropython\nprint(1)\r\n"
