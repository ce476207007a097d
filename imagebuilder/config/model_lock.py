"""A plan written down, so that the same image can be built again: `locks/CONFIG.lock`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

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
        description="The SHA-256, in hex, of its archive, or of all its files, folders and links where it"
        " was given as a folder; of the kit, of its recipe and of the Debian packages that it is made of."
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
    filename: str = Field(
        description="The package's file, as its index names it; empty for what is made here."
    )
    sha256: str = Field(
        description="That file's SHA-256, in hex; empty where apk's index states `identity` alone."
    )
    identity: str = Field(
        default="", description="What apk's index knows the package by, in hex. Left out: with opkg."
    )


class LockedParts(Model):
    """All that decides an image, as it was found in the plan and in what is laid for make. Secrets are in
    none of it: of a file that is made of one, its template counts, and the secret's name."""

    builder: str = Field(description="The version of this program.")
    tree: LockedTree = Field(description="The ImageBuilder.")
    make: dict[str, str] = Field(
        description="The variables of the command `make image` that are no paths, `PROFILE` and `PACKAGES`"
        " among them; under `MAKEFILES` the SHA-256 of what make reads before its own makefiles."
    )
    board: dict[Word, Sha256] = Field(
        description="The SHA-256 of each key of the board and its profile that says which images are handed"
        " over and what they are checked against, in hex."
    )
    overlays: dict[Word, dict[str, str]] = Field(
        default_factory=dict,
        description="What overlays lay over the root file system, after filespecs, by the overlay's name: of"
        " each file its mode and SHA-256, of each folder its mode, of each link its text. Left out: there"
        " are no overlays.",
    )
    package: Many[LockedPackage] = Field(description="Every package of the image.")

    @property
    def files(self) -> dict[str, tuple[str, str]]:
        """What lies over the root file system, whoever brings it: by its path, the overlay's name and the
        words."""
        return {
            path: (name, words) for name, entries in self.overlays.items() for path, words in entries.items()
        }

    def digest(self) -> str:
        """SHA-256, in hex, over all of it but what only says where it is from: the release that was asked
        for, the names of overlays and of packages' files. The order of tables and of packages is no part of
        it."""
        parts: dict[str, Mapping[str, object]] = {
            "builder": {"version": self.builder},
            "tree": self.tree.model_dump(exclude={"release"}),
            "make": self.make,
            "board": self.board,
            "overlays": {path: words for path, (_, words) in self.files.items()},
            "package": {each.name: each.model_dump(exclude={"filename"}) for each in self.package},
        }
        lines = sorted(repr((part, *fact)) for part, facts in parts.items() for fact in facts.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class LockedBoard(Model):
    """One image."""

    digest: Sha256 = Field(
        description="One SHA-256, in hex, over all `parts`: two images with one digest are made of the same."
    )
    parts: LockedParts = Field(description="All that decides the image.")
    original: Many[LockedPackage] = Field(
        default=(),
        description="Packages of feeds that are not in the image as they are: those that are repacked,"
        " compiled or cut, and those that are not needed any more when that is done. Left out: none.",
    )
    feeds: dict[str, Sha256] = Field(
        default_factory=dict,
        description="The SHA-256 of each feed's index, in hex, by the feed's name. Left out: no feed is"
        " used.",
    )
    requirements: ResolvedRequirements = Field(
        default=ResolvedRequirements(),
        description="What `python.requirements`, and what apps require, came to. Left out: nothing is"
        " required.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> LockedBoard:
        if self.digest != self.parts.digest():
            raise ValueError("the digest is not that of the parts: the lock was edited, or merged by hand")
        return self


class Lock(Model):
    """A lock file: an entry for each board of the config."""

    lock_schema: Literal[2] = Field(
        description="The version of this form of lock files. Those of form 1 said less than an image takes,"
        " and are refused: `owrt-python lock` writes them anew."
    )
    config: str = Field(description="The config's name.")
    board: dict[Word, LockedBoard] = Field(
        description="The images, each in a table `[board.NAME]`; `owrt-python lock` leaves those of other"
        " boards as they are."
    )
