"""A bounded view of an image's bytes: numbers and texts are read within it, or one error is raised."""

from __future__ import annotations

import mmap
import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from imagebuilder.errors import UserError

Zeros = tuple[tuple[int, int], ...]
_CHUNK = 1 << 16
_PIECE = 1 << 22
_ZEROS = memoryview(bytes(_CHUNK))
_UNPRINTABLE = re.compile(r"[^ -~]")


class ImageFormatError(UserError):
    """Bytes that are not what their format promises."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or "download or build the image again; do not flash this one")


class View:
    """A part of a file, or of what was unpacked from it. Copies nothing until it is asked for bytes.

    start: where it begins in the file (or in the unpacked contents), in bytes. what: its name in errors.
    zeros: ranges of the whole file (or contents) that are known to be zeros, in order, in bytes.
    Every method that reads raises ImageFormatError where the view ends too early.
    """

    __slots__ = ("_data", "_zeros", "start", "what")

    def __init__(
        self, data: bytes | memoryview, *, start: int = 0, what: str = "the image", zeros: Zeros = ()
    ) -> None:
        self._data = memoryview(data)
        self._zeros = zeros
        self.start = start
        self.what = what

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._data)

    @property
    def raw(self) -> memoryview:
        """All of its bytes, not copied; for checksums and decompressors."""
        return self._data

    def _range(self, offset: int, size: int) -> memoryview:
        if offset < 0 or size < 0 or offset + size > len(self._data):
            raise ImageFormatError(
                f"{self.what} ends too early: {size} bytes are wanted at {offset}, it has {self.size}"
            )
        return self._data[offset : offset + size]

    def take(self, offset: int, size: int) -> bytes:
        """A copy of so many bytes."""
        return bytes(self._range(offset, size))

    def part(self, offset: int, size: int | None = None, what: str | None = None) -> View:
        """A view into this one, to its end where no size is given."""
        length = self.size - offset if size is None else size
        data = self._range(offset, length)
        return View(data, start=self.start + offset, what=what or self.what, zeros=self._zeros)

    def first(self, size: int) -> View:
        """Its beginning, or all of it where it is shorter."""
        return self.part(0, min(size, self.size))

    def has(self, magic: bytes, offset: int = 0) -> bool:
        """Whether these bytes stand there; False also where the view ends before."""
        return offset >= 0 and self._data[offset : offset + len(magic)] == magic

    def u8(self, offset: int) -> int:
        """One byte."""
        return self._range(offset, 1)[0]

    def u16(self, offset: int) -> int:
        """Big endian."""
        return int.from_bytes(self._range(offset, 2), "big")

    def u32(self, offset: int) -> int:
        """Big endian."""
        return int.from_bytes(self._range(offset, 4), "big")

    def u64(self, offset: int) -> int:
        """Big endian."""
        return int.from_bytes(self._range(offset, 8), "big")

    def le16(self, offset: int) -> int:
        """Little endian."""
        return int.from_bytes(self._range(offset, 2), "little")

    def le32(self, offset: int) -> int:
        """Little endian."""
        return int.from_bytes(self._range(offset, 4), "little")

    def le64(self, offset: int) -> int:
        """Little endian."""
        return int.from_bytes(self._range(offset, 8), "little")

    def text(self, offset: int, size: int) -> str:
        """A text field that ends with a NUL or is full; what cannot be printed becomes `?`."""
        return printable(self.take(offset, size).partition(b"\0")[0])

    def zeros_at(self, offset: int) -> int:
        """How many bytes from there on are known to be zeros, without a look at them."""
        place = self.start + offset
        index = bisect_right(self._zeros, place, key=lambda known: known[0]) - 1
        end = self._zeros[index][1] if index >= 0 else 0
        return max(0, min(end, self.start + self.size) - place)

    def chunks(self) -> Iterator[memoryview]:
        """All of its bytes in order, in pieces of 64 KiB at most. Where they are known to be zeros they come
        from elsewhere, so that a hole of gigabytes is not read into memory."""
        at = 0
        while at < self.size:
            known = min(self.zeros_at(at), _CHUNK)
            piece = _ZEROS[:known] if known else self._data[at : at + _CHUNK]
            yield piece
            at += len(piece)

    def release(self) -> None:
        """Give the memory back that a mapped file takes by having been read; it is read again where it is
        wanted again. Nothing for contents that are no mapped file."""
        owner = self._data.obj
        if isinstance(owner, mmap.mmap):
            owner.madvise(mmap.MADV_DONTNEED)

    def pieces(self) -> Iterator[memoryview]:
        """All of its bytes in order, in pieces that do not stay in memory together."""
        for at in range(0, self.size, _PIECE):
            yield self._data[at : at + _PIECE]
            self.release()

    def filled_with(self, byte: int) -> bool:
        """Whether it holds nothing else than this byte (True where it is empty)."""
        same = bytes([byte]) * min(self.size, _CHUNK)
        return all(bytes(chunk) == same[: len(chunk)] for chunk in self.chunks())


def printable(data: bytes) -> str:
    """Bytes as text for people; what cannot be printed becomes `?`."""
    return _UNPRINTABLE.sub("?", data.decode("ascii", "replace"))


def open_view(path: Path) -> View:
    """A view of a file, which is mapped, not read. UserError where it cannot be read or is empty."""
    try:
        with path.open("rb") as stream:
            return View(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)), what=path.name)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # mmap's word for an empty file
        raise ImageFormatError(f"{path} is empty") from error
