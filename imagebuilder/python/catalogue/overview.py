"""Which interpreters a release series offers, with what they take, and which it does not offer, and why."""

from __future__ import annotations

from dataclasses import dataclass

from imagebuilder.config.model_config import Variant
from imagebuilder.model.release import is_embedded
from imagebuilder.python.catalogue.catalogue import load_catalogue, load_micropython
from imagebuilder.python.catalogue.sizes import FlashNeed, flash_need
from imagebuilder.python.catalogue.variants import (
    PYTHON2_ENDED,
    available_variants,
    catalogue_series,
    family_of,
    python_packages,
)

_NO_PACKAGE = "no release of OpenWrt packages it"
# named by the Python wiki's page on embedded Python; PyMite's properties from its own page there
NOT_OFFERED = {
    "PyMite": "an interpreter for microcontrollers that have no operating system, of a part of Python 2.5, "
    f"which itself has ended; {_NO_PACKAGE}",
    "Tiny Python": f"a reduced Python of which no source that is kept up was found; {_NO_PACKAGE}",
    "Zerynth": "(formerly Viper) a maker's tools that put Python onto microcontrollers, with no interpreter "
    f"for Linux; {_NO_PACKAGE}",
}


@dataclass(frozen=True, slots=True)
class Interpreter:
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


def interpreters(release: str) -> tuple[Interpreter, ...]:
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
            version = load_micropython(series).upstream
        found.append(
            Interpreter(
                variant=variant,
                version=version,
                packages=python_packages(series, variant).packages,
                note=_note(series, variant),
                ended=PYTHON2_ENDED if family == "python2" else None,
                need=flash_need(release, variant),
            )
        )
    return tuple(found)
