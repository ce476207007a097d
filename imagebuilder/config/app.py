"""Apps, requirements and recipes: what a user's own Python is, and how it is put onto the device.

A recipe, `[[python.package]]`, has what OpenWrt's makefiles offer for a Python package:
docs/python-packages.md says which key stands for which of their variables.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, model_validator

from imagebuilder.config.requirement import parse_requirement_line
from imagebuilder.model.base import Many, Mode, Model, PackageName, TargetPath, VariableName
from imagebuilder.model.filespec import RuleLines

SourceKind = Literal["bytecode", "both", "only"]
Optimize = Literal[0, 1, 2]
UserName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
ProgramName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]*$")]


def _check_version(text: str) -> str:
    try:
        Version(text)
    except InvalidVersion:
        raise ValueError(f"{text[:200]!r} is no version such as 1.2.post1 (PEP 440)") from None
    return text


VersionText = Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+!_-]*$"), AfterValidator(_check_version)]


def check_requirement(text: str) -> str:
    """A requirement as PEP 508 writes it, without an address. ValueError for anything else."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(
            f"{text[:200]!r} is no requirement such as 'bottle>=0.13' (PEP 508): {error}"
        ) from None
    if requirement.url is not None:
        raise ValueError(
            f"{text[:200]!r} names an address: put that wheel into python.apps, or require it by name"
        )
    return text


Distribution = Annotated[str, AfterValidator(canonicalize_name)]
RequirementText = Annotated[str, AfterValidator(check_requirement)]


def _check_written(text: str) -> str:
    parse_requirement_line(text)
    return text


WrittenText = Annotated[str, AfterValidator(_check_written)]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$")]


class AppUse(Model):
    """An app: a project's folder, a plain folder with main.py, a wheel or a single script."""

    path: Annotated[str, Field(min_length=1)] = Field(
        description="The app's folder, the wheel or the script, its path counted from this project's folder:"
        " `apps/meter`. A folder without pyproject.toml and setup.py goes in as it lies there: main.py is"
        " run, requirements.txt says what it requires."
    )
    name: PackageName | None = Field(
        default=None,
        description="The name of the app's package: `app-meter`. Left out: app- and the name of the project,"
        " folder or script.",
    )
    service: bool | Literal["launcher"] = Field(
        default=False,
        description="Whether the app is started at boot, and again whenever it ends (procd). With `launcher`"
        " its programs are run by one warm interpreter, which forks a child for each run: they start in a"
        " fraction of the time. Left out: false, it only has programs in /usr/bin.",
    )
    program: ProgramName | None = Field(
        default=None,
        description="Which of the app's programs, its console entry points, the service runs. Left out: the"
        " only one.",
    )
    user: UserName = Field(
        default="root",
        description="The user as whom the service runs; one that OpenWrt does not have is made when the"
        " package is installed. The warm interpreter serves its user alone: others start one of their own."
        " Left out: `root`.",
    )
    environment: dict[VariableName, Line] = Field(
        default_factory=dict,
        description='Variables of the service\'s environment: `{ METER_PORT = "8080" }`. Left out: none of'
        " its own.",
    )
    arguments: Many[Line] = Field(
        default=(), description='Arguments of the service\'s program: `["--quiet"]`. Left out: none.'
    )
    respawn_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        default=5,
        description="How long the service rests before it is started again, in seconds, however often it"
        " ends. Left out: 5.",
    )
    optimize: Optimize | None = Field(
        default=None,
        description="What the app's bytecode leaves out: with 0 nothing, with 1 assert statements, with 2"
        " docstrings too. Left out: as `python.optimize` says, with MicroPython 0.",
    )
    source: bool | Literal["only"] | None = Field(
        default=None,
        description='Whether the app\'s sources go in beside its bytecode; "only" leaves the bytecode out.'
        " Left out: as `python.source` says; with MicroPython sources alone, unless this machine has"
        " mpy-cross of its version.",
    )
    site: bool = Field(
        default=True,
        description="Whether the app's programs import `site` as they start; false is Python's option -S,"
        " which starts sooner and knows no *.pth files. Left out: true.",
    )
    isolated: bool = Field(
        default=False,
        description="Whether the app's programs pass by the environment's PYTHON* variables and the current"
        " folder, Python's option -I. Left out: false.",
    )

    @model_validator(mode="after")
    def _service_settings_need_a_service(self) -> AppUse:
        given = {"program", "environment", "arguments", "respawn_seconds"} & self.model_fields_set
        if given and self.service is not True:
            raise ValueError(f"{sorted(given)[0]} is for a service: say service = true, or leave it out")
        if "user" in self.model_fields_set and not self.service:
            raise ValueError('user is for a service: say service = true or "launcher", or leave it out')
        if self.service == "launcher" and (self.isolated or not self.site):
            key = "isolated" if self.isolated else "site"
            raise ValueError(
                f'{key} is said to an interpreter that starts, and with service = "launcher" none does'
            )
        return self


