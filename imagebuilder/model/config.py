"""A config: what one firmware should hold, and for which boards, `configs/NAME.toml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from imagebuilder.model.app import AppUse, Optimize, RequirementText
from imagebuilder.model.base import Many, Model
from imagebuilder.model.filespec import FilespecUse
from imagebuilder.model.names import PackageName, ServiceName, VariableName, Word
from imagebuilder.model.python_package import PythonPackageUse
from imagebuilder.model.release import Release
from imagebuilder.model.size import Size

Variant = Literal[
    "none", "micropython", "base", "light", "full", "auto", "python2-base", "python2-light", "python2-full"
]
ModulePattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*?]+$")]
VariableValue = str | int | float | bool | list[str]


class Secret(Model):
    """A value that does not stand here: the name under which it is found in the environment or in
    secrets.toml."""

    secret: VariableName


def _app(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class Python(Model):
    """Which Python goes in, and what of one's own.

    source: also the sources: of feed packages their -src twins, of one's own beside the bytecode, or "only"
    them. compile: feed packages that hold sources go in as bytecode (None: in releases whose packages hold
    sources, 17.01, where an app or `auto` is used). pip, setuptools: these too. optimize: 1 drops assert
    statements, 2 docstrings too. pyc: how bytecode knows its source, where that is beside it (None: by a hash
    that is believed; Python 3.6 knows the timestamp alone). apps: scripts,
    project folders or wheels, by their paths in the project. requirements: PEP 508. package: recipes. shake:
    cut the standard library to what these reach; keep: modules that stay all the same (`encodings.*`); trace:
    commands that run in the image, what they import stays, and they prove the image afterwards.
    """

    variant: Variant = "none"
    source: bool | Literal["only"] = False
    compile: bool | None = None
    pip: bool = False
    setuptools: bool = False
    optimize: Optimize = 0
    pyc: Literal["unchecked-hash", "checked-hash", "timestamp"] | None = None
    apps: Many[Annotated[AppUse, BeforeValidator(_app)]] = ()
    requirements: Many[RequirementText] = ()
    package: Many[PythonPackageUse] = ()
    shake: bool = False
    keep: Many[ModulePattern] = ()
    trace: Many[str] = ()

    @model_validator(mode="after")
    def _sources_or_bytecode(self) -> Python:
        if self.compile and self.source == "only":
            raise ValueError('compile = true and source = "only" contradict one another: leave one out')
        return self


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

    rootfs_partsize: MiB. baked: all settings are in the image, and what changes on the device lives in RAM,
    where too little flash is left to keep it: budget.flash_free does not count.
    """

    extra_name: Word | None = None
    rootfs_partsize: Annotated[int, Field(gt=0, le=1 << 20)] | None = None
    baked: bool = False


class MirrorOptions(Model):
    """Where releases are fetched from: copies of the download server's layout (https or a folder), asked in
    order. keys: a folder of public keys that are believed besides OpenWrt's own."""

    urls: Many[str] = ()
    keys: str | None = None


class FeedUse(Model):
    """A package feed besides the tree's own. url: the folder with its index, by https or a folder of this
    machine; {release}, {series}, {arch} and {target} stand for the tree's. key: the file of the public key
    that signs the index, which a feed on a server must have. remove: take out what an extended config put
    in."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    url: str = ""
    key: str | None = None
    remove: bool = False

    @model_validator(mode="after")
    def _can_be_used(self) -> FeedUse:
        if not self.remove and not self.url:
            raise ValueError(f"feed '{self.name}' has no url")
        if "://" in self.url and self.key is None and not self.remove:
            raise ValueError(
                f"feed '{self.name}' is on a server: name the key file that its index is signed with"
            )
        return self


class Budget(Model):
    """What must stay free, in bytes: of the flash for the device's own settings, of the RAM for programs."""

    flash_free: Size = 0
    ram_free: Size = 0


class Differences(Model):
    """What can be said for all boards, and again for one board. imagebuilder: a tree's folder or archive.

    series: of OpenWrt (`21.02`), which a tree follows whose own version does not say it, such as a vendor's.
    trust: `sha256:…` of the ImageBuilder's archive, for a release without a signature that can be checked.
    """

    release: Release | None = None
    imagebuilder: str | None = None
    series: Annotated[str, Field(pattern=r"^[0-9]{2}\.[0-9]{2}$")] | None = None
    mirror: MirrorOptions = MirrorOptions()
    feed: Many[FeedUse] = ()
    trust: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    python: Python = Python()
    packages: Packages = Packages()
    services: Services = Services()
    overlay: Many[OverlayUse] = ()
    filespec: Many[FilespecUse] = ()
    image: ImageOptions = ImageOptions()
    budget: Budget = Budget()


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
