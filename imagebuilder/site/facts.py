"""What a site knows of its builds: `boards.json`, and a `history.json` for each config of each board."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from imagebuilder.model.base import Many, Model
from imagebuilder.model.firmware import Change, SizeChange
from imagebuilder.model.result import DeviceTitle

SITE_SCHEMA = 1
HEX_OF_NUMBER = 8

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PublishedImage(Model):
    """An image that can be fetched. size: bytes; filesystem: "" where nothing says it; signed: whether it
    ends with a signature of the builder's own key."""

    file: str
    type: str
    size: int
    sha256: Digest
    filesystem: str
    signed: bool


class Night(Model):
    """What changed from one build to the next: `before` is the number of the one before. packages: versions;
    sizes: bytes in the image by package, compressed; kernel: its version, where both builds say it."""

    before: str
    packages: Many[Change]
    sizes: Many[SizeChange]
    kernel: Change | None


class PublishedBuild(Model):
    """One build of one config for one board.

    number: its folder on the site. published, epoch: seconds since 1970, when it was first published, and
    SOURCE_DATE_EPOCH; None where the result does not say. rootfs, free: bytes of the root file system in the
    image, and of the flash that stay free; None where nobody knows. packages: how many. files: what lies
    beside the images. night: None for the first build.
    """

    number: str
    published: int
    builder: str
    version: str
    revision: str
    epoch: int | None
    python: str
    kernel: str
    packages: int
    rootfs: int | None
    free: int | None
    images: Many[PublishedImage]
    files: Many[str]
    night: Night | None = None

    @property
    def content(self) -> str:
        """A digest that is the same for builds with the same images."""
        return content_of((image.file, image.sha256) for image in self.images)

    @property
    def when(self) -> str:
        """When it was published, to read."""
        return utc(self.published)

    @property
    def size(self) -> int:
        """Bytes of its first image, which the board file names first."""
        return self.images[0].size


class History(Model):
    """All builds of one config for one board, the oldest first; older ones than the site keeps have their
    facts here and no files any more."""

    config: str
    board: str
    builds: Many[PublishedBuild]


class Listing(Model):
    """One config of one board as it is now. seen: when it was last among the results, in seconds since 1970.
    kept: numbers of the builds that can be fetched, the newest last. newest, before: the last two builds."""

    config: str
    board: str
    profile: str
    distribution: str
    target: str
    arch: str
    titles: Many[DeviceTitle]
    supported_devices: Many[str]
    default_packages: Many[str]
    device_packages: Many[str]
    seen: int
    kept: Many[str]
    newest: PublishedBuild
    before: PublishedBuild | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the others: board and config."""
        return self.board, self.config

    @property
    def names(self) -> tuple[str, ...]:
        """What the device is called."""
        return tuple(filter(str.strip, map(title_text, self.titles))) or (self.board,)

    @property
    def vendor(self) -> str:
        """Who makes the device: as the release says it, or the first word of its name, or of its board's."""
        named = next((title.vendor for title in self.titles if title.vendor.strip()), "")
        return named or self.names[0].split()[0].removesuffix(self.board) or self.board.partition("-")[0]


class Recent(Model):
    """A build that the feed tells of."""

    config: str
    board: str
    name: str
    build: PublishedBuild


class SiteState(Model):
    """All that a generation of the site is made of, but for histories and files. name: a UUID that stays, by
    which the feed is known. url: where the site is, "" where nobody said. look: a digest of templates and
    style. published: seconds since 1970."""

    schema_version: int = SITE_SCHEMA
    builder: str
    name: str
    title: str
    url: str
    look: str
    published: int
    listings: Many[Listing]
    recent: Many[Recent]


def title_text(title: DeviceTitle) -> str:
    """A device's name as one text, as the firmware selector puts it together."""
    return title.title or " ".join(filter(None, (title.vendor, title.model, title.variant)))


def content_of(images: Iterable[tuple[str, str]]) -> str:
    """A digest of images, by their files and SHA-256."""
    text = "".join(f"{sha256} {file}\n" for file, sha256 in sorted(images))
    return hashlib.sha256(text.encode()).hexdigest()


def number_of(content: str, published: int, taken: Iterable[str]) -> str:
    """The number of a new build: the day, the beginning of its content's digest and, where a build of that
    day had just these images, which one of them it is. taken: the numbers of the builds before it."""
    number = f"{datetime.fromtimestamp(published, UTC):%Y%m%d}-{content[:HEX_OF_NUMBER]}"
    same = sum(1 for each in taken if each == number or each.startswith(f"{number}-"))
    return f"{number}-{same + 1}" if same else number


def utc(seconds: int) -> str:
    """A time to read: `27 Nov 2026, 02:10 UTC`."""
    return f"{datetime.fromtimestamp(seconds, UTC):%-d %b %Y, %H:%M} UTC"


def iso(seconds: int) -> str:
    """A time as RFC 3339 has it: `2026-11-27T02:10:00Z`."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
