"""Apps and requirements: what a user's own Python is, and how it is put onto the device."""

from __future__ import annotations

from typing import Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import AfterValidator, Field, model_validator

from imagebuilder.model.base import Many, Model
from imagebuilder.model.names import PackageName, VariableName

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
Word = Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$")]


class AppUse(Model):
    """An app: a project's folder, a wheel or a single script, by its path.

    name: of its package, app-NAME by itself. service: it is started at boot, and again whenever it ends.
    program: the console entry point that the service runs, needed where there are several. site, isolated:
    python's -S (for False) and -I for its programs. source: what of its modules goes in, False for bytecode
    alone, True for both, "only" for sources. optimize: 1 drops assert statements, 2 docstrings too.
    """

    path: Annotated[str, Field(min_length=1)]
    name: PackageName | None = None
    service: bool = False
    program: ProgramName | None = None
    user: UserName = "root"
    environment: dict[VariableName, Word] = Field(default_factory=dict)
    arguments: Many[Word] = ()
    respawn_seconds: Annotated[int, Field(ge=0, le=86400)] = 5
    optimize: Optimize | None = None
    source: bool | Literal["only"] | None = None
    site: bool = True
    isolated: bool = False

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
    """What a requirement was resolved to, as a lock keeps it. filename, sha256: of the file that the index
    has, a wheel, or an sdist that a pure wheel is built from. requires: names of the distributions that it
    needs on the target."""

    name: Distribution
    version: str
    filename: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    requires: Many[Distribution] = ()

    @property
    def is_wheel(self) -> bool:
        """Whether the index has a wheel, so that nothing has to be built."""
        return self.filename.endswith(".whl")


class ResolvedRequirements(Model):
    """What requirements come to on one target, as a lock keeps it. wanted: for each requirement that counts
    there, its distribution; feed: packages of feeds by the distributions that they are; pins: files from the
    package index."""

    wanted: dict[str, Distribution] = Field(default_factory=dict)
    feed: dict[Distribution, PackageName] = Field(default_factory=dict)
    pins: Many[PinnedRequirement] = ()
