"""The host programs that the work needs: what each is for, what brings it, and whether it is here."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

from imagebuilder.called import typed
from imagebuilder.errors import HostError
from imagebuilder.host.architecture import runs_x86_64
from imagebuilder.host.package_manager import HostPackageManager, ManagerName, find_manager, install_packages
from imagebuilder.host.run import CLEAN_PATH, ProgramTimeoutError, run
from imagebuilder.host.uefi import has_uefi
from imagebuilder.log import Log

Use = Literal["build", "sandbox", "genuine", "trial", "kit", "boot", "tests"]
USES: dict[Use, str] = {
    "build": "every build",
    "sandbox": "builds that make cannot get out of (not with --no-sandbox)",
    "genuine": "OpenWrt's own ImageBuilders",
    "trial": "trying images for routers before they are handed over",
    "kit": "the embedded kit",
    "boot": "booting images in QEMU",
    "tests": "the tests alone",
}
VERSION_SECONDS = 20.0
_STAND_INS = ("busybox", "toybox")


@dataclass(frozen=True)
class ToolPackages:
    """The package that brings a tool, by package manager; "" where its distributions have none that is known.
    elsewhere: what to do then."""

    apt: str
    dnf: str
    pacman: str
    zypper: str
    apk: str
    elsewhere: str = ""

    def of(self, manager: ManagerName) -> str:
        """The package's name for a manager."""
        name: str = getattr(self, manager)
        return name


@dataclass(frozen=True)
class Tool:
    """A program. at_least: the oldest version with what we ask of it, which `version_option` makes it print.
    simple_will_do: BusyBox's is enough. trial: arguments with which it ends well if all that belongs to it
    is here. found: how it is looked for, where that is not by PATH."""

    name: str
    packages: ToolPackages
    purpose: str
    uses: tuple[Use, ...]
    at_least: tuple[int, ...] = ()
    version_option: str = "--version"
    simple_will_do: bool = False
    trial: tuple[str, ...] = ()
    found: Callable[[], bool] | None = None

    def lack(self) -> str | None:
        """What is wrong with it on this machine; None if it is here and will do."""
        if self.found is not None:
            return None if self.found() else "not here"
        place = shutil.which(self.name, path=CLEAN_PATH)
        if place is None:
            return "not here"
        stand_in = Path(place).resolve().name
        if stand_in in _STAND_INS and not self.simple_will_do:
            return f"only {stand_in}'s is here"
        if self.trial and not _succeeds(place, self.trial):
            return "only a part of it is here"
        version = _version(place, self.version_option) if self.at_least else ()
        if version and version < self.at_least:  # one that does not say its version is taken as it is
            return f"version {_dotted(version)} is here, {_dotted(self.at_least)} is needed"
        return None

    def package(self, manager: HostPackageManager | None) -> str:
        """What a manager calls its package, or Debian; "" where that manager's distributions have none."""
        return self.packages.of(manager.name if manager else "apt")


def _succeeds(place: str, arguments: tuple[str, ...]) -> bool:
    return run([place, *arguments], timeout=VERSION_SECONDS, check=False).code == 0


def emulator_names(binary: str) -> tuple[str, str]:
    """What QEMU's user-mode emulator of a processor may be called, which comes first first. binary: the
    processor, as QEMU calls it ("mips")."""
    return f"qemu-{binary}", f"qemu-{binary}-static"


def user_emulator(binary: str) -> str | None:
    """The absolute path of QEMU's user-mode emulator of a processor; None if it is not on this machine.
    binary: as for emulator_names()."""
    places = (shutil.which(name, path=CLEAN_PATH) for name in emulator_names(binary))
    return next((place for place in places if place), None)


def _runs_programs_for(binary: str) -> bool:
    return binary == platform.machine() or user_emulator(binary) is not None


@cache
def _version(place: str, option: str) -> tuple[int, ...]:
    """The first number that a program prints of itself; () if it prints none, or does not end."""
    try:
        ended = run([place, option], timeout=VERSION_SECONDS, check=False)
    except ProgramTimeoutError:
        return ()
    found = re.search(r"\d{1,9}(?:\.\d{1,9})*", f"{ended.stdout}\n{ended.stderr}")
    return tuple(map(int, found[0].split("."))) if found else ()


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _called(name: str, **others: str) -> ToolPackages:
    """A package of one name, but for the managers that are named."""
    return replace(ToolPackages(name, name, name, name, name), **others)


_UTIL_LINUX = _called("util-linux", apk="util-linux-misc")
_SQUASHFS = _called("squashfs-tools", zypper="squashfs")
_MTD = _called("mtd-utils", apk="mtd-utils-jffs")
_GENIMAGE = ToolPackages(
    *("genimage", "", "", "", "genimage"),
    "no package of it is known for this distribution (Arch's users have one, AUR: genimage): build it from"
    " https://github.com/pengutronix/genimage (autotools and libconfuse), into /usr/local",
)


