"""What a build server builds for others, and how much: `[server]` of a project's `firmware.toml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from imagebuilder.config.model_config import MOST_PARTSIZE
from imagebuilder.model.base import Many, Model, Size, Word
from imagebuilder.model.release import ReleaseName

NamePattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+*?-]+$")]


class ServerOptions(Model):
    """What `serve --builder` builds for those who reach it, and how much of it."""

    configs: Many[Word] = Field(
        default=(),
        description="The configs whose boards are built for: a request gets the first of them that names its"
        ' board, with what it asks for besides: `["router"]`. One that holds secrets is refused. Left out:'
        " they are named on the command line.",
    )
    folder: Annotated[str, Field(min_length=1)] = Field(
        default="server",
        description="The folder in which requests and results are kept, its path counted from the project's"
        " folder. `--state` wins. Left out: `server` in the project's folder.",
    )
    releases: Many[ReleaseName] = Field(
        default=(),
        description='The releases that are built, in place of the one that the configs name: `["24.10.4",'
        ' "23.05.5"]`. Left out: that one.',
    )
    allow: Many[NamePattern] = Field(
        default=("*",),
        description='The packages that requests may add, by name or pattern, as in a shell: `["luci*",'
        ' "tcpdump-mini"]`. What tree and profile install by default always may. Left out: all.',
    )
    deny: Many[NamePattern] = Field(
        default=(),
        description='The packages that requests may not add although `allow` does: `["kmod-*"]`. Left out:'
        " none.",
    )
    defaults: bool = Field(
        default=False,
        description="Whether requests may bring a script that the device runs at its first start. Whoever has"
        " the request's number can fetch the image with it. Left out: false.",
    )
    defaults_size: Size = Field(
        default=20 << 10,
        description="The most that such a script may have, in bytes, or with K, M or G: `20K`. Left out:"
        " 20480, which is 20K.",
    )
    rootfs_size: Annotated[int, Field(gt=0, le=MOST_PARTSIZE)] = Field(
        default=1024,
        description="The most that requests may have the root file system's partition be, in MiB. Left out:"
        " 1024.",
    )
    queue: Annotated[int, Field(gt=0, le=100_000)] = Field(
        default=200,
        description="How many requests may wait; more are told to come back later. Left out: 200.",
    )
    storage: Size = Field(
        default=10 << 30,
        description="The room that results may take, in bytes, or with K, M or G: `10G`. The oldest go first."
        " Left out: 10737418240, which is 10G.",
    )
    keep: Annotated[int, Field(gt=0, le=3650)] = Field(
        default=7,
        description="How long a result answers requests that are equal to its own, in days; after them it is"
        " built anew. Left out: 7.",
    )
    origins: Many[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]] = Field(
        default=("*",),
        description="The web pages that browsers let speak to the server, by their origins:"
        ' `["https://selector.example"]`. Left out: all, as OpenWrt\'s own server has it.',
    )
