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
# e_flags: the ABI's version and its floats (ELF for the Arm Architecture, 5.1; those of soft float are set or
# not); o32, and neither NaN of 2008 nor 64-bit float registers (binutils, include/elf/mips.h)
_EF_ARM_ABI, _EF_ARM_EABI5, _EF_ARM_HARD = 0xFF000000, 0x05000000, 0x400
_EF_MIPS_ABI, _EF_MIPS_O32 = 0xF000 | 0x400 | 0x200 | 0x20, 0x1000
_EF_MIPS_ISA = (
    28  # the bit where the instruction set begins: 5 mips32, 7 mips32r2, below them what these have
)
_MIPS32, _MIPS32R2 = (0, 1, 5), (0, 1, 5, 7)
_MIPS_NO_FLOATS, _MIPS_SOFT, _MIPS_HARD = 0, (3,), (1, 5)  # Tag_GNU_MIPS_ABI_FP
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
_MUSL_SELF = re.compile(r"lib(c|pthread|rt|m|dl|util|xnet)\.")
_MUSL_LOADER = re.compile(r"ld-musl-[a-z0-9_-]+\.so\.1")
_GLIBC_OWN = re.compile(r"(lib(c|m|dl|rt|pthread|util|resolv|anl)\.so\.\d+|ld-linux[a-z0-9_.-]*\.so\.\d+)")


class TargetError(UserError):
    """A target whose Python cannot be described."""


@dataclass(frozen=True, slots=True)
class WheelMachine:
    """A processor as uname and wheels name it, and what its ELF files say (see MACHINES). flags: what e_flags
    must be where mask says; indexed: whether package indexes have wheels for it. Of MIPS, isas: instruction
    sets that it runs, floats: how its files may pass floating point numbers."""

    tag: str
    elf: str
    bits: int
    mask: int = 0
    flags: int = 0
    indexed: bool = True
    little: bool = True
    isas: tuple[int, ...] = ()
    floats: tuple[int, ...] = ()


def _arm(tag: str, *, hard: bool, indexed: bool) -> WheelMachine:
    mask = _EF_ARM_ABI | _EF_ARM_HARD
    return WheelMachine(tag, "arm", 32, mask, _EF_ARM_EABI5 | (_EF_ARM_HARD if hard else 0), indexed)


def _mips(*, little: bool, isas: tuple[int, ...], floats: tuple[int, ...]) -> WheelMachine:
    return WheelMachine("mips", "mips", 32, _EF_MIPS_ABI, _EF_MIPS_O32, False, little, isas, floats)


# by OpenWrt's names (CPU_TYPE and CPU_SUBTYPE of target/linux): with no floating point unit in it, soft float
_MACHINES: tuple[tuple[re.Pattern[str], WheelMachine], ...] = (
    (re.compile(r"x86_64"), WheelMachine("x86_64", "x86_64", 64)),
    (re.compile(r"i386_pentium4"), WheelMachine("i686", "x86", 32)),
    (re.compile(r"aarch64_.*"), WheelMachine("aarch64", "aarch64", 64)),
    # what wheels call armv7l has hard float and vfpv3-d16
    (
        re.compile(r"arm_cortex-a(5|7|8|9|15|17)_(neon|vfpv3|vfpv4|neon-vfpv4|vfpv3-d16)"),
        _arm("armv7l", hard=True, indexed=True),
    ),
    (re.compile(r"arm_cortex-a(5|7|8|9|15|17)"), _arm("armv7l", hard=False, indexed=False)),
    (re.compile(r"arm_arm1176jzf-s_vfp"), _arm("armv6l", hard=True, indexed=False)),
    (re.compile(r"arm_arm926ej-s"), _arm("armv5tejl", hard=False, indexed=False)),
    (re.compile(r"mips_(24kc|74kc|4kec)"), _mips(little=False, isas=_MIPS32R2, floats=_MIPS_SOFT)),
    (re.compile(r"mipsel_(24kc|74kc|4kec)"), _mips(little=True, isas=_MIPS32R2, floats=_MIPS_SOFT)),
    (re.compile(r"mipsel_24kc_24kf"), _mips(little=True, isas=_MIPS32R2, floats=_MIPS_HARD)),
    (re.compile(r"mips_mips32"), _mips(little=False, isas=_MIPS32, floats=_MIPS_SOFT)),
    (re.compile(r"mipsel_mips32"), _mips(little=True, isas=_MIPS32, floats=_MIPS_SOFT)),
    (re.compile(r"riscv64.*"), WheelMachine("riscv64", "riscv", 64, _EF_RISCV_FLOAT, 0x4)),
)


