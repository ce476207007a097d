"""Where things are in the kit's tree, and what the tree says of itself. Shared by its maker and by make."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, read_plain_text

DISTRIBUTION = "OpenWrt"
BOARD = "x86"
SUBTARGET = "64"
ARCHITECTURE = "x86_64"
PROFILE = "qemu-x86-64"
VENDOR = "QEMU"
MODEL = "standard PC (x86-64, UEFI, virtio)"
PROFILE_TITLE = f"{VENDOR} {MODEL}"
IMAGE_TYPE = "combined-efi"
FILESYSTEM = "squashfs"

LINUX_DIR = Path("build_dir/target-x86_64/linux-x86_64")
ROOT_DIR = Path("build_dir/target-x86_64/root-x86")
PACKAGES_DIR = Path("packages")
DISK_CONFIG = "disk.cfg"
OVERLAY = "overlay.ext4"
ROOTFS = "root.squashfs"
MANIFEST_OF_KIT = "kit.json"

_SETTING = re.compile(r'(?P<key>CONFIG_\w+)=(?P<value>"[^"]*"|\S+)')


class KitTreeError(UserError):
    """The tree lacks something that its maker put there."""


@dataclass(frozen=True)
class TreeConfig:
    """The `.config` of the tree. rootfs_partition: bytes; block_size: of the squashfs, in bytes;
    source_date_epoch: seconds since 1970."""

    distribution: str
    version: str
    version_code: str
    target: str
    architecture: str
    kernel_version: str
    default_packages: tuple[str, ...]
    rootfs_partition: int
    block_size: int
    compressor: tuple[str, ...]
    source_date_epoch: int

    @property
    def dashed_target(self) -> str:
        """The target as file names have it: `x86-64`."""
        return self.target.replace("/", "-")


def config_text(config: TreeConfig) -> str:
    """The `.config` that read_config() reads."""
    board, _, subtarget = config.target.partition("/")
    settings: Mapping[str, object] = {
        "TARGET_BOARD": board,
        "TARGET_SUBTARGET": subtarget,
        "TARGET_PROFILE": f"DEVICE_{PROFILE}",
        "TARGET_ARCH_PACKAGES": config.architecture,
        "TARGET_ROOTFS_PARTSIZE": config.rootfs_partition >> 20,
        "TARGET_SQUASHFS_BLOCK_SIZE": config.block_size >> 10,
        "KIT_SQUASHFS_COMPRESSOR": shlex.join(config.compressor),
        "KIT_DEFAULT_PACKAGES": " ".join(config.default_packages),
        "KIT_KERNEL_VERSION": config.kernel_version,
        "KIT_SOURCE_DATE_EPOCH": config.source_date_epoch,
        "VERSION_DIST": config.distribution,
        "VERSION_NUMBER": config.version,
        "VERSION_CODE": config.version_code,
        "VERSION_REPO": "",
    }
    lines = ["# Automatically generated file; DO NOT EDIT.", f"# {config.distribution} Configuration"]
    lines += [f"CONFIG_TARGET_{board}=y", f"CONFIG_TARGET_{board}_{subtarget}=y"]
    lines += [f"CONFIG_TARGET_{board}_{subtarget}_DEVICE_{PROFILE}=y", "CONFIG_TARGET_ROOTFS_SQUASHFS=y"]
    for key, value in settings.items():
        lines.append(f"CONFIG_{key}={value}" if isinstance(value, int) else f'CONFIG_{key}="{value}"')
    return "\n".join(lines) + "\n"


def read_config(tree: Path) -> TreeConfig:
    """The configuration of the kit's tree in a folder. KitTreeError if this is none."""
    try:
        text = read_plain_text(tree / ".config")
    except PlainFileError as error:
        raise KitTreeError(f"{tree} is no tree of the embedded kit: {error.message}") from error
    settings = filter(None, map(_SETTING.fullmatch, text.splitlines()))
    values = {found["key"]: found["value"].strip('"') for found in settings}
    try:
        return TreeConfig(
            distribution=values["CONFIG_VERSION_DIST"],
            version=values["CONFIG_VERSION_NUMBER"],
            version_code=values["CONFIG_VERSION_CODE"],
            target=f"{values['CONFIG_TARGET_BOARD']}/{values['CONFIG_TARGET_SUBTARGET']}",
            architecture=values["CONFIG_TARGET_ARCH_PACKAGES"],
            kernel_version=values["CONFIG_KIT_KERNEL_VERSION"],
            default_packages=tuple(values["CONFIG_KIT_DEFAULT_PACKAGES"].split()),
            rootfs_partition=int(values["CONFIG_TARGET_ROOTFS_PARTSIZE"]) << 20,
            block_size=int(values["CONFIG_TARGET_SQUASHFS_BLOCK_SIZE"]) << 10,
            compressor=tuple(shlex.split(values["CONFIG_KIT_SQUASHFS_COMPRESSOR"])),
            source_date_epoch=int(values["CONFIG_KIT_SOURCE_DATE_EPOCH"]),
        )
    except KeyError as error:
        raise KitTreeError(f"{tree}/.config does not say {error.args[0]}") from error
