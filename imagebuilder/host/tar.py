"""Tar archives that nobody vouches for, read in bounded memory.

What an archive says of itself is read whole by tarfile before anybody sees it: a name of 1 GiB (GNU's `L`, a
`path` of pax) takes 33 KB of zstd and 2 GB of memory. And a compressed stream names the window that its
reader has to keep, up to 4 GiB in xz and zstd. Sources: tar(5), POSIX.1-2008 pax, RFC 8878, the xz format.
"""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Self

import zstandard

MAX_HEADER_BYTES = 1 << 20  # of what stands before a member besides its own header; a path has 4096 at most
_EXTENDED = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
# what OpenWrt's archives are packed with (zstd --ultra -20) takes this much, and xz -9 65 MiB
WINDOW_BYTES = 128 << 20
_XZ_DECODER_BYTES = 160 << 20
_CHUNK = 1 << 16
# what tarfile and the decompressors raise for bytes that are not what they should be
DAMAGED = (
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zstandard.ZstdError,
    zlib.error,
    EOFError,
    ValueError,
    IndexError,
    OverflowError,
    RecursionError,  # each header before a member is one more call
    struct.error,
)


_ReadError = tarfile.ReadError


class _BoundedTarInfo(tarfile.TarInfo):
    """A member whose extended headers are small."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As tarfile does it. ReadError for headers that are larger than they may be."""
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:
            raise tarfile.ReadError("a member has less than no bytes")
        if member.type in _EXTENDED and member.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(
                f"a name or another fact of a member has {member.size} bytes, more than {MAX_HEADER_BYTES}"
            )
        return member

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """As tarfile does it. ReadError where the headers that count for all members are larger together."""
        member = super().fromtarfile(tarfile)
        if sum(len(name) + len(value) for name, value in tarfile.pax_headers.items()) > MAX_HEADER_BYTES:
            raise _ReadError(f"the facts of all members have more than {MAX_HEADER_BYTES} bytes")
        return member


def tar_members(stream: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a tar, each with the archive that extractfile() is asked of until the next one is read.
    Raises what DAMAGED names."""
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_BoundedTarInfo) as archive:
        for member in archive:
            yield archive, member
            archive.members = []  # type: ignore[attr-defined] # tarfile keeps them all


def first_member(stream: IO[bytes]) -> tarfile.TarInfo | None:
    """The first member of a tar, packed in whatever way tarfile knows; None for an empty one."""
    with tarfile.open(fileobj=stream, tarinfo=_BoundedTarInfo) as archive:
        return archive.next()


def unxz(packed: IO[bytes]) -> IO[bytes]:
    """What an .xz stream, or several behind one another, unpacks to. LZMAError too for one whose decoder
    needs more than 160 MiB."""
    return io.BufferedReader(_Unxz(packed))


def unzstd(packed: IO[bytes]) -> IO[bytes]:
    """What a zstd stream unpacks to. ZstdError too for one with a window of more than WINDOW_BYTES."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
    return unpacker.stream_reader(packed, closefd=False)


class _Unxz(io.RawIOBase):
    """lzma.LZMAFile with a bound on memory, which it does not take."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._decoder = self._fresh()
        self._rest = b""

    @staticmethod
    def _fresh() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_DECODER_BYTES)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what BufferedReader hands over
        """Some bytes; 0 at the end of the last stream. EOFError where one is cut off."""
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data.lstrip(b"\0") or self._packed.read(_CHUNK).lstrip(b"\0")
                if not rest:
                    return 0
                self._decoder, self._rest = self._fresh(), rest
            packed = self._rest
            if not packed and self._decoder.needs_input:
                packed = self._packed.read(_CHUNK)
                if not packed:
                    raise EOFError("it is cut off")
            self._rest = b""
            data = self._decoder.decompress(packed, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
