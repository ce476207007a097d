"""What each Python variant takes on flash, before any package index is at hand: for choosing one. The
figures are measured ones, in data/sizes.json, which says where; between them is interpolated by bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from imagebuilder.model.release import EMBEDDED, is_embedded
from imagebuilder.python.catalogue.variants import catalogue_series

MEASURED_ELSEWHERE = 0.1  # how far the same packages, built for another processor, may be from the figure
_MEASURED_SERIES, _SOURCES_SERIES = "18.06", "17.01"


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
