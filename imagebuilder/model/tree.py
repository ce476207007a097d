"""What an ImageBuilder tree says of itself."""

from __future__ import annotations

from typing import Literal

from imagebuilder.model.base import Many, Model


class TreeProfile(Model):
    """A device that the tree can make images for; packages: added to the tree's, or with `-` taken away."""

    name: str
    title: str
    packages: Many[str] = ()


class Tree(Model):
    """An unpacked ImageBuilder. folder: where it lies. disables_services: make knows DISABLED_SERVICES."""

    folder: str
    distribution: str
    version: str
    target: str
    arch: str
    package_manager: Literal["opkg", "apk"]
    default_packages: Many[str]
    profiles: dict[str, TreeProfile]
    disables_services: bool
