"""Unpacking .deb files without dpkg: an `ar` archive (ar(5)) with data.tar.* in it (deb(5))."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from imagebuilder.host.tar import DAMAGED, tar_members, unxz, unzstd
from imagebuilder.kit.debian.archive import Deb, DebianError
from imagebuilder.server.archive import ArchiveError, check_member, extract_member

MAX_FILES = 50_000
MAX_BYTES = 2 << 30
_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


def _data_member(what: str, stream: IO[bytes]) -> tuple[str, int]:
    """The name and the size in bytes of the member with the files; the stream is left at its begin."""
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise DebianError(f"{what} is no Debian package")
    while len(header := stream.read(_HEADER_BYTES)) == _HEADER_BYTES:
        name, size = header[:16].rstrip(b" ").rstrip(b"/"), header[48:58].rstrip(b" ")
        if header[58:] != b"`\n" or not size.isdigit():
            break
        if name.startswith(b"data.tar"):
            return name.decode("ascii", "replace"), int(size)
        stream.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise DebianError(f"the Debian package {what} holds no files")


class _Member(io.RawIOBase):
    """So many bytes of a file, from where it is."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what BufferedReader hands over
        data = self._stream.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def _decompressed(name: str, packed: IO[bytes], stack: ExitStack) -> IO[bytes]:
    if name == "data.tar.xz":
        return unxz(packed)
    if name == "data.tar.zst":
        return unzstd(packed)
    if name == "data.tar.gz":
        return cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=packed)))
    if name == "data.tar":
        return packed
    raise DebianError(f"a Debian package is packed as {name}, which is not known here")


def unpack(debs: Iterable[Deb], files: Mapping[Deb, Path], into: Path) -> None:
    """Unpack packages, whose files fetch() gave, over one another into a folder: their files, folders and
    links, no scripts. Programs get mode 0755, other files 0644, all files the times that they have in the
    package.

    DebianError where one is damaged, holds devices, or would write outside of the folder.
    """
    into.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        try:
            _unpack_one(f"{deb.name} {deb.version}", files[deb], into)
        except ArchiveError as error:
            raise DebianError(error.message) from error
        except DAMAGED as error:
            raise DebianError(f"the Debian package {deb.name} is damaged: {error}") from error


def _unpack_one(what: str, path: Path, into: Path) -> None:
    count = size = 0
    with path.open("rb") as stream, ExitStack() as stack:
        name, length = _data_member(what, stream)
        packed = cast(IO[bytes], io.BufferedReader(_Member(stream, length)))
        for tar, member in tar_members(_decompressed(name, packed, stack)):
            count, size = count + 1, size + max(member.size, 0)
            if count > MAX_FILES or size > MAX_BYTES:
                raise DebianError(f"{what} holds more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB")
            check_member(what, member, absolute_links=True)
            extract_member(tar, member, into)
