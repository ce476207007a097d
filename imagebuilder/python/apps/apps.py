"""The Python sources of an app: of a script, of a project's folder, or of a wheel. All of them are read as
text; nothing is run, and what is read is bounded."""

from __future__ import annotations

import lzma
import os
import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from packaging.utils import canonicalize_name

from imagebuilder.config.toml import read_toml
from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, opened_plain, read_plain
from imagebuilder.host.walk import Item, files_below
from imagebuilder.python.imports.imports import Import, SourceLine, read_source
from imagebuilder.python.imports.needs import Use

MAX_ENTRIES = 20_000  # files and folders of one app
MAX_SOURCE_BYTES = 2 << 20
MAX_TOTAL_BYTES = 64 << 20
# what a project's folder holds that does not go onto the device
NOT_SHIPPED = frozenset({"tests", "test", "docs", "doc", "examples", "build", "dist"})
NOT_SHIPPED_FILES = frozenset({"setup.py", "conftest.py", "noxfile.py"})
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_MODULE_ENDINGS = (".py", ".pyc", ".so")
_SETUP_CFG = re.compile(rb"^\s*\[(metadata|options)\]", re.MULTILINE)
_BUILD_TOOLS = frozenset({"setuptools", "poetry", "flit", "pdm", "hatch", "maturin", "scikit-build"})

MAX_DIRECTORY_BYTES = 4 << 20  # a wheel's list of files
MAX_WHEEL_FILE_BYTES = 512 << 20
MAX_END = (1 << 16) + 42  # where an archive says where that list is
# an archive that lies about itself shows in many ways
NO_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, RuntimeError),
    *(NotImplementedError, ValueError, OverflowError, IndexError, KeyError),
)

AppKind = Literal["script", "project", "wheel"]


class AppError(UserError):
    """An app that cannot be read."""


@dataclass(frozen=True, slots=True)
class AppScan:
    """What an app imports. own: the top-level names of its own modules; imports: of all its sources, by file
    and line, its own modules among them; computed: imports whose names only show when they run; places: of
    its modules, by the names of their files, below the folder that they are imported from; alone: whether no
    other app can import its modules; uses: what calls want besides."""

    path: Path
    kind: AppKind
    own: frozenset[str]
    imports: tuple[Import, ...]
    computed: tuple[SourceLine, ...]
    places: Mapping[str, PurePosixPath] = field(default_factory=dict)
    alone: bool = False
    uses: tuple[Use, ...] = ()

    def without(self, files: Collection[str]) -> AppScan:
        """The same app without some of its files."""
        places = {name: place for name, place in self.places.items() if name not in files}
        return replace(
            self,
            own=_own_modules(places.values()),
            imports=tuple(each for each in self.imports if each.file not in files),
            computed=tuple(each for each in self.computed if each.file not in files),
            places=places,
            uses=tuple(each for each in self.uses if each.file not in files),
        )


@dataclass(slots=True)
class Bounds:
    """Counts what is read of one app; AppError where it is too much."""

    app: Path
    entries: int = 0
    size: int = 0

    def entry(self) -> None:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise AppError(
                f"{self.app}: more than {MAX_ENTRIES} files and folders",
                hint="point python.apps at the app's own folder",
            )

    def read(self, name: str, data: bytes) -> bytes:
        self.size += len(data)
        if len(data) > MAX_SOURCE_BYTES:
            raise AppError(
                f"{name}: a source of more than {MAX_SOURCE_BYTES >> 20} MiB", hint="leave it out of the app"
            )
        if self.size > MAX_TOTAL_BYTES:
            raise AppError(
                f"{self.app}: more than {MAX_TOTAL_BYTES >> 20} MiB of Python sources",
                hint="point python.apps at the app's own folder",
            )
        return data


@dataclass(frozen=True, slots=True)
class AppFile:
    """One file of an app. place: below the folder that its modules are imported from; data: of sources."""

    name: str
    place: PurePosixPath
    data: bytes | None


