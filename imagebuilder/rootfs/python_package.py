"""[[python.package]]: which files of its build, and which others, become the package."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.config.python_package import InstalledFile, PythonPackageUse
from imagebuilder.errors import UserError
from imagebuilder.host.fs import expand_home
from imagebuilder.model.filespec import with_python
from imagebuilder.rootfs.files import read_tree
from imagebuilder.rootfs.tree import DIR_MODE, FILE_MODE, Entry, FileTree, file_at
from imagebuilder.rootfs.trim import Trimmed, cut

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
    for path, entry in read_tree(source).items():
        if entry.kind == "file":
            entries[place + path] = entry.with_mode(_mode(entry.mode, mode))
        else:
            entries[place + path] = entry.with_mode(DIR_MODE)
    return entries


def _mode(there: int, wanted: int | None) -> int:
    if wanted is not None:
        return wanted
    return PROGRAM_MODE if there & 0o111 else FILE_MODE
