"""Every release series' catalogue: its data agree with themselves."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

import imagebuilder.python
from imagebuilder.python.catalogue.catalogue import (
    Catalogue,
    CatalogueError,
    families,
    known_series,
    load_catalogue,
    load_micropython,
)
from imagebuilder.python.catalogue.overview import flash_need
from imagebuilder.python.catalogue.variants import available_variants
from imagebuilder.python.imports.imports import import_graph
from imagebuilder.rootfs.filespec import parse

BOOKS = [load_catalogue(series, family) for series in known_series() for family in families(series)]
each_book = pytest.mark.parametrize("book", BOOKS, ids=lambda book: f"{book.series}-{book.family}")
each_series = pytest.mark.parametrize("series", known_series())
# packages of OpenWrt itself and of its feeds that Python's depend on
EXTERNAL = {
    *(
        "ca-bundle",
        "ca-certificates",
        "ca-certs",
        "libatomic",
        "libbz2",
        "libdb47",
        "libexpat",
        "libffi",
        "libgdbm",
    ),
    *("liblzma", "libncurses", "libncursesw", "libopenssl", "libpthread", "libreadline", "libsqlite3"),
    *("libuuid", "libxml2", "libzstd", "python-pip-conf", "python3-packaging", "zlib"),
}
MAGIC = {"2.7": 62211, "3.6": 3379, "3.7": 3394, "3.9": 3425, "3.10": 3439, "3.11": 3495, "3.13": 3571}


@each_book
def test_every_dependency_is_known(book: Catalogue) -> None:
    needed = {name for package in book.packages.values() for name in package.depends}
    assert needed - book.packages.keys() <= EXTERNAL


@each_book
def test_no_module_is_in_two_places(book: Catalogue) -> None:
    modules = [
        *book.builtin_modules,
        *book.shipped_in_no_package,
        *(name for package in book.packages.values() for name in (*package.modules, *package.site_modules)),
    ]
    assert len(modules) == len(set(modules)) > 250
    assert {"os", "json", "threading", "re"} <= set(modules)


@each_book
def test_variants_nest(book: Catalogue) -> None:
    base, light, full = (
        {package.name for package in book.closure([book.variant_package(variant).name])}
        for variant in ("base", "light", "full")
    )
    assert base < light < full
    assert book.variants["base"] in base
    assert not {name for name in full if name.endswith(("-dev", "-pip"))}


@each_book
def test_filespecs_and_hooks_are_readable_and_filled_in(book: Catalogue) -> None:
    for package in book.packages.values():
        rules = parse("\n".join("|".join(rule) for rule in package.filespec), origin=package.name)
        assert [(rule.op, rule.path) for rule in rules] == list(package.filespec)
        assert all(step.kind in {"mkdir", "copy", "symlink"} for step in package.install_hook)
        assert "{" not in repr(dataclasses.asdict(package)).replace("{'", "")


@each_book
def test_versions_belong_together(book: Catalogue) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", book.commit)
    assert book.version.startswith(f"{book.python}.")
    assert book.magic_number == {**MAGIC, "3.14": 3627}[book.python]
    assert book.packages[book.variants["full"]].version.startswith(book.version)
    assert book.version_pair == tuple(map(int, book.python.split(".")))


@each_book
def test_twins_hold_sources_where_packages_do_not(book: Catalogue) -> None:
    light = book.package(book.variants["light"])
    assert light.src_twin == (book.shipped == "bytecode") == (book.series != "17.01")


def test_where_python_2_was() -> None:
    assert [series for series in known_series() if "python2" in families(series)] == [
        "17.01",
        "18.06",
        "19.07",
    ]
    with pytest.raises(CatalogueError, match=r"OpenWrt 21\.02 has no python2") as caught:
        load_catalogue("21.02", "python2")
    assert caught.value.hint == "the series that have it: 17.01, 18.06, 19.07"
    old = load_catalogue("19.07", "python2")
    assert [old.variants[each] for each in ("base", "light", "full")] == [
        "python-base",
        "python-light",
        "python",
    ]


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        ("uuid", {"19.07": "python3-light", "22.03": "python3-uuid", "snapshot": "python3-uuid"}),
        ("urllib", {"18.06": "python3-light", "19.07": "python3-urllib", "25.12": "python3-urllib"}),
        ("email", {"25.12": "python3-email", "snapshot": "python3-urllib"}),
        ("_ssl", {"17.01": "python3-openssl", "24.10": "python3-openssl"}),
        ("cgi", {"17.01": "python3-light", "18.06": "python3-cgi", "24.10": "python3-cgi"}),
        ("setuptools", {"17.01": "python3-setuptools", "23.05": "python3-setuptools"}),
    ],
)
def test_modules_move_between_packages(module: str, packages: dict[str, str]) -> None:
    assert {series: load_catalogue(series).provider(module).name for series in packages} == packages


@each_series
def test_micropython(series: str) -> None:
    found = load_micropython(series)
    expected = {"micropython"} if series < "22" else {"micropython-mbedtls", "micropython-nossl"}
    assert found.interpreters.keys() == expected
    assert found.default in expected
    assert found.interpreters[found.default].tls
    assert found.interpreters[found.default].version.startswith(found.upstream)
    assert "micropython-lib" in found.library


@each_series
def test_the_import_graph_names_modules_of_its_python(series: str) -> None:
    book = load_catalogue(series)
    graph = import_graph(book.python)
    named = {*graph.eager, *(each for group in graph.eager.values() for each in group)}
    named |= {*graph.lazy, *(each for group in graph.lazy.values() for each in group)}
    assert {name.partition(".")[0] for name in named} <= book.providers().keys()
    assert "_ssl" in graph.eager["ssl"]
    assert graph.reached("ssl")["_ssl"] == ("ssl", "_ssl")


@each_series
def test_flash_grows_with_the_variant(series: str) -> None:
    needs = {variant: flash_need(series, variant) for variant in available_variants(series)}
    lows = [needs[variant].low for variant in ("micropython", "base", "light", "full")]  # type: ignore[union-attr]
    assert lows == sorted(set(lows))
    for variant, need in needs.items():
        assert (need is None) == (variant in {"none", "auto"})
        if need is not None:
            assert need.source
            assert need.high is None or need.low <= need.high
            assert (need.unpacked or need.low) >= need.low


def test_what_the_kit_takes_was_measured_itself() -> None:
    light = flash_need("embedded", "light")
    assert light is not None
    assert light.low == light.high == 4597454
    assert "kit" in light.source
    assert flash_need("embedded", "micropython") is None
    newer = flash_need("embedded-3.13", "light")
    assert newer is not None
    assert "25.12" in newer.source
    assert light.low < newer.low < 1.1 * light.low


def test_every_data_file_says_where_it_is_from() -> None:
    files = sorted(Path(imagebuilder.python.__file__).parent.glob("*/data/*.json"))
    assert len({file.parent for file in files}) == 4  # catalogue, imports, bytecode, micropython
    for file in files:
        facts = json.loads(file.read_text("utf-8"))
        assert facts["about"]["what"], file.name
