"""Debian's packages, fetched through apt into a cache and unpacked; never installed on the host."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from imagebuilder.errors import HostError
from imagebuilder.host.fs import disk_errors_explained, sha256_of
from imagebuilder.host.run import ProgramError, run
from imagebuilder.log import Log

# apt gives up by itself; its own wait for a silent server is two minutes
_SETTINGS = ("APT::Sandbox::User=root", "Acquire::http::Timeout=30", "Acquire::Retries=2")
UNPACK_SECONDS = 120.0
KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
_URI_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")
_KERNEL = re.compile(r"^Depends:.*?\b(linux-image-[0-9][^\s,]*)", re.MULTILINE)
_HINT = "the kit is made from Debian 12 packages for amd64: does apt know them, and is the network there?"


@dataclass(frozen=True, slots=True)
class Deb:
    """A Debian package. size: bytes of its file. file: the file's name in the cache."""

    name: str
    version: str
    sha256: str
    size: int
    file: str

    @property
    def plain_version(self) -> str:
        """The version without its epoch, which OpenWrt's packages know no use for."""
        return self.version.rpartition(":")[2]


@dataclass(frozen=True)
class Apt:
    """apt with the host's configured sources; lists: settings that say where its package lists are."""

    lists: tuple[str, ...] = ()

    def call(self, program: str, *argv: str, cwd: Path | None = None, log: Log | None = None) -> str:
        """The standard output of apt-get or apt-cache. ProgramError as host.run.run() has it."""
        options = [word for setting in (*_SETTINGS, *self.lists) for word in ("-o", setting)]
        return run((program, "-q", *options, *argv), cwd=cwd, log=log).stdout

    def kernel_package(self) -> str:
        """The package that KERNEL_METAPACKAGE depends on at present."""
        shown = self.call("apt-cache", "show", "--no-all-versions", KERNEL_METAPACKAGE)
        found = _KERNEL.search(shown)
        if found is None:
            raise HostError(f"{KERNEL_METAPACKAGE} depends on no kernel", hint=_HINT)
        return found[1]

    def candidates(self, names: Sequence[str], log: Log) -> tuple[Deb, ...]:
        """The newest version of each package that the lists offer, in the order of their names."""
        with tempfile.TemporaryDirectory() as empty:  # apt does not mention files that are already there
            printed = self.call("apt-get", "download", "--print-uris", *names, cwd=Path(empty), log=log)
        debs = []
        for line in _URI_LINE.finditer(printed):
            name, version, _architecture = line["file"].removesuffix(".deb").split("_")
            debs.append(Deb(name, unquote(version), line["sha256"], int(line["size"]), line["file"]))
        missing = set(names) - {deb.name for deb in debs}
        if missing:
            raise HostError(f"apt offers no SHA-256 for {', '.join(sorted(missing))}", hint=_HINT)
        return tuple(sorted(debs, key=lambda deb: deb.name))

    def download(self, debs: Sequence[Deb], folder: Path, log: Log) -> None:
        """Fetch exactly these versions into a folder. HostError where what came is something else."""
        wanted = [f"{deb.name}={deb.version}" for deb in debs]
        self.call("apt-get", "download", *wanted, cwd=folder, log=log)
        for deb in debs:
            if not _is_there(folder, deb):
                raise HostError(f"apt delivered another {deb.file} than its lists announced", hint=_HINT)


def _is_there(folder: Path, deb: Deb) -> bool:
    file = folder / deb.file
    return file.is_file() and file.stat().st_size == deb.size and sha256_of(file) == deb.sha256


def _own_lists(folder: Path, log: Log) -> Apt:
    """apt with package lists of our own, fetched now: the host's are missing or out of date."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    apt = Apt((f"Dir::State::Lists={folder / 'lists'}", f"Dir::Cache={folder / 'cache'}"))
    log.progress("the host's package lists do not do: fetching fresh ones")
    apt.call("apt-get", "update", log=log)
    return apt


def _fetch(apt: Apt, names: Sequence[str], folder: Path, log: Log) -> tuple[Deb, ...]:
    debs = apt.candidates((*names, apt.kernel_package()), log)
    missing = [deb for deb in debs if not _is_there(folder, deb)]
    if missing:
        log.progress(f"fetching {len(missing)} Debian packages, {sum(deb.size for deb in missing) >> 20} MiB")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            apt.download(missing, Path(scratch), log)
            for deb in missing:
                (Path(scratch) / deb.file).replace(folder / deb.file)
    return debs


def fetch(names: Sequence[str], folder: Path, log: Log) -> tuple[Deb, ...]:
    """The named packages and the kernel's, as verified files in `folder`; what is there is not fetched again.

    Uses the package lists that the host has, and lists of its own where those lead nowhere.
    Raises HostError where apt is missing or offers no such packages.
    """
    with disk_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return _fetch(Apt(), names, folder, log)
        except ProgramError:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                try:
                    return _fetch(_own_lists(Path(own), log), names, folder, log)
                except ProgramError as error:
                    message = f"Debian's packages cannot be had: {error.message}"
                    raise HostError(message, hint=_HINT) from error


def unpack(debs: Sequence[Deb], folder: Path, into: Path) -> None:
    """Unpack packages that fetch() left in `folder` over one another into a folder, as dpkg would."""
    with disk_errors_explained(into):
        into.mkdir(parents=True, exist_ok=True)
        for deb in debs:
            run(("dpkg-deb", "--extract", str(folder / deb.file), str(into)), timeout=UNPACK_SECONDS)


def is_kernel(deb: Deb) -> bool:
    """Whether this is the kernel's package."""
    return deb.name.startswith("linux-image-")
