"""A package of which python.shake left a part, as a local package: its name, a version that sorts after."""

from __future__ import annotations

from dataclasses import replace

from imagebuilder.model.package import Dependency
from imagebuilder.packages.apk.lists import conffiles_in, with_lists
from imagebuilder.packages.repack import PackageManager, later_version
from imagebuilder.rootfs.local_package import LocalPackage
from imagebuilder.rootfs.tree import FileTree


def shaken_package(
    content: LocalPackage,
    tree: FileTree,
    depends: tuple[tuple[Dependency, ...], ...],
    manager: PackageManager,
) -> LocalPackage:
    """The package with what is left of its files and of its dependencies, and with its scripts.

    Its version, 3.11.7-1+shake.1a2b3c4d for opkg, tells which files are left. RepackError for a version that
    apk does not know.
    """
    left = [path for path, entry in tree.items() if entry.kind != "dir"]
    wanted = [str(each) for alternatives in depends for each in alternatives]
    version = later_version(content.package.version, "shake", repr((left, wanted)), manager)
    named = conffiles_in(content.tree, content.package.name) if manager == "apk" else content.conffiles
    conffiles = tuple(path for path in named if path in tree)
    package = replace(
        content.package, version=version, depends=depends, filename="", size=0, sha256="", identity=""
    )
    if manager == "apk":
        return replace(content, package=package, tree=with_lists(tree, package.name, conffiles))
    return replace(content, package=package, tree=tree, conffiles=conffiles)
