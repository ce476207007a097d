"""The package manager that installs programs on this machine, and how it is called.

Which one: what /etc/os-release says (ID, then the words of ID_LIKE; see os-release(5)), where its program is
here; on a system that says nothing known, the one whose program is here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagebuilder.errors import HostError
from imagebuilder.host.refusals import explain_refusal
from imagebuilder.host.run import CLEAN_PATH, ProgramError, clean_environment, stream
from imagebuilder.log import Log

ManagerName = Literal["apt", "dnf", "pacman", "zypper", "apk"]
OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
OS_RELEASE_BYTES = 1 << 16


@dataclass(frozen=True)
class HostPackageManager:
    """systems: the distributions that it belongs to, by ID or ID_LIKE. install: what a person types, up to
    the packages. unattended: options after the program's name that keep it from asking. update: fetches the
    lists of packages, where installing does not do it by itself. variables: of its environment."""

    name: ManagerName
    program: str
    systems: tuple[str, ...]
    install: tuple[str, ...]
    unattended: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def command(self, packages: Sequence[str]) -> str:
        """The command that a person runs."""
        return f"sudo {shlex.join((self.program, *self.install, *packages))}"


MANAGERS = (
    HostPackageManager(
        "apt",
        "apt-get",
        ("debian", "ubuntu"),
        ("install", "--no-install-recommends"),
        # a network that answers nothing is given up after a minute, and another apt at work is waited for
        (
            *("-q", "--yes", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120"),
            *(
                "-o",
                "Acquire::Retries=1",
                "-o",
                "Acquire::http::Timeout=20",
                "-o",
                "Acquire::https::Timeout=20",
            ),
        ),
        ("update",),
        (("DEBIAN_FRONTEND", "noninteractive"),),
    ),
    HostPackageManager(
        "dnf",
        "dnf",
        ("fedora", "rhel", "centos"),
        ("install", "--setopt=install_weak_deps=False"),
        ("--assumeyes", "--setopt=retries=2", "--setopt=timeout=20"),
    ),
    HostPackageManager("pacman", "pacman", ("arch",), ("-S", "--needed"), ("--noconfirm", "--noprogressbar")),
    HostPackageManager(
        "zypper",
        "zypper",
        ("suse", "opensuse", "sles"),
        ("install", "--no-recommends"),
        ("--non-interactive",),
    ),
    HostPackageManager("apk", "apk", ("alpine", "postmarketos"), ("add",), ("--no-progress",), ("update",)),
)


def system_ids(places: Sequence[Path] = OS_RELEASE) -> tuple[str, ...]:
    """What this system calls itself and what it is like, in lower case, the closest first; () if unsaid."""
    for place in places:
        try:
            with place.open("rb") as stream:
                text = stream.read(OS_RELEASE_BYTES).decode("utf-8", "replace")
        except OSError:  # systems without the file are allowed
            continue
        found = dict(re.findall(r"(?m)^(ID|ID_LIKE)=(.*)$", text))
        words = f"{found.get('ID', '')} {found.get('ID_LIKE', '')}"
        return tuple(re.sub(r"[\"']", "", words).lower().split())
    return ()


def find_manager(places: Sequence[Path] = OS_RELEASE, path: str = CLEAN_PATH) -> HostPackageManager | None:
    """This machine's package manager; None where none that is known here is."""
    here = [each for each in MANAGERS if shutil.which(each.program, path=path) is not None]
    for name in system_ids(places):
        # openSUSE calls itself opensuse-tumbleweed, opensuse-leap
        mine = [each for each in here if name in each.systems or name.split("-")[0] in each.systems]
        if mine:
            return mine[0]
    return here[0] if here else None


def install_packages(
    manager: HostPackageManager,
    packages: Sequence[str],
    log: Log,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Install packages, as root, without a question. HostError, saying what stood in the way (network, proxy,
    disk, a package that is not there), where the manager fails."""
    variables = {**clean_environment(**dict(manager.variables)), **proxy_settings(environment)}
    said: list[str] = []

    def on_line(line: str) -> None:
        said.append(line)
        log.output(line)

    program = (manager.program, *manager.unattended)
    if manager.update:
        # apt ends with 0 although lists could not be had, and another's broken source may be why: go on
        stream([*program, *manager.update], on_line, env=variables, check=False, log=log)
    argv = [*program, *manager.install, *packages]
    try:
        stream(argv, on_line, env=variables, log=log)
    except ProgramError as error:
        refusal = explain_refusal("\n".join(said), variables)
        if refusal is None:
            raise
        raise HostError(
            f"{argv[0]} could not install what is missing: {refusal.message}",
            hint=f"{refusal.hint}; then run the same command again, or: {shlex.join(argv)}",
        ) from error


def proxy_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """http_proxy and its like, upper case too: the only settings of the user's that installing passes on."""
    return {name: value for name, value in environment.items() if name.lower().endswith("_proxy")}
