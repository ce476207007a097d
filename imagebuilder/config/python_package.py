"""[[python.package]]: a recipe for one's own Python package, with what OpenWrt's makefiles offer for one.

docs/python-packages.md says which key stands for which of their variables.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from imagebuilder.config.app import Line, RequirementText
from imagebuilder.model.base import Many, Mode, Model, PackageName, TargetPath, VariableName
from imagebuilder.model.filespec import RuleLines

VersionText = Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+!_-]*$")]


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
