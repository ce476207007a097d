"""`auto`: what apps import gives the smallest set of packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from imagebuilder.errors import FaultsError
from imagebuilder.python.apps.apps import AppScan, scan_app
from imagebuilder.python.catalogue.catalogue import Catalogue, known_series, load_catalogue
from imagebuilder.python.catalogue.choose import DIFFERENT, Choice, choose_packages, feed_package
from imagebuilder.python.imports.imports import Import

BOOK = load_catalogue("23.05")


def choose(tmp_path: Path, text: str, feed: Collection[str] = (), book: Catalogue = BOOK) -> Choice:
    script = tmp_path / "app.py"
    script.write_text(text)
    return choose_packages(book, [scan_app(script, python=book.version_pair)], feed_packages=feed)


def importing(*modules: str) -> AppScan:
    imports = tuple(Import("app.py", line, module) for line, module in enumerate(modules, 1))
    return AppScan(Path("app.py"), "script", frozenset({"app"}), imports, ())


@pytest.mark.parametrize(
    ("text", "packages"),
    [
        ("", ["python3-base"]),
        ("import os, sys, time, io", ["python3-base"]),
        ("import json", ["python3-base", "python3-light"]),
        ("import ssl", ["python3-base", "python3-light", "python3-openssl"]),
        ("import pathlib", ["python3-base", "python3-light", "python3-urllib"]),
        ("import hashlib", ["python3-base", "python3-light"]),
        ("import sqlite3", ["python3-base", "python3-sqlite3"]),
        ("import statistics", ["python3-base", "python3-light", "python3-decimal"]),
        ("from concurrent import futures", ["python3-base", "python3-light", "python3-logging"]),
        ("import http.client", ["python3-base", "python3-light", "python3-email", "python3-urllib"]),
        ("import pkg_resources", ["python3-base", "python3-pkg-resources"]),
        ("from http import client", ["python3-base", "python3-light", "python3-email", "python3-urllib"]),
        ("from http import HTTPStatus", ["python3-base", "python3-light"]),
        ("def f():\n    import uuid", ["python3-base", "python3-uuid"]),
        ("if x:\n    import uuid", ["python3-base", "python3-uuid"]),
        ("if TYPE_CHECKING:\n    import uuid, numpy", ["python3-base"]),
        ("if sys.platform == 'win32':\n    import winreg", ["python3-base"]),
    ],
)
def test_imports_give_packages(tmp_path: Path, text: str, packages: list[str]) -> None:
    assert list(choose(tmp_path, text).packages) == packages


def test_who_wants_what(tmp_path: Path) -> None:
    choice = choose(tmp_path, "import os\n\nimport ssl\n")
    (want,) = choice.wanted["python3-openssl"]
    assert (want.file, want.line, want.module) == (str(tmp_path / "app.py"), 3, "ssl")
    assert want.via == ("ssl", "_ssl")
    assert [each.line for each in choice.wanted["python3-base"]] == [1]


def test_the_apps_see_one_another(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "bottle.py").write_text("import json")
    script = tmp_path / "app.py"
    script.write_text("import bottle, app")
    (tmp_path / "lib/pyproject.toml").write_text("[project]\nname = 'lib'\n")
    scans = [scan_app(each, python=(3, 11)) for each in (script, tmp_path / "lib")]
    assert choose_packages(BOOK, scans).packages == ("python3-base", "python3-light")


def test_a_flat_apps_modules_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/bottle.py").write_text("import json")
    (tmp_path / "flat/main.py").write_text("import bottle")
    script = tmp_path / "app.py"
    script.write_text("import bottle")
    scans = [scan_app(each, python=(3, 11)) for each in (script, tmp_path / "flat")]
    assert choose_packages(BOOK, scans[1:]).packages == ("python3-base", "python3-light")
    with pytest.raises(FaultsError, match=r"app\.py:1: no package brings the module 'bottle'"):
        choose_packages(BOOK, scans)


def test_optional_imports_are_left_out_and_told(tmp_path: Path) -> None:
    text = "try:\n    import ssl\nexcept ImportError:\n    ssl = None\n"
    text += "try:\n    import cowsay\nexcept ImportError:\n    pass\n"
    choice = choose(tmp_path, text)
    assert choice.packages == ("python3-base",)
    told = [(each.package, each.want.module, each.want.line) for each in choice.left_out]
    assert told == [
        (None, "cowsay", 6),
        ("python3-light", "ssl", 2),
        ("python3-openssl", "ssl", 2),
    ]
    again = choose(tmp_path, f"import ssl\n{text}")
    assert [each.want.module for each in again.left_out] == ["cowsay"]


EITHER = "try:\n    import {0} as toml\nexcept ImportError:\n    import {1} as toml\n"


@pytest.mark.parametrize(
    ("series", "text", "feed", "packages"),
    [
        ("23.05", EITHER.format("tomllib", "tomli"), (), ["python3-light"]),
        ("22.03", EITHER.format("tomllib", "tomli"), ("python3-tomli",), ["python3-tomli"]),
        ("23.05", EITHER.format("lxml.etree", "xml.etree"), ("python3-lxml",), ["python3-xml"]),
        (
            "23.05",
            f"import lxml\n{EITHER.format('lxml.etree', 'xml.etree')}",
            ("python3-lxml",),
            ["python3-lxml"],
        ),
        ("23.05", EITHER.format("ssl", "json") + "import ssl", (), ["python3-openssl"]),
    ],
)
def test_one_of_two_is_enough(
    tmp_path: Path, series: str, text: str, feed: tuple[str, ...], packages: list[str]
) -> None:
    choice = choose(tmp_path, text, feed, load_catalogue(series))
    assert set(packages) <= set(choice.packages)
    others = {"python3-lxml", "python3-xml", "python3-tomli"} - set(packages)
    assert others.isdisjoint(choice.packages)


def test_none_of_two_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(
        FaultsError, match=r"app\.py:2: Python 3\.10 of OpenWrt 22\.03 has no module 'tomllib'"
    ):
        choose(tmp_path, EITHER.format("tomllib", "tomli"), (), load_catalogue("22.03"))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("\nimport numpy.linalg", r"app\.py:2: no package brings the module 'numpy'", "python.requirements"),
        (
            "import tkinter",
            r"OpenWrt 23\.05 leaves the module 'tkinter' out of Python 3\.11",
            "bring the module",
        ),
        (
            "import compression.zstd",
            r"Python 3\.11 of OpenWrt 23\.05 has no module",
            "OpenWrt snapshot has it",
        ),
        ("from .. import x", r"app\.py:1: the relative import of '\.\.' leads out of the app", "python.apps"),
    ],
)
def test_modules_that_no_package_has(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(FaultsError, match=message) as caught:
        choose(tmp_path, text)
    (fault,) = caught.value.faults
    assert hint in (fault.hint or "")


def test_all_faults_at_once(tmp_path: Path) -> None:
    with pytest.raises(FaultsError) as caught:
        choose(tmp_path, "import numpy\nimport os\nimport tkinter")
    assert [fault.line for fault in caught.value.faults] == [1, 3]


FEED = {
    *("python3-yaml", "python3-pyserial", "python3-pillow", "python3-et_xmlfile", "python3-sentry-sdk"),
    *("python3-protobuf", "python3-cryptodome", "python3-crypto", "python3-openssl"),
}


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("yaml", "python3-yaml"),
        ("serial.tools", "python3-pyserial"),
        ("PIL.Image", "python3-pillow"),
        ("et_xmlfile", "python3-et_xmlfile"),
        ("sentry_sdk", "python3-sentry-sdk"),
        ("google.protobuf.message", "python3-protobuf"),
        ("google.cloud", None),
        ("Crypto", "python3-cryptodome"),
        ("numpy", None),
    ],
)
def test_feed_packages_of_modules(module: str, package: str | None) -> None:
    assert feed_package(module, FEED) == package


def test_third_party_modules_come_from_feeds(tmp_path: Path) -> None:
    choice = choose(tmp_path, "import yaml\nfrom google import protobuf", FEED)
    assert choice.packages == ("python3-base", "python3-protobuf", "python3-yaml")
    assert choice.wanted["python3-yaml"][0].line == 1
    with pytest.raises(FaultsError, match="no package brings the module 'openssl'"):
        choose(tmp_path, "import openssl", FEED)  # that package brings _ssl


def test_the_table_of_names_has_no_rule_in_it() -> None:
    for module, names in DIFFERENT.items():
        assert names != (module.lower().replace("_", "-"),)


def test_what_the_standard_library_may_want_later_is_told(tmp_path: Path) -> None:
    choice = choose(tmp_path, "import urllib.request\n")
    assert ("urllib.request", "ssl", "python3-openssl") in {
        (each.module, each.missing, each.package) for each in choice.lazy
    }
    there = choose(tmp_path, "import urllib.request, ssl\n")
    assert "python3-openssl" not in {each.package for each in there.lazy}


def test_computed_imports_are_told(tmp_path: Path) -> None:
    (place,) = choose(tmp_path, "import importlib\nimportlib.import_module(x)").computed
    assert place.line == 2


@pytest.mark.parametrize("series", known_series())
def test_every_module_of_every_series_can_be_chosen(series: str) -> None:
    book = load_catalogue(series)
    for module, package in book.providers().items():
        choice = choose_packages(book, [importing(module)])
        assert package in {*choice.packages, book.builtin_modules_in}


PROBE = """
import sys
module, blocked = sys.argv[1], set(sys.argv[2].split(","))
for name in [name for name in sys.modules if name.partition(".")[0] in blocked]:
    del sys.modules[name]
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
try:
    __import__(module)
