"""A Debian archive as its files say it: which suites a release has, what a suite's index offers.

Sources: Debian Policy 5 (control files), https://wiki.debian.org/DebianRepository/Format (`Release`,
`Packages`, `by-hash`). Pure; what is read here was verified by its reader's caller.
"""

from __future__ import annotations

import lzma
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from imagebuilder.errors import HostError
from imagebuilder.model.edition import Edition
from imagebuilder.packages.opkg.version import version_key

ARCHITECTURE = "amd64"
INDEX = f"main/binary-{ARCHITECTURE}/Packages"
MAX_INDEX_BYTES = 512 << 20  # Debian 13's is 52 MiB
_SHA256_LINE = re.compile(r" ([0-9a-f]{64}) +([0-9]{1,12}) +(\S+)")
_FIELD = re.compile(r"^([!-9;-~]+):[ \t]*(.*)$", re.MULTILINE)
_KERNEL = re.compile(r"\b(linux-image-[0-9][^\s,]*)")
# no part begins with a dot, so that none leads elsewhere
_SAFE_PATH = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.+~_:-]*/)*[A-Za-z0-9][A-Za-z0-9.+~_:%-]*")


class DebianError(HostError):
    """Debian's packages cannot be had, or are not what Debian signed."""


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The addresses of Debian's archive and of its security archive, without a slash at their ends."""

    main: str
    security: str


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite on a mirror: `http://…/debian`, `bookworm`."""

    mirror: str
    name: str

    @property
    def address(self) -> str:
        """Where its Release files are."""
        return f"{self.mirror}/dists/{self.name}"


@dataclass(frozen=True, slots=True)
class Listed:
    """A file that a Release names. path: below the suite's address; size: bytes."""

    path: str
    sha256: str
    size: int

    @property
    def by_hash(self) -> str:
        """The path that shows this very content, also while the mirror is being updated."""
        return f"{posixpath.dirname(self.path)}/by-hash/SHA256/{self.sha256}"


@dataclass(frozen=True, slots=True)
class Deb:
    """A Debian package. size: bytes of its file. address: where the file is."""

    name: str
    version: str
    sha256: str
    size: int
    address: str

    @property
    def plain_version(self) -> str:
        """The version without its epoch, which OpenWrt's packages know no use for."""
        return self.version.rpartition(":")[2]

    @property
    def is_kernel(self) -> bool:
        """Whether this is the kernel's package."""
        return self.name.startswith("linux-image-")


def suites_of(edition: Edition, mirrors: Mirrors) -> tuple[Suite, Suite]:
    """The release itself, and its security updates."""
    return Suite(mirrors.main, edition.codename), Suite(mirrors.security, f"{edition.codename}-security")


def _fields(paragraph: str) -> dict[str, str]:
    """The first line of each field of a paragraph."""
    return {name: value.strip() for name, value in _FIELD.findall(paragraph)}


def listed_index(release: str, suite: Suite) -> tuple[Listed, Listed]:
    """The suite's index in a Release's text, as it is packed (.xz), and as it is.

    DebianError where the text is no Release of this suite, or names no such index.
    """
    fields = _fields(release)
    if suite.name not in (fields.get("Codename"), fields.get("Suite")):
        raise DebianError(
            f"{suite.address}/InRelease is of {fields.get('Codename', 'something')!r}, not of {suite.name}"
        )
    _, _, sums = release.partition("\nSHA256:")
    files: dict[str, Listed] = {}
    for line in sums.split("\n")[1:]:
        found = _SHA256_LINE.fullmatch(line)
        if found is None:
            break
        files[found[3]] = Listed(found[3], found[1], int(found[2]))
    try:
        packed, plain = files[f"{INDEX}.xz"], files[INDEX]
    except KeyError as error:
        raise DebianError(f"{suite.address}/InRelease names no {error.args[0]}") from error
    if max(packed.size, plain.size) > MAX_INDEX_BYTES:
        raise DebianError(f"{suite.address}/InRelease names an index of {plain.size >> 20} MiB")
    return packed, plain


def valid_until(release: str) -> datetime | None:
    """When the mirror should have a newer Release; None where it does not say."""
    text = _fields(release.partition("\nSHA256:")[0]).get("Valid-Until")
    if text is None:
        return None
    try:
        when = parsedate_to_datetime(text)
    except ValueError as error:
        raise DebianError(f"a Release is valid until {text[:60]!r}, which is no date") from error
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def unpacked_index(packed: bytes, plain: Listed) -> bytes:
    """An index out of its .xz. DebianError where it is damaged or not of the size that the Release says."""
    reader = lzma.LZMADecompressor(memlimit=256 << 20)
    try:
        data = reader.decompress(packed, max_length=plain.size + 1)
    except lzma.LZMAError as error:
        raise DebianError(f"Debian's index {plain.path} cannot be unpacked: {error}") from error
    if len(data) != plain.size or not reader.eof:
        raise DebianError(f"Debian's index {plain.path} is not of the {plain.size} bytes that it should be")
    return data


def packages_in(index: bytes, names: Iterable[str], mirror: str) -> list[tuple[Deb, Mapping[str, str]]]:
    """The packages of these names in an index, in its order, each with the fields of its paragraph.

    DebianError where one has no SHA-256, no size, or a file name that leads elsewhere.
    """
    found: list[tuple[Deb, Mapping[str, str]]] = []
    text = b"\n\n" + index
    for name in names:
        begin = f"\n\nPackage: {name}\n".encode()
        at = text.find(begin)
        while at >= 0:
            end = text.find(b"\n\n", at + 2)
            paragraph = text[at + 2 : end if end >= 0 else len(text)]
            fields = _fields(paragraph.decode("utf-8", "replace"))
            found.append((_deb(fields, mirror), fields))
            at = text.find(begin, at + len(begin) - 1)
    return found


def _deb(fields: Mapping[str, str], mirror: str) -> Deb:
    name, size, file = fields["Package"], fields.get("Size", ""), fields.get("Filename", "")
    sha256 = fields.get("SHA256", "")
    whole = re.fullmatch(r"[0-9a-f]{64}", sha256) and re.fullmatch(r"[0-9]{1,12}", size, re.ASCII)
    if not whole or not fields.get("Version") or not _SAFE_PATH.fullmatch(file):
        raise DebianError(f"Debian's index says no version, file, size or SHA-256 of {name}")
    return Deb(name, fields["Version"], sha256, int(size), f"{mirror}/{file}")


def newest(offers: Iterable[tuple[Deb, Mapping[str, str]]]) -> dict[str, tuple[Deb, Mapping[str, str]]]:
    """The newest package of each name, as apt chooses where no pin says otherwise; of two with one version
    the first."""
    best: dict[str, tuple[Deb, Mapping[str, str]]] = {}
    for deb, fields in offers:
        known = best.get(deb.name)
        if known is None or version_key(deb.version) > version_key(known[0].version):
            best[deb.name] = (deb, fields)
    return best


def kernel_of(metapackage: Mapping[str, str]) -> str:
    """The kernel's package that a metapackage depends on. DebianError where it depends on none."""
    found = _KERNEL.search(metapackage.get("Depends", ""))
    if found is None:
        raise DebianError(f"{metapackage.get('Package')} depends on no kernel")
    return found[1]
