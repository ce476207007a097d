"""Which shared libraries the files that are left still need, and so which packages. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from imagebuilder.host.elf import ElfError, is_elf, read_elf
from imagebuilder.model.package import Dependency, Package
from imagebuilder.python.shake.read import ShakeError
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import FileTree

LIBRARY_FOLDERS = ("/lib", "/usr/lib")

_ALWAYS = ("libc",)  # every package of OpenWrt's depends on it, linked or not

Depends = tuple[tuple[Dependency, ...], ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """A package of CPython's, before and after. before, after: names of the libraries that its files are
    linked with; emptied: nothing is left of what it was for."""

    package: Package
    before: frozenset[str]
    after: frozenset[str]
    emptied: bool


@dataclass(frozen=True, slots=True)
class Lean:
    """depends: of the packages that are cut, by name; dropped: names that are not among them any more;
    removable: packages that nobody needs now, sorted."""

    depends: Mapping[str, Depends]
    dropped: Mapping[str, tuple[str, ...]]
    removable: tuple[str, ...]


def linked_libraries(tree: FileTree, package: str) -> frozenset[str]:
    """The names (DT_NEEDED) of the libraries that a tree's programs and libraries are linked with.
    ShakeError for a damaged file, naming it."""
    found: set[str] = set()
    for path, entry in tree.items():
        data = content(entry) if entry.kind == "file" else b""
        if not is_elf(data):
            continue
        try:
            found.update(read_elf(data).needed)
        except ElfError as error:
            raise ShakeError(
                f"{package}: {path}: {error.message}", hint="the package is damaged: fetch it again"
            ) from error
    return frozenset(found)


def library_names(tree: FileTree) -> frozenset[str]:
    """The names under which a package's shared libraries are found."""
    names = (
        PurePosixPath(path).name
        for folder in LIBRARY_FOLDERS
        for path in tree.children(folder)
        if tree[path].kind != "dir"
    )
    return frozenset(name for name in names if name.endswith(".so") or ".so." in name)


class _Installed:
    """The packages of an image, by the names that others depend on."""

    def __init__(self, packages: Iterable[Package]) -> None:
        self.packages = {package.name: package for package in packages}
        self._names: dict[str, set[str]] = {}
        for package in self.packages.values():
            for name in (package.name, package.plain_name, *package.provides):
                self._names.setdefault(name, set()).add(package.name)

    def named(self, alternatives: Iterable[Dependency]) -> set[str]:
        """The installed packages that one dependency may mean."""
        return {name for each in alternatives for name in self._names.get(each.name, ())}

    def needed_by(self, depends: Depends) -> set[str]:
        return {name for alternatives in depends for name in self.named(alternatives)}

    def below(self, names: Iterable[str]) -> set[str]:
        """All that these packages depend on, at any depth."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            package = self.packages.get(waiting.pop())
            new = self.needed_by(package.depends) - found if package is not None else set()
            found |= new
            waiting += new
        return found


def lean(
    cuts: Mapping[str, Cut],
    installed: Iterable[Package],
    libraries: Mapping[str, frozenset[str]],
    asked: Collection[str],
) -> Lean:
    """Dependencies and packages that go with what was cut.

    installed: all packages of the image as they were; libraries: names of the shared libraries in packages;
    asked: packages that stay, whoever needs them. A package that is emptied stays, empty, if another than
    CPython's own depends on it.
    """
    image = _Installed(installed)
    emptied = {name for name, cut in cuts.items() if cut.emptied and name not in asked}
    others = [package for name, package in image.packages.items() if name not in cuts]
    held = emptied & {name for package in others for name in image.needed_by(package.depends)}
    gone = emptied - held
    depends: dict[str, Depends] = {}
    dropped: dict[str, tuple[str, ...]] = {}
    for name, cut in cuts.items():
        unused = [each for each in cut.package.depends if _is_unused(image.named(each), cut, gone, libraries)]
        depends[name] = tuple(each for each in cut.package.depends if each not in unused)
        dropped[name] = tuple(str(each[0]) for each in unused)
    candidates = image.below(cuts) - cuts.keys() - set(asked)
    candidates |= gone
    stay = image.packages.keys() - candidates
    waiting = list(stay)
    while waiting:
        name = waiting.pop()
        new = image.needed_by(depends.get(name, image.packages[name].depends)) - stay - gone
        stay |= new
        waiting += new
    return Lean(depends, dropped, tuple(sorted(candidates - stay)))


def _is_unused(
    names: set[str], cut: Cut, gone: Collection[str], libraries: Mapping[str, frozenset[str]]
) -> bool:
    """Whether a dependency on these packages is left without a use: they go, or were there for libraries
    that nothing is linked with now."""
    if names and all(name in gone for name in names):
        return True
    if not names.isdisjoint(_ALWAYS):
        return False
    brought = frozenset().union(*(libraries.get(name, frozenset()) for name in names))
    return bool(brought & cut.before) and not brought & cut.after
