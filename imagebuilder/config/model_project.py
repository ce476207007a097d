"""What is common to a project, `firmware.toml`; the file also marks the project's folder."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from imagebuilder.config.model_config import MirrorOptions
from imagebuilder.config.model_server import ServerOptions
from imagebuilder.model.base import Model
from imagebuilder.model.release import ReleaseName


def check_site_url(text: str) -> str:
    """An address for a site, without / at its end. ValueError for what is none."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"'{text}' is no address of a site; expected one such as https://firmware.example.org"
        )
    return text.rstrip("/")


Place = Annotated[str, Field(min_length=1)]


class PublishSettings(Model):
    """How `publish` makes a site of results."""

    keep: Annotated[int, Field(ge=1)] = Field(
        default=30,
        description="Of how many builds of each config of each board the images and pages stay; of older ones"
        " the history has the facts. `--keep-builds` wins. Left out: 30.",
    )
    title: Annotated[str, Field(min_length=1)] = Field(
        default="Firmware", description="The site's heading. `--title` wins. Left out: `Firmware`."
    )
    url: Annotated[str, AfterValidator(check_site_url)] | None = Field(
        default=None,
        description="Where the site will be found: `https://firmware.example.org`. The feed has whole"
        " addresses then, and the site also what owut and LuCI ask a build server for. `--url` wins. Left"
        " out: addresses count from the site's own, and there is nothing of a build server.",
    )


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
    publish: PublishSettings = Field(
        default=PublishSettings(),
        description="The site that `publish` makes of results. Left out: what each key says there.",
    )
    output: Place | None = Field(
        default=None,
        description="The folder in which results appear, its path counted from the project's folder."
        " `--output` wins. Left out: `out` in the project's folder.",
    )
    sign: bool = Field(
        default=False,
        description="Whether each result's `sha256sums` is signed by your own key, which is made where there"
        " is none: `sha256sums.sig`, for usign, signify and `owrt-python verify FOLDER`. Left out: false.",
    )
    server: ServerOptions = Field(
        default=ServerOptions(),
        description="What `serve --builder` builds for others. Left out: it takes configs from the command"
        " line, and these defaults.",
    )
