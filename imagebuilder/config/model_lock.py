"""A plan written down, so that the same image can be built again: `locks/CONFIG.lock`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imagebuilder.config.app import ResolvedRequirements
from imagebuilder.model.base import Many, Model, Word

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LockedTree(Model):
    """The ImageBuilder of an image."""

    release: str = Field(description="The release that the config asks for; empty where a tree was given.")
    version: str = Field(description="The version that the tree states: `24.10.4`.")
    target: str = Field(description="Target and subtarget: `ath79/tiny`.")
    arch: str = Field(description="The architecture of the packages: `mips_24kc`.")
    sha256: Sha256 = Field(
        description="The SHA-256, in hex, of its archive, or of all its files where it was given as a folder"
        " or made here."
    )


class LockedPackage(Model):
    """A package of an image."""

    name: str = Field(description="The package's name.")
    version: str = Field(description="Its version, as opkg or apk writes it.")
    feed: str = Field(
        default="",
        description="The feed that it comes from; `local` is what is made here. Left out: the tree's own"
        " packages.",
    )
    filename: str = Field(description="The package's file, as its index names it.")
    sha256: str = Field(
        description="That file's SHA-256, in hex; empty where nothing states it before the package is made."
    )
    identity: str = Field(
        default="", description="What apk's index knows the package by, in hex. Left out: with opkg."
    )


class LockedBoard(Model):
    """One image."""

    profile: str = Field(description="The device's profile, what make gets as PROFILE.")
    python: str = Field(description="The config's `python.variant`.")
    tree: LockedTree = Field(description="The ImageBuilder.")
    wanted: Many[str] = Field(
        description="The names that make asks the package manager for, what they depend on not among them."
    )
    removed: Many[str] = Field(
        default=(), description='Packages that the config removes, each as `"-ppp"`. Left out: none.'
    )
    replaced: dict[str, str] = Field(
        default_factory=dict,
        description="Of packages that are removed because others take their place, those others, by the names"
        " that were added. Left out: none.",
    )
    disabled_services: Many[str] = Field(
        default=(), description="The config's `services.disabled`. Left out: none."
    )
    feeds: dict[str, Sha256] = Field(
        default_factory=dict,
        description="The SHA-256 of each feed's index, in hex, by the feed's name. Left out: no feed is"
        " used.",
    )
    overlays: dict[str, Sha256] = Field(
        default_factory=dict,
        description="The SHA-256 of each overlay with its variables, in hex, the values of secrets left out."
        " Left out: there are no overlays.",
    )
    apps: dict[str, Sha256] = Field(
        default_factory=dict,
        description="The SHA-256 of each app and of each recipe's source, in hex, by its path in the config."
        " Left out: there are none.",
    )
    requirements: ResolvedRequirements = Field(
        default=ResolvedRequirements(),
        description="What `python.requirements`, and what apps require, came to. Left out: nothing is"
        " required.",
    )
    package: Many[LockedPackage] = Field(description="Every package of the image.")
    original: Many[LockedPackage] = Field(
        default=(),
        description="Packages of feeds that are not in the image as they are: those that are repacked,"
        " compiled or cut, and those that are not needed any more when that is done. Left out: none.",
    )


class Lock(Model):
    """A lock file: an entry for each board of the config."""

    lock_schema: Literal[1] = Field(
        default=1, description="The version of this form of lock files. Left out: 1, the only one."
    )
    config: str = Field(description="The config's name.")
    board: dict[Word, LockedBoard] = Field(
        description="The images, each in a table `[board.NAME]`; `build.py lock` leaves those of other"
        " boards as they are."
    )
