"""The host programs that the work needs: what each is for, and the package that brings it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagebuilder.errors import HostError
from imagebuilder.host.run import CLEAN_PATH, clean_environment, stream
from imagebuilder.log import Log

Use = Literal["build", "sandbox", "genuine", "kit", "boot", "tests"]
USES: dict[Use, str] = {
    "build": "every build",
    "sandbox": "builds that make cannot get out of (not with --no-sandbox)",
    "genuine": "OpenWrt's own ImageBuilders",
    "kit": "the embedded kit",
    "boot": "booting images in QEMU",
    "tests": "the tests alone",
}


@dataclass(frozen=True)
class Tool:
    """A program, or a file by its absolute path. package: Debian's and Ubuntu's name for what brings it."""

    name: str
    package: str
    purpose: str
    use: Use

    def present(self) -> bool:
        """Whether it is on this machine."""
        if self.name.startswith("/"):
            return Path(self.name).exists()
        return shutil.which(self.name, path=CLEAN_PATH) is not None


TOOLS = (
    Tool("make", "make", "drives an ImageBuilder", "build"),
    Tool("bash", "bash", "runs package scripts", "build"),
    Tool("unshare", "util-linux", "gives each build its own view of the tree", "build"),
    Tool("setpriv", "util-linux", "ends make when the builder dies", "build"),
    Tool("mount", "mount", "gives each build its own view of the tree", "build"),
    Tool("unsquashfs", "squashfs-tools", "reads root file systems back", "build"),
    Tool("bwrap", "bubblewrap", "shuts make and package scripts in", "sandbox"),
    Tool("gawk", "gawk", "reads package and target metadata", "genuine"),
    Tool("perl", "perl", "reads package and target metadata", "genuine"),
    Tool("python3", "python3", "writes profiles.json", "genuine"),
    Tool("file", "file", "tells programs from data", "genuine"),
    Tool("unzip", "unzip", "unpacks firmware blobs", "genuine"),
    Tool("bzip2", "bzip2", "unpacks archives", "genuine"),
    Tool("patch", "patch", "checked for by the tree", "genuine"),
    Tool("diff", "diffutils", "checked for by the tree", "genuine"),
    Tool("rsync", "rsync", "copies files into images", "genuine"),
    Tool("wget", "wget", "downloads packages", "genuine"),
    Tool("gpgv", "gpgv", "checks OpenWrt's signatures", "genuine"),
    Tool("which", "debianutils", "finds the shell that runs package scripts", "genuine"),
    Tool("apt-get", "apt", "fetches the packages that the kit is made of", "kit"),
    Tool("dpkg-deb", "dpkg", "unpacks them", "kit"),
    Tool("mksquashfs", "squashfs-tools", "makes the root file system", "kit"),
    Tool("genimage", "genimage", "makes the disk", "kit"),
    Tool("mkdosfs", "dosfstools", "makes the partition that the machine starts from", "kit"),
    Tool("mcopy", "mtools", "fills that partition, and takes files out of it again", "kit"),
    Tool("mke2fs", "e2fsprogs", "makes the partition for changed files", "kit"),
    Tool("qemu-system-x86_64", "qemu-system-x86", "is the machine", "boot"),
    Tool("/usr/share/OVMF/OVMF_CODE.fd", "ovmf", "is its UEFI", "boot"),
    Tool("cpio", "cpio", "reads the kit's initramfs", "tests"),
    Tool("mkimage", "u-boot-tools", "makes kernels to read", "tests"),
    Tool("dtc", "device-tree-compiler", "makes FIT images to read, for mkimage", "tests"),
    Tool("ubinize", "mtd-utils", "makes UBI images to read", "tests"),
    Tool("mkfs.jffs2", "mtd-utils", "makes file systems to read", "tests"),
    Tool("gpg", "gnupg", "makes signatures to check", "tests"),
    Tool("qemu-x86_64", "qemu-user", "runs programs for other processors", "tests"),
    Tool("ssh", "openssh-client", "logs in to a booted image", "tests"),
)


def missing_tools(uses: Iterable[Use]) -> list[Tool]:
    """The tools for these uses that are not on this machine."""
    wanted = set(uses)
    return [tool for tool in TOOLS if tool.use in wanted and not tool.present()]


def require(uses: Iterable[Use]) -> None:
    """HostError that names every tool these uses need and this machine lacks."""
    missing = missing_tools(uses)
    if missing:
        names = ", ".join(f"{tool.name} ({tool.purpose})" for tool in missing)
        raise HostError(
            f"this machine lacks: {names}",
            hint=f"python3 build.py doctor --fix, or: {install_command(missing)}",
        )


def install_command(tools: Sequence[Tool]) -> str:
    """The command that installs them, for a person to run; on systems without apt, what to look for."""
    packages = " ".join(packages_of(tools))
    if shutil.which("apt-get", path=CLEAN_PATH) is None:
        return f"install, by your system's package manager, what Debian calls: {packages}"
    return f"sudo apt-get install --no-install-recommends {packages}"


def packages_of(tools: Sequence[Tool]) -> list[str]:
    """The packages that bring them, each once."""
    return list(dict.fromkeys(tool.package for tool in tools))


def install(tools: Sequence[Tool], log: Log) -> None:
    """Install what is missing with apt. HostError, with the command to run by hand, where that cannot be
    done from here: without root, or on a system without apt."""
    if not tools:
        return
    command = install_command(tools)
    if os.geteuid() != 0 or shutil.which("apt-get", path=CLEAN_PATH) is None:
        raise HostError("this machine's programs can be installed by its administrator only", hint=command)
    environment = {**clean_environment(DEBIAN_FRONTEND="noninteractive"), **_proxy_settings()}
    apt = ["apt-get", "-q", "-o", "Dpkg::Use-Pty=0"]
    log.note(f"installing {', '.join(packages_of(tools))}")
    stream([*apt, "update"], log.output, env=environment, log=log)
    wanted = [*apt, "install", "--yes", "--no-install-recommends", *packages_of(tools)]
    stream(wanted, log.output, env=environment, log=log)
    still = [tool.name for tool in tools if not tool.present()]
    if still:
        raise HostError(f"installed {' '.join(packages_of(tools))}, and still missing: {', '.join(still)}")


def _proxy_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
