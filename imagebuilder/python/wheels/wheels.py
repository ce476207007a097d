"""A wheel, read and checked: its name and tags, what it requires, its entry points, and each of its files
against its RECORD. The format is that of PyPA's binary distribution specification (PEP 427, 376, 643).

Nothing in it is trusted: paths that leave the tree, links, files that RECORD does not know or knows
otherwise, and archives that lie about themselves are all refused.
"""

from __future__ import annotations

import csv
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import (
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from imagebuilder.errors import UserError
from imagebuilder.python.apps.apps import MAX_ENTRIES, NO_ARCHIVE, check_directory
from imagebuilder.python.wheels.entry_points import EntryPoint, read_entry_points

if TYPE_CHECKING:
    from packaging.metadata import RawMetadata

MAX_FILE_BYTES = 256 << 20
MAX_WHEEL_BYTES = 512 << 20  # of all files, unpacked
_HASHES = {"sha256", "sha384", "sha512"}  # RECORD must not use weaker ones
UNRECORDED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_DRIVE = re.compile(r"[A-Za-z]:")

_READS_SOURCES = re.compile(rb"\bget(source|sourcelines|block)\s*\(")


class WheelError(UserError):
    """A wheel that cannot be read, or is not what it says."""

    def __init__(self, message: str, *, hint: str | None = "build it again, or take another version") -> None:
        super().__init__(message, hint=hint)


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One file of a wheel. mode: 0o755 where the archive says that it can be executed, else 0o644."""

    data: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel's content. pure: it goes to purelib, and no tag asks for a platform or an ABI. requires:
    Requires-Dist as it stands there; metadata: the whole of METADATA; files: by their paths in the wheel,
    without dist-info; dist_info: its files by their names; keeps_info: whether all of these go onto the
    device, and not only what is read there."""

    path: Path
    name: NormalizedName
    version: Version
    tags: frozenset[Tag]
    pure: bool
    requires: tuple[Requirement, ...]
    requires_python: str
    summary: str
    metadata: bytes
    entry_points: tuple[EntryPoint, ...]
    files: Mapping[str, WheelFile] = field(repr=False)
    dist_info: Mapping[str, WheelFile] = field(repr=False)
    data_folder: str  # whose files go elsewhere than to site-packages; with the slash at its end
    keeps_info: bool = False


def _check_path(wheel: Path, name: str) -> None:
    parts = name.rstrip("/").split("/")
    bad = name.startswith("/") or "\\" in name or _DRIVE.match(name) is not None
    if bad or any(part in ("", ".", "..") for part in parts) or any(ord(each) < 32 for each in name):
        raise WheelError(f"{wheel}: {name!r} is no path inside a wheel", hint="do not use this wheel")


def _read_files(wheel: Path) -> dict[str, WheelFile]:
    """All files, bounded. WheelError for a link, a path that leaves the wheel, one that is there twice."""
    check_directory(wheel)
    files: dict[str, WheelFile] = {}
    total = 0
    with zipfile.ZipFile(wheel) as archive:
        members = archive.infolist()
        if len(members) > MAX_ENTRIES:
            raise WheelError(f"{wheel}: more than {MAX_ENTRIES} files")
        for info in members:
            _check_path(wheel, info.filename)
            unix = info.external_attr >> 16
            if info.is_dir():
                continue
            if stat.S_IFMT(unix) not in (0, stat.S_IFREG):
                raise WheelError(f"{wheel}: {info.filename} is no plain file", hint="do not use this wheel")
            if info.filename in files:
                raise WheelError(f"{wheel}: {info.filename} is in it twice", hint="do not use this wheel")
            with archive.open(info) as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
            total += len(data)
            if len(data) > MAX_FILE_BYTES or total > MAX_WHEEL_BYTES:
                raise WheelError(f"{wheel}: {info.filename}: too large for a device's package")
            files[info.filename] = WheelFile(data, 0o755 if unix & 0o111 else 0o644)
    return files


def _recorded(wheel: Path, record: bytes) -> dict[str, str]:
    """RECORD: the hash of each file as it stands there, by path. Sizes are not compared: the hash tells."""
    from installer.records import InvalidRecordEntry, parse_record_file  # noqa: PLC0415 (a plan reads none)

    try:
        rows = parse_record_file(filter(None, record.decode("utf-8").splitlines()))
        return {path: digest for path, digest, _ in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise WheelError(f"{wheel}: its RECORD cannot be read: {error}") from error
    except InvalidRecordEntry as error:
        line = ",".join(error.elements)[:200]
        raise WheelError(f"{wheel}: a line of its RECORD has not three parts: {line}") from error


def _check_record(wheel: Path, files: Mapping[str, WheelFile], dist_info: str) -> None:
    """Every file but RECORD and its signatures is in RECORD with its hash, and the other way round.

    installer.sources would compare them too; but it takes weak hashes, and what RECORD alone names.
    """
    from installer.records import Hash  # noqa: PLC0415

    if f"{dist_info}RECORD" not in files:
        raise WheelError(f"{wheel}: it has no RECORD of its files")
    recorded = _recorded(wheel, files[f"{dist_info}RECORD"].data)
    free = {dist_info + name for name in UNRECORDED}
    lacking = sorted(recorded.keys() - files.keys() - free)
    if lacking:
        raise WheelError(f"{wheel}: it lacks {lacking[0]}, which its RECORD names")
    for name, file in files.items():
        if name in free:
            continue
        kind, _, expected = recorded.get(name, "").partition("=")
        if kind not in _HASHES:
            raise WheelError(f"{wheel}: its RECORD has no SHA-256 of {name}", hint="do not use this wheel")
        if not Hash(kind, expected.rstrip("=")).validate(file.data):
            raise WheelError(f"{wheel}: {name} is not what its RECORD says", hint="do not use this wheel")


def metadata_head(metadata: bytes) -> bytes:
    """METADATA without its body, which is the long description."""
    return re.split(rb"\r?\n\r?\n", metadata, maxsplit=1)[0]


def _fields(data: bytes) -> tuple[RawMetadata, dict[str, list[str]]]:
    """The fields that core metadata has, and all others: those of WHEEL, and what is repeated or no UTF-8.

    The first lines say that a body is plain text, whatever follows: a message of several parts makes
    packaging before 26.3 fail.
    """
    from packaging.metadata import parse_email  # noqa: PLC0415

    return parse_email(b"Content-Type: text/plain\nContent-Transfer-Encoding: 8bit\n" + metadata_head(data))


def _requires(wheel: Path, texts: Iterable[str]) -> tuple[Requirement, ...]:
    found = []
    for text in texts:
        try:
            found.append(Requirement(text))
        except InvalidRequirement as error:
            raise WheelError(
                f"{wheel}: it requires {text[:200]!r}, which is no requirement: {error}"
            ) from error
    return tuple(found)


def _dist_info(wheel: Path, files: Mapping[str, WheelFile], name: NormalizedName) -> str:
    folders = {path.partition("/")[0] for path in files if path.partition("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise WheelError(f"{wheel}: it has {len(folders)} folders .dist-info, and must have one")
    folder = folders.pop()
    if canonicalize_name(folder.removesuffix(".dist-info").rpartition("-")[0]) != name:
        raise WheelError(f"{wheel}: its {folder} is another distribution's")
    return folder + "/"


def _is_pure(wheel: Path, about: bytes, tags: frozenset[Tag]) -> bool:
    _, fields = _fields(about)
    version = fields.get("wheel-version", [""])[0].strip().partition(".")[0]
    if version != "1":
        raise WheelError(f"{wheel}: its Wheel-Version is {version[:20]!r}, and 1 is known")
    purelib = fields.get("root-is-purelib", [""])[0].strip().lower() == "true"
    return purelib and all(tag.abi == "none" and tag.platform == "any" for tag in tags)


def _parsed(path: Path) -> Wheel:
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise WheelError(f"{path}: no wheel is named so: {error}", hint="do not rename wheels") from error
    files = _read_files(path)
    folder = _dist_info(path, files, name)
    for needed in ("WHEEL", "METADATA"):
        if folder + needed not in files:
            raise WheelError(f"{path}: it has no {folder}{needed}")
    _check_record(path, files, folder)
    metadata = files[folder + "METADATA"].data
    about, others = _fields(metadata)
    stated = about.get("name", "").strip()
    if canonicalize_name(stated) != name:
        raise WheelError(f"{path}: its METADATA is that of {stated[:100]!r}")
    for field_name in ("requires-dist", "requires-python"):
        if field_name in others:
            raise WheelError(f"{path}: {field_name} of its METADATA is repeated or no UTF-8")
    entry_points = files.get(folder + "entry_points.txt")
    return Wheel(
        path=path,
        name=name,
        version=version,
        tags=tags,
        pure=_is_pure(path, files[folder + "WHEEL"].data, tags),
        requires=_requires(path, about.get("requires_dist", [])),
        requires_python=about.get("requires_python", "").strip(),
        summary=" ".join(about.get("summary", "").split()),
        metadata=metadata,
        entry_points=read_entry_points(path, entry_points.data) if entry_points is not None else (),
        files={name: file for name, file in files.items() if not name.startswith(folder)},
        dist_info={name[len(folder) :]: file for name, file in files.items() if name.startswith(folder)},
        data_folder=folder.replace(".dist-info/", ".data/"),
    )


def read_wheel(path: Path) -> Wheel:
    """A wheel's content, every file compared with RECORD. WheelError; it names the file in it."""
    if not path.is_file():
        raise WheelError(f"{path}: there is no such wheel", hint="python.apps names it")
    try:
        return _parsed(path)
    except NO_ARCHIVE as error:
        raise WheelError(f"{path}: no wheel that can be read: {error}") from error


def reads_sources(wheel: Wheel) -> bool:
    """Whether a wheel's modules look at source code when they work (inspect.getsource and its like), so that
    bytecode alone is not enough for them, nor for those who use them."""
    modules = (file.data for name, file in wheel.files.items() if name.endswith(".py"))
    return any(_READS_SOURCES.search(data) for data in modules)
