"""What an ImageBuilder tree says of itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

from imagebuilder.errors import UserError
from imagebuilder.model.base import Many, Model


class TreeError(UserError):
    """A folder that is no ImageBuilder tree, or one that cannot be used."""


class ProfileError(UserError):
    """The tree cannot make images for the board."""


class TreeProfile(Model):
    """A device that the tree can make images for; packages: added to the tree's, or with `-` taken away."""

    name: str
    title: str
    packages: Many[str] = ()


class Places(Model):
    """Folders in which the tree's own make keeps things, relative to the tree; "" where it does not say.

    kernel: kernels as images take them (KERNEL_BUILD_DIR); linux: the kernel's .config and, from 21.02 on,
    its package (LINUX_DIR); root: the root file system (TARGET_DIR); packages: the tree's own (PACKAGE_DIR);
    bin: images, where nothing else is said (BIN_DIR).
    """

    kernel: str = ""
    linux: str = ""
    root: str = ""
    packages: str = "packages"
    bin: str = ""


class Tree(Model):
    """An unpacked ImageBuilder. folder: where it lies. version: as the tree calls its release; series: of
    OpenWrt, where version does not name it (a fork's). disables_services: make knows DISABLED_SERVICES;
    sizes_rootfs: it knows ROOTFS_PARTSIZE; forces_overwrite: its opkg lays files over those of other packages
    (--force-overwrite)."""

    folder: str
    distribution: str
    version: str
    target: str
    arch: str
    package_manager: Literal["opkg", "apk"]
    default_packages: Many[str]
    profiles: dict[str, TreeProfile]
    disables_services: bool
    sizes_rootfs: bool = True
    forces_overwrite: bool = False
    places: Places = Places()
    series: str = ""

    @property
    def release(self) -> str:
        """The release of OpenWrt whose rules the tree follows: its version, or a fork's series."""
        return self.series or self.version


def nearest_profiles(name: str, titled: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The profiles that somebody may mean by this name, the likeliest first. titled: name and title."""
    known = tuple(titled)
    words = {**{each.lower(): each for each, _ in known}, **{title.lower(): each for each, title in known}}
    near = difflib.get_close_matches(name.lower(), words, n=5, cutoff=0.5)
    return tuple(dict.fromkeys(words[each] for each in near))
