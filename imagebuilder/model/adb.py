"""ADB, the container of apk 3's indexes and packages: its compression, its blocks and its values.

Format: `ADB.` and a schema (`indx`, `pckg`), then blocks; all of it may be packed: `ADBd` before raw deflate,
`ADBc` with an algorithm and a level before that or zstd. The first block holds the values, then come
signatures, then the content of a package's files. Source: apk-tools 3, src/adb.h and src/adb_comp.c.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import zstandard

from imagebuilder.errors import UserError

INDEX, PACKAGE = b"indx", b"pckg"
DATABASE, SIGNATURE, DATA = range(3)  # kinds of blocks
MAX_DATABASE_BYTES = 128 << 20  # the largest index, of snapshots, is below 10 MiB
MAX_SIGNATURE_BYTES = 2048
CHUNK_BYTES = 1 << 16

_EXTENDED = 3
_ALIGNMENT = 8
_AFTER = {None: (DATABASE,), DATABASE: (SIGNATURE, DATA), SIGNATURE: (SIGNATURE, DATA), DATA: (DATA,)}
_ZSTD_WINDOW_BYTES = 128 << 20  # what zstd itself accepts unasked
_VALUE = (1 << 28) - 1
# types of values
_SPECIAL, _INTEGER, _INTEGER_32, _INTEGER_64 = 0x0, 0x1, 0x2, 0x3
_BYTES = {0x8: 1, 0x9: 2, 0xA: 4}  # and the width of their length
_ARRAY, _OBJECT = 0xD, 0xE
_OVERLAP = "its values overlap"


class AdbError(UserError):
    """Bytes that are no ADB, or a damaged one."""

    def __init__(self, message: str, *, hint: str | None = "fetch it again") -> None:
        super().__init__(message, hint=hint)


class AdbStream(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes, none at the end."""


class _Inflating:
    """Raw deflate, unpacked as it is read."""

    def __init__(self, raw: AdbStream) -> None:
        self._raw = raw
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, size: int, /) -> bytes:
        while not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._raw.read(CHUNK_BYTES)
            data = self._stream.decompress(packed, size)
            if data or not packed:
                return data
        return b""


class Block:
    """One block of a container, read from where the container is read. size: bytes of its content."""

    def __init__(self, container: Container, kind: int, size: int, padding: int) -> None:
        """padding: bytes that fill it up behind its content."""
        self.kind, self.size = kind, size
        self._container, self._left, self._padding = container, size, padding

    def chunks(self, limit: int | None = None) -> Iterator[bytes]:
        """What is left of it, or that much, piece by piece. AdbError where the file ends before."""
        left = self._left if limit is None else min(limit, self._left)
        while left:
            data = self._container.take(min(left, CHUNK_BYTES))
            left -= len(data)
            self._left -= len(data)
            yield data

    def whole(self, limit: int) -> bytes:
        """All of it. AdbError if it is larger than `limit` bytes."""
        if self.size > limit:
            raise self._container.damaged(f"a block of {self.size} bytes, more than {limit}")
        return b"".join(self.chunks())

    def skip(self) -> None:
        """Go to where the next block begins."""
        for _ in self.chunks():
            pass
        while self._padding:
            self._padding -= len(self._container.take(self._padding))


class Container:
    """An ADB file, unpacked as it is read, in bounded memory. schema: INDEX, PACKAGE or another."""

    def __init__(self, raw: BinaryIO, origin: str) -> None:
        """origin: the file's name, for messages. AdbError if it does not begin as an ADB does."""
        self.origin = origin
        magic = raw.read(4)
        self._stream: AdbStream = raw
        if magic == b"ADBd":
            self._stream = _Inflating(raw)
        elif magic == b"ADBc":
            self._stream = self._packed(raw, raw.read(2)[:1])
        elif magic != b"ADB.":
            raise AdbError(f"{origin} is no file of apk 3: it does not begin with ADB")
        if magic != b"ADB." and self._exactly(4) != b"ADB.":
            raise self.damaged("no ADB in it")
        self.schema = self._exactly(4)

    def _packed(self, raw: BinaryIO, algorithm: bytes) -> AdbStream:
        if algorithm == b"\0":
            return raw
        if algorithm == b"\1":
            return _Inflating(raw)
        if algorithm == b"\2":
            unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
            return unpacker.stream_reader(raw, read_across_frames=False)
        raise self.damaged("packed in an unknown way")

    def damaged(self, what: str) -> AdbError:
        """The error that says what is wrong in this file."""
        return AdbError(f"{self.origin} is damaged: {what}")

    def take(self, size: int) -> bytes:
        """1 to `size` bytes. AdbError at the end."""
        data = self._read(size)
        if not data:
            raise self.damaged("it is cut off")
        return data

    def blocks(self) -> Iterator[Block]:
        """The blocks in their order; what was not read of one is skipped. AdbError for what is no block, and
        for blocks that are out of order."""
        before: int | None = None
        while True:
            first = self._read(1)
            if not first:
                break
            block = self._block(first + self._exactly(3))
            if block.kind not in _AFTER[before]:
                raise self.damaged(f"a block of kind {block.kind} where none may be")
            yield block
            block.skip()
            before = block.kind
        if before is None:
            raise self.damaged("there is nothing in it")

    def _block(self, head: bytes) -> Block:
        (word,) = struct.unpack("<I", head)
        kind, size, head_size = word >> 30, word & 0x3FFFFFFF, 4
        if kind == _EXTENDED:
            kind, head_size = size, 16
            (size,) = struct.unpack("<4xQ", self._exactly(12))
        if size < head_size or size >= 1 << 62:
            raise self.damaged("a block of no size")
        return Block(self, kind, size - head_size, -size % _ALIGNMENT)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.take(size - len(data))
        return data

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (zlib.error, zstandard.ZstdError) as error:
            raise self.damaged(str(error)) from error