def source_kind(source: bool | Literal["only"]) -> SourceKind:
    """What the key `source` means."""
    return "only" if source == "only" else "both" if source else "bytecode"


TrimKind = Literal["tests", "typing", "sources", "platforms", "documents", "metadata"]
TRIM_KINDS: tuple[TrimKind, ...] = get_args(TrimKind)


class RequirementUse(Model):
    """A requirement with more to say of it than PEP 508 can."""

    name: WrittenText = Field(
        description="What is required, as pip writes it: `msgpack>=1`, `foo @ git+https://host/foo@v1.0`,"
        " `./libs/foo` counted from the project's folder, each with `--hash=sha256:…` for the file that may"
        " be taken. `${NAME}` in an address stands for the secret of that name."
    )
    pure: bool = Field(
        default=False,
        description="Whether its native code is left out: a wheel without any is taken, from the package"
        " index or built of its source without the extensions, and no feed's package. For what has Python"
        " code that does the same, as msgpack. Left out: false.",
    )
    trim: bool | Many[TrimKind] = Field(
        default=True,
        description="What of a wheel stays out because no device needs it: true for all of it, false for"
        ' nothing, or a list of kinds: `["tests", "typing"]`. `tests` are tests and what runs them, `typing`'
        " stubs for type checkers, `sources` what native code is compiled from and with, `platforms` modules"
        " for other systems, `documents` manual pages, `metadata` licences and what else of dist-info nobody"
        " reads on a device. What code that stays imports or names goes in all the same. Where several"
        " requirements name one distribution, what one of them wants in goes in. Left out: true.",
    )

    def trim_kinds(self) -> tuple[TrimKind, ...]:
        """The kinds of files that stay out."""
        if isinstance(self.trim, bool):
            return TRIM_KINDS if self.trim else ()
        return self.trim


class PinnedRequirement(Model):
    """What a requirement was resolved to, as a lock keeps it."""

    name: Distribution = Field(description="The distribution's name, normalized (PEP 503).")
    version: str = Field(description="Its version.")
    filename: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$")] = Field(
        description="The file that the package index has, or that was named: a wheel, or an sdist that a"
        " wheel is built from. Of a folder or a repository the distribution's name."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="That file's SHA-256, in hex; of a folder or a repository over all its files.",
    )
    requires: Many[Distribution] = Field(
        default=(), description="The distributions that it needs on the device. Left out: none."
    )
    built: Line = Field(
        default="",
        description="How its wheel is built where the index has a source with native code: `pure`, without"
        " its extensions, or what it is compiled with for the device: compiler, flags, headers. Left out: it"
        " is a wheel, or a source without native code.",
    )

    source: Line = Field(
        default="",
        description="Where it is from, if from no package index: a path, counted from the project's folder,"
        " an address, or that of a git repository with the commit. Passwords are not in it. Left out: from"
        " the package index.",
    )

    @property
    def is_wheel(self) -> bool:
        """Whether the index has a wheel, so that nothing has to be built."""
        return self.filename.endswith(".whl")


class ResolvedRequirements(Model):
    """What requirements come to on one target, as a lock keeps it."""

    wanted: dict[str, Distribution] = Field(
        default_factory=dict,
        description="The distribution of each requirement that counts on the target. Left out: none.",
    )
    feed: dict[Distribution, PackageName] = Field(
        default_factory=dict,
        description="Packages of feeds, by the distributions that they are. Left out: none.",
    )
    pins: Many[PinnedRequirement] = Field(
        default=(), description="What comes from the package index. Left out: nothing."
    )


def _check_inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError("expected a folder within the source, such as bindings/python")
    return path


InnerPath = Annotated[str, AfterValidator(_check_inside)]


class InstalledFile(Model):
    """A further file of a package."""

    source: Annotated[str, Field(min_length=1)] = Field(
        description="The file, or the folder with all below it, its path counted from the project's folder:"
        " `lib/sensor.init`."
    )
    mode: Mode | None = Field(
        default=None,
        description="The mode of files, in octal: `755`. Left out: 0755 for what its author made executable,"
        " 0644 for all else.",
    )


