"""Whether a downloaded .apk is the package that a verified index lists.

apk's index has no hash of the file. It has the hash of the file's block of values, `hashes`; in these values
stand the hashes and sizes of all files in the package, and their content follows. So a package is right if
its values have that hash, and its content theirs. Source: apk-tools 3, src/app_mkndx.c, src/adb.c
(__adb_handle_identity) and src/extract_v3.c.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from imagebuilder.model.adb import DATA, DATABASE, MAX_DATABASE_BYTES, PACKAGE, AdbError, Container, Values
from imagebuilder.model.package import Package
from imagebuilder.trust.signature import TrustError

# by their lengths in bytes, as apk tells them apart
_IDENTITIES = {20: "sha256", 32: "sha256", 64: "sha512"}
_CONTENT_HASHES = {20: "sha1", 32: "sha256", 64: "sha512"}
# slots in the values, counted from 0
_PATHS, _FILES, _SIZE, _HASH, _TARGET = 1, 2, 2, 4, 5
_PLACE = struct.Struct("<II")


class WrongPackageError(TrustError):
    """A package file that is not the package that the index lists."""


def check_apk_file(path: Path, package: Package) -> None:
    """WrongPackageError unless the file is that package, with all its content; reads it once, in bounded
    memory. package: from a verified index."""
    try:
        with path.open("rb") as raw:
            check_apk(raw, path.stat().st_size, package, str(path))
    except OSError as error:
        raise WrongPackageError(f"the package {path} cannot be read: {error.strerror}") from error


def check_apk(raw: BinaryIO, size: int, package: Package, origin: str) -> None:
    """As check_apk_file(), for what is read from somewhere else. size: in bytes; origin: its name."""
    if package.size and size != package.size:
        raise _wrong(origin, package, f"it has {size} bytes, and the index says {package.size}")
    try:
        _check(Container(raw, origin), origin, package)
    except AdbError as error:
        raise WrongPackageError(error.message) from error


def identity_of(path: Path) -> str:
    """What an index will know a package file by, which was made here: SHA-256 in hex over its values.
    WrongPackageError for what is no package."""
    with path.open("rb") as raw:
        try:
            for block in Container(raw, str(path)).blocks():
                if block.kind == DATABASE:
                    return hashlib.sha256(block.whole(MAX_DATABASE_BYTES)).hexdigest()
        except AdbError as error:
            raise WrongPackageError(error.message) from error
    raise WrongPackageError(f"{path} is no package: it has no values")


def _wrong(origin: str, package: Package, why: str) -> WrongPackageError:
    return WrongPackageError(f"{origin} is not the package {package.name} {package.version}: {why}")


def _check(container: Container, origin: str, package: Package) -> None:
    if container.schema != PACKAGE:
        raise _wrong(origin, package, "it is no package")
    contents: Iterator[tuple[int, int, int, bytes]] = iter(())
    for block in container.blocks():
        if block.kind == DATABASE:
            data = block.whole(MAX_DATABASE_BYTES)
            if not _has_identity(data, package.identity):
                raise _wrong(origin, package, "its hash is not the one in the index")
            contents = _contents(Values(data, origin))
        elif block.kind == DATA:
            folder, file, size, digest = next(contents, (0, 0, 0, b""))
            place = b"".join(block.chunks(_PLACE.size))
            if place != _PLACE.pack(folder, file) or block.size != size + _PLACE.size:
                raise _wrong(origin, package, "it holds content that is of none of its files")
            content = hashlib.new(_CONTENT_HASHES.get(len(digest), "sha256"), usedforsecurity=False)
            for chunk in block.chunks():
                content.update(chunk)
            if content.digest() != digest:
                raise _wrong(origin, package, "the content of one of its files was changed")
    if next(contents, None) is not None:
        raise _wrong(origin, package, "the content of one of its files is missing")


def _has_identity(values: bytes, identity: str) -> bool:
    wanted = bytes.fromhex(identity)
    algorithm = _IDENTITIES.get(len(wanted))
    return algorithm is not None and hashlib.new(algorithm, values).digest()[: len(wanted)] == wanted


def _contents(values: Values) -> Iterator[tuple[int, int, int, bytes]]:
    """Folder and file (counted from 1), size in bytes and hash of each file whose content is in the package:
    the plain ones that are not empty."""
    for folder_number, folder in enumerate(_at(values, values.root, _PATHS), start=1):
        for file_number, file in enumerate(_at(values, folder, _FILES), start=1):
            slots = (*values.slots(file), 0, 0, 0, 0, 0, 0)
            size = values.integer(slots[_SIZE])
            if size and not slots[_TARGET]:
                yield folder_number, file_number, size, values.blob(slots[_HASH])


def _at(values: Values, value: int, slot: int) -> tuple[int, ...]:
    """The list in an object's slot."""
    slots = values.slots(value)
    return values.slots(slots[slot]) if slot < len(slots) else ()