def read_file(file: Path, bounds: Bounds) -> bytes:
    """A source of an app. AppError."""
    try:
        return bounds.read(str(file), read_plain(file, MAX_SOURCE_BYTES))
    except PlainFileError as error:
        raise AppError(error.message, hint="it lies in an app that python.apps names") from error


def shipped_files(root: Path, bounds: Bounds) -> Iterator[Item]:
    """All that is no folder in an app's folder, but for what does not go onto the device. AppError."""

    def shipped(path: str) -> bool:
        name = path.rpartition("/")[2]
        left_out = name.startswith(".") or name == "__pycache__" or path in NOT_SHIPPED
        return not left_out and not os.path.exists(f"{root}/{path}/pyvenv.cfg")  # noqa: PTH110 (deep paths: pathlib is slow)

    try:
        found = files_below(root, shipped)
    except OSError as error:
        raise AppError(f"{root}: {error.filename}: {error.strerror}", hint="python.apps names it") from error
    for item in found:
        bounds.entry()
        yield item


def _folders_files(root: Path, prefix: PurePosixPath, bounds: Bounds) -> Iterator[AppFile]:
    for item in shipped_files(root, bounds):
        file = root / item.path
        if not item.path.endswith(_MODULE_ENDINGS) or not file.is_file() or item.path in NOT_SHIPPED_FILES:
            continue
        data = read_file(file, bounds) if item.path.endswith(".py") else None
        yield AppFile(str(file), prefix / item.path, data)


def _project_files(folder: Path, bounds: Bounds) -> Iterator[AppFile]:
    """A folder that is a package itself is imported by its name; a project with src/ ships what is there."""
    source = folder / "src"
    if is_flat(folder):
        root, package = flat_root(folder)
        return _folders_files(root, PurePosixPath(package or "."), bounds)
    if source.is_dir() and any((folder / name).exists() for name in _PROJECT_FILES):
        return _folders_files(source, PurePosixPath(), bounds)
    package = folder.resolve().name if (folder / "__init__.py").exists() else "."
    return _folders_files(folder, PurePosixPath(package), bounds)


def is_flat(folder: Path) -> bool:
    """Whether a folder is run as it lies there: neither setup.py nor setup.cfg nor pyproject.toml says how to
    build it. Many have a pyproject.toml or setup.cfg for other tools alone. FaultsError for a pyproject.toml
    that is no TOML."""
    if (folder / "setup.py").exists():
        return False
    setup, pyproject = folder / "setup.cfg", folder / "pyproject.toml"
    try:
        if setup.exists() and _SETUP_CFG.search(read_plain(setup, MAX_SOURCE_BYTES)) is not None:
            return False
    except PlainFileError as error:
        raise AppError(error.message, hint="it lies in an app that python.apps names") from error
    if not pyproject.exists():
        return True
    values = read_toml(pyproject).values
    tools = values.get("tool", {})
    built = isinstance(tools, dict) and not _BUILD_TOOLS.isdisjoint(tools)
    return not built and "project" not in values and "build-system" not in values


def flat_root(folder: Path) -> tuple[Path, str]:
    """Where the modules of a flat app are: in src/, where none is beside it, or in the folder itself; and the
    folder's name where that is a package, and not one with a main.py, which sees what is beside it."""
    if not any(folder.glob("*.py")) and (folder / "src").is_dir():
        return folder / "src", ""
    name = folder.resolve().name
    package = (folder / "__init__.py").exists() and not (folder / "main.py").exists()
    return folder, name if package and name.isidentifier() else ""


def check_directory(wheel: Path) -> None:
    """zipfile reads an archive's whole list of files at once: AppError where that is too much. Its size
    stands at the archive's end (APPNOTE 4.3.16)."""
    with opened_plain(wheel, MAX_WHEEL_FILE_BYTES) as stream:
        start = max(0, stream.seek(0, os.SEEK_END) - MAX_END)
        stream.seek(start)
        end = stream.read()
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + 22:
        raise zipfile.BadZipFile("its list of files is not there")
    size = int.from_bytes(end[at + 12 : at + 16], "little")
    if size > MAX_DIRECTORY_BYTES or b"PK\6\7" in end:  # the latter: sizes of more than 4 GiB, elsewhere
        raise zipfile.BadZipFile("its list of files is too long for a wheel")


