"""A config: what one firmware should hold, and for which boards, `configs/NAME.toml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imagebuilder.model.base import Many, Model
from imagebuilder.model.board import Word
from imagebuilder.model.release import Release

Variant = Literal["none", "micropython", "base", "light", "full"]
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9._+-]*$")]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
VariableValue = str | int | float | bool | list[str]


class Secret(Model):
    """A value that does not stand here: the name under which it is found in the environment or in
    secrets.toml."""

    secret: VariableName


class Python(Model):
    """Which Python goes in."""

    variant: Variant = "none"


class Packages(Model):
    """Packages to add to, and to remove from, what tree and profile install."""

    add: Many[PackageName] = ()
    remove: Many[PackageName] = ()


class Services(Model):
    """Init scripts that do not start at boot; enabled: those that do although an extended config said no."""

    disabled: Many[ServiceName] = ()
    enabled: Many[ServiceName] = ()


class OverlayUse(Model):
    """One overlay and the values of its variables. remove: take out what an extended config put in."""

    name: Word
    variables: dict[VariableName, Secret | VariableValue] = Field(default_factory=dict)
    remove: bool = False


class ImageOptions(Model):
    """How images are named and, where the tree lets one choose, how big the root file system may be.

    rootfs_partsize: MiB.
    """

    extra_name: Word | None = None
    rootfs_partsize: Annotated[int, Field(gt=0, le=1 << 20)] | None = None


class MirrorOptions(Model):
    """Where releases are fetched from: copies of the download server's layout (https or a folder), asked in
    order. keys: a folder of public keys that are believed besides OpenWrt's own."""

    urls: Many[str] = ()
    keys: str | None = None


class Differences(Model):
    """What can be said for all boards, and again for one board. imagebuilder: a tree's folder or archive.

    trust: `sha256:…` of the ImageBuilder's archive, for a release without a signature that can be checked.
    """

    release: Release | None = None
    imagebuilder: str | None = None
    mirror: MirrorOptions = MirrorOptions()
    trust: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    python: Python = Python()
    packages: Packages = Packages()
    services: Services = Services()
    overlay: Many[OverlayUse] = ()
    image: ImageOptions = ImageOptions()


class ConfigFile(Differences):
    """One file as it was written: every key optional, because another file may give it."""

    extends: Many[str] | str = ()
    description: str = ""
    boards: Many[Word] = ()
    board: dict[Word, Differences] = Field(default_factory=dict)


class Config(Differences):
    """A config for one board, with all that it extends merged in."""

    name: str
    description: str = ""
    boards: Many[Word] = ()
