"""Which packages each Python variant puts into an image of a release series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagebuilder.errors import UserError
from imagebuilder.model.edition import EDITIONS
from imagebuilder.model.release import Release
from imagebuilder.model.variant import VARIANTS, Variant
from imagebuilder.python.catalogue.catalogue import (
    Catalogue,
    Family,
    PythonVariant,
    families,
    load_catalogue,
    load_micropython,
)

PYTHON2_ENDED = "Python 2 ended on 1 January 2020: faults in it are no longer put right"
_CPYTHON: Mapping[str, tuple[Family, PythonVariant]] = {
    "base": ("python3", "base"),
    "light": ("python3", "light"),
    "full": ("python3", "full"),
    "python2-base": ("python2", "base"),
    "python2-light": ("python2", "light"),
    "python2-full": ("python2", "full"),
}


class VariantError(UserError):
    """A variant or a switch that a release series does not have."""


@dataclass(frozen=True, slots=True)
class PythonPackages:
    """What to install for a variant. reasons: the config's key that asks for each package ('python.variant',
    'python.source', 'python.pip', 'python.setuptools', and 'python.apps' for what `auto` found); warnings: to
    be shown, in words."""

    reasons: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """Their names, in order; what they depend on is left to the feeds."""
        return tuple(self.reasons)


def catalogue_series(release: str) -> str:
    """The catalogue's series of a release: '24.10' of '24.10.4' and '24.10-SNAPSHOT', 'snapshot' of itself,
    of an edition of the kit the series whose packages it plays. A series that no catalogue knows comes back
    too; load_catalogue refuses it."""
    return EDITIONS[release].series if release in EDITIONS else Release(release).series


def family_of(variant: Variant) -> Family | None:
    """The CPython family of a variant; None for no Python and for MicroPython."""
    if variant == "auto":
        return "python3"
    return _CPYTHON[variant][0] if variant in _CPYTHON else None


def available_variants(series: str) -> tuple[Variant, ...]:
    """The variants that a series has. CatalogueError for an unknown series."""
    there = families(series)
    return tuple(each for each in VARIANTS if family_of(each) in (None, *there))


def _check(series: str, variant: Variant, switches: Mapping[str, bool]) -> None:
    family = family_of(variant)
    if family is None:
        wanted = next((key for key, on in switches.items() if on), None)
        if wanted is not None:
            raise VariantError(
                f'{wanted} = true needs CPython, and python.variant is "{variant}"',
                hint=f'set {wanted} = false, or python.variant = "full"',
            )
    elif family not in families(series):
        instead = str(variant).replace(f"{family}-", "")
        raise VariantError(
            f'python.variant = "{variant}": OpenWrt {series} has no Python 2',
            hint=f'say "{instead}" for Python {load_catalogue(series).python}; {PYTHON2_ENDED}',
        )


def source_packages(catalogue: Catalogue, names: Sequence[str]) -> tuple[str, ...]:
    """The -src twins of these packages and of all that they bring from the catalogue. () where packages hold
    the sources themselves (17.01). Names that are not the catalogue's are left out."""
    found = catalogue.closure([name for name in names if name in catalogue.packages])
    return tuple(package.src_name for package in found if package.src_name is not None)


def python_packages(
    series: str,
    variant: Variant,
    *,
    source: bool = False,
    pip: bool = False,
    setuptools: bool = False,
    scanned: Sequence[str] = (),
) -> PythonPackages:
    """The packages of a variant. series: as catalogue_series gives it; scanned: for `auto` the packages that
    python.catalogue.choose found; source: the -src twins of all these, too.

    Raises CatalogueError for an unknown series, VariantError for what a series or a variant does not have.
    """
    _check(series, variant, {"python.source": source, "python.pip": pip, "python.setuptools": setuptools})
    family = family_of(variant)
    if variant == "none":
        return PythonPackages({})
    if family is None:
        return PythonPackages({load_micropython(series).default: "python.variant"})
    catalogue = load_catalogue(series, family)
    reasons = dict.fromkeys(scanned, "python.apps")
    if variant == "auto":
        base = catalogue.variants["base"]
        reasons = {base: "python.variant", **{name: key for name, key in reasons.items() if name != base}}
    else:
        reasons = {catalogue.variants[_CPYTHON[variant][1]]: "python.variant"}
    prefix = catalogue.variants["full"]  # python3, and python for Python 2
    for key, on in (("pip", pip), ("setuptools", setuptools)):
        if on:
            reasons.setdefault(catalogue.package(f"{prefix}-{key}").name, f"python.{key}")
    if source:
        for name in source_packages(catalogue, tuple(reasons)):
            reasons.setdefault(name, "python.source")
    warnings = (PYTHON2_ENDED,) if family == "python2" else ()
    return PythonPackages(reasons, warnings)