def _emulator(binary: str) -> Tool:
    """The row of a processor of routers. Without it their images are handed over untried."""
    name = emulator_names(binary)[0]
    packages = _called("qemu-user", zypper="qemu-linux-user", apk=name)
    purpose = f"runs programs for {binary}"
    return Tool(name, packages, purpose, ("trial",), found=partial(_runs_programs_for, binary))


# a row a tool: name; package, by managers where they differ; purpose; uses; the oldest version that serves
TOOLS = (
    Tool("make", _called("make"), "drives an ImageBuilder", ("build",)),
    Tool("bash", _called("bash"), "runs package scripts", ("build",)),
    Tool("cp", _called("coreutils"), "copies trees as they are", ("build",)),
    # setpriv --pdeathsig is there since 2.33, unshare --kill-child since 2.32
    Tool("unshare", _UTIL_LINUX, "gives each build its own view of the tree", ("build",), (2, 32)),
    Tool(
        "setpriv",
        _called("util-linux", apk="setpriv"),
        "ends make when the builder dies",
        ("build",),
        (2, 33),
    ),
    Tool(
        "mount",
        _called("util-linux", apt="mount", apk="mount"),
        "gives each build its own view of the tree",
        ("build",),
    ),
    Tool("unsquashfs", _SQUASHFS, "reads root file systems back", ("build",)),
    # --clearenv is there since 0.5.0, --bind-try since 0.3.1
    Tool("bwrap", _called("bubblewrap"), "shuts make and package scripts in", ("sandbox",), (0, 5)),
    Tool("prlimit", _UTIL_LINUX, "bounds what is started in the sandbox", ("sandbox",)),
    Tool("gawk", _called("gawk"), "reads package and target metadata", ("genuine",)),
    # Debian's perl-base, which is all that its smallest systems have, lacks the modules that scripts load
    Tool(
        "perl",
        _called("perl"),
        "reads package and target metadata",
        ("genuine",),
        trial=("-MFindBin", "-MFile::stat", "-MGetopt::Std", "-e", "0"),
    ),
    Tool("python3", _called("python3", pacman="python"), "writes profiles.json", ("genuine",)),
    Tool("find", _called("findutils"), "lists a tree's files, for its scripts", ("genuine",)),
    Tool("grep", _called("grep"), "reads text, for the tree's scripts", ("genuine",)),
    Tool("tar", _called("tar"), "packs root file systems", ("genuine",)),
    Tool("getopt", _UTIL_LINUX, "reads options, for the tree's scripts", ("genuine",)),
    Tool("file", _called("file"), "tells programs from data", ("genuine",)),
    Tool("unzip", _called("unzip"), "unpacks firmware blobs", ("genuine",)),
    Tool("bzip2", _called("bzip2"), "unpacks archives", ("genuine",), simple_will_do=True),
    Tool("patch", _called("patch"), "checked for by the tree", ("genuine",)),
    Tool("diff", _called("diffutils"), "checked for by the tree", ("genuine",)),
    Tool("rsync", _called("rsync"), "copies files into images", ("genuine",)),
    Tool("wget", _called("wget"), "downloads packages", ("genuine",)),
    Tool(
        "gpgv",
        _called("gpgv", dnf="/usr/bin/gpgv", pacman="gnupg", zypper="gpg2"),
        "checks OpenWrt's and Debian's signatures",
        ("genuine", "kit"),
    ),
    Tool(
        "which",
        _called("which", apt="debianutils"),
        "finds the shell that runs package scripts",
        ("genuine",),
        simple_will_do=True,
    ),
    *map(_emulator, ("mips", "mipsel", "arm", "aarch64")),
    # -mkfs-time and -all-time
    Tool("mksquashfs", _SQUASHFS, "makes the root file system", ("kit",), (4, 4), "-version"),
    # partition-table-type
    Tool("genimage", _GENIMAGE, "makes the disk", ("kit",), (15,)),
    # --invariant
    Tool(
        "mkdosfs",
        _called("dosfstools"),
        "makes the partition that the machine starts from",
        ("kit",),
        (4, 2),
        "--help",
    ),
    Tool("mcopy", _called("mtools"), "fills that partition", ("kit",)),
    Tool("mke2fs", _called("e2fsprogs"), "makes the partition for changed files", ("kit",)),
    Tool(
        "qemu-system-x86_64",
        _called("qemu-system-x86", dnf="qemu-system-x86-core", zypper="qemu-x86", apk="qemu-system-x86_64"),
        "is the machine",
        ("boot",),
    ),
    Tool(
        "UEFI firmware",
        _called("ovmf", dnf="edk2-ovmf", pacman="edk2-ovmf", zypper="qemu-ovmf-x86_64"),
        "is its UEFI",
        ("boot",),
        found=has_uefi,
    ),
    Tool("cpio", _called("cpio"), "reads the kit's initramfs", ("tests",)),
    Tool("git", _called("git"), "fetches what requirements name of repositories", ("tests",)),
    Tool(
        "mkimage",
        _called("u-boot-tools", dnf="uboot-tools", pacman="uboot-tools"),
        "makes kernels to read",
        ("tests",),
    ),
    Tool(
        "dtc", _called("dtc", apt="device-tree-compiler"), "makes FIT images to read, for mkimage", ("tests",)
    ),
    Tool(
        "ubinize",
        _called("mtd-utils", dnf="mtd-utils-ubi", apk="mtd-utils-ubi"),
        "makes UBI images to read",
        ("tests",),
    ),
    Tool("mkfs.jffs2", _MTD, "makes file systems to read", ("tests",)),
    Tool("gpg", _called("gnupg", dnf="gnupg2", zypper="gpg2"), "makes signatures to check", ("tests",)),
    Tool(
        "qemu-x86_64",
        _called("qemu-user", zypper="qemu-linux-user", apk="qemu-x86_64"),
        "runs programs for other processors",
        ("tests",),
    ),
    Tool(
        "ssh",
        _called("openssh-clients", apt="openssh-client", pacman="openssh", apk="openssh-client-default"),
        "logs in to a booted image",
        ("tests",),
    ),
)


