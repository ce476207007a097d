"""The kernel out of Debian's package: its image, and the modules that it needs, dependencies first."""

from __future__ import annotations

import lzma
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError

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
