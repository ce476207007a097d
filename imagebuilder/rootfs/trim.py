"""A config's filespec rules at work on a package, an overlay, or what a Python build installed
([[python.package]])."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.app import InstalledFile, PythonPackageUse
from imagebuilder.errors import UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.model.filespec import FilespecRecord, RuleDone, rules_of, site_packages, with_python
from imagebuilder.rootfs.files import content_size, read_tree
from imagebuilder.rootfs.filespec import Applied, apply
from imagebuilder.rootfs.tree import DIR_MODE, EMPTY, FILE_MODE, Entry, FileTree, file_at, parent_of

_MOST_LINKS = 40  # that are followed, as in Linux


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A tree after its rules, and what they did."""

    tree: FileTree
    record: FilespecRecord


def trim(tree: FileTree, lines: Sequence[str], owner: str) -> Trimmed:
    """Rules on a tree that is there as a whole: a feed package's content, a rendered overlay. It is the
    package and the stage at once, so that `+` takes back what an earlier rule dropped.

    owner: "package NAME" or "overlay NAME". Raises FilespecError, naming owner and rule, for a rule that
    cannot be read or finds nothing.
    """
    return _trimmed(apply(rules_of(lines, _origin(owner)), tree, tree, origin=_origin(owner)), tree, owner)


def cut(
    stage: FileTree, lines: Sequence[str] | None, owner: str, *, python: str, hook: FileTree = EMPTY
) -> Trimmed:
    """The files of a Python package from all that its build installed, as OpenWrt's Py3Package cuts it.

    lines: its filespec; None for OpenWrt's default, all of site-packages; an empty one takes nothing. hook:
    what its install step made, which the rules may drop again. Raises FilespecError as trim() does.
    """
    chosen = default_filespec(python) if lines is None else lines
    applied = apply(rules_of(chosen, _origin(owner)), stage, hook, origin=_origin(owner))
    return _trimmed(applied, {**stage, **hook}, owner)


def default_filespec(python: str) -> tuple[str, ...]:
    """What a Python package takes that has no filespec (Py3Package/filespec/Default). python: "3.11"."""
    return (f"+|{site_packages(python)}",)


def _origin(owner: str) -> str:
    return f"the filespec of {owner}"


def _trimmed(applied: Applied, before: Mapping[str, Entry], owner: str) -> Trimmed:
    tree = applied.tree
    known = {**before, **tree}
    done = tuple(
        RuleDone(
            rule=effect.rule.text,
            paths=effect.paths,
            size=_size(known[path] for path in effect.paths),
            warnings=effect.warnings if effect.paths else (*effect.warnings, "it changed nothing"),
        )
        for effect in applied.effects
    )
    links = tuple(
        f"{path} -> {entry.target}"
        for path, entry in tree.items()
        if entry.kind == "symlink" and _leads(before, path) and not _leads(tree, path)
    )
    sizes = _size(before.values()), _size(tree.values())
    return Trimmed(
        tree, FilespecRecord(owner=owner, rules=done, before=sizes[0], after=sizes[1], links=links)
    )


def _size(entries: Iterable[Entry]) -> int:
    return sum(map(content_size, entries))


def _leads(tree: Mapping[str, Entry], link: str) -> bool:
    """Whether a link of the tree leads to something in it. Links on the way there are not followed."""
    place = link
    for _ in range(_MOST_LINKS):
        if place not in tree:
            return False
        if tree[place].kind != "symlink":
            return True
        place = posixpath.normpath(posixpath.join(parent_of(place), tree[place].target))
    return False


PROGRAMS = "/usr/bin"
PROGRAM_MODE = 0o755


class RecipeFileError(UserError):
    """A further file of a Python package that is not there."""


def recipe_tree(use: PythonPackageUse, built: FileTree, project: Path, *, python: str) -> Trimmed:
    """The package's files, sources not compiled: its further files and all programs of the build, then its
    filespec, as OpenWrt's Py3Package does it. built: all that the build installs; project: what the further
    files' paths count from; python: "3.11".

    RecipeFileError; FilespecError that names the rule which finds nothing.
    """
    entries = {path: built[path] for path in built.children(PROGRAMS)}
    for place, file in use.installed_files().items():
        entries |= _installed(use, place, file, project)
    lines = None if use.filespec is None else with_python(use.filespec, python)
    if lines is None and not use.build:
        lines = ()
    return cut(built, lines, f"package {use.name}", python=python, hook=FileTree(entries))


def _installed(use: PythonPackageUse, place: str, file: InstalledFile, project: Path) -> dict[str, Entry]:
    """A file or a folder with all below it, in modes that do not depend on the host."""
    source = project / expand_home(file.source)
    mode = int(file.mode, 8) if file.mode is not None else None
    if source.is_file():
        return {place: file_at(source, _mode(source.stat().st_mode, mode))}
    if not source.is_dir():
        raise RecipeFileError(
            f"package '{use.name}': there is no {source}, which {place} is to be",
            hint="files names files and folders",
        )
    entries = {}
    for path, entry in read_tree(source.resolve()).items():
        if entry.kind == "file":
            entries[place + path] = entry.with_mode(_mode(entry.mode, mode))
        else:
            entries[place + path] = entry.with_mode(DIR_MODE)
    return entries


def _mode(there: int, wanted: int | None) -> int:
    if wanted is not None:
        return wanted
    return PROGRAM_MODE if there & 0o111 else FILE_MODE
