"""Packages of the kit and roots made of them, for what is shaken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from imagebuilder.config.app import AppUse
from imagebuilder.host.cache import Cache
from imagebuilder.kit.layout import PACKAGES_DIR
from imagebuilder.log import Log
from imagebuilder.model.edition import Edition
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.python.apps.apps import scan_app
from imagebuilder.python.apps.bytecode import Compiler
from imagebuilder.python.apps.package import app_package, declare_app, open_app
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.python.bytecode.interpreter import choose_interpreter
from imagebuilder.python.catalogue.catalogue import Catalogue, load_catalogue
from imagebuilder.python.catalogue.choose import choose_packages
from imagebuilder.python.requirements.index import PackageIndex
from imagebuilder.python.shake.shake import Shaken, ShakeRequest, shake
from imagebuilder.python.wheels.target import wheel_target
from imagebuilder.rootfs.files import write_tree
from imagebuilder.rootfs.tree import FileTree, LocalPackage, file_of

SYSTEM = ("base-files", "busybox", "libc")

Contents = dict[str, LocalPackage]


@dataclass(frozen=True)
class Shaker:
    """An edition of the kit to shake, with the folder for its own interpreter."""

    edition: Edition
    kit: Path
    folder: Path

    @cached_property
    def catalogue(self) -> Catalogue:
        return load_catalogue(self.edition.series)

    @property
    def library(self) -> str:
        return self.catalogue.library

    @cached_property
    def interpreter(self) -> Interpreter:
        """A Python of this machine, or the kit's own."""
        root = self.folder / "interpreter"
        root_of((each.tree for each in self.packages_of(["python3-light"]).values()), root)
        return choose_interpreter(self.catalogue.python, self.catalogue.magic_number, root=root)

    def package_of(self, name: str) -> LocalPackage:
        """One of the kit's packages."""
        (file,) = (self.kit / PACKAGES_DIR).glob(f"{name}_*.ipk")
        return Opkg().read(file, Package("", ""))

    def packages_of(self, names: Iterable[str]) -> Contents:
        """Packages of the kit with all that they depend on, and what any system has."""
        found: Contents = {}
        waiting = [*SYSTEM, *names]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = self.package_of(name)
                waiting += [each.name for terms in found[name].package.depends for each in terms]
        return found

    def shaken(self, contents: Contents, work: Path, **more: object) -> Shaken:
        """What is left for the package app-mine."""
        request = ShakeRequest(
            contents,
            [each.package for each in contents.values()],
            asked=SYSTEM,
            apps=["app-mine"],
            **more,  # type: ignore[arg-type]
        )
        return shake(request, self.catalogue, self.interpreter, work, Log())

    def script_app(self, path: Path, work: Path, **use: object) -> LocalPackage:
        """A script as the package that a config's python.apps makes of it; its program is called as it
        is."""
        target = wheel_target(self.catalogue.version, "x86_64", self.edition.series, glibc=self.edition.glibc)
        index = PackageIndex(Cache(work / "cache"), Log(), offline=True)
        app = open_app(AppUse(path=str(path), name="app-mine", **use), path.parent, target, index)  # type: ignore[arg-type]
        compiler = Compiler(self.interpreter, work / "pyc", 0, self.catalogue.python, Log())
        return app_package(app, declare_app(app, ["python3-base"], Opkg(), target), target, compiler)

    def chosen_packages(self, path: Path) -> tuple[str, ...]:
        """What `auto` installs for a script, besides what that depends on."""
        return choose_packages(self.catalogue, [scan_app(path, python=self.catalogue.version_pair)]).packages


@pytest.fixture(scope="session")
def shaker(edition: Edition, kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Shaker:
    return Shaker(edition, kit, tmp_path_factory.mktemp("shaker"))


def app_of(sources: Mapping[str, str], depends: Iterable[str] = ("python3-base",)) -> LocalPackage:
    """An app's package: files by their paths, executable in /usr/bin."""
    files = {
        path: file_of(text.encode(), 0o755 if path.startswith("/usr/bin/") else 0o644)
        for path, text in sources.items()
    }
    names = tuple((Dependency(name),) for name in depends)
    return LocalPackage(Package("app-mine", "1-1", depends=names), FileTree(files))


def left_of(contents: Contents, result: Shaken) -> dict[str, FileTree]:
    """The trees of the packages as they are installed after it."""
    return {
        name: result.trees.get(name, each.tree)
        for name, each in contents.items()
        if name not in result.removable
    }


def root_of(trees: Iterable[FileTree], root: Path) -> Path:
    """A root file system of these trees."""
    for tree in trees:
        write_tree(tree, root)
    return root
