"""How OpenWrt cuts Python into packages: interpreters, variants, filespecs, modules. The facts are in
data/openwrt-*.json, one file a release series, each naming the commit of openwrt/packages that it states."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from imagebuilder.errors import UserError
from imagebuilder.model.release import Release

PythonVariant = Literal["base", "light", "full"]
HookKind = Literal["mkdir", "copy", "symlink"]
Family = Literal["python3", "python2"]
Shipped = Literal["bytecode", "sources"]
_PREFIX, _SUFFIX = "openwrt-", ".json"


class CatalogueError(UserError):
    """A release series, variant, package or module that no catalogue knows."""


@dataclass(frozen=True, slots=True)
class HookStep:
    """One thing that a package adds outside its filespec, before it (in 17.01 after it): mkdir(path);
    copy(path, which may be a pattern on the stage, into the folder `argument`); symlink(path, with the text
    `argument`). What is copied from elsewhere than the stage (pip up to 22.03) is not listed."""

    kind: HookKind
    path: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class PythonPackage:
    """One package. filespec: [operation, path] of generation C; modules: importable top-level names, where
    `_sysconfigdata_*` is a pattern; site_modules: those in site-packages; standard_library: cut from CPython
    itself."""

    name: str
    version: str
    summary: str
    depends: tuple[str, ...]
    filespec: tuple[tuple[str, str], ...]
    src_twin: bool
    pure_modules: tuple[str, ...]
    ext_modules: tuple[str, ...]
    name_in_index: str
    install_hook: tuple[HookStep, ...] = ()
    site_modules: tuple[str, ...] = ()
    abi_version: str = ""
    standard_library: bool = True

    @property
    def src_name(self) -> str | None:
        """The package with the .py files, or None if there is none."""
        return f"{self.name}-src" if self.src_twin else None

    @property
    def modules(self) -> tuple[str, ...]:
        """All its top-level modules of the standard library, sorted."""
        return tuple(sorted((*self.pure_modules, *self.ext_modules)))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One interpreter of a release series. python: major.minor; version: of CPython; magic_number: of its
    bytecode; shipped: what its packages hold, their -src twins apart; ext_filename: where extension modules
    are below the library folder, {module}, <arch> and <libc> left open; shipped_in_no_package: modules
    of the standard library."""

    series: str
    commit: str
    family: Family
    shipped: Shipped
    python: str
    version: str
    magic_number: int
    ext_filename: str
    builtin_modules: tuple[str, ...]
    builtin_modules_in: str
    shipped_in_no_package: tuple[str, ...]
    variants: Mapping[str, str]
    packages: Mapping[str, PythonPackage]

    @property
    def library(self) -> str:
        """The standard library's folder on the target."""
        return f"/usr/lib/python{self.python}"

    @property
    def version_pair(self) -> tuple[int, int]:
        """Major and minor version as numbers."""
        major, _, minor = self.python.partition(".")
        return int(major), int(minor)

    def package(self, name: str) -> PythonPackage:
        """A package by its name. CatalogueError if there is none."""
        found = self.packages.get(name)
        if found is None:
            raise CatalogueError(
                f"OpenWrt {self.series} has no Python package {name}",
                hint=f"it has {', '.join(self.packages)}",
            )
        return found

    def variant_package(self, variant: PythonVariant) -> PythonPackage:
        """The one package to install for a variant: python3-base, python3-light, or python3 for full."""
        return self.package(self.variants[variant])

    def closure(self, names: Sequence[str]) -> tuple[PythonPackage, ...]:
        """These packages and those of the catalogue that they need, dependencies first; those of other feeds
        (zlib, libffi, ...) are not among them, see depends. CatalogueError for a name that is not in it."""
        done: dict[str, PythonPackage] = {}

        def visit(package: PythonPackage) -> None:
            for needed in package.depends:
                if needed in self.packages and needed not in done:
                    visit(self.packages[needed])
            done[package.name] = package

        for name in names:
            visit(self.package(name))
        return tuple(done.values())

    def provider(self, module: str) -> PythonPackage:
        """The package that brings a standard library module, by the first part of its name ('os' for
        'os.path'). CatalogueError if none does."""
        top = module.partition(".")[0]
        found = self.providers().get(top)
        if found is None:
            raise CatalogueError(
                f"no Python package of OpenWrt {self.series} brings the module {module}",
                hint=f"OpenWrt leaves it out of Python {self.python}"
                if top in self.shipped_in_no_package
                else None,
            )
        return self.packages[found]

    def providers(self) -> dict[str, str]:
        """Package names by the modules that they bring, built-in ones and those in site-packages too."""
        found = dict.fromkeys(self.builtin_modules, self.builtin_modules_in)
        for name, package in self.packages.items():
            found |= dict.fromkeys((*package.modules, *package.site_modules), name)
        return found


