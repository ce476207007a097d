"""OpenWrt's .ipk packages, up to 24.10: written so that equal input gives equal bytes.

The format: a gzipped tar that holds `./debian-binary` ("2.0"), `./data.tar.gz` (the files) and
`./control.tar.gz` (`./control`, the maintainer scripts, `./conffiles`), in this order, everything owned by
0:0. Source: the packages of LEDE 17.01.7. Reading is in packages/opkg/ipk_reader.py.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Literal

from imagebuilder.errors import UserError
from imagebuilder.host.fs import disk_errors_explained, sha256_of
from imagebuilder.host.handover import whole_file
from imagebuilder.model.control import ControlError, fields_of, format_fields
from imagebuilder.model.package import Package
from imagebuilder.rootfs.files import content_size, opened
from imagebuilder.rootfs.tree import Entry, FileTree

# the last two are sourced by OpenWrt's default_postinst and default_prerm; they are parts, not programs
SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "postinst-pkg", "prerm-pkg")
FORMAT_VERSION = b"2.0\n"
# what opkg can hold in a file name and a status line
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.:~_-]*")

InstalledSize = Literal["compressed", "unpacked"]


class PackageFileError(UserError):
    """A package file that is damaged, unsafe or too big, or that cannot be made from what was given."""


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A package file that was written. package: as an index beside the file describes it, with filename,
    size, installed_size (both in bytes) and sha256."""

    path: Path
    package: Package

    @property
    def size(self) -> int:
        """The file's bytes."""
        return self.package.size

    @property
    def installed_size(self) -> int:
        """What the package states as Installed-Size, in bytes."""
        return self.package.installed_size

    @property
    def sha256(self) -> str:
        """The file's SHA-256 in hex."""
        return self.package.sha256


def ipk_name(package: Package) -> str:
    """The file name that OpenWrt gives a package."""
    return f"{package.name}_{package.version}_{package.architecture}.ipk"


def _header(name: str, entry: Entry, size: int, mtime: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.mode = entry.mode
    header.mtime = mtime
    header.uid = header.gid = 0  # and no user names: a device may number them otherwise
    if entry.kind == "dir":
        header.type = tarfile.DIRTYPE
    elif entry.kind == "symlink":
        header.type, header.linkname = tarfile.SYMTYPE, entry.target
    else:
        header.size = size
    return header


@contextmanager
def _tar_gz(out: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """A gzipped tar without a name or a time in its gzip header."""
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as archive,
    ):
        yield archive


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int, mtime: int) -> None:
    entry = Entry("file", mode, data=data)
    archive.addfile(_header(name, entry, len(data), mtime), io.BytesIO(data))


def _write_data(out: IO[bytes], tree: FileTree, mtime: int) -> int:
    """data.tar.gz; the bytes of the tar before compression."""
    with _tar_gz(out) as archive:
        archive.addfile(_header("./", Entry("dir", 0o755), 0, mtime))
        for path, entry in tree.items():
            if entry.kind == "file":
                with opened(entry) as stream:
                    archive.addfile(_header("." + path, entry, content_size(entry), mtime), stream)
            else:
                archive.addfile(_header("." + path, entry, 0, mtime))
        return archive.offset


def _control_files(
    package: Package, tree: FileTree, scripts: Mapping[str, bytes], conffiles: Iterable[str]
) -> Iterator[tuple[str, bytes, int]]:
    """Name, content and mode of what control.tar.gz holds."""
    yield "./control", format_fields(fields_of(package, indexed=False)).encode(), 0o644
    kept = sorted(set(conffiles))
    for path in kept:
        if path not in tree or tree[path].kind != "file":
            raise PackageFileError(
                f"{package.name}: the configuration file {path} is not in the package",
                hint="name files that it holds, by their paths on the target",
            )
    if kept:
        yield "./conffiles", "".join(f"{path}\n" for path in kept).encode(), 0o644
    for name, script in sorted(scripts.items()):
        if name not in SCRIPTS or not (script.startswith(b"#!") or name.endswith("-pkg")):
            raise PackageFileError(
                f"{package.name}: {name} is no maintainer script",
                hint=f"they are {', '.join(SCRIPTS)}; the first four begin with #!",
            )
        yield f"./{name}", script, 0o755


def _check(package: Package) -> None:
    for what, text, pattern in (
        ("name", package.name, NAME),
        ("version", package.version, VERSION),
        ("architecture", package.architecture, NAME),
    ):
        if not pattern.fullmatch(text):
            raise PackageFileError(
                f"{text!r} cannot be the {what} of a package",
                hint="a letter or digit, then more of them and + . _ - (in a version : ~ too)",
            )


def write_ipk(
    folder: Path,
    package: Package,
    tree: FileTree,
    *,
    epoch: int,
    scripts: Mapping[str, bytes] | None = None,
    conffiles: Iterable[str] = (),
    installed_size: InstalledSize = "compressed",
) -> PackageFile:
    """Write NAME_VERSION_ARCHITECTURE.ipk into a folder, from a package's facts and its files.

    epoch: the time of everything in it, in seconds since 1970 (SOURCE_DATE_EPOCH). installed_size: what the
    package states, the bytes of data.tar.gz (up to 23.05) or of the tar in it (24.10); whatever the facts
    say of sizes, file name and hash is replaced. scripts: by name, one of SCRIPTS.
    Raises PackageFileError for bad facts, scripts or conffiles, HostError for a full disk.
    """
    _check(package)
    place = folder / ipk_name(package)
    with disk_errors_explained(folder), TemporaryFile() as data, TemporaryFile() as control:
        unpacked = _write_data(data, tree, epoch)
        stated = data.tell() if installed_size == "compressed" else unpacked
        package = replace(package, installed_size=stated)
        with _tar_gz(control) as archive:
            archive.addfile(_header("./", Entry("dir", 0o755), 0, epoch))
            try:
                for name, content, mode in _control_files(package, tree, scripts or {}, conffiles):
                    _add(archive, name, content, mode, epoch)
            except ControlError as error:
                raise PackageFileError(
                    f"{package.name}: {error.message}", hint="put that field right"
                ) from None
        with whole_file(place) as new, new.open("wb") as out, _tar_gz(out) as archive:
            _add(archive, "./debian-binary", FORMAT_VERSION, 0o644, epoch)
            for name, part in (("./data.tar.gz", data), ("./control.tar.gz", control)):
                size = part.tell()
                part.seek(0)
                archive.addfile(_header(name, Entry("file", 0o644), size, epoch), part)
    size = place.stat().st_size
    return PackageFile(place, replace(package, filename=place.name, size=size, sha256=sha256_of(place)))
