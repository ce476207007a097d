"""The source of a Python project, in a folder of its own that a build may write to."""

from __future__ import annotations

import gzip
import os
import shutil
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from email.parser import HeaderParser
from pathlib import Path
from typing import IO, cast

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from imagebuilder.config.toml import read_toml
from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, opened_plain, read_plain_text
from imagebuilder.host.fs import CHUNK_BYTES, disk_errors_explained
from imagebuilder.host.tar import DAMAGED, tar_members
from imagebuilder.host.walk import copy_tree, walk
from imagebuilder.python.apps.apps import check_directory

MAX_FILES = 50_000
MAX_BYTES = 512 << 20  # unpacked
SDIST_ENDINGS = (".tar.gz", ".tgz", ".zip")
# what a project's folder holds that its build has no need of
LEFT_OUT = frozenset({".git", ".hg", ".svn", ".tox", ".nox", ".venv", "venv", "__pycache__", "node_modules"})
_DAMAGE = (
    *(*DAMAGED, zipfile.BadZipFile, RuntimeError),
    *(NotImplementedError, OverflowError, IndexError, KeyError),
)


class SourceTreeError(UserError):
    """A project's source that cannot be read."""


def lay_source(source: Path, folder: Path) -> Path:
    """Copy a project's folder, or unpack an sdist, below `folder`; the folder of the project there.

    SourceTreeError for anything else, for what is too large, and for an archive that leads out of itself.
    """
    if source.is_dir():
        return _copied(source, folder / "source")
    if not source.is_file() or not source.name.endswith(SDIST_ENDINGS):
        raise SourceTreeError(
            f"{source} is no project's folder and no sdist",
            hint=f"an sdist ends in {', '.join(SDIST_ENDINGS)}",
        )
    place = folder / "source"
    with disk_errors_explained(folder):
        place.mkdir(parents=True)
        try:
            for name, stream in _members(source):
                target = place / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as out:
                    shutil.copyfileobj(stream, out, CHUNK_BYTES)
        except FileExistsError as error:
            raise SourceTreeError(f"{source} holds {error.filename} twice", hint="do not use it") from error
        except _DAMAGE as error:
            raise SourceTreeError(f"{source} cannot be unpacked: {error}", hint="fetch it again") from error
    inner = [each for each in place.iterdir() if each.is_dir()]
    return inner[0] if len(inner) == 1 and not (place / "pyproject.toml").exists() else place


def _copied(source: Path, place: Path) -> Path:
    def taken(path: str) -> bool:
        return not is_left_out(f"{source}/{path}")

    count, size = 0, 0
    with disk_errors_explained(place):
        for item in walk(source.resolve(), enter=taken, bounded=True):
            count, size = count + 1, size + (0 if item.is_folder else item.status.st_size)
            if count > MAX_FILES or size > MAX_BYTES:
                raise SourceTreeError(
                    f"{source} is too large for a project's source", hint="name its own folder"
                )
        copy_tree(source, place, taken)
    return place


def is_left_out(path: str) -> bool:
    """Whether a file or folder of a project is none of its source: a virtual environment, a history."""
    # pathlib is slow where a path is long
    return path.rpartition("/")[2] in LEFT_OUT or os.path.exists(f"{path}/pyvenv.cfg")  # noqa: PTH110


def _members(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The plain files of an sdist, bounded. Links are left out: no file of a build is one."""
    count, size = 0, 0
    for name, stated, stream in _zip_files(source) if source.suffix == ".zip" else _tar_files(source):
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
            raise SourceTreeError(f"{source} holds {name!r}, which leads out of it", hint="do not use it")
        count, size = count + 1, size + stated
        if count > MAX_FILES or size > MAX_BYTES:
            raise SourceTreeError(
                f"{source} unpacks to more than a project's source has", hint="do not use it"
            )
        yield name, stream


def _tar_files(source: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with opened_plain(source, MAX_BYTES) as packed, gzip.GzipFile(fileobj=packed) as unpacked:
        for archive, member in tar_members(cast(IO[bytes], unpacked)):
            stream = archive.extractfile(member) if member.isreg() and not member.issparse() else None
            if stream is not None:
                yield member.name.removeprefix("./"), member.size, stream


def _zip_files(source: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    check_directory(source)
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                with archive.open(info) as stream:
                    yield info.filename, info.file_size, stream


def stated_version(source: Path, setup_dir: str = "") -> Version | None:
    """The version that a wheel's or sdist's name, or the files of a project's folder, state without running
    anything; None where only its build would tell. SourceTreeError for a version that is none (PEP 440)."""
    try:
        if source.name.endswith(".whl"):
            return parse_wheel_filename(source.name)[1]
        if source.is_dir():
            text = _written_version(source / setup_dir)
            return Version(text) if text else None
        return parse_sdist_filename(source.name)[1]
    except (InvalidVersion, InvalidWheelFilename, InvalidSdistFilename) as error:
        raise SourceTreeError(f"{source}: {error}", hint="say version = … in its recipe") from error


def _written_version(folder: Path) -> str:
    pyproject, setup, info = (folder / name for name in ("pyproject.toml", "setup.cfg", "PKG-INFO"))
    try:
        if pyproject.is_file():
            project = read_toml(pyproject).values.get("project", {})
            if isinstance(project, dict) and isinstance(project.get("version"), str):
                return str(project["version"])
        if setup.is_file():
            parser = ConfigParser(interpolation=None)
            parser.read_string(read_plain_text(setup).removeprefix("\ufeff"))
            text = parser.get("metadata", "version", fallback="").strip()
            if text and ":" not in text:  # `attr: x` and `file: x` are for its build
                return text
        if info.is_file():
            return str(HeaderParser().parsestr(read_plain_text(info)).get("Version", ""))
    except (ConfigError, PlainFileError) as error:
        raise SourceTreeError(
            f"{folder}: its version cannot be read: {error}", hint="put that file right"
        ) from error
    return ""
