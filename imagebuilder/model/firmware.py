"""What reading a firmware image gives: plain data that the reports show.

A tree of parts, each with its fields and the checks that it passed or failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

FieldValue = int | str | tuple[str, ...]
# what a check that failed is: against flashing, worth knowing, or why it cannot be told what the image is for
Level = Literal["error", "warning", "unsure"]
# what a check that passed shows of the board: its processor and byte order, or that it is this very device
Proof = Literal["", "processor", "device"]
Outcome = Literal["passed", "refused", "cannot be told"]
# bytes that the layouts of TP-Link's header tool, mktplinkfw, give to firmware: from its source; 4Mlzma was
# measured
FLASH_LAYOUTS: Mapping[str, int] = {
    "4M": 0x3C0000,
    "4Mlzma": 0x3C0000,
    "8M": 0x7C0000,
    "8Mlzma": 0x7C0000,
    "8Mmtk": 0x7C0000,
    "16M": 0xF80000,
    "16Mlzma": 0xF80000,
    "16Mppc": 0xF80000,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked. level: what a failure is; an image with an error must not be flashed, and
    of one that is unsure nobody can say. proves: what it shows of the board where it passed."""

    what: str
    expected: str
    found: str
    ok: bool
    level: Level = "error"
    proves: Proof = ""

    @property
    def refuses(self) -> bool:
        """Whether it speaks against flashing the image."""
        return not self.ok and self.level == "error"

    @property
    def unsure(self) -> bool:
        """Whether it leaves open what the image is for."""
        return not self.ok and self.level == "unsure"


def outcome_of(checks: Iterable[Check]) -> Outcome:
    """What all checks of an image for a board come to."""
    told = tuple(checks)
    if any(check.refuses for check in told):
        return "refused"
    return "cannot be told" if any(check.unsure for check in told) else "passed"


@dataclass(frozen=True, slots=True)
class Field:
    """A header's field and what its value says to people."""

    value: FieldValue
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an image. kind: its format. offset, size: bytes in the file, or in the unpacked contents of
    the nearest part above it with an unpacked_size. unpacked_size: bytes, None where its children lie in it
    as they are. data: its bytes, for who wants to look further."""

    kind: str
    name: str
    offset: int
    size: int
    fields: Mapping[str, Field] = field(default_factory=dict)
    children: tuple[Part, ...] = ()
    checks: tuple[Check, ...] = ()
    unpacked_size: int | None = None
    data: memoryview | None = field(default=None, repr=False, compare=False)

    def walk(self) -> Iterator[Part]:
        """This part and all below it, outer ones first."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def problems(self) -> tuple[Check, ...]:
        """The checks that failed, in it and below it."""
        return tuple(check for part in self.walk() for check in part.checks if not check.ok)

    def find(self, *kinds: str) -> Part | None:
        """The first part of one of these kinds, itself included."""
        return next((part for part in self.walk() if part.kind in kinds), None)

    def renamed(self, name: str) -> Part:
        """This part under the name that its place gives it: `kernel`, `rootfs`."""
        return replace(self, name=name)

    def value(self, name: str) -> FieldValue | None:
        """A field's value, None where there is no such field."""
        found = self.fields.get(name)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True)
class RootFile:
    """A file of a root file system. kind: file, folder, link, device, block device, pipe or socket. size:
    bytes. stored: the bytes that it takes in the image, compressed. target: of a link. owner: numbers of
    user and group."""

    path: str
    kind: str
    mode: int
    size: int
    stored: int
    target: str = ""
    owner: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the strip that shows what fills a file. offset, size: bytes."""

    kind: str
    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PythonInside:
    """The interpreter in an image. variant: as configs call it (`light`, `python2-base`, `micropython`);
    empty where the package list does not tell. package: that the version was read from."""

    version: str
    variant: str
    package: str


@dataclass(frozen=True, slots=True)
class PackageShare:
    """What a package takes of a root file system. stored: bytes in the image, compressed; size: bytes
    unpacked. name: empty for the files that no package owns."""

    name: str
    version: str
    stored: int
    size: int
    files: int


@dataclass(frozen=True, slots=True)
class RootFacts:
    """What a root file system says of itself. release: /etc/openwrt_release, without DISTRIB_; packages:
    names to versions. tables: bytes that no file takes; with the stored bytes of all packages they sum to
    `stored`. owners: the packages of files, by their paths."""

    release: Mapping[str, str]
    packages: Mapping[str, str]
    python: PythonInside | None
    shares: tuple[PackageShare, ...]
    files: tuple[RootFile, ...]
    tables: int
    stored: int
    owners: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is known of an image without a board. size: bytes. kernel: its version; empty where it names
    none. root: None where the image holds no root file system that can be read."""

    file: str
    size: int
    sha256: str
    part: Part
    strip: tuple[Stretch, ...]
    kernel: str
    root: RootFacts | None
    problems: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class FormatRow:
    """A format that is known. opened: whether what lies inside is read. boards: what a board's file may call
    an image of it; steps: of OpenWrt's recipes that make it."""

    kind: str
    about: str
    opened: bool
    boards: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A thing that differs between two images; None on the side that lacks it."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class SizeChange:
    """A size that differs between two images, in bytes; 0 on the side that lacks the thing."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How two images differ, from `before` to `after`. files: contents, kind, mode or target, as a hash or
    in words. package_sizes: compressed bytes in the image."""

    before: str
    after: str
    same: bool
    packages: tuple[Change, ...]
    files: tuple[Change, ...]
    package_sizes: tuple[SizeChange, ...]
    file_sizes: tuple[SizeChange, ...]
    kernel: Change | None
    fields: tuple[Change, ...]
