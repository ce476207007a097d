"""Debian's packages unpacked and sorted: what everything in the kit is made of. The kernel's are its image,
and the modules that it needs, dependencies first."""

from __future__ import annotations

import lzma
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.kit.debian.archive import Deb
from imagebuilder.kit.debian.deb import unpack
from imagebuilder.kit.recipe import Deviations, Recipe, adapted, deviations, recipe
from imagebuilder.model.edition import Edition
from imagebuilder.rootfs.files import read_tree
from imagebuilder.rootfs.tree import FileTree

# modpost writes the names that a module needs into its .modinfo section; depmod reads the same
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
# Debian 13 has all of /lib in /usr/lib
_MODULES = ("lib/modules", "usr/lib/modules")
_PACKED = ".xz"


class KernelError(UserError):
    """Debian's kernel package is not what the kit expects."""


@dataclass(frozen=True)
class Kernel:
    """release: what `uname -r` says. image: the bzImage. folder: where its modules are. modules: module
    names, with `_`, to files (.ko or .ko.xz). builtin: the names of those that are part of the image."""

    release: str
    image: Path
    folder: Path
    modules: Mapping[str, Path]
    builtin: frozenset[str]


def _module_name(path: str) -> str:
    return Path(path).name.removesuffix(_PACKED).removesuffix(".ko").replace("-", "_")


def read_kernel(root: Path) -> Kernel:
    """The one kernel in a folder into which Debian's package was unpacked. KernelError if there is none."""
    images = list(root.glob("boot/vmlinuz-*"))
    if len(images) != 1:
        raise KernelError(f"one kernel was expected in {root}/boot, found {len(images)}")
    release = images[0].name.removeprefix("vmlinuz-")
    folders = [root / place / release for place in _MODULES if (root / place / release).is_dir()]
    if len(folders) != 1:
        raise KernelError(f"one folder of modules was expected for kernel {release}, found {len(folders)}")
    (folder,) = folders
    return Kernel(
        release=release,
        image=images[0],
        folder=folder,
        modules={_module_name(file.name): file for file in folder.rglob("*.ko*")},
        builtin=frozenset(map(_module_name, (folder / "modules.builtin").read_text("ascii").split())),
    )


def module_file(kernel: Kernel, name: str) -> Path:
    """The module as the kernel loads it, unpacked beside its packed file where it has one. KernelError for
    one that is not there, or is damaged."""
    if name not in kernel.modules:
        raise KernelError(f"kernel {kernel.release} has no module {name}")
    file = kernel.modules[name]
    if file.suffix != _PACKED:
        return file
    plain = file.with_suffix("")
    if not plain.exists():
        try:
            plain.write_bytes(lzma.decompress(file.read_bytes()))
        except lzma.LZMAError as error:
            raise KernelError(f"{file.name} is damaged: {error}") from error
    return plain


def _needs(file: Path) -> list[str]:
    found = _DEPENDS.search(file.read_bytes())
    if found is None:
        raise KernelError(f"{file.name} does not say which modules it depends on")
    return [name.replace("-", "_") for name in found[1].decode("ascii").split(",") if name]


def load_order(kernel: Kernel, names: Sequence[str]) -> tuple[str, ...]:
    """These modules and all that they depend on, in an order in which insmod can load them.

    A module that is part of the kernel is left out. KernelError for one that is not there at all.
    """
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name in kernel.builtin:
            return
        for needed in _needs(module_file(kernel, name)):
            visit(needed)
        order.append(name)

    for name in names:
        visit(name)
    return tuple(order)


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
