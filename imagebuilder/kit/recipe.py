"""What the kit is made of: packages.toml as values, with the names of an edition's Debian."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import Field

from imagebuilder.model.base import Many, Model

HERE = Path(__file__).parent
GUEST = HERE / "guest"


class Part(Model):
    """A package that is cut from Debian packages by filespec rules. debian: whose version it has; also:
    further Debian packages with files of it. links: target path to the text of a symbolic link."""

    name: str
    debian: str
    also: Many[str] = ()
    depends: Many[str] = ()
    provides: Many[str] = ()
    section: str
    summary: str
    rules: Many[str]
    links: dict[str, str] = Field(default_factory=dict)


class Module(Model):
    """A package of kernel modules. load: what is loaded at boot, and with it what that needs."""

    name: str
    summary: str
    load: Many[str]


class Site(Model):
    """A Python package that is no part of CPython. debian: the packages that make its stage; the first one's
    version is its own."""

    name: str
    debian: Many[str]


class Recipe(Model):
    """packages.toml. boot: names of Debian packages; certificates: the one with CA certificates;
    default: what every image gets. python: the Debian packages that CPython is cut from, which the edition
    names."""

    python: Many[str] = ()
    certificates: str
    boot: Many[str]
    initramfs_modules: Many[str]
    default: Many[str]
    site: Many[Site]
    module: Many[Module]
    package: Many[Part]

    def debian_packages(self) -> tuple[str, ...]:
        """The names of all Debian packages that the kit needs, except the kernel's."""
        names = {*self.main_packages(), *self.boot, self.certificates}
        for site in self.site:
            names.update(site.debian)
        return tuple(sorted(names))

    def main_packages(self) -> tuple[str, ...]:
        """The names of the Debian packages that CPython, programs and libraries are cut from."""
        names = set(self.python)
        for part in self.package:
            names.update((part.debian, *part.also))
        return tuple(sorted(names))

    def renamed(self, names: Mapping[str, str], python: tuple[str, ...]) -> Recipe:
        """The recipe with other names for Debian packages (old to new), and CPython's."""

        def new(old: str) -> str:
            return names.get(old, old)

        def every(olds: Many[str]) -> tuple[str, ...]:
            return tuple(map(new, olds))

        packages = (
            part.model_copy(update={"debian": new(part.debian), "also": every(part.also)})
            for part in self.package
        )
        return self.model_copy(
            update={
                "python": python,
                "certificates": new(self.certificates),
                "boot": every(self.boot),
                "site": tuple(site.model_copy(update={"debian": every(site.debian)}) for site in self.site),
                "package": tuple(packages),
            }
        )


@cache
def common_recipe() -> Recipe:
    """What packages.toml says for every edition. pydantic's ValidationError where it is no recipe."""
    return Recipe.model_validate(tomllib.loads((HERE / "packages.toml").read_text("utf-8")))
