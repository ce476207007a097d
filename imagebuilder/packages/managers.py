"""The package managers that there are, and which one a tree has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from imagebuilder.model.tree import Tree
from imagebuilder.packages.manager import PackageManager


def _opkg() -> PackageManager:
    from imagebuilder.packages.opkg.manager import Opkg  # noqa: PLC0415

    return Opkg()


def _apk() -> PackageManager:
    from imagebuilder.packages.apk.manager import Apk  # noqa: PLC0415

    return Apk()


# each is loaded when a tree has it: nobody needs both
MANAGERS: Mapping[str, Callable[[], PackageManager]] = {"opkg": _opkg, "apk": _apk}


def manager_of(tree: Tree) -> PackageManager:
    """What the tree installs packages with."""
    return MANAGERS[tree.package_manager]()