class Values:
    """The values in a database block. Offsets in them count from its begin.

    What is read is bounded: values of a genuine file do not overlap, so that all that is read together can
    be no larger than the block; who reads a value that others name too keeps what was read.
    """

    def __init__(self, data: bytes, origin: str) -> None:
        """AdbError for a block that is of another version."""
        self.data, self.origin = data, origin
        self._budget = len(data)
        if len(data) < 8 or data[0] != 0:
            raise self.damaged("its block of values is of an unknown version")
        (self.root,) = struct.unpack_from("<I", data, 4)

    def damaged(self, what: str) -> AdbError:
        """The error that says what is wrong in these values."""
        return AdbError(f"{self.origin} is damaged: {what}")

    def integer(self, value: int) -> int:
        """A number; 0 for none."""
        kind = value >> 28
        if kind == _INTEGER:
            return value & _VALUE
        if kind == _INTEGER_32:
            return int(self._unpacked("<I", value & _VALUE)[0])
        if kind == _INTEGER_64:
            return int(self._unpacked("<Q", value & _VALUE)[0])
        if value:
            raise self.damaged(f"{value:#x} is not a number")
        return 0

    def blob(self, value: int) -> bytes:
        """Bytes; none for null."""
        kind = value >> 28
        if kind not in _BYTES:
            if value:
                raise self.damaged(f"{value:#x} is not a text")
            return b""
        at = value & _VALUE
        width = _BYTES[kind]
        begin = at + width
        end = begin + int.from_bytes(self.data[at:begin], "little")
        if end > len(self.data):
            raise self.damaged("a text reaches over the end")
        self._budget -= end - begin
        if self._budget < 0:
            raise self.damaged(_OVERLAP)
        return self.data[begin:end]

    def text(self, value: int) -> str:
        """A text; empty for null."""
        return self.blob(value).decode("utf-8", "replace")

    def slots(self, value: int) -> tuple[int, ...]:
        """The values in an array or object, the first one at 0 (the format counts from 1); none for null."""
        if value >> 28 not in (_ARRAY, _OBJECT):
            if value:
                raise self.damaged(f"{value:#x} is not a list")
            return ()
        at = value & _VALUE
        count = int.from_bytes(self.data[at : at + 4], "little")
        if not count or at + 4 * count > len(self.data):
            raise self.damaged("a list reaches over the end")
        self._budget -= 4 * count
        if self._budget < 0:
            raise self.damaged(_OVERLAP)
        return struct.unpack_from(f"<{count - 1}I", self.data, at + 4)

    def _unpacked(self, form: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(form, self.data, at)
        except struct.error:
            raise self.damaged("a value lies behind the end") from None


def database(container: Container) -> tuple[bytes, tuple[bytes, ...]]:
    """The bytes of a container's values, and its signatures. AdbError; the content of files is refused."""
    data, signatures = b"", []
    for block in container.blocks():
        if block.kind == DATABASE:
            data = block.whole(MAX_DATABASE_BYTES)
        elif block.kind == SIGNATURE:
            signatures.append(block.whole(MAX_SIGNATURE_BYTES))
        else:
            raise container.damaged("there are files in it")
    return data, tuple(signatures)


def index_container(data: bytes, origin: str) -> Container:
    """The container of an index. AdbError for anything else."""
    container = Container(io.BytesIO(data), origin)
    if container.schema != INDEX:
        raise AdbError(f"{origin} is no index of packages")
    return container