@dataclass(frozen=True, slots=True)
class WheelTarget:
    """A target's Python. python: the full version; arch: as OpenWrt names it; libc_version: major, minor.
    libraries: packages by the names (SONAME) of shared libraries that they bring, besides the C library's, as
    far as wheels of the image want them; "" where something else of the image brings one."""

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
        """The processor; None for those whose files are not known here."""
        return next((machine for pattern, machine in _MACHINES if pattern.fullmatch(self.arch)), None)

    def platforms(self) -> tuple[str, ...]:
        """Platform tags of native wheels that may fit, the best first; () where there are none."""
        if self.machine is None or not self.machine.indexed:
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

    @property
    def own_platform(self) -> str:
        """The platform tag of native wheels that are built here for the target: no index has such."""
        return f"openwrt_{re.sub('[^a-z0-9]', '_', self.arch)}"

    def abis(self) -> tuple[str, ...]:
        """ABI tags of this Python, the best first."""
        major, minor = self.version_pair
        return (f"cp{major}{minor}{'m' if (major, minor) < (3, 8) else ''}", "abi3", "none")

    def tags(self) -> tuple[Tag, ...]:
        """All tags that a wheel for the target may have, the best first."""
        pair, native_platforms = self.version_pair, (*self.platforms(), self.own_platform)
        native = cpython_tags(pair, abis=[self.abis()[0]], platforms=native_platforms)
        pure = compatible_tags(pair, f"cp{pair[0]}{pair[1]}", platforms=[*native_platforms, "any"])
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
        """Why an ELF file does not fit, whatever libraries there are; None if it does. beside: names of
        libraries that come with it."""
        found = self._misfit(elf)
        if found is not None:
            return found
        for name in elf.needed:
            if name not in beside and not self.has_in_libc(name):
                other = "musl" if _MUSL_LOADER.fullmatch(name) or name.startswith("libc.musl-") else "glibc"
                if _GLIBC_OWN.fullmatch(name) or other == "musl":
                    return f"is linked with {other} ({name}), and the target has {self.libc}"
        return None

    def _misfit(self, elf: Elf) -> str | None:
        """Why an ELF file is for another machine than the target's; None if it is not."""
        machine, header = self.machine, elf.header
        stated = (MACHINES.get(header.machine), header.bits, header.little_endian)
        if machine is None or stated != (machine.elf, machine.bits, machine.little):
            order = "little" if header.little_endian else "big"
            return (
                f"is for another processor (ELF machine {header.machine}, {header.bits} bits, {order}-endian)"
            )
        if header.flags & machine.mask != machine.flags:
            return f"is built for another processor ABI or floating point ABI (flags {header.flags:#x})"
        if machine.isas and header.flags >> _EF_MIPS_ISA not in machine.isas:
            return f"has instructions that {self.arch} lacks (flags {header.flags:#x})"
        if machine.floats and elf.mips_float not in (_MIPS_NO_FLOATS, *machine.floats):
            how = (
                "does not say how it passes" if elf.mips_float is None else "passes otherwise than the target"
            )
            return f"{how} floating point numbers (ABI flags {elf.mips_float})"
        return None

    def has_in_libc(self, name: str) -> bool:
        """Whether the target's C library is, or takes for itself, a library of that name."""
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
        return WheelTarget(python, arch, "glibc", glibc)
    if series not in _MUSL:
        raise TargetError(
            f"the C library of OpenWrt {series} is not known", hint=f"known are {', '.join(_MUSL)}"
        )
    return WheelTarget(python, arch, "musl", _MUSL[series])


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