except ModuleNotFoundError:
    sys.exit(3)
"""
OWN = [series for series in known_series() if load_catalogue(series).version_pair == sys.version_info[:2]]


def imports_with(book: Catalogue, module: str, packages: Collection[str]) -> bool:
    """Whether this machine's Python can import a module with nothing but what these packages hold."""
    there = {each.name for each in book.closure(list(packages))}
    blocked = [name for name, package in book.providers().items() if package not in there]
    command = [sys.executable, "-I", "-S", "-c", PROBE, module, ",".join(blocked)]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=60).returncode == 0


@pytest.mark.skipif(not OWN, reason="no series has this machine's Python")
@pytest.mark.parametrize(
    "module",
    [
        *("json", "ssl", "pathlib", "http.server", "concurrent.futures", "asyncio", "sqlite3", "smtplib"),
        *("decimal", "statistics", "urllib.request", "xml.etree.ElementTree", "logging.handlers", "unittest"),
        *("importlib.resources", "plistlib", "multiprocessing.pool", "mailbox", "curses", "uuid", "doctest"),
    ],
)
def test_the_choice_is_enough_and_no_package_is_too_many(module: str) -> None:
    """Tried with this machine's Python, from which everything else is kept away."""
    book = load_catalogue(OWN[0])
    chosen = choose_packages(book, [importing(module)]).packages
    assert imports_with(book, module, chosen)
    for package in set(chosen) - {"python3-base", "python3-light"}:
        others = [name for name in chosen if name != package]
        if package in {each.name for each in book.closure(others)}:
            continue  # python3-urllib depends on python3-email
        assert not imports_with(book, module, others), f"{package} is not needed"
