"""Reading the content of apk 3's packages: files, modes, links and scripts, bounded, never outside.

Slots of the values: apk-tools 3, src/apk_adb.h. Owners are not kept: OpenWrt's packages are root's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.model.adb import (
    DATA,
    DATABASE,
    MAX_DATABASE_BYTES,
    PACKAGE,
    AdbError,
    Block,
    Container,
    Values,
)
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import PackageFileError
from imagebuilder.packages.opkg.ipk_reader import Limits, check_link
from imagebuilder.rootfs.tree import Entry, FileTree, FileTreeError, LocalPackage, file_of, folder, symlink

SCRIPTS = (
    *("trigger", "pre-install", "post-install", "pre-deinstall", "post-deinstall"),
    *("pre-upgrade", "post-upgrade"),
)

# slots, counted from 0
_PATHS, _SCRIPTS, _TRIGGERS = 1, 2, 3
_FOLDER_NAME, _FOLDER_ACL, _FILES = 0, 1, 2
_FILE_NAME, _FILE_ACL, _SIZE, _TARGET = 0, 1, 2, 5
_MODE = 0
_REGULAR, _LINK = 0o100000, 0o120000
_PLACE = struct.Struct("<II")  # folder and file, counted from 1, before a file's content
_EMPTY = (0,) * 8


@dataclass(slots=True)
class _Reader:
    """A package's values on their way to a tree. waiting: files whose content comes later, by their place."""

    values: Values
    limits: Limits
    entries: dict[str, Entry] = field(default_factory=dict)
    waiting: dict[tuple[int, int], tuple[str, int, int]] = field(default_factory=dict)
    hard_links: list[tuple[str, str]] = field(default_factory=list)
    unpacked: int = 0
    # equal values are there once, and many name them
    _lists: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _blobs: dict[int, bytes] = field(default_factory=dict)

    def list(self, value: int) -> tuple[int, ...]:
        if value not in self._lists:
            self._lists[value] = self.values.slots(value)
        return self._lists[value]

    def object(self, value: int) -> tuple[int, ...]:
        return (*self.list(value), *_EMPTY)

    def blob(self, value: int) -> bytes:
        if value not in self._blobs:
            self._blobs[value] = self.values.blob(value)
        return self._blobs[value]

    def text(self, value: int) -> str:
        return self.blob(value).decode("utf-8", "surrogateescape")

    def mode(self, acl: int) -> int:
        return self.values.integer(self.object(acl)[_MODE]) & 0o7777

    def put(self, path: str, entry: Entry) -> None:
        if path in self.entries:
            raise PackageFileError(f"it holds {path} twice", hint="do not use this package")
        if len(self.entries) >= self.limits.members:
            raise PackageFileError(f"it holds more than {self.limits.members} files")
        self.entries[path] = entry

    def folders(self) -> None:
        """All that the values say of folders and files."""
        for number, value in enumerate(self.list(self.object(self.values.root)[_PATHS]), start=1):
            slots = self.object(value)
            place = _place("", self.text(slots[_FOLDER_NAME]))
            if place:
                self.put(place, folder(self.mode(slots[_FOLDER_ACL])))
            for file_number, file in enumerate(self.list(slots[_FILES]), start=1):
                self.file(place, self.object(file), (number, file_number))

    def file(self, place: str, slots: tuple[int, ...], number: tuple[int, int]) -> None:
        path = _place(place, self.text(slots[_FILE_NAME]))
        size, mode = self.values.integer(slots[_SIZE]), self.mode(slots[_FILE_ACL])
        target = self.blob(slots[_TARGET])
        if target:
            self.link(path, target)
        elif size:
            self.unpacked += size
            if self.unpacked > self.limits.data:
                raise PackageFileError(
                    "its files are larger than they may be", hint="it is no package to trust"
                )
            self.waiting[number] = path, size, mode
            self.put(path, file_of(b"", mode))
        else:
            self.put(path, file_of(b"", mode))

    def link(self, path: str, target: bytes) -> None:
        kind = int.from_bytes(target[:2], "little")
        text = target[2:].decode("utf-8", "surrogateescape")
        if kind == _LINK and text:
            check_link(path, text)
            self.put(path, symlink(text))
        elif kind == _REGULAR:
            self.put(path, file_of(b""))
            self.hard_links.append((path, _place("", text)))
        else:
            raise PackageFileError(
                f"{path} is neither a file, a folder nor a link",
                hint="devices and pipes cannot come from a package",
            )

    def content(self, block: Block) -> None:
        """One block with a file's content."""
        number = _PLACE.unpack(b"".join(block.chunks(_PLACE.size)).ljust(_PLACE.size, b"\0"))
        path, size, mode = self.waiting.pop(number, ("", -1, 0))
        if block.size != size + _PLACE.size:
            raise PackageFileError("it holds content that is of none of its files", hint="fetch it again")
        self.entries[path] = file_of(b"".join(block.chunks()), mode)

    def tree(self) -> FileTree:
        """What was read, whole."""
        if self.waiting:
            path = next(iter(self.waiting.values()))[0]
            raise PackageFileError(f"the content of {path} is missing", hint="fetch it again")
        for path, original in self.hard_links:
            entry = self.entries.get(original)
            if entry is None or entry.kind != "file":
                raise PackageFileError(
                    f"{path} is a hard link to {original}, which is no file in the package"
                )
            self.entries[path] = entry
        return FileTree(self.entries)

    def scripts(self) -> Iterator[tuple[str, bytes]]:
        for name, value in zip(SCRIPTS, self.object(self.object(self.values.root)[_SCRIPTS]), strict=False):
            data = self.blob(value)
            if data:
                yield name, data


