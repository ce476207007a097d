"""Reading .ipk packages that nobody vouches for: bounded, never outside, one class of error."""

from __future__ import annotations

import gzip
import io
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from imagebuilder.host.tar import DAMAGED, tar_members
from imagebuilder.model.control import ControlError, package_of, paragraphs, parse_fields
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import PackageFileError
from imagebuilder.rootfs.tree import EMPTY, Entry, FileTree, FileTreeError, file_of, folder, symlink

# what gzip and tarfile raise for bytes that are not what they should be
DAMAGE = (*DAMAGED, OSError)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a package may unpack to, in bytes, and how many files it may hold."""

    file: int = 256 << 20  # the .ipk itself
    data: int = 512 << 20  # its files' tar
    control: int = 4 << 20
    members: int = 100_000


@dataclass(frozen=True, slots=True)
class Ipk:
    """A package that was read. control: its facts; fields: all fields of its control file, as they stand;
    scripts: what else the control archive holds, by name; tree: its files, with contents in memory."""

    control: Package
    fields: Mapping[str, str]
    scripts: Mapping[str, bytes]
    conffiles: tuple[str, ...]
    tree: FileTree


class _Bounded(io.RawIOBase):
    """A stream that ends with an error after so many bytes."""

    def __init__(self, stream: gzip.GzipFile, limit: int, what: str) -> None:
        self._stream, self._left, self._what = stream, limit, what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what BufferedReader hands over
        data = self._stream.read(min(len(buffer), self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise PackageFileError(
                f"{self._what} unpacks to more than it may", hint="it is no package to trust"
            )
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn all that damaged bytes can cause into the one error."""
    try:
        yield
    except (ControlError, FileTreeError, PackageFileError) as error:
        text = f"the package {path}: {error.message}"
        raise PackageFileError(text, hint=error.hint or "fetch it again") from None
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise PackageFileError(
            f"the package {path} cannot be read: {reason}", hint="fetch it again"
        ) from error


def _members(packed: IO[bytes], limit: int, what: str) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The members of a gzipped tar with their contents, in their order. Reads on to the end of the gzip
    stream, so that its checksum is verified."""
    with gzip.GzipFile(fileobj=packed) as unpacked:
        bounded = io.BufferedReader(_Bounded(unpacked, limit, what))
        for archive, member in tar_members(cast(IO[bytes], bounded)):
            if member.issparse():  # a few bytes could claim any size
                raise PackageFileError(f"{what} holds a sparse file, {member.name!r}")
            yield member, archive.extractfile(member) if member.isreg() else None
        while bounded.read(1 << 16):
            pass


def _place(name: str) -> str:
    """A member's name as a target path, '/' for the archive's own folder."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise PackageFileError(f"it holds {name!r}, which leads out of it", hint="do not use this package")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


def check_link(path: str, target: str) -> None:
    """Absolute targets count from the device's root; relative ones must not climb above it."""
    depth = path.count("/") - 1
    for part in posixpath.normpath(target).split("/") if not target.startswith("/") else ():
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise PackageFileError(
                f"its link {path} to {target} leads out of the device's root", hint="do not use this package"
            )


def _entry_of(
    path: str, member: tarfile.TarInfo, stream: IO[bytes] | None, earlier: Mapping[str, Entry]
) -> Entry:
    mode = member.mode & 0o7777
    if member.isdir():
        return folder(mode)
    if member.issym():
        check_link(path, member.linkname)
        return symlink(member.linkname)
    if member.islnk():
        original = earlier.get(_place(member.linkname))
        if original is None or original.kind != "file":
            raise PackageFileError(
                f"{path} is a hard link to {member.linkname}, which is no file before it in the package",
                hint="do not use this package",
            )
        return original
    if stream is None:
        raise PackageFileError(
            f"{path} is neither a file, a folder nor a link",
            hint="devices and pipes cannot come from a package",
        )
    data = stream.read()
    if len(data) != member.size:
        raise PackageFileError(f"{path} is cut off")
    return file_of(data, mode)


def _tree_of(packed: bytes, limits: Limits) -> FileTree:
    """data.tar.gz as a tree."""
    entries: dict[str, Entry] = {}
    for number, (member, stream) in enumerate(_members(io.BytesIO(packed), limits.data, "data.tar.gz")):
        if number >= limits.members:
            raise PackageFileError(f"it holds more than {limits.members} files")
        path = _place(member.name)
        entry = _entry_of(path, member, stream, entries)
        if path == "/":
            if entry.kind != "dir":
                raise PackageFileError("its root is no folder")
        elif path in entries and (entry.kind, entries[path].kind) != ("dir", "dir"):
            raise PackageFileError(f"it holds {path} twice")
        else:
            entries[path] = entry
    return FileTree(entries)


def _files(packed: bytes, limit: int, what: str) -> dict[str, bytes]:
    """The files of a small archive of a flat kind, by their names."""
    files: dict[str, bytes] = {}
    for member, stream in _members(io.BytesIO(packed), limit, what):
        name = _place(member.name)[1:]
        if stream is not None:
            if name in files or "/" in name:
                raise PackageFileError(f"{what} holds {name!r} twice, or below a folder")
            files[name] = stream.read()
    return files


def _read(path: Path, limits: Limits, *, with_data: bool) -> Ipk:
    with _explained(path):
        if path.stat().st_size > limits.file:
            raise PackageFileError(f"it has more than {limits.file} bytes")
        parts = _files(path.read_bytes(), limits.file, "the file")
        missing = {"control.tar.gz", "data.tar.gz"} - parts.keys()
        if missing:
            raise PackageFileError(f"it has no {', '.join(sorted(missing))}", hint="it is no .ipk package")
        inner = _files(parts["control.tar.gz"], limits.control, "control.tar.gz")
        if "control" not in inner:
            raise PackageFileError("control.tar.gz has no control file")
        control = inner.pop("control").decode("utf-8", "replace")
        fields = parse_fields(next((text for _, text in paragraphs(control)), ""))
        kept = inner.pop("conffiles", b"").decode("utf-8", "replace").split("\n")
        return Ipk(
            control=package_of(fields),
            fields=fields,
            scripts=dict(sorted(inner.items())),
            conffiles=tuple(line.strip() for line in kept if line.strip()),
            tree=_tree_of(parts["data.tar.gz"], limits) if with_data else EMPTY,
        )


def read_ipk(path: Path, *, limits: Limits | None = None) -> Ipk:
    """A package with all its files in memory; rootfs.files.write_tree writes them safely.

    Refuses names and links that lead out, devices, pipes, files below links, and more than the limits.
    Raises PackageFileError, and nothing else, whatever the bytes are.
    """
    return _read(path, limits or Limits(), with_data=True)


def read_control(path: Path, *, limits: Limits | None = None) -> Ipk:
    """As read_ipk, but with an empty tree: its files are neither unpacked nor checked."""
    return _read(path, limits or Limits(), with_data=False)
