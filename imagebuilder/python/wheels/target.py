"""For whom wheels are chosen: the target's Python, processor and C library, as wheel tags, as marker
variables, and as what an ELF file must be.

Sources: PEP 425, 600 (manylinux), 656 (musllinux); OpenWrt's include/target.mk and toolchain (soft float
unless the processor's name says that it has a floating point unit); musl's ldso/dynlink.c, which takes any
library called libc.*, libm.*, ... for itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.version import Version

from imagebuilder.errors import UserError
from imagebuilder.host.elf import MACHINES, Elf
from imagebuilder.model.release import SNAPSHOT

Libc = Literal["musl", "glibc"]
_EF_ARM_HARD = 0x400  # EF_ARM_ABI_FLOAT_HARD
_EF_RISCV_FLOAT = 0x6
# musl of a release series: toolchain/musl/Makefile
_MUSL = {
    "17.01": (1, 1),
    "18.06": (1, 1),
    "19.07": (1, 1),
    "21.02": (1, 1),
    "22.03": (1, 2),
    "23.05": (1, 2),
    "24.10": (1, 2),
    "25.12": (1, 2),
    SNAPSHOT: (1, 2),
}
# package/libs/toolchain, from 18.06 on
GCC_LIBRARIES = {"libgcc_s.so.1": "libgcc1", "libstdc++.so.6": "libstdcpp6", "libatomic.so.1": "libatomic1"}
_MUSL_SELF = re.compile(r"lib(c|pthread|rt|m|dl|util|xnet)\.")
_MUSL_LOADER = re.compile(r"ld-musl-[a-z0-9_-]+\.so\.1")
_GLIBC_OWN = re.compile(r"(lib(c|m|dl|rt|pthread|util|resolv|anl)\.so\.\d+|ld-linux[a-z0-9_.-]*\.so\.\d+)")


class TargetError(UserError):
    """A target whose Python cannot be described."""


@dataclass(frozen=True, slots=True)
class WheelMachine:
    """A processor as wheels name it, and what its ELF files say (see MACHINES). flags: what e_flags must be
    where mask says."""

    tag: str
    elf: str
    bits: int
    mask: int = 0
    flags: int = 0


_MACHINES: tuple[tuple[re.Pattern[str], WheelMachine], ...] = (
    (re.compile(r"x86_64"), WheelMachine("x86_64", "x86_64", 64)),
    (re.compile(r"i386_pentium4"), WheelMachine("i686", "x86", 32)),
    (re.compile(r"aarch64_.*"), WheelMachine("aarch64", "aarch64", 64)),
    # what wheels call armv7l has hard float and vfpv3-d16
    (
        re.compile(r"arm_cortex-a(5|7|8|9|15|17)_(neon|vfpv3|vfpv4|neon-vfpv4|vfpv3-d16)"),
        WheelMachine("armv7l", "arm", 32, _EF_ARM_HARD, _EF_ARM_HARD),
    ),
    (re.compile(r"riscv64.*"), WheelMachine("riscv64", "riscv", 64, _EF_RISCV_FLOAT, 0x4)),
)


@dataclass(frozen=True, slots=True)
class WheelTarget:
    """A target's Python. python: the full version; arch: as OpenWrt names it; libc_version: major, minor.
    libraries: packages by the names (SONAME) of shared libraries that they bring, besides the C library's."""

    python: str
    arch: str
    libc: Libc
    libc_version: tuple[int, int]
    libraries: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def version_pair(self) -> tuple[int, int]:
        """Major and minor version as numbers."""
        release = Version(self.python).release
        return release[0], release[1]

    @property
    def machine(self) -> WheelMachine | None:
        """The processor as wheels name it; None where no index has wheels for it, as for MIPS."""
        return next((machine for pattern, machine in _MACHINES if pattern.fullmatch(self.arch)), None)

    def platforms(self) -> tuple[str, ...]:
        """Platform tags of native wheels that may fit, the best first; () where there are none."""
        if self.machine is None:
            return ()
        major, newest = self.libc_version
        if self.libc == "musl":
            return tuple(f"musllinux_{major}_{minor}_{self.machine.tag}" for minor in range(newest, -1, -1))
        old = 5 if self.machine.tag in ("x86_64", "i686") else 17
        names = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
        return tuple(
            f"{name}_{self.machine.tag}"
            for minor in range(newest, old - 1, -1)
            for name in filter(None, (f"manylinux_{major}_{minor}", names.get(minor)))
        )

    def abis(self) -> tuple[str, ...]:
        """ABI tags of this Python, the best first."""
        major, minor = self.version_pair
        return (f"cp{major}{minor}{'m' if (major, minor) < (3, 8) else ''}", "abi3", "none")

    def tags(self) -> tuple[Tag, ...]:
        """All tags that a wheel for the target may have, the best first."""
        pair = self.version_pair
        native = cpython_tags(pair, abis=[self.abis()[0]], platforms=self.platforms())
        pure = compatible_tags(pair, f"cp{pair[0]}{pair[1]}", platforms=[*self.platforms(), "any"])
        return (*native, *pure)

    def markers(self) -> dict[str, str]:
        """The variables of environment markers (PEP 508) on the target."""
        release = Version(self.python)
        machine = self.machine.tag if self.machine is not None else self.arch.partition("_")[0]
        return {
            "implementation_name": "cpython",
            "implementation_version": str(release),
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": str(release),
            "python_version": f"{release.release[0]}.{release.release[1]}",
            "sys_platform": "linux",
        }

    def problem(self, elf: Elf, beside: Collection[str] = ()) -> str | None:
        """Why an ELF file does not fit; None if it does. beside: names of libraries that come with it."""
        machine, header = self.machine, elf.header
        stated = (MACHINES.get(header.machine), header.bits, header.little_endian)
        if machine is None or stated != (machine.elf, machine.bits, True):
            order = "little" if header.little_endian else "big"
            return (
                f"is for another processor (ELF machine {header.machine}, {header.bits} bits, {order}-endian)"
            )
        if header.flags & machine.mask != machine.flags:
            return f"is built for another floating point ABI (flags {header.flags:#x})"
        for name in elf.needed:
            known = name in beside or name in self.libraries
            if not (known or self._is_libc(name)):
                other = "musl" if _MUSL_LOADER.fullmatch(name) or name.startswith("libc.musl-") else "glibc"
                if _GLIBC_OWN.fullmatch(name) or other == "musl":
                    return f"is linked with {other} ({name}), and the target has {self.libc}"
                return f"wants the library {name}, which neither it nor the image brings"
        return None

    def _is_libc(self, name: str) -> bool:
        if self.libc == "glibc":
            return _GLIBC_OWN.fullmatch(name) is not None
        loader = _MUSL_LOADER.fullmatch(name) is not None
        return loader or (_MUSL_SELF.match(name) is not None and _GLIBC_OWN.fullmatch(name) is None)


