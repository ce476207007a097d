"""A package that is made here: what its file will hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imagebuilder.model.package import Package
from imagebuilder.rootfs.tree import FileTree


@dataclass(frozen=True, slots=True)
class LocalPackage:
    """A package's facts and content. scripts: by the names that its package manager gives them (opkg:
    postinst, prerm …; apk: post-install, pre-deinstall …); conffiles: paths in the tree, which the package
    manager keeps as the user changed them."""

    package: Package
    tree: FileTree
    scripts: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    conffiles: tuple[str, ...] = ()
