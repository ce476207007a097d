"""What is common to a project, `firmware.toml`; the file also marks the project's folder."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imagebuilder.config.model_config import MirrorOptions
from imagebuilder.model.base import Model
from imagebuilder.model.release import ReleaseName

Place = Annotated[str, Field(min_length=1)]


class ProjectFile(Model):
    """A project's `firmware.toml`. What it says of images counts where no config says something else."""

    release: ReleaseName | None = Field(
        default=None,
        description="The release for configs that name none, as the key of the same name in configs has it:"
        " `24.10.4`, `24.10`, `latest`, `snapshot` or `embedded`. Left out: each config names its own, or an"
        " ImageBuilder has to be given.",
    )
    mirror: MirrorOptions = Field(
        default=MirrorOptions(),
        description="Where releases, their feeds and lists of devices are fetched from, and which keys are"
        " trusted besides OpenWrt's own; what a config says wins. Left out: OpenWrt's own server and keys.",
    )
    cache: Place | None = Field(
        default=None,
        description="The folder in which downloads, trees and kits are kept, its path counted from the"
        " project's folder. `--cache` wins. Left out: the user's cache, which all projects share.",
    )
    output: Place | None = Field(
        default=None,
        description="The folder in which results appear, its path counted from the project's folder."
        " `--output` wins. Left out: `out` in the project's folder.",
    )
