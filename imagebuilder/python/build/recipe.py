"""[[python.package]]: what a plan knows of such a package, and the tree that its build gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from imagebuilder.config.app import PythonPackageUse
from imagebuilder.errors import UserError
from imagebuilder.host.elf import is_elf
from imagebuilder.host.fs import expand_home
from imagebuilder.log import Log
from imagebuilder.model.control import parse_depends, parse_names
from imagebuilder.model.filespec import site_packages
from imagebuilder.model.package import LOCAL, Package
from imagebuilder.python.apps.launcher import StartOptions
from imagebuilder.python.build.host_build import Bench, build_wheel, install_setup_py, options_of
from imagebuilder.python.build.host_build_source import lay_source, stated_version
from imagebuilder.python.catalogue.package_version import PackageWords
from imagebuilder.python.wheels.target import WheelTarget, native_hint
from imagebuilder.python.wheels.tree import NativeCodeError, wheel_tree
from imagebuilder.python.wheels.wheels import Wheel, read_wheel
from imagebuilder.rootfs.tree import EMPTY, FileTree

SECTION = "lang"
ALWAYS = ("libc",)  # every package of OpenWrt's depends on it

TreeReader = Callable[[Path], FileTree]


class RecipeError(UserError):
    """A recipe of a Python package that cannot be followed."""


def declare(use: PythonPackageUse, project: Path, words: PackageWords) -> Package:
    """The package as a plan knows it, before anything is built. project: what its source's path counts from.

    RecipeError where the version stands nowhere; SourceTreeError, PackageVersionError.
    """
    version = Version(use.version) if use.version is not None else None
    if version is None:
        source = _source(use, project)
        version = stated_version(source, use.setup_dir)
        if version is None:
            raise RecipeError(
                f"package '{use.name}': {source} does not say its version without being built",
                hint="say version = … in its recipe",
            )
    return Package(
        name=use.name,
        version=words.version(version, use.release),
        architecture=words.any_architecture,
        depends=parse_depends(", ".join(dict.fromkeys((*ALWAYS, *use.depends)))),
        provides=use.provides,
        conflicts=parse_names(", ".join(use.conflicts)),
        section=SECTION,
        description=use.description or use.name,
        extra={"License": use.license} if use.license else {},
        feed=LOCAL,
    )


def declare_source(use: PythonPackageUse, package: Package) -> Package:
    """The package of its sources: of the same version, without dependencies, as -src packages of OpenWrt."""
    return replace(
        package,
        name=use.source_name,
        depends=(),
        provides=(),
        conflicts=(),
        description=f"{package.description} (sources)",
    )


def build(
    use: PythonPackageUse,
    project: Path,
    target: WheelTarget,
    bench: Bench,
    log: Log,
    *,
    read_tree: TreeReader,
) -> FileTree:
    """All that building the package would install on the device, sources not compiled; which of it goes into
    the package is for its filespec to say. read_tree: makes a tree of a folder.

    RecipeError, HostBuildError, SourceTreeError, WheelError; NativeCodeError for compiled code that was built
    for this machine or is for another than the target.
    """
    if not use.build:
        return EMPTY
    source = _source(use, project)
    if source.name.endswith(".whl"):
        return _of_wheel(use, read_wheel(source), target)
    log.progress(f"building {use.name}")
    folder = lay_source(source, bench.scratch)
    python = "{}.{}".format(*target.version_pair)
    options = options_of(use)
    if use.setup_py:
        tree = read_tree(install_setup_py(folder, options, bench, log, python=python))
        _refuse_native(use, tree, target)
        return tree
    wheel = read_wheel(build_wheel(folder, options, bench, log))
    tree = _of_wheel(use, wheel, target)
    _refuse_native(use, tree, target)
    return tree


def _source(use: PythonPackageUse, project: Path) -> Path:
    source = project / expand_home(use.source)
    if not source.exists():
        raise RecipeError(
            f"package '{use.name}': there is no {source}", hint="source is a folder, an sdist or a wheel"
        )
    return source


def _of_wheel(use: PythonPackageUse, wheel: Wheel, target: WheelTarget) -> FileTree:
    try:
        fits = SpecifierSet(wheel.requires_python).contains(target.python, prereleases=True)
    except InvalidSpecifier:
        fits = True  # pip takes such for none as well
    if not fits:
        raise RecipeError(
            f"package '{use.name}': {wheel.path.name} wants Python {wheel.requires_python},"
            f" and the target has {target.python}",
            hint="take another release of it, or another release of OpenWrt",
        )
    made = wheel_tree(wheel, target, StartOptions(site_packages("{}.{}".format(*target.version_pair))))
    lacking = [name for name in made.needs if name not in use.depends]
    if lacking:
        raise RecipeError(
            f"package '{use.name}' wants the libraries of {', '.join(lacking)}",
            hint="name them in its depends",
        )
    return made.tree.merged(made.programs)


def _refuse_native(use: PythonPackageUse, tree: FileTree, target: WheelTarget) -> None:
    """NativeCodeError for compiled code from a build: it is for this machine."""
    for path, entry in tree.items():
        if entry.kind == "file" and is_elf(_head(entry.source, entry.data)):
            raise NativeCodeError(
                f"package '{use.name}': its build makes {path}, which is native code for this machine",
                hint=native_hint(use.name.removeprefix("python3-"), target),
            )


def _head(source: Path | None, data: bytes | None) -> bytes:
    if source is None:
        return data or b""
    with source.open("rb") as stream:
        return stream.read(64)