class PythonPackageUse(Model):
    """A Python package that is built here, from a folder, an sdist or a wheel."""

    name: PackageName = Field(description="The package's name, as a feed would have it: `python3-sensor`.")
    source: str = Field(
        default="",
        description="The project's folder, the sdist or the wheel, its path counted from this project's"
        " folder: `lib/sensor`. Left out: possible with `build = false` alone.",
    )
    version: VersionText | None = Field(
        default=None,
        description="The version of what it packs (PEP 440). Left out: what the source says, where that can"
        " be read without running it; `build = false` has to give one.",
    )
    release: Annotated[int, Field(gt=0, le=9999)] = Field(
        default=1, description="Counts the packages of one version, OpenWrt's PKG_RELEASE. Left out: 1."
    )
    description: Line = Field(
        default="", description="What the package is, in one line. Left out: the package's name."
    )
    license: Line = Field(
        default="", description="The licence, as SPDX calls it: `MIT`. Left out: the package states none."
    )
    depends: Many[PackageName] = Field(
        default=("python3-light",),
        description="Packages that it needs on the device, besides libc. Left out: `python3-light`.",
    )
    provides: Many[PackageName] = Field(
        default=(), description="Names that it stands for besides its own. Left out: none."
    )
    conflicts: Many[PackageName] = Field(
        default=(), description="Packages that cannot be in an image with it. Left out: none."
    )
    build: bool = Field(
        default=True,
        description="Whether there is something to build; with false all comes from `files`. Left out: true.",
    )
    setup_dir: InnerPath = Field(
        default="",
        description="Where in the source the project is: `bindings/python`. Left out: at its top.",
    )
    setup_vars: dict[VariableName, Line] = Field(
        default_factory=dict,
        description='Variables of the environment that it is built in: `{ SENSOR_WITHOUT_GUI = "1" }`. Left'
        " out: none.",
    )
    setup_py: bool = Field(
        default=False,
        description="Whether setup.py is called, as old releases did, in place of the project's build"
        " backend. Left out: false.",
    )
    setup_global_args: Many[Line] = Field(
        default=(), description="Arguments before setup.py's command `install`. Left out: none."
    )
    setup_args: Many[Line] = Field(
        default=(),
        description="Arguments behind setup.py's command `install`. Left out:"
        " `--single-version-externally-managed`.",
    )
    config_settings: dict[str, Line] = Field(
        default_factory=dict, description="Settings for the build backend (PEP 517). Left out: none."
    )
    build_requires: Many[RequirementText] = Field(
        default=(),
        description="What its build needs and does not state, in the notation of PEP 508:"
        ' `["setuptools-scm"]`; it is installed for the build alone. Left out: nothing.',
    )
    filespec: RuleLines | None = Field(
        default=None,
        description="Which of the built files go in, by the rules of `[[filespec]]`:"
        ' `["+|{site_packages}/sensor"]`. Programs in /usr/bin and `files` are there before the rules run.'
        " Left out: all of site-packages.",
    )
    files: dict[TargetPath, InstalledFile | str] = Field(
        default_factory=dict,
        description="More files, by their places on the device, each a path or a table: `{"
        ' "/etc/config/sensor" = "lib/sensor.uci" }`. Left out: none.',
    )
    conffiles: Many[TargetPath] = Field(
        default=(),
        description="Files that are the user's once they are on the device, which upgrades of the package"
        " leave alone. Left out: none.",
    )
    src: bool = Field(
        default=False, description="Whether its sources go in too, as the package NAME-src. Left out: false."
    )
    remove: bool = Field(
        default=False,
        description="Whether this takes out a recipe that an extended config put in. Left out: false.",
    )

    @model_validator(mode="after")
    def _can_be_made(self) -> PythonPackageUse:
        if self.remove:
            return self
        if self.build and not self.source:
            raise ValueError(
                f"package '{self.name}' has no source; say build = false if there is none to build"
            )
        if not self.build and self.version is None:
            raise ValueError(f"package '{self.name}' builds nothing that could say its version: give one")
        if not self.build and not self.files:
            raise ValueError(f"package '{self.name}' builds nothing and has no files")
        for_setup = {"setup_global_args", "setup_args"} & self.model_fields_set
        if for_setup and not self.setup_py:
            raise ValueError(f"{sorted(for_setup)[0]} is for setup.py: say setup_py = true, or leave it out")
        if self.setup_py and self.config_settings:
            raise ValueError("config_settings are for a build backend, which setup_py = true passes by")
        if self.source.endswith(".whl") and (self.setup_py or self.build_requires or self.config_settings):
            raise ValueError(
                f"{self.source} is built already: setup_py, build_requires, config_settings are for sources"
            )
        return self

    @property
    def source_name(self) -> str:
        """The name of its -src twin."""
        return f"{self.name}-src"

    def installed_files(self) -> dict[str, InstalledFile]:
        """The further files, by their places."""
        return {
            place: InstalledFile(source=file) if isinstance(file, str) else file
            for place, file in self.files.items()
        }
