"""Packages of the kit and roots made of them, for what is shaken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from imagebuilder.host.cache import Cache
from imagebuilder.kit.layout import PACKAGES_DIR
from imagebuilder.log import Log
from imagebuilder.model.app import AppUse
from imagebuilder.model.filetree import FileTree, file_of
from imagebuilder.model.local_package import LocalPackage
from imagebuilder.model.package import Dependency, Package
from imagebuilder.python.app_bytecode import Compiler
from imagebuilder.python.app_package import app_package, declare_app, open_app
from imagebuilder.python.apps import scan_app
from imagebuilder.python.bytecode_interpreter import choose_interpreter
from imagebuilder.python.catalogue import load_catalogue
from imagebuilder.python.choose import choose_packages
from imagebuilder.python.index import PackageIndex
from imagebuilder.python.shake import Shaken, ShakeRequest, shake
from imagebuilder.python.variants import EMBEDDED_SERIES
from imagebuilder.python.wheels_target import KIT_GLIBC, wheel_target
from imagebuilder.stage.filetree import write_tree
from imagebuilder.stage.ipk_reader import read_ipk
from imagebuilder.stage.repack import content_of

CATALOGUE = load_catalogue(EMBEDDED_SERIES)
LIBRARY = CATALOGUE.library
SYSTEM = ("base-files", "busybox", "libc")

Contents = dict[str, LocalPackage]


def package_of(kit: Path, name: str) -> LocalPackage:
    """One of the kit's packages."""
    (file,) = (kit / PACKAGES_DIR).glob(f"{name}_*.ipk")
    return content_of(read_ipk(file))


def packages_of(kit: Path, names: Iterable[str]) -> Contents:
    """Packages of the kit with all that they depend on, and what any system has."""
    found: Contents = {}
    waiting = [*SYSTEM, *names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = package_of(kit, name)
            waiting += [each.name for alternatives in found[name].package.depends for each in alternatives]
    return found


def app_of(sources: Mapping[str, str], depends: Iterable[str] = ("python3-base",)) -> LocalPackage:
    """An app's package: files by their paths, executable in /usr/bin."""
    files = {
        path: file_of(text.encode(), 0o755 if path.startswith("/usr/bin/") else 0o644)
        for path, text in sources.items()
    }
    names = tuple((Dependency(name),) for name in depends)
    return LocalPackage(Package("app-mine", "1-1", depends=names), FileTree(files))


def shaken(contents: Contents, work: Path, **more: object) -> Shaken:
    """What is left for the package app-mine."""
    request = ShakeRequest(
        contents,
        [each.package for each in contents.values()],
        asked=SYSTEM,
        apps=["app-mine"],
        **more,  # type: ignore[arg-type]
    )
    interpreter = choose_interpreter(CATALOGUE.python, CATALOGUE.magic_number)
    return shake(request, CATALOGUE, interpreter, work, Log())


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


def script_app(path: Path, work: Path, **use: object) -> LocalPackage:
    """A script as the package that a config's python.apps makes of it; its program is called as it is."""
    target = wheel_target(CATALOGUE.version, "x86_64", EMBEDDED_SERIES, glibc=KIT_GLIBC)
    index = PackageIndex(Cache(work / "cache"), Log(), offline=True)
    app = open_app(AppUse(path=str(path), name="app-mine", **use), path.parent, target, index)  # type: ignore[arg-type]
    interpreter = choose_interpreter(CATALOGUE.python, CATALOGUE.magic_number)
    compiler = Compiler(interpreter, work / "pyc", 0, CATALOGUE.python, Log())
    return app_package(app, declare_app(app, ["python3-base"], "opkg", target), target, compiler, "opkg")


def chosen_packages(path: Path) -> tuple[str, ...]:
    """What `auto` installs for a script, besides what that depends on."""
    return choose_packages(CATALOGUE, [scan_app(path, python=CATALOGUE.version_pair)]).packages
