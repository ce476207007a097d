"""opkg's package lists, `Packages` and `Packages.gz`, from and to packages."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.feeds.bulk import collector_paused
from imagebuilder.model.control import ControlError, fields_of, format_fields, package_of, parse_fields
from imagebuilder.model.package import Package

GZIP_MAGIC = b"\x1f\x8b"
INDEX_BYTES = 256 << 20  # the largest real one, of snapshots, is below 10 MiB


class PackageIndexError(UserError):
    """A package list that cannot be read: damaged, or something else."""


def parse_index(text: str, *, origin: str = "the package list") -> tuple[Package, ...]:
    """The packages of a `Packages` text, in its order. origin: whose it is, for messages.
    Raises PackageIndexError, naming the line or the package."""
    with collector_paused():
        return tuple(_packages(text, origin))


def _packages(text: str, origin: str) -> list[Package]:
    packages = []
    line = 1
    for paragraph in text.split("\n\n"):
        begin = paragraph.lstrip("\n")
        if begin:
            try:
                packages.append(package_of(parse_fields(begin)))
            except ControlError as error:
                where = line + len(paragraph) - len(begin) + max(error.line - 1, 0)
                raise PackageIndexError(f"{origin}, line {where}: {error.message}", hint=error.hint) from None
        line += paragraph.count("\n") + 2
    return packages


def _unpacked(raw: bytes, origin: str) -> bytes:
    """gunzip, bounded, so that a small file cannot fill the memory."""
    if not raw.startswith(GZIP_MAGIC):
        return raw
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(raw, INDEX_BYTES)
    except zlib.error as error:
        raise PackageIndexError(f"{origin} is damaged: {error}", hint="fetch it again") from None
    if not unpacker.eof:
        what = f"has more than {INDEX_BYTES} bytes" if unpacker.unconsumed_tail else "is cut off"
        raise PackageIndexError(f"{origin} {what}", hint="fetch it again")
    return data


def read_index(path: Path) -> tuple[Package, ...]:
    """The packages of a `Packages` or `Packages.gz` file; which it is, is seen from its content.
    Raises PackageIndexError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PackageIndexError(f"cannot read the package list {path}: {error.strerror}") from error
    return parse_index(_unpacked(raw, str(path)).decode("utf-8", "replace"), origin=str(path))


def format_index(packages: Iterable[Package]) -> str:
    """A `Packages` text, sorted by name, version and file name; filename, size and sha256 as the packages
    state them."""
    ordered = sorted(packages, key=lambda package: (package.name, package.version, package.filename))
    return "".join(format_fields(fields_of(package, indexed=True)) + "\n" for package in ordered)


def compressed_index(text: str) -> bytes:
    """`Packages.gz`: the same bytes for the same text."""
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)
