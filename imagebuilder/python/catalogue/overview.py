"""Which interpreters a release series offers, and which it does not offer, and why; and what each takes on
flash, before any package index is at hand. The figures are measured ones, in data/sizes.json, which says
where; between them is interpolated by bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from imagebuilder.model.release import EMBEDDED, is_embedded
from imagebuilder.model.variant import Variant
from imagebuilder.python.catalogue.catalogue import load_catalogue, load_micropython
from imagebuilder.python.catalogue.variants import (
    PYTHON2_ENDED,
    available_variants,
    catalogue_series,
    family_of,
    python_packages,
)
from imagebuilder.python.micropython.micropython import has_micropython, load_modules

_NO_PACKAGE = "no release of OpenWrt packages it"
# named by the Python wiki's page on embedded Python; PyMite's properties from its own page there
NOT_OFFERED = {
    "PyMite": "an interpreter for microcontrollers that have no operating system, of a part of Python 2.5, "
    f"which itself has ended; {_NO_PACKAGE}",
    "Tiny Python": f"a reduced Python of which no source that is kept up was found; {_NO_PACKAGE}",
    "Zerynth": "(formerly Viper) a maker's tools that put Python onto microcontrollers, with no interpreter "
    f"for Linux; {_NO_PACKAGE}",
}
MEASURED_ELSEWHERE = 0.1  # how far the same packages, built for another processor, may be from the figure
_MEASURED_SERIES, _SOURCES_SERIES = "18.06", "17.01"


@dataclass(frozen=True, slots=True)
class OfferedInterpreter:
    """One variant of a release series. version: of the interpreter, '' for none; packages: what the variant
    installs (of `auto` the least); ended: the warning for a Python that nobody mends any more, or None; note:
    what else to know; need: flash, or None where that depends or nobody measured it."""

    variant: Variant
    version: str
    packages: tuple[str, ...]
    note: str
    ended: str | None
    need: FlashNeed | None


def _note(series: str, variant: Variant) -> str:
    if variant == "auto":
        return "what python.apps import, from base to full"
    if variant == "micropython":
        others = load_micropython(series).interpreters.keys() - {load_micropython(series).default}
        return f"or packages.add {', '.join(sorted(others))}, without TLS" if others else ""
    family = family_of(variant)
    if family is None:
        return ""
    catalogue = load_catalogue(series, family)
    return "ships sources, not bytecode: slow to start" if catalogue.shipped == "sources" else ""


def interpreters(release: str) -> tuple[OfferedInterpreter, ...]:
    """The variants that a release has; the kit's as it makes them. CatalogueError for an unknown one."""
    series = catalogue_series(release)
    found = []
    for variant in available_variants(series):
        family = family_of(variant)
        version = ""
        if family is not None:
            catalogue = load_catalogue(series, family)
            # the kit's patch release is Debian's
            version = catalogue.python if is_embedded(release) else catalogue.version
        if variant == "micropython":
            if not has_micropython(release):
                continue
            version = load_modules(release).upstream
        found.append(
            OfferedInterpreter(
                variant=variant,
                version=version,
                packages=python_packages(series, variant).packages,
                note="" if is_embedded(release) else _note(series, variant),
                ended=PYTHON2_ENDED if family == "python2" else None,
                need=flash_need(release, variant),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class FlashNeed:
    """What a variant adds to a squashfs with all that it depends on but the C library, in bytes: no less than
    low, no more than high (None: nobody measured it). unpacked: bytes of its files, where that was measured
    for this series. source: where the figures are from."""

    low: int
    high: int | None
    unpacked: int | None
    source: str


@cache
def _facts() -> Mapping[str, Any]:
    text = (resources.files(__package__) / "data" / "sizes.json").read_text("utf-8")
    facts: Mapping[str, Any] = json.loads(text)
    return facts


def _measured(series: str) -> tuple[Mapping[str, Any], str]:
    found = next(each for each in _facts()["measured"] if each["series"] == series)
    return found["variants"], found["where"]


def flash_need(release: str, variant: str) -> FlashNeed | None:
    """What a variant of a release takes. None for `none` and `auto`, for the kit's variants that were not
    measured, and for series before 17.01.

    18.06: measured, within 10 % for another processor. 17.01: package sizes, times what compression gave in
    18.06. Later series: no less than 18.06's, for Python only grew, and no more than the kit's of 23.05,
    which Debian builds for x86_64 with no thought of flash; for MicroPython the lower bound alone.
    """
    if is_embedded(release):
        kit, kit_source = _measured(release)
        facts = kit.get(variant)
        return facts and FlashNeed(*(facts["squashfs_bytes"],) * 2, facts["unpacked_bytes"], kit_source)
    series = catalogue_series(release)
    kit, kit_source = _measured(EMBEDDED)
    measured, source = _measured(_MEASURED_SERIES)
    if variant not in measured:
        return None
    if series == _SOURCES_SERIES:
        packages, packages_source = _measured(_SOURCES_SERIES)
        rate, size = _facts()["squashfs_per_package_byte"], packages[variant]["package_bytes"]
        source = f"{packages_source}; times {rate['low']} to {rate['high']}: {rate['why']}"
        return FlashNeed(int(size * rate["low"]), int(size * rate["high"]), None, source)
    low = int(measured[variant]["squashfs_bytes"] * (1 - MEASURED_ELSEWHERE))
    if series == _MEASURED_SERIES or variant.startswith("python2"):
        high = int(measured[variant]["squashfs_bytes"] * (1 + MEASURED_ELSEWHERE))
        return FlashNeed(low, high, measured[variant]["unpacked_bytes"], source)
    above = kit.get(variant)
    bounds = f"at least as in {source}" + (f"; at most as in {kit_source}" if above else "")
    return FlashNeed(low, above and above["squashfs_bytes"], None, bounds)
