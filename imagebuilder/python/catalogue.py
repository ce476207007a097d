"""How OpenWrt cuts CPython into packages: variants, filespecs, modules. The facts are in data/*.json, each
file naming the commit of openwrt/packages that it states."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from imagebuilder.errors import UserError

PythonVariant = Literal["base", "light", "full"]
HookKind = Literal["mkdir", "copy", "symlink"]


class CatalogueError(UserError):
    """A release series, variant, package or module that no catalogue knows."""


@dataclass(frozen=True, slots=True)
class HookStep:
    """One thing that a package adds outside its filespec, before it: mkdir(path); copy(path, which may be a
    pattern on the stage, into the folder `argument`); symlink(path, with the text `argument`)."""

    kind: HookKind
    path: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class PythonPackage:
    """One package. filespec: [operation, path] of generation C; modules: importable top-level names, where
    `_sysconfigdata_*` is a pattern; standard_library: cut from CPython itself."""

    name: str
    version: str
    summary: str
    depends: tuple[str, ...]
    filespec: tuple[tuple[str, str], ...]
    install_hook: tuple[HookStep, ...]
    src_twin: bool
    pure_modules: tuple[str, ...]
    ext_modules: tuple[str, ...]
    name_in_index: str
    abi_version: str
    standard_library: bool

    @property
    def src_name(self) -> str | None:
        """The package with the .py files, or None if there is none."""
        return f"{self.name}-src" if self.src_twin else None

    @property
    def modules(self) -> tuple[str, ...]:
        """All its top-level modules, sorted."""
        return tuple(sorted((*self.pure_modules, *self.ext_modules)))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One release series. python: major.minor; version: of CPython; magic_number: of its bytecode;
    ext_filename: where extension modules are below the library folder, {module}, <arch> and <libc> left open;
    unpackaged: modules of the standard library that no package ships."""

    series: str
    commit: str
    python: str
    version: str
    magic_number: int
    ext_filename: str
    builtin_modules: tuple[str, ...]
    builtin_modules_in: str
    unpackaged: tuple[str, ...]
    variants: Mapping[str, str]
    packages: Mapping[str, PythonPackage]

    @property
    def library(self) -> str:
        """The standard library's folder on the target."""
        return f"/usr/lib/python{self.python}"

    @property
    def site_packages(self) -> str:
        """Where further packages go on the target."""
        return f"{self.library}/site-packages"

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

    def variant_packages(self, variant: PythonVariant) -> tuple[PythonPackage, ...]:
        """All of the catalogue's packages that a variant brings, dependencies first. Packages of other feeds
        (zlib, libffi, ...) are not among them; see depends."""
        return self.closure([self.variant_package(variant).name])

    def closure(self, names: Sequence[str]) -> tuple[PythonPackage, ...]:
        """These packages and those of the catalogue that they need, dependencies first.
        CatalogueError for a name that is not in it."""
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
        if top in self.builtin_modules:
            return self.package(self.builtin_modules_in)
        for package in self.packages.values():
            if top in package.pure_modules or top in package.ext_modules:
                return package
        raise CatalogueError(
            f"no Python package of OpenWrt {self.series} brings the module {module}",
            hint=f"OpenWrt leaves it out of Python {self.python}" if top in self.unpackaged else None,
        )


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
    return PythonPackage(
        name=name,
        version=facts["version"],
        summary=facts["summary"],
        depends=facts["depends"],
        filespec=facts["filespec"],
        install_hook=tuple(HookStep(*step) for step in facts.get("install_hook", ())),
        src_twin=facts["src_twin"],
        pure_modules=facts["pure_modules"],
        ext_modules=facts["ext_modules"],
        name_in_index=facts.get("name_in_index", name),
        abi_version=facts.get("abi_version", ""),
        standard_library=facts.get("standard_library", True),
    )


def known_series() -> tuple[str, ...]:
    """The release series that there is a catalogue of, oldest first."""
    names = (each.name for each in (resources.files(__package__) / "data").iterdir())
    return tuple(
        sorted(
            name.removeprefix("openwrt-").removesuffix(".json") for name in names if name.endswith(".json")
        )
    )


@cache
def load_catalogue(series: str) -> Catalogue:
    """The catalogue of a release series such as '23.05'. CatalogueError if there is none."""
    if series not in known_series():
        raise CatalogueError(
            f"there is no Python catalogue for OpenWrt {series}",
            hint=f"there is one for {', '.join(known_series())}",
        )
    text = (resources.files(__package__) / "data" / f"openwrt-{series}.json").read_text("utf-8")
    raw = json.loads(text)
    facts = _filled(raw, raw["python"])
    return Catalogue(
        series=facts["series"],
        commit=facts["about"]["commit"],
        python=facts["python"],
        version=facts["version"],
        magic_number=facts["magic_number"],
        ext_filename=facts["ext_filename"],
        builtin_modules=facts["builtin_modules"],
        builtin_modules_in=facts["builtin_modules_in"],
        unpackaged=facts["shipped_in_no_package"],
        variants=facts["variants"],
        packages={name: _package(name, each) for name, each in facts["packages"].items()},
    )
