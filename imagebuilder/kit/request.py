"""What make was asked for: its variables, as ImageBuilder understands them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.kit.layout import FILESYSTEM, IMAGE_TYPE, PROFILE, TreeConfig

MIB = 1 << 20


class RequestError(UserError):
    """A variable of make whose value is no good. The message is what the genuine ImageBuilder prints."""


@dataclass(frozen=True)
class MakeRequest:
    """One call of make. files: a folder laid over the root, or None. rootfs_partition: bytes.
    source_date_epoch: seconds since 1970."""

    config: TreeConfig
    profile: str
    packages: tuple[str, ...]
    files: Path | None
    bin_dir: Path
    disabled_services: frozenset[str]
    extra_image_name: str
    rootfs_partition: int
    strip_abi: bool
    package: str
    source_date_epoch: int

    @property
    def prefix(self) -> str:
        """What the names of all files of this image begin with."""
        parts = (self.config.distribution.lower(), self.config.version, self.extra_image_name)
        return "-".join(filter(None, (*parts, self.config.dashed_target, self.profile)))

    @property
    def image_name(self) -> str:
        """The name of the disk image."""
        return f"{self.prefix}-{FILESYSTEM}-{IMAGE_TYPE}.img"

    @property
    def manifest_name(self) -> str:
        """The name of the list of packages."""
        return f"{self.prefix}.manifest"


def _sanitized(text: str) -> str:
    """A part of a file name as OpenWrt makes it: lower case, and hyphens for what is no word."""
    return re.sub(r"[^a-z0-9.+-]+", "-", text.strip().lower())


def _megabytes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise RequestError(f"ROOTFS_PARTSIZE={text} is no number of megabytes")
    return int(text) * MIB


def _epoch(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise RequestError(f"SOURCE_DATE_EPOCH={text} is no number of seconds")
    return int(text)


def read_request(variables: Mapping[str, str], config: TreeConfig, tree: Path) -> MakeRequest:
    """The request that make's variables make. A relative path counts from the tree, FILES that is no folder
    counts as not given, as with the genuine ImageBuilder. Raises RequestError."""

    def value(name: str) -> str:
        return variables.get(name, "").strip()

    profile = value("PROFILE") or PROFILE
    if profile != PROFILE:
        raise RequestError(
            f'Profile "{profile}" does not exist!\nUse "make info" to get a list of available profile names.'
        )
    files = tree / value("FILES") if value("FILES") else None
    size, epoch = value("ROOTFS_PARTSIZE"), value("SOURCE_DATE_EPOCH")
    return MakeRequest(
        config=config,
        profile=profile,
        packages=tuple(value("PACKAGES").split()),
        files=files if files is not None and files.is_dir() else None,
        bin_dir=tree / (value("BIN_DIR") or f"bin/targets/{config.target}"),
        disabled_services=frozenset(value("DISABLED_SERVICES").split()),
        extra_image_name=_sanitized(value("EXTRA_IMAGE_NAME")),
        rootfs_partition=_megabytes(size) if size else config.rootfs_partition,
        strip_abi=bool(value("STRIP_ABI")),
        package=value("PACKAGE"),
        source_date_epoch=_epoch(epoch) if epoch else config.source_date_epoch,
    )
