"""A config: what one firmware should hold, and for which boards, `configs/NAME.toml`."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from imagebuilder.config.app import AppUse, Optimize, PythonPackageUse, RequirementUse
from imagebuilder.model.base import Many, Model, PackageName, ServiceName, Size, VariableName, Word
from imagebuilder.model.filespec import FilespecUse
from imagebuilder.model.release import ReleaseName
from imagebuilder.model.variant import Variant

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

_NO_WORD = re.compile(r"[^A-Za-z0-9._+-]")
ModulePattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*?]+$")]
MOST_PARTSIZE = 1 << 20  # MiB
MOST_TRIAL_SECONDS = 3600
VariableValue = str | int | float | bool | list[str]


class Secret(Model):
    """A value that does not stand in the config."""

    secret: VariableName = Field(
        description="The secret's name: an environment variable of that name holds the value, or, where"
        " there is none, `secrets.toml` in the project's folder does."
    )


class _OrText:
    """The JSON schema of a table that may be written as one text too."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


def _app(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _requirement(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Python(Model):
    """Which Python goes in, and what of one's own."""

    variant: Variant = Field(
        default="none",
        description="How much of Python goes in: `base`, `light` and `full` are OpenWrt's packages"
        " python3-base, python3-light and python3, `micropython` is its MicroPython, `auto` is the smallest"
        " set that covers what apps and requirements import, `python2-…` is Python 2 where a release still"
        " has it. Left out: `none`.",
    )
    source: bool | Literal["only"] = Field(
        default=False,
        description="Whether sources go in beside the bytecode of apps, requirements and compiled feed"
        ' packages, and the -src packages of OpenWrt\'s Python; "only" leaves that bytecode out. Left out:'
        " false, bytecode alone.",
    )
    compile: bool | None = Field(
        default=None,
        description="Whether Python packages of feeds that hold sources go in as bytecode. Left out: they do"
        " in releases whose packages hold sources (17.01), where the config has Python of its own or says"
        " `auto`.",
    )
    pip: bool = Field(default=False, description="Whether OpenWrt's package of pip goes in. Left out: false.")
    setuptools: bool = Field(
        default=False, description="Whether OpenWrt's package of setuptools goes in. Left out: false."
    )
    optimize: Optimize = Field(
        default=0,
        description="What bytecode that is made here leaves out: with 1 assert statements, with 2 docstrings"
        " too. Left out: 0, nothing.",
    )
    pyc: Literal["unchecked-hash", "checked-hash", "timestamp"] | None = Field(
        default=None,
        description="How bytecode that lies beside its source is known to be that source's (PEP 552). Left"
        " out: by a hash that the device trusts unchecked, or by the time for Python 3.6, which knows"
        " nothing else.",
    )
    apps: Many[Annotated[AppUse, BeforeValidator(_app), _OrText()]] = Field(
        default=(),
        description="Your own programs, each a package of its own: tables, or paths alone"
        ' (`["apps/hello.py"]`). Those of extended configs come first. Left out: none.',
    )
    requirements: Many[Annotated[RequirementUse, BeforeValidator(_requirement), _OrText()]] = Field(
        default=(),
        description='What is wanted, as pip writes it: `["bottle>=0.13"]`, `["foo @ git+https://host/foo@v1"]`,'
        ' `["./libs/foo"]`, or a table that says more: `[{ name = "msgpack", pure = true }]`. A'
        " feed's package is taken where one satisfies it, else a wheel for the device or one that is built"
        " from a source: plain C is compiled for the device where zig is installed. Those of extended configs"
        " come first. Left out: none.",
    )
    package: Many[PythonPackageUse] = Field(
        default=(),
        description="Recipes of your own Python packages, each in a table `[[python.package]]`."
        " A later file changes the recipe of the same name. Left out: none.",
    )
    shake: bool = Field(
        default=False,
        description="Whether the standard library of CPython 3 is cut to the modules that apps, requirements"
        " and recipes reach. Left out: false, it stays whole.",
    )
    keep: Many[ModulePattern] = Field(
        default=(),
        description="Modules that `shake` leaves in although nothing seems to reach them, by name or"
        ' pattern: `["encodings.*"]`. One that the image does not have is an error. Left out: none.',
    )
    trace: Many[str] = Field(
        default=(),
        description="Commands that are run in the image's root file system, with their arguments and without"
        ' a shell: `["meter --check"]`. `shake` keeps what they import, and in the built image each must end'
        " with 0. Left out: none.",
    )

    @model_validator(mode="after")
    def _sources_or_bytecode(self) -> Python:
        if self.compile and self.source == "only":
            raise ValueError('compile = true and source = "only" contradict one another: leave one out')
        return self


class Packages(Model):
    """Packages to add to, and to remove from, what tree and profile install."""

    add: Many[PackageName] = Field(
        default=(),
        description="Packages that go in, by their names in tree and feeds, with what they depend on:"
        ' `["tcpdump-mini"]`. A later file takes a name back in `remove`. Left out: none.',
    )
    remove: Many[PackageName] = Field(
        default=(),
        description="Packages of the tree's and the profile's defaults that stay out: `[\"ppp\"]`. One that"
        " another package needs goes in all the same, with a warning. Left out: none.",
    )
    replace: bool | None = Field(
        default=None,
        description="Whether packages that are added take the place of defaults of the tree and the profile"
        ' that bring the same files: `add = ["dnsmasq-full"]` that of dnsmasq. What the config, an overlay'
        " or an app names stays. Left out: they do where the two packages declare that they conflict; of the"
        " others `plan` tells.",
    )


class Services(Model):
    """Init scripts, by their names in /etc/init.d."""

    disabled: Many[ServiceName] = Field(
        default=(),
        description='Services that do not start at boot: `["odhcpd"]`. One that the image does not have'
        " gives a warning. Left out: none.",
    )
    enabled: Many[ServiceName] = Field(
        default=(),
        description="Services that start at boot although an extended config disables them. Left out: none.",
    )


def overlay_name(path: str) -> str:
    """The name of an overlay that is given by its folder alone: `router-files` of `../router/files/`; the
    empty text where nothing of the path can be in a name."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..", "~")]
    return _NO_WORD.sub("-", "-".join(parts)).lstrip("._+-")


class OverlayUse(Model):
    """An overlay, and the values of its variables."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.pop("required", None))

    name: Word = Field(
        description="The overlay's name, that of its folder in `overlays/`: `wifi-client`. Left out: `path`"
        " names the overlay, and what is before its last `/` becomes part of its name: `router-files`.",
    )
    path: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The overlay's folder, its path counted from the project's folder: `files`. What lies in"
        " it is laid over the root file system as it is, as ImageBuilder's FILES is; if it holds an"
        " overlay.toml, it is laid out as the folders in `overlays/` are. Left out: `overlays/NAME`.",
    )
    variables: dict[VariableName, Secret | VariableValue] = Field(
        default_factory=dict,
        description='Values of the variables that the overlay declares: `{ ssid = "office", key = { secret ='
        ' "WIFI_KEY" } }`. Those of a later file are added, and win. Left out: every variable has its'
        " default, and one without a default is an error.",
    )
    remove: bool = Field(
        default=False,
        description="Whether this takes out an overlay that an extended config put in. Left out: false.",
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        """A use that names a folder alone has that folder's name."""
        if not isinstance(values, dict) or "name" in values:
            return values
        path = values.get("path")
        name = overlay_name(path) if isinstance(path, str) else ""
        return {**values, "name": name} if name else values


class ImageOptions(Model):
    """How images are named, and how the root file system may fill them."""

    extra_name: Word | None = Field(
        default=None,
        description="A word that becomes part of the images' names, make's EXTRA_IMAGE_NAME: `office`. Left"
        " out: the names stay OpenWrt's own.",
    )
    rootfs_partsize: Annotated[int, Field(gt=0, le=MOST_PARTSIZE)] | None = Field(
        default=None,
        description="The size of the root file system's partition, in MiB, on boards whose image is a disk"
        " or a card; for another board it is an error. Left out: what the tree is set to"
        " (CONFIG_TARGET_ROOTFS_PARTSIZE).",
    )
    baked: bool = Field(
        default=False,
        description="Whether all settings are in the image, and what is changed on the device may be lost at"
        " its next start: then one erase block that stays free is enough, and `budget.flash_free` does not"
        " count. It is for flash with JFFS2 alone. Left out: false.",
    )


class MirrorOptions(Model):
    """Where releases and their feeds are fetched from."""

    urls: Many[str] = Field(
        default=(),
        description="Copies of the download server, asked in this order, after those of `--mirror`:"
        " addresses (https, http), or folders with its layout, whose paths count from the project's folder."
        " Left out: OpenWrt's own server.",
    )
    keys: str | None = Field(
        default=None,
        description="A folder of public keys, its path counted from the project's folder, which are trusted"
        " besides OpenWrt's own. Left out: only those, and a tree's own for its feeds.",
    )


class FeedUse(Model):
    """A package feed besides the tree's own."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="What the feed is called here, other than the tree's feeds: `office`."
    )
    url: str = Field(
        default="",
        description="Where its index is: an address (https, http), or a folder, its path counted from the"
        " project's folder; `{release}`, `{series}`, `{arch}` and `{target}` stand for the tree's. Left out:"
        " possible with `remove` alone.",
    )
    key: str | None = Field(
        default=None,
        description="The file of the public key that signs its index, its path counted from the project's"
        " folder: `keys/office.pub`. Left out: possible for a folder alone, which is then trusted as it is.",
    )
    remove: bool = Field(
        default=False,
        description="Whether this takes out a feed that an extended config put in. Left out: false.",
    )

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
    """What must stay free."""

    flash_free: Size = Field(
        default=0,
        description="What an image must leave of the flash for the device's own settings, in bytes, or with"
        " K, M or G: `512K`. A plan is held to it, and the real image again. Left out: 0, it has to fit.",
    )
    ram_free: Size = Field(
        default=0,
        description="What must stay of the RAM for programs once the device has started, in bytes, or with"
        " K, M or G: `8M`. Left out: 0.",
    )


def _check_command(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {str(error).lower()}") from error
    if not words or "\0" in command:
        raise ValueError("names no program")
    return command


def _check_expected(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


class Trial(Model):
    """A command that the image has to answer before it is handed over."""

    run: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_check_command)] = Field(
        description='What is run in the image, with its arguments and without a shell: `"meter --check"`.'
        " It has to end by itself, with 0."
    )
    expect: Annotated[str, Field(max_length=1000), AfterValidator(_check_expected)] | None = Field(
        default=None,
        description="A regular expression (Python's) that is searched in what it says, on standard output and"
        ' standard error: `"^ready, [0-9]+ sensors$"`, where ^ and $ are the ends of lines. Left out: it may'
        " say anything.",
    )
    timeout: Annotated[int, Field(gt=0, le=MOST_TRIAL_SECONDS)] = Field(
        default=60,
        description="How long it may take, in seconds, on the building machine or in an emulated one, which"
        " are slower than some devices and faster than others. Left out: 60.",
    )


class Differences(Model):
    """What can be said for all boards, and again for one board."""

    release: ReleaseName | None = Field(
        default=None,
        description="The release whose ImageBuilder is fetched and verified: `24.10.4`, `24.10` (the newest"
        " of the series), `latest` or `snapshot`; or an edition of the kit, which is made here: `embedded`,"
        " `embedded-3.13`. Left out: an ImageBuilder has to be given.",
    )
    imagebuilder: str | None = Field(
        default=None,
        description="The ImageBuilder to build with, in place of a release's: its folder or archive, whose"
        " path counts from the project's folder, or the archive's address on a copy of the download server."
        " `--imagebuilder` wins. Left out: that of `release`.",
    )
    series: Annotated[str, Field(pattern=r"^[0-9]{2}\.[0-9]{2}$")] | None = Field(
        default=None,
        description="The OpenWrt series that a vendor's tree follows, where its version does not say it:"
        " `19.07`. Left out: what the tree's version says, or else its makefiles.",
    )
    mirror: MirrorOptions = Field(
        default=MirrorOptions(),
        description="Where releases and their feeds are fetched from. Left out: OpenWrt's own server.",
    )
    feed: Many[FeedUse] = Field(
        default=(),
        description="Package feeds besides the tree's own, each in a table `[[feed]]`; a later file changes"
        " the feed of the same name. Left out: only the tree's.",
    )
    trust: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        default=None,
        description="The SHA-256 of the ImageBuilder's archive, `sha256:` and 64 digits, which is then"
        " trusted in place of a signature; one of this machine has to be that one too. Left out: its"
        " checksums must be signed by a trusted key.",
    )
    python: Python = Field(
        default=Python(), description="Which Python goes in, and what of your own. Left out: no Python."
    )
    packages: Packages = Field(
        default=Packages(),
        description="Packages to add to, and to remove from, what tree and profile install. A name that a"
        " later file puts into the other list changes sides. Left out: what they install.",
    )
    services: Services = Field(
        default=Services(),
        description="Services that do not start at boot. A name that a later file puts into the other list"
        " changes sides. Left out: as OpenWrt's packages have it.",
    )
    overlay: Many[OverlayUse] = Field(
        default=(),
        description="Overlays that are laid over the root file system, in this order, each in a table"
        " `[[overlay]]`; one that a later file names again keeps its place. Left out: none.",
    )
    filespec: Many[FilespecUse] = Field(
        default=(),
        description="Rules for the files of single packages and overlays, each in a table `[[filespec]]`,"
        " after those of extended configs. Left out: all their files go in.",
    )
    image: ImageOptions = Field(
        default=ImageOptions(),
        description="How images are named, and how the root file system may fill them. Left out: as the tree"
        " has it.",
    )
    trial: Many[Trial] = Field(
        default=(),
        description="Commands that the image has to answer before it is handed over, each in a table"
        " `[[trial]]`, after those of extended configs. Left out: none but `--help` of each app.",
    )
    budget: Budget = Field(
        default=Budget(), description="What must stay free of flash and RAM. Left out: nothing need."
    )


class ConfigFile(Differences):
    """One file as it was written: every key optional, because another file may give it."""

    extends: Many[str] | str = Field(
        default=(),
        description='The config that this one adds to, or several, left to right: `"base"`, `["base",'
        ' "office"]`. Each is the name of a config, of the project or of those that come with this program'
        " (which is meant where the project's config extends its own name), or a path that ends in .toml,"
        " counted from the project's folder. Left out: none.",
    )
    description: str = Field(
        default="",
        description="A line on what the firmware is for, which `owrt-python configs` lists; it is not"
        " inherited. Left out: nothing.",
    )
    boards: Many[Word] = Field(
        default=(),
        description='The boards to build for, by their files\' names: `["tplink-tl-wr740n-v4"]`; it'
        " replaces the list of an extended config. Left out: that one, or `--board` has to name one.",
    )
    board: dict[Word, Differences] = Field(
        default_factory=dict,
        description="What differs for one board, in a table `[board.NAME]`; it is merged last, after what"
        " all files say for every board. Left out: nothing differs.",
    )


class Config(Differences):
    """A config for one board, with all that it extends merged in."""

    name: str
    description: str = ""
    boards: Many[Word] = ()
