"""A plan written down, so that the same image can be built again: `locks/CONFIG.lock`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imagebuilder.model.app import ResolvedRequirements
from imagebuilder.model.base import Many, Model
from imagebuilder.model.names import Word

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LockedTree(Model):
    """The ImageBuilder. release: as the config asks for it, "" where a tree was given. sha256: of its
    archive, or, of a tree that was given as a folder, over all its files."""

    release: str
    version: str
    target: str
    arch: str
    sha256: Sha256


class LockedPackage(Model):
    """A package of the image. feed: "" for the tree's own."""

    name: str
    version: str
    feed: str = ""
    filename: str
    sha256: str
    identity: str = ""


class LockedBoard(Model):
    """One image. wanted: what make asks the package manager for. feeds: the SHA-256 of each feed's index.
    overlays: the SHA-256 of each with its variables, the values of secrets left out. apps: the SHA-256 of
    each app's and recipe's source, by its path; requirements: with the SHA-256 of each file of an index.
    original: of feeds, what packages of the image are made of that get another form, and what is then not
    needed any more."""

    profile: str
    python: str
    tree: LockedTree
    wanted: Many[str]
    removed: Many[str] = ()
    disabled_services: Many[str] = ()
    feeds: dict[str, Sha256] = Field(default_factory=dict)
    overlays: dict[str, Sha256] = Field(default_factory=dict)
    apps: dict[str, Sha256] = Field(default_factory=dict)
    requirements: ResolvedRequirements = ResolvedRequirements()
    package: Many[LockedPackage]
    original: Many[LockedPackage] = ()


class Lock(Model):
    """A lock file: an entry for each board of the config."""

    lock_schema: Literal[1] = 1
    config: str
    board: dict[Word, LockedBoard]
