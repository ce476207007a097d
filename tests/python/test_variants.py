"""Which packages a Python variant puts into an image."""

from __future__ import annotations

import pytest

from imagebuilder.model.variant import VARIANTS, Variant
from imagebuilder.python.catalogue.catalogue import CatalogueError, known_series, load_catalogue
from imagebuilder.python.catalogue.overview import NOT_OFFERED, interpreters
from imagebuilder.python.catalogue.variants import (
    PYTHON2_ENDED,
    VariantError,
    available_variants,
    catalogue_series,
    family_of,
    python_packages,
    source_packages,
)


@pytest.mark.parametrize(
    ("release", "series"),
    [
        ("24.10.4", "24.10"),
        ("24.10", "24.10"),
        ("24.10.0-rc1", "24.10"),
        ("24.10-SNAPSHOT", "24.10"),
        ("snapshot", "snapshot"),
        ("embedded", "23.05"),
        ("embedded-3.13", "25.12"),
        ("r1234-vendor", "r1234-vendor"),
    ],
)
def test_the_series_of_a_release(release: str, series: str) -> None:
    assert catalogue_series(release) == series


@pytest.mark.parametrize(
    ("series", "variant", "packages"),
    [
        ("23.05", "none", ()),
        ("17.01", "micropython", ("micropython",)),
        ("24.10", "micropython", ("micropython-mbedtls",)),
        ("25.12", "base", ("python3-base",)),
        ("snapshot", "light", ("python3-light",)),
        ("21.02", "full", ("python3",)),
        ("19.07", "python2-base", ("python-base",)),
        ("18.06", "python2-light", ("python-light",)),
        ("17.01", "python2-full", ("python",)),
    ],
)
def test_a_variants_packages(series: str, variant: Variant, packages: tuple[str, ...]) -> None:
    found = python_packages(series, variant)
    assert found.packages == packages
    assert set(found.reasons.values()) <= {"python.variant"}
    assert found.warnings == ((PYTHON2_ENDED,) if variant.startswith("python2") else ())


def test_auto_installs_what_was_found_and_the_interpreter() -> None:
    found = python_packages("23.05", "auto", scanned=("python3-base", "python3-urllib", "python3-yaml"))
    assert found.packages == ("python3-base", "python3-urllib", "python3-yaml")
    assert found.reasons["python3-urllib"] == "python.apps"
    assert python_packages("23.05", "auto").packages == ("python3-base",)


def test_switches_add_packages_and_say_so() -> None:
    found = python_packages("23.05", "base", pip=True, setuptools=True)
    assert found.packages == ("python3-base", "python3-pip", "python3-setuptools")
    assert found.reasons["python3-pip"] == "python.pip"
    assert python_packages("19.07", "python2-light", pip=True).packages == ("python-light", "python-pip")


def test_sources_of_all_that_a_variant_brings() -> None:
    found = python_packages("24.10", "light", source=True)
    assert found.packages == ("python3-light", "python3-base-src", "python3-light-src")
    assert found.reasons["python3-base-src"] == "python.source"
    full = python_packages("24.10", "full", source=True, pip=True).packages
    assert {"python3-asyncio-src", "python3-pip-src"} < set(full)
    assert "libpython3-src" not in full
    auto = python_packages("24.10", "auto", source=True, scanned=("python3-uuid", "python3-yaml")).packages
    assert auto[-3:] == ("python3-base-src", "python3-light-src", "python3-uuid-src")


def test_where_packages_hold_their_sources_there_are_no_twins() -> None:
    assert source_packages(load_catalogue("17.01"), ["python3"]) == ()
    assert python_packages("17.01", "full", source=True).packages == ("python3",)


def test_what_a_series_does_not_have() -> None:
    with pytest.raises(VariantError, match=r"OpenWrt 23\.05 has no Python 2") as caught:
        python_packages("23.05", "python2-light")
    assert caught.value.hint is not None
    assert 'say "light" for Python 3.11' in caught.value.hint
    with pytest.raises(CatalogueError, match=r"no Python catalogue for OpenWrt 15\.05"):
        python_packages("15.05", "light")


@pytest.mark.parametrize("variant", ["none", "micropython"])
@pytest.mark.parametrize("switch", ["source", "pip", "setuptools"])
def test_switches_need_cpython(variant: Variant, switch: str) -> None:
    with pytest.raises(VariantError, match=rf"python\.{switch} = true needs CPython"):
        python_packages("23.05", variant, **{switch: True})  # type: ignore[arg-type]


@pytest.mark.parametrize("series", known_series())
def test_all_variants_of_a_series_can_be_had(series: str) -> None:
    there = available_variants(series)
    assert [each for each in VARIANTS if each not in there] == (
        [] if series < "21" else ["python2-base", "python2-light", "python2-full"]
    )
    for variant in there:
        found = python_packages(series, variant)
        family = family_of(variant)
        if family is not None:
            assert set(found.packages) <= load_catalogue(series, family).packages.keys()


def test_the_overview_has_versions_and_endings() -> None:
    found = {each.variant: each for each in interpreters("19.07")}
    assert (found["light"].version, found["python2-full"].version) == ("3.7.17", "2.7.18")
    assert found["python2-full"].ended == PYTHON2_ENDED
    assert found["light"].ended is None
    assert found["micropython"].version == "1.9.4"
    assert "micropython-nossl" in {each.variant: each for each in interpreters("24.10")}["micropython"].note
    assert NOT_OFFERED.keys() == {"PyMite", "Tiny Python", "Zerynth"}