def possible_uses(*, tests: bool = True) -> tuple[Use, ...]:
    """The uses that this machine has at all: where x86-64 programs do not run, no kit is made. tests: whether
    the tests are here, which only a checkout has."""
    there = {"kit": runs_x86_64(), "tests": tests}
    return tuple(use for use in USES if there.get(use, True))


def missing_tools(uses: Iterable[Use]) -> list[Tool]:
    """The tools for these uses that are not on this machine, or too old."""
    wanted = set(uses)
    asked = [tool for tool in TOOLS if wanted.intersection(tool.uses)]
    with ThreadPoolExecutor() as pool:  # those that are run at once; to look for the others takes no time
        running = {tool: pool.submit(tool.lack) for tool in asked if tool.at_least or tool.trial}
        lacks = {tool: tool.lack() for tool in asked if tool not in running}
    lacks.update((tool, lack.result()) for tool, lack in running.items())
    return [tool for tool in asked if lacks[tool] is not None]


def require(uses: Iterable[Use]) -> None:
    """HostError that names every tool these uses need and this machine lacks."""
    missing = missing_tools(uses)
    if missing:
        names = ", ".join(f"{tool.name} ({tool.purpose}; {tool.lack()})" for tool in missing)
        raise HostError(
            f"this machine lacks: {names}",
            hint=f"{typed('doctor --fix')}, or: {install_command(missing, find_manager())}",
        )


def install_command(tools: Sequence[Tool], manager: HostPackageManager | None) -> str:
    """What a person does to have them: the one command, and what to do for tools without a package. manager:
    None on a system whose package manager is not known."""
    packages = packages_of(tools, manager)
    parts = []
    if manager is None:
        parts = [f"install, by your system's package manager, what Debian calls: {' '.join(packages)}"]
    elif packages:
        parts = [manager.command(packages)]
    parts += [f"{tool.name}: {tool.packages.elsewhere}" for tool in without_package(tools, manager)]
    return "; and ".join(parts)


def packages_of(tools: Sequence[Tool], manager: HostPackageManager | None) -> list[str]:
    """The packages that bring them, each once, by the manager's names (Debian's where it is None)."""
    return list(dict.fromkeys(name for tool in tools if (name := tool.package(manager))))


def without_package(tools: Sequence[Tool], manager: HostPackageManager | None) -> list[Tool]:
    """Those that the manager's distributions have no package of, as far as we know."""
    return [tool for tool in tools if not tool.package(manager)]


def install(
    tools: Sequence[Tool], log: Log, manager: HostPackageManager | None = None, *, partly: bool = False
) -> None:
    """Install what is missing with this machine's package manager.

    partly: also where some have no package; else nothing is installed then. HostError, with what to do by
    hand, where it cannot be done from here (without root, with no package manager that is known, without a
    package), and where the manager fails (see install_packages()).
    """
    if not tools:
        return
    manager = manager or find_manager()
    command = install_command(tools, manager)
    if os.geteuid() != 0 or manager is None:
        raise HostError("this machine's programs can be installed by its administrator only", hint=command)
    homeless = without_package(tools, manager)
    if homeless and not partly:
        names = ", ".join(tool.name for tool in homeless)
        raise HostError(f"{manager.name} has no package that brings: {names}", hint=command)
    packages = packages_of(tools, manager)
    if packages:
        log.note(f"installing {', '.join(packages)}")
        install_packages(manager, packages, log)
        _version.cache_clear()
    _version.cache_clear()
    still = [f"{tool.name} ({lack})" for tool in tools if (lack := tool.lack())]
    if still:
        raise HostError(
            f"installed {' '.join(packages) or 'nothing'}, and still missing: {', '.join(still)}",
            hint="; ".join(f"{tool.name}: {tool.packages.elsewhere}" for tool in homeless) or None,
        )