def wheel_target(
    python: str,
    arch: str,
    series: str,
    *,
    glibc: tuple[int, int] | None = None,
) -> WheelTarget:
    """The target of a release series ('23.05', 'snapshot'). python: CPython's full version; glibc: its
    version, where the tree is built with it instead of musl (the kit's stands in its edition).

    TargetError for an unknown series.
    """
    if glibc is not None:
        return WheelTarget(python, arch, "glibc", glibc, GCC_LIBRARIES)
    if series not in _MUSL:
        raise TargetError(
            f"the C library of OpenWrt {series} is not known", hint=f"known are {', '.join(_MUSL)}"
        )
    return WheelTarget(python, arch, "musl", _MUSL[series], GCC_LIBRARIES)


def marker_holds(marker: str, environment: Mapping[str, str], extras: Collection[str] = ()) -> bool:
    """Whether an environment marker holds on the target, with one of these extras or none."""
    parsed = Marker(marker)
    return any(parsed.evaluate({**environment, "extra": extra}) for extra in (*extras, ""))


def native_hint(name: str, target: WheelTarget) -> str:
    """What would be needed for a package with native code."""
    major, minor = target.version_pair
    ways = [f"a feed package python3-{name} for {target.arch}, built with OpenWrt's SDK"]
    if target.platforms():
        tag = target.platforms()[0]
        ways.append(f"a wheel for Python {major}.{minor} on {tag} in a package index")
    return (
        " or ".join(ways) + " would be needed; or another release of it, or another package, in pure Python"
    )
