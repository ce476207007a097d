"""[[python.package]]: a recipe for one's own Python package, with what OpenWrt's makefiles offer for one.

docs/python-packages.md says which key stands for which of their variables.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from imagebuilder.model.app import RequirementText
from imagebuilder.model.base import Many, Model
from imagebuilder.model.filespec import RuleLines
from imagebuilder.model.names import Mode, PackageName, TargetPath, VariableName

Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f]*$")]
VersionText = Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+!_-]*$")]


def _check_inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError("expected a folder within the source, such as bindings/python")
    return path


InnerPath = Annotated[str, AfterValidator(_check_inside)]


class InstalledFile(Model):
    """A further file of a package. source: a file or folder below the project; mode: of files, by default
    0644, or 0755 for what its author made executable."""

    source: Annotated[str, Field(min_length=1)]
    mode: Mode | None = None


class PythonPackageUse(Model):
    """A Python package that is built here, from a folder, an sdist or a wheel.

    name: as a feed would have it. version: what its source says, where that can be read without running it;
    release: counts packages of one version. depends: package names, besides libc. setup_dir: where in the
    source the project is. setup_vars: variables of its build. setup_py: call setup.py, as old releases did,
    instead of the project's build backend; setup_global_args come before its `install`, setup_args after.
    config_settings: for the build backend. build_requires: requirements of its build that it does not state;
    these are installed for the build only. filespec: what of the built files goes in ({site_packages} and
    {python} stand for the target's), by default all of site-packages and /usr/bin. files: more files, by
    their places on the device, there before the filespec. src: its sources go in too, as NAME-src. build: say
    false where there is nothing to build and all comes from `files`.
    """

    name: PackageName
    source: str = ""
    version: VersionText | None = None
    release: Annotated[int, Field(gt=0, le=9999)] = 1
    description: Line = ""
    license: Line = ""
    depends: Many[PackageName] = ("python3-light",)
    provides: Many[PackageName] = ()
    conflicts: Many[PackageName] = ()
    build: bool = True
    setup_dir: InnerPath = ""
    setup_vars: dict[VariableName, Line] = Field(default_factory=dict)
    setup_py: bool = False
    setup_global_args: Many[Line] = ()
    setup_args: Many[Line] = ()
    config_settings: dict[str, Line] = Field(default_factory=dict)
    build_requires: Many[RequirementText] = ()
    filespec: RuleLines | None = None
    files: dict[TargetPath, InstalledFile | str] = Field(default_factory=dict)
    conffiles: Many[TargetPath] = ()
    src: bool = False
    remove: bool = False

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