def _place(above: str, name: str) -> str:
    """A path of the target, '' for the root."""
    parts = [part for part in name.split("/") if part]
    if "\0" in name or not {".", ".."}.isdisjoint(parts) or name.startswith("/"):
        raise PackageFileError(f"it holds {name!r}, which leads out of it", hint="do not use this package")
    return "/".join((above, *parts))


def read_apk(path: Path, package: Package, *, limits: Limits | None = None) -> LocalPackage:
    """An apk package's content, in memory. package: what its index says of it; whether the file is that
    package is for packages.apk.file.check_apk_file() to say, before.

    Raises PackageFileError, and nothing else, whatever the bytes are; also for triggers, which no package of
    OpenWrt has and which would be lost.
    """
    limits = limits or Limits()
    try:
        if path.stat().st_size > limits.file:
            raise PackageFileError(f"it has more than {limits.file} bytes")
        with path.open("rb") as raw:
            return _content(Container(raw, str(path)), package, limits)
    except (PackageFileError, FileTreeError) as error:
        text = f"the package {path}: {error.message}"
        raise PackageFileError(text, hint=error.hint or "fetch it again") from None
    except AdbError as error:
        raise PackageFileError(error.message, hint=error.hint) from None
    except OSError as error:
        raise PackageFileError(f"the package {path} cannot be read: {error.strerror}") from error


def _content(container: Container, package: Package, limits: Limits) -> LocalPackage:
    if container.schema != PACKAGE:
        raise PackageFileError("it is no package", hint="fetch it again")
    reader: _Reader | None = None
    for block in container.blocks():
        if block.kind == DATABASE:
            data = block.whole(min(MAX_DATABASE_BYTES, limits.file))
            reader = _Reader(Values(data, container.origin), limits)
            reader.folders()
        elif block.kind == DATA and reader is not None:
            reader.content(block)
    if reader is None:
        raise PackageFileError("there is nothing in it", hint="fetch it again")
    if reader.object(reader.values.root)[_TRIGGERS]:
        raise PackageFileError("it has triggers, which cannot be repacked", hint="leave out its filespec")
    return LocalPackage(package, reader.tree(), dict(reader.scripts()))