@dataclass(frozen=True, slots=True)
class MicroPythonPackage:
    """A package of MicroPython or of its library. tls: whether an interpreter speaks TLS; None for libraries
    and where that is not told."""

    name: str
    version: str
    depends: tuple[str, ...]
    tls: bool | None = None


@dataclass(frozen=True, slots=True)
class MicroPython:
    """MicroPython of one release series. default: the interpreter that OpenWrt prefers; all of them are the
    same file on the target, so one only can be installed; upstream: its version without OpenWrt's number."""

    series: str
    commit: str
    default: str
    upstream: str
    interpreters: Mapping[str, MicroPythonPackage]
    library: Mapping[str, MicroPythonPackage]


def _filled(value: Any, python: str) -> Any:
    """JSON data with the placeholders {X.Y} and {XY} put in, lists as tuples."""
    if isinstance(value, str):
        return value.replace("{X.Y}", python).replace("{XY}", python.replace(".", ""))
    if isinstance(value, list):
        return tuple(_filled(each, python) for each in value)
    if isinstance(value, dict):
        return {key: _filled(each, python) for key, each in value.items()}
    return value


def _package(name: str, facts: Mapping[str, Any]) -> PythonPackage:
    hook = tuple(HookStep(*step) for step in facts.get("install_hook", ()))
    return PythonPackage(name=name, **{"name_in_index": name, **facts, "install_hook": hook})


def known_series() -> tuple[str, ...]:
    """The release series that there is a catalogue of, oldest first, `snapshot` last."""
    names = (each.name for each in (resources.files(__package__) / "data").iterdir())
    found = (name[len(_PREFIX) : -len(_SUFFIX)] for name in names if name.startswith(_PREFIX))
    return tuple(sorted(found, key=Release))


@cache
def _facts(series: str) -> Mapping[str, Any]:
    """A series' file as it is. CatalogueError if there is none."""
    if series not in known_series():
        raise CatalogueError(
            f"there is no Python catalogue for OpenWrt {series}",
            hint=f"there is one for {', '.join(known_series())}",
        )
    file = resources.files(__package__) / "data" / f"{_PREFIX}{series}{_SUFFIX}"
    facts: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
    return facts


def families(series: str) -> tuple[Family, ...]:
    """The CPython families that a series has. CatalogueError for an unknown series."""
    found = _facts(series)["interpreters"]
    return tuple(family for family in get_args(Family) if family in found)


@cache
def load_catalogue(series: str, family: Family = "python3") -> Catalogue:
    """The catalogue of a release series such as '23.05'. CatalogueError if there is none, or if the series
    has no such interpreter (Python 2 from 21.02 on)."""
    whole = _facts(series)
    if family not in whole["interpreters"]:
        having = (each for each in known_series() if family in _facts(each)["interpreters"])
        raise CatalogueError(
            f"OpenWrt {series} has no {family}", hint=f"the series that have it: {', '.join(having)}"
        )
    raw = whole["interpreters"][family]
    facts = _filled(raw, raw["python"])
    packages = {name: _package(name, each) for name, each in facts["packages"].items()}
    return Catalogue(
        series=whole["series"],
        commit=whole["about"]["commit"],
        family=family,
        **{**facts, "packages": packages},
    )


def load_micropython(series: str) -> MicroPython:
    """MicroPython of a release series. CatalogueError for an unknown series; every known one has it."""
    whole = _facts(series)
    facts = whole["micropython"]

    def packages(kind: str) -> dict[str, MicroPythonPackage]:
        return {
            name: MicroPythonPackage(name, each["version"], tuple(each["depends"]), each.get("tls"))
            for name, each in facts[kind].items()
        }

    return MicroPython(
        series=series,
        commit=whole["about"]["commit"],
        default=facts["default"],
        upstream=facts["upstream"],
        interpreters=packages("interpreters"),
        library=packages("library"),
    )
