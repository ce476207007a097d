"""Debian's packages unpacked and sorted: what everything in the kit is made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.kit.debian.archive import Deb
from imagebuilder.kit.debian.deb import unpack
from imagebuilder.kit.deviations import Deviations, adapted, deviations, recipe
from imagebuilder.kit.kernel import Kernel, read_kernel
from imagebuilder.kit.recipe import Recipe
from imagebuilder.model.edition import Edition
from imagebuilder.rootfs.files import read_tree
from imagebuilder.rootfs.tree import FileTree

MAIN = "main"


@dataclass(frozen=True)
class Materials:
    """edition: which kit it is. recipe, deviations: its data. debs: Debian's packages by name. main: where
    CPython, programs and libraries were unpacked, as Debian has them; boot: where systemd-boot was. stages:
    the trees that packages are cut from, with OpenWrt's layout: MAIN, and one for each of the recipe's sites.
    certificates: Debian's tree of them. scratch: a folder that lives as long as these. epoch: the kit's date,
    seconds since 1970."""

    edition: Edition
    recipe: Recipe
    deviations: Deviations
    debs: Mapping[str, Deb]
    main: Path
    boot: Path
    kernel: Kernel
    stages: Mapping[str, FileTree]
    certificates: FileTree
    scratch: Path
    epoch: int

    @property
    def main_stage(self) -> FileTree:
        """The tree that CPython, programs and libraries are cut from."""
        return self.stages[MAIN]

    @property
    def kernel_version(self) -> str:
        """The version of the kernel's packages."""
        return next(deb.plain_version for deb in self.debs.values() if deb.is_kernel)


def _newest(folder: Path) -> int:
    """The time of the newest file below a folder, in whole seconds since 1970."""
    files = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    return max(int(file.lstat().st_mtime) for file in files)


def gather(edition: Edition, files: Mapping[Deb, Path], scratch: Path) -> Materials:
    """Unpack an edition's packages, given with their files, into a scratch folder, each where it is of use.

    Raises DebianError for a damaged package, DeviationError where they are not what the edition's file
    states, KernelError.
    """
    plan, changes = recipe(edition), deviations(edition)
    named = {deb.name: deb for deb in files}
    sites = {site.name: scratch / "site" / site.name for site in plan.site}
    main, boot, kernel, certificates = (scratch / name for name in ("main", "boot", "kernel", "certificates"))
    groups: dict[Path, Sequence[str]] = {
        main: plan.main_packages(),
        boot: plan.boot,
        certificates: (plan.certificates,),
        kernel: [deb.name for deb in files if deb.is_kernel],
        **{sites[site.name]: site.debian for site in plan.site},
    }
    for folder, names in groups.items():
        unpack((named[name] for name in names), files, folder)
    trees = {MAIN: read_tree(main)} | {name: read_tree(path) for name, path in sites.items()}
    return Materials(
        edition=edition,
        recipe=plan,
        deviations=changes,
        debs=named,
        main=main,
        boot=boot,
        kernel=read_kernel(kernel),
        stages=adapted(trees, changes),
        certificates=read_tree(certificates),
        scratch=scratch,
        epoch=max(map(_newest, groups)),  # so that it depends on the packages alone
    )
