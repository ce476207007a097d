"""Indexes of folders, kept by what the folders hold, and parsed package lists, kept by the digest of the file
that they came from.

The form is a line that says what it is, then JSON: one column for each field, and tables of what many
packages share, so that ten thousand packages load in a part of the time that parsing takes. What is damaged,
of another version of this project or of another file counts as not cached.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat, starmap
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import alone, write_whole
from imagebuilder.model.package import Dependency, Package, PackageList, UnusablePackage

FORMAT = "imagebuilder package list 2"
_FOLDER_FORM = "1"  # of the indexes of folders; another number makes all of them anew
_TEXTS = ("name", "version", "architecture", "filename", "sha256", "section", "description", "abi_version")
_TEXT_COLUMNS = (*_TEXTS, "identity")
_NUMBERS = ("size", "installed_size")
_TERMS = ("conflicts", "replaces")
_VERSIONED = ("operator", "version")
T = TypeVar("T", bound=Hashable)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Python's collector of circular garbage does not run meanwhile: where nothing made is thrown away, its
    searching takes half of the time that making ten thousands of packages takes."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def kept_index(folder: Path, files: Sequence[Path], cache: Path, make: Callable[[], bytes]) -> Path:
    """The index of files in a folder, made or found in the cache, in which it is kept by the digest of the
    files' names, sizes and times."""
    digest = hashlib.sha256(_FOLDER_FORM.encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    place = cache / "indexes" / digest.hexdigest()
    if not place.is_file():
        with disk_errors_explained(cache), alone(place.parent):
            if not place.is_file():
                write_whole(place, make())
    os.utime(place)  # last used now
    return place


def index_of_list(folder: Path, digest: str, parse: Callable[[], PackageList], feed: str = "") -> PackageList:
    """The packages of the list that has this digest: parsed by one process, kept, and taken by all others.
    HostError where the folder cannot be written; what parse() raises."""
    found = cached_index(folder, digest, feed)
    if found is not None:
        return found
    with disk_errors_explained(folder), alone(folder):
        found = cached_index(folder, digest, feed)
        if found is None:
            found = parse()
            keep_index(folder, digest, found)
    return found


def cached_index(folder: Path, digest: str, feed: str = "") -> PackageList | None:
    """The packages of the list that has this digest, or None. digest: hex, of the list's file; feed: whose
    list it is, which is not kept: two feeds may have the same one."""
    try:
        data = _place(folder, digest).read_bytes()
    except OSError:
        return None
    return unpack_index(data, digest, feed)


def keep_index(folder: Path, digest: str, packages: PackageList) -> None:
    """Write a list's packages for cached_index(). HostError where the folder cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(_place(folder, digest), pack_index(packages, digest))


def _place(folder: Path, digest: str) -> Path:
    return folder / f"{digest}.packages"


def pack_index(packages: PackageList, digest: str) -> bytes:
    """The packages as bytes."""
    terms: dict[Dependency, int] = {}
    groups: dict[tuple[int, ...], int] = {}

    def numbered(dependencies: Iterable[Dependency]) -> tuple[int, ...]:
        return tuple(_number(terms, each) for each in dependencies)

    columns: dict[str, Any] = {
        name: [getattr(package, name) for package in packages] for name in (*_TEXT_COLUMNS, *_NUMBERS)
    }
    columns["essential"] = [int(package.essential) for package in packages]
    columns["extra"] = [package.extra for package in packages]
    columns["provides"] = [package.provides for package in packages]
    columns["provided_versions"] = [package.provided_versions for package in packages]
    columns["depends"] = [
        [_number(groups, numbered(group)) for group in package.depends] for package in packages
    ]
    for name in _TERMS:
        columns[name] = [numbered(getattr(package, name)) for package in packages]
    columns["groups"] = list(groups)
    columns["terms"] = [
        [each.name for each in terms],
        *([getattr(each, key) for each in terms] for key in _VERSIONED),
    ]
    columns["unusable"] = [(each.name, each.reason, each.line) for each in packages.unusable]
    body = json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return f"{FORMAT} {digest} {crc32(body):08x}\n".encode() + body


def _number(table: dict[T, int], value: T) -> int:
    return table.setdefault(value, len(table))


def unpack_index(data: bytes, digest: str, feed: str = "") -> PackageList | None:
    """The packages of pack_index(), of a feed; None for other bytes."""
    head, _, body = data.partition(b"\n")
    if head != f"{FORMAT} {digest} {crc32(body):08x}".encode():
        return None
    try:
        with collector_paused():
            return _packages(json.loads(body.decode("utf-8", "surrogatepass")), feed)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None


def _packages(columns: dict[str, Any], feed: str) -> PackageList:
    for name in _TEXT_COLUMNS:
        _check(columns[name], str)
    for name in (*_NUMBERS, "essential"):
        _check(columns[name], int)
    _check(columns["extra"], dict)
    names, operators, versions = columns["terms"]
    _check(names, str)
    term = list(starmap(Dependency, zip(names, operators, versions, strict=True))).__getitem__
    group = [tuple(map(term, each)) for each in columns["groups"]].__getitem__
    nothing: tuple[Any, ...] = ()
    rows = zip(
        *(columns[name] for name in _TEXTS[:3]),
        [tuple(map(group, each)) if each else nothing for each in columns["depends"]],
        map(tuple, columns["provides"]),
        *([tuple(map(term, each)) if each else nothing for each in columns[name]] for name in _TERMS),
        columns["filename"],
        columns["size"],
        columns["installed_size"],
        *(columns[name] for name in _TEXTS[4:]),
        map(bool, columns["essential"]),
        columns["extra"],
        columns["identity"],
        [tuple(map(tuple, each)) if each else nothing for each in columns["provided_versions"]],
        repeat(feed, len(columns["name"])),
        strict=True,
    )
    unusable = columns["unusable"]
    for at, kind in enumerate((str, str, int)):
        _check([each[at] for each in unusable], kind)
    return PackageList([Package(*row) for row in rows], [UnusablePackage(*each) for each in unusable])


def _check(column: list[object], kind: type) -> None:
    if not set(map(type, column)) <= {kind}:
        raise TypeError(kind)
