"""opkg's package lists, `Packages` and `Packages.gz`, from and to packages."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, read_plain
from imagebuilder.model.control import (
    ControlError,
    fields_of,
    format_fields,
    package_of,
    paragraphs,
    parse_fields,
)
from imagebuilder.model.package import MAX_INDEX_BYTES, MAX_PACKAGES, Package, PackageList, UnusablePackage
from imagebuilder.packages.index_cache import collector_paused

_BEGIN = 4096  # characters of a paragraph, in which its name stands
_FIELD = re.compile(r"^(?:Package|Version|Architecture|Filename):", re.MULTILINE)
_NOT_THIS_FEED = "leave out this feed, or tell those who keep it"
MAX_LINES = 2_000_000  # of the genuine ones none has 100,000
GZIP_MAGIC = b"\x1f\x8b"


class PackageIndexError(UserError):
    """A package list that cannot be read: damaged, or something else."""


def parse_index(text: str, *, origin: str = "the package list", feed: str = "") -> PackageList:
    """The packages of a `Packages` text, in its order; a paragraph that cannot be read costs its own package.
    origin: whose it is, for messages; feed: its name. Raises PackageIndexError for a text that is no package
    list: there is something in it, and no package."""
    packages: list[Package] = []
    unusable: list[UnusablePackage] = []
    if text.count("\n") > MAX_LINES:
        raise PackageIndexError(f"{origin} has more than {MAX_LINES} lines", hint=_NOT_THIS_FEED)
    with collector_paused():
        for number, (line, paragraph) in enumerate(paragraphs(text)):
            if number == MAX_PACKAGES:
                raise PackageIndexError(
                    f"{origin}, line {line}: it lists more than {MAX_PACKAGES} packages",
                    hint=_NOT_THIS_FEED,
                )
            try:
                packages.append(package_of(parse_fields(paragraph, first_line=line), feed))
            except ControlError as error:
                unusable.append(UnusablePackage(_name_in(paragraph), error.message, error.line or line))
    if unusable and not packages and _FIELD.search(text) is None:
        raise PackageIndexError(
            f"{origin} is no package list: no line of it is a field such as `Package: NAME`",
            hint="does the address, or the file, belong to a feed of opkg's?",
        )
    return PackageList(packages, unusable)


def _name_in(paragraph: str) -> str:
    """What a paragraph that cannot be read is about, so that it can be told when that package is wanted: its
    name, or the begin of its file's name."""
    values = dict(line.split(":", 1) for line in reversed(paragraph[:_BEGIN].split("\n")) if ":" in line)
    file = PurePosixPath(values.get("Filename", "").strip()).name
    name = values.get("Package", "").strip() or file.partition("_")[0]
    return "".join(each if each.isprintable() else "?" for each in name)[:60]


def _unpacked(raw: bytes, origin: str) -> bytes:
    """gunzip, bounded, so that a small file cannot fill the memory."""
    if not raw.startswith(GZIP_MAGIC):
        return raw
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(raw, MAX_INDEX_BYTES)
    except zlib.error as error:
        raise PackageIndexError(f"{origin} is damaged: {error}", hint="fetch it again") from None
    if not unpacker.eof:
        what = f"has more than {MAX_INDEX_BYTES} bytes" if unpacker.unconsumed_tail else "is cut off"
        raise PackageIndexError(f"{origin} {what}", hint="fetch it again")
    return data


def read_index(path: Path, *, feed: str = "") -> PackageList:
    """The packages of a `Packages` or `Packages.gz` file; which it is, is seen from its content. feed: its
    name. Raises PackageIndexError."""
    try:
        raw = read_plain(path, MAX_INDEX_BYTES)
    except PlainFileError as error:
        raise PackageIndexError(f"the package list {error.message}") from error
    return parse_index(_unpacked(raw, str(path)).decode("utf-8", "replace"), origin=str(path), feed=feed)


def format_index(packages: Iterable[Package]) -> str:
    """A `Packages` text, sorted by name, version and file name; filename, size and sha256 as the packages
    state them."""
    ordered = sorted(packages, key=lambda package: (package.name, package.version, package.filename))
    return "".join(format_fields(fields_of(package, indexed=True)) + "\n" for package in ordered)


def compressed_index(text: str) -> bytes:
    """`Packages.gz`: the same bytes for the same text."""
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)