def _wheel_place(name: str) -> PurePosixPath | None:
    """Where a wheel's file is imported from: NAME.data/purelib/x.py is x.py; None for what is no module."""
    place = PurePosixPath(name)
    if not place.parts or not place.parts[0].endswith(".data"):
        return place
    return PurePosixPath(*place.parts[2:]) if place.parts[1:2] not in (("data",), ("headers",)) else None


def _wheel_files(wheel: Path, bounds: Bounds) -> Iterator[AppFile]:
    try:
        check_directory(wheel)
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                bounds.entry()
                place = _wheel_place(info.filename)
                if info.is_dir() or place is None or not place.name.endswith(_MODULE_ENDINGS):
                    continue
                name, data = f"{wheel}/{info.filename}", None
                if place.suffix == ".py":
                    with archive.open(info) as stream:
                        data = bounds.read(name, stream.read(MAX_SOURCE_BYTES + 1))
                yield AppFile(name, place, data)
    except NO_ARCHIVE as error:
        raise AppError(f"{wheel}: no wheel that can be read: {error}", hint="build it again") from error


def _own_modules(places: Collection[PurePosixPath]) -> frozenset[str]:
    """Top-level names at the root, and in every folder that is in no package, where a script that is started
    finds what is beside it."""
    packages = {place.parent for place in places if place.name == "__init__.py"}
    found = {place.parts[0] for place in places if len(place.parts) > 1}
    for place in (*places, *packages):
        if packages.isdisjoint(place.parents) and place.parts:
            found.add(place.name.partition(".")[0])
    return frozenset(found)


def app_files(path: Path) -> tuple[AppKind, list[AppFile]]:
    """An app's modules. path: a wheel (*.whl), a folder, or a script; of folders all but NOT_SHIPPED and
    NOT_SHIPPED_FILES at their top, hidden folders and virtual environments.

    Raises AppError for what is none of these or too big.
    """
    bounds = Bounds(path)
    if path.is_dir():
        kind: AppKind = "project"
        files = list(_project_files(path, bounds))
    elif not path.is_file():
        raise AppError(f"{path}: no such script, folder or wheel", hint="python.apps names it")
    elif path.suffix == ".whl":
        kind, files = "wheel", list(_wheel_files(path, bounds))
    else:
        kind, files = "script", [AppFile(str(path), PurePosixPath(path.name), read_file(path, bounds))]
    if not any(file.data is not None for file in files):
        raise AppError(f"{path}: there is no Python source in it", hint="python.apps names it")
    return kind, files


def scan_app(path: Path, *, python: tuple[int, int], implementation: str = "cpython") -> AppScan:
    """What an app, see app_files(), imports on a Linux target with Python (major, minor).

    Raises AppError as app_files(), SourceError for sources that are no such Python.
    """
    kind, files = app_files(path)
    imports: list[Import] = []
    computed: list[SourceLine] = []
    uses: list[Use] = []
    for file in files:
        if file.data is not None:
            package = ".".join(file.place.parent.parts)
            found = read_source(file.data, file.name, package, python=python, implementation=implementation)
            imports += found.imports
            computed += found.computed
            uses += found.uses
    places = {file.name: file.place for file in files}
    own = _own_modules(places.values())
    alone = kind == "project" and is_flat(path)
    found_imports, found_computed = tuple(sorted(imports)), tuple(sorted(computed))
    return AppScan(path, kind, own, found_imports, found_computed, places, alone, tuple(sorted(uses)))


def program_name(stem: str) -> str:
    """A program's and a package's name that is made of a file's or folder's: `my-app` of `My App`. "" where
    no letter or digit of ASCII is in it."""
    bare = unicodedata.normalize("NFKD", stem)
    plain = "".join(each for each in bare if not unicodedata.combining(each))
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")
    return str(canonicalize_name(words))
