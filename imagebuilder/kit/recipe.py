"""What the kit is made of: packages.toml with the names of an edition's Debian, and the edition's deviations,
as values and as a change of the stage that makes Debian's CPython OpenWrt's.

Every deviation must have an effect. One that has none is an error, as a rule of a strict filespec is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path

from pydantic import Field

from imagebuilder.errors import UserError
from imagebuilder.model.base import Many, Model
from imagebuilder.model.edition import Edition
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.filespec import Rule
from imagebuilder.rootfs.shellglob import expand
from imagebuilder.rootfs.tree import Entry, FileTree, file_of

HERE = Path(__file__).parent
GUEST = HERE / "guest"


class CutPackage(Model):
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
    package: Many[CutPackage]

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

    def of_edition(self, names: Mapping[str, str], python: Many[str], more: Sequence[CutPackage]) -> Recipe:
        """The recipe with other names for Debian packages (old to new), CPython's, and packages that no other
        edition has."""

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
                "package": (*packages, *more),
            }
        )


@cache
def common_recipe() -> Recipe:
    """What packages.toml says for every edition. pydantic's ValidationError where it is no recipe."""
    return Recipe.model_validate(tomllib.loads((HERE / "packages.toml").read_text("utf-8")))


class DeviationError(UserError):
    """Debian's packages are not those that the edition's file describes."""

    def __init__(self, message: str) -> None:
        hint = "imagebuilder/kit/editions/debian-*.toml state what differs between Debian and OpenWrt"
        super().__init__(message, hint=hint)


class Rename(Model):
    """A Debian package of packages.toml is called otherwise."""

    old: str
    new: str
    reason: str


class Besides(CutPackage):
    """A package that no other edition has."""

    reason: str


class PathMove(Model):
    """A path, or all below it, goes elsewhere. only: patterns, as in a shell, of the names in `old` that go;
    none: all."""

    old: str
    new: str
    only: Many[str] = ()
    reason: str


class Drop(Model):
    """What a pattern names is not there in OpenWrt."""

    path: str
    reason: str


class Edit(Model):
    """A text that occurs once in a file is replaced by another."""

    path: str
    old: str
    new: str
    reason: str


class Add(Model):
    """A file that a package has besides OpenWrt's."""

    package: str
    path: str
    text: str
    reason: str


class Absent(Model):
    """Rules of a package's filespec, by their paths, that find nothing in Debian's tree."""

    package: str
    paths: Many[str]
    reason: str


class AbsentHook(Model):
    """A step of a package's install hook, by its path, that finds nothing in Debian's tree."""

    package: str
    path: str
    reason: str


class Depends(Model):
    """Dependencies that a package has besides OpenWrt's."""

    package: str
    names: Many[str]
    reason: str


class Builtin(Model):
    """Extension modules of an OpenWrt package that are built into Debian's interpreter."""

    package: str
    modules: Many[str]
    reason: str


class Deviations(Model):
    """An edition's file. python: the Debian packages that CPython is cut from; all packages of it have the
    version of the first. package: what is cut besides the packages of packages.toml, as there."""

    python: Many[str]
    package: Many[Besides] = ()
    rename: Many[Rename] = ()
    move: Many[PathMove]
    drop: Many[Drop]
    edit: Many[Edit]
    add: Many[Add]
    absent: Many[Absent]
    absent_hook: Many[AbsentHook]
    depends: Many[Depends]
    builtin: Many[Builtin]

    def dependencies_of(self, package: str) -> tuple[str, ...]:
        """What a package depends on besides what OpenWrt's does."""
        return tuple(name for entry in self.depends if entry.package == package for name in entry.names)

    def added_to(self, package: str) -> dict[str, Entry]:
        """The files that a package has besides OpenWrt's."""
        return {entry.path: file_of(entry.text.encode()) for entry in self.add if entry.package == package}

    def hook_paths(self, package: str) -> frozenset[str]:
        """The paths of a package's hook steps that are left out."""
        return frozenset(entry.path for entry in self.absent_hook if entry.package == package)


