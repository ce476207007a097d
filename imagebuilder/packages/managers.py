"""The package managers that there are, and which one a tree has."""

from __future__ import annotations

from collections.abc import Mapping

from imagebuilder.model.tree import Tree
from imagebuilder.packages.apk.manager import Apk
from imagebuilder.packages.manager import PackageManager
from imagebuilder.packages.opkg.manager import Opkg

MANAGERS: Mapping[str, PackageManager] = {"opkg": Opkg(), "apk": Apk()}


def manager_of(tree: Tree) -> PackageManager:
    """What the tree installs packages with."""
    return MANAGERS[tree.package_manager]
