"""Apps and requirements: what a user's own Python is, and how it is put onto the device."""

from __future__ import annotations

from typing import Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import AfterValidator, Field, model_validator

from imagebuilder.model.base import Many, Model, PackageName, VariableName

SourceKind = Literal["bytecode", "both", "only"]
Optimize = Literal[0, 1, 2]
UserName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
ProgramName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]*$")]


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
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$")]


class AppUse(Model):
    """An app: a project's folder, a wheel or a single script."""

    path: Annotated[str, Field(min_length=1)] = Field(
        description="The project's folder, the wheel or the script, its path counted from this project's"
        " folder: `apps/meter`."
    )
    name: PackageName | None = Field(
        default=None,
        description="The name of the app's package: `app-meter`. Left out: app- and the name of the project"
        " or script.",
    )
    service: bool = Field(
        default=False,
        description="Whether the app is started at boot, and again whenever it ends (procd). Left out:"
        " false, it only has programs in /usr/bin.",
    )
    program: ProgramName | None = Field(
        default=None,
        description="Which of the app's programs, its console entry points, the service runs. Left out: the"
        " only one.",
    )
    user: UserName = Field(
        default="root",
        description="The user as whom the service runs; one that OpenWrt does not have is made when the"
        " package is installed. Left out: `root`.",
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
        given = {"program", "user", "environment", "arguments", "respawn_seconds"} & self.model_fields_set
        if given and not self.service:
            raise ValueError(f"{sorted(given)[0]} is for a service: say service = true, or leave it out")
        return self


def source_kind(source: bool | Literal["only"]) -> SourceKind:
    """What the key `source` means."""
    return "only" if source == "only" else "both" if source else "bytecode"


class PinnedRequirement(Model):
    """What a requirement was resolved to, as a lock keeps it."""

    name: Distribution = Field(description="The distribution's name, normalized (PEP 503).")
    version: str = Field(description="Its version.")
    filename: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$")] = Field(
        description="The file that the package index has: a wheel, or an sdist that a pure wheel is built"
        " from."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="That file's SHA-256, in hex.",
    )
    requires: Many[Distribution] = Field(
        default=(), description="The distributions that it needs on the device. Left out: none."
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