@cache
def deviations(edition: Edition) -> Deviations:
    """What an edition's file states. pydantic's ValidationError where it cannot be read."""
    file = HERE / "editions" / f"debian-{edition.debian}.toml"
    return Deviations.model_validate(tomllib.loads(file.read_text("utf-8")))


@cache
def recipe(edition: Edition) -> Recipe:
    """The recipe of an edition. DeviationError for a name that packages.toml does not have."""
    changes, common = deviations(edition), common_recipe()
    unknown = [entry.old for entry in changes.rename if entry.old not in common.debian_packages()]
    if unknown:
        raise DeviationError(f"packages.toml names no Debian package {', '.join(unknown)} to be renamed")
    names = {entry.old: entry.new for entry in changes.rename}
    return common.of_edition(names, changes.python, changes.package)


def _moved_path(path: str, move: PathMove) -> str:
    inside = path == move.old or path.startswith(move.old + "/")
    if inside and move.only:
        name = path[len(move.old) + 1 :].partition("/")[0]
        inside = any(fnmatchcase(name, pattern) for pattern in move.only)
    return move.new + path[len(move.old) :] if inside else path


def _moved(stage: FileTree, move: PathMove) -> FileTree:
    """The stage after one move. What is moved wins over what is there, folders are merged."""
    still = {path: entry for path, entry in stage.items() if _moved_path(path, move) == path}
    gone = {_moved_path(path, move): entry for path, entry in stage.items() if path not in still}
    return FileTree(
        {
            path: replace(entry, target=_moved_path(entry.target, move)) if entry.kind == "symlink" else entry
            for path, entry in (still | gone).items()
        }
    )


def _dropped(stage: FileTree, drop: Drop) -> FileTree:
    return stage.without(expand(stage, drop.path))


def _edited(stage: FileTree, edit: Edit) -> FileTree:
    if edit.path not in stage:
        return stage
    old, new = edit.old.encode(), edit.new.encode()
    text = content(stage[edit.path])
    if text.count(old) != 1:
        raise DeviationError(f"{edit.path} does not hold once the text that is to be replaced in it")
    return stage.merged({edit.path: file_of(text.replace(old, new), stage[edit.path].mode)})


def adapted(stages: Mapping[str, FileTree], changes: Deviations) -> dict[str, FileTree]:
    """Debian's trees with OpenWrt's layout: moved, dropped, edited.

    DeviationError for an entry that has no effect on any of them.
    """
    now = dict(stages)

    def change(what: str, function: Callable[[FileTree], FileTree]) -> None:
        before = dict(now)
        now.update({name: function(tree) for name, tree in before.items()})
        if now == before:
            raise DeviationError(f"there is no {what}")

    for move in changes.move:
        change(f"{move.old} to be moved", partial(_moved, move=move))
    for drop in changes.drop:
        change(f"{drop.path} to be dropped", partial(_dropped, drop=drop))
    for edit in changes.edit:
        change(f"{edit.path} to be changed", partial(_edited, edit=edit))
    return now


def present_rules(
    package: str, rules: Sequence[Rule], stage: FileTree, changes: Deviations
) -> tuple[Rule, ...]:
    """A package's rules without those that are stated to find nothing.

    DeviationError where a stated rule is not in the filespec, or would find something.
    """
    absent = {path for entry in changes.absent if entry.package == package for path in entry.paths}
    unknown = absent - {rule.path for rule in rules}
    if unknown:
        raise DeviationError(f"the filespec of {package} has no rule for {', '.join(sorted(unknown))}")
    for path in sorted(absent):
        if expand(stage, path):
            raise DeviationError(f"Debian has {path} after all, which {package} was to do without")
    return tuple(rule for rule in rules if rule.path not in absent)
