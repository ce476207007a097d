"""What the kit is made of: packages.toml as values."""

from __future__ import annotations

import tomllib
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
    """packages.toml. python, boot: names of Debian packages; certificates: the one with CA certificates;
    default: what every image gets."""

    python: Many[str]
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


@cache
def recipe() -> Recipe:
    """The kit's recipe. pydantic's ValidationError where packages.toml is not one."""
    return Recipe.model_validate(tomllib.loads((HERE / "packages.toml").read_text("utf-8")))
