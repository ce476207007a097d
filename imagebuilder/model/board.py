"""A board: hardware facts about one device, `boards/NAME.toml`. Never what to install."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imagebuilder.model.base import Many, Model
from imagebuilder.model.release import ReleaseRange, covers, lower_bound
from imagebuilder.model.size import Size

ImageFormat = Literal["tplink-v1", "sysupgrade-tar", "ubi-factory", "efi-disk"]
Target = Annotated[str, Field(pattern=r"^[a-z0-9_]+/[a-z0-9_-]+$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


class Profile(Model):
    """What an ImageBuilder of certain releases calls this device."""

    releases: ReleaseRange
    target: Target
    name: Word
    arch: Word


class Layout(Model):
    """What limits an image, in bytes. firmware: the partition that a sysupgrade may fill. kernel: the
    part of it that the kernel may fill. kernel_and_rootfs: what the image tool accepts for both together."""

    firmware: Size | None = None
    kernel: Size | None = None
    kernel_and_rootfs: Size | None = None


class Image(Model):
    """An image that an ImageBuilder makes for the board; its key is the type that ends the file's name."""

    format: ImageFormat
    required: bool = False


class UserEmulation(Model):
    """How a program of the board runs on another machine: QEMU's name for its processor, and the model."""

    binary: Word
    cpu: Word


class Emulation(Model):
    """How what was built is tried without the device."""

    user: UserEmulation | None = None
    twin: Word | None = None


class Board(Model):
    """One device. ram and flash in bytes; id is the file's name without `.toml`."""

    id: Word
    name: str
    soc: str
    ram: Size
    flash: Size
    layout: Layout = Layout()
    profile: Annotated[Many[Profile], Field(min_length=1)]
    images: dict[Word, Image]
    emulation: Emulation = Emulation()

    def profiles_for(self, release: str) -> tuple[Profile, ...]:
        """The profiles that cover a release, the newest first."""
        found = [profile for profile in self.profile if covers(profile.releases, release)]
        return tuple(sorted(found, key=lambda profile: lower_bound(profile.releases), reverse=True))
