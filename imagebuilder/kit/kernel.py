"""The kernel out of Debian's package: its image, and the modules that it needs, dependencies first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError

# modpost writes the names that a module needs into its .modinfo section; depmod reads the same
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


class KernelError(UserError):
    """Debian's kernel package is not what the kit expects."""


@dataclass(frozen=True)
class Kernel:
    """release: what `uname -r` says. image: the bzImage. modules: module names, with `_`, to files.
    builtin: the names of those that are part of the image."""

    release: str
    image: Path
    modules: Mapping[str, Path]
    builtin: frozenset[str]


def _module_name(path: str) -> str:
    return Path(path).name.removesuffix(".ko").replace("-", "_")


def read_kernel(root: Path) -> Kernel:
    """The one kernel in a folder into which Debian's package was unpacked. KernelError if there is none."""
    images = list(root.glob("boot/vmlinuz-*"))
    if len(images) != 1:
        raise KernelError(f"one kernel was expected in {root}/boot, found {len(images)}")
    release = images[0].name.removeprefix("vmlinuz-")
    modules = root / "lib/modules" / release
    return Kernel(
        release=release,
        image=images[0],
        modules={_module_name(file.name): file for file in modules.rglob("*.ko")},
        builtin=frozenset(map(_module_name, (modules / "modules.builtin").read_text("ascii").split())),
    )


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
        if name not in kernel.modules:
            raise KernelError(f"kernel {kernel.release} has no module {name}")
        for needed in _needs(kernel.modules[name]):
            visit(needed)
        order.append(name)

    for name in names:
        visit(name)
    return tuple(order)
