"""What an image is read with: bounded views of its bytes, and how what lies inside of a part is looked at.

Numbers and texts are read within a view, or one error is raised. What is unpacked is counted, and lies in
memory while it is little, else in a file without a name whose zeros are holes: a disk image is mostly zeros
behind its root file system, so that gigabytes of it take little space, and no memory that the system could
not take back.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar, cast

from imagebuilder.errors import UserError
from imagebuilder.host.files import opened_plain
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.model.firmware import Check, Field, Part

MAX_IMAGE_BYTES = 8 << 30
MOST_UNPACKED = 1 << 30
DEEPEST = 8
IN_MEMORY = 32 << 20
MOST_KEPT = 64 << 20  # bytes of unpacked kernels
_SHORTEST_HOLE = 1 << 16
_ROOMY = Path("/var/tmp")  # noqa: S108 (for what is large: /tmp is memory on many systems)
Zeros = tuple[tuple[int, int], ...]
_CHUNK = 1 << 16
_PIECE = 1 << 22
_ZEROS = memoryview(bytes(_CHUNK))
_UNPRINTABLE = re.compile(r"[^ -~]")
T = TypeVar("T")


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
        return offset >= 0 and bytes(self._data[offset : offset + len(magic)]) == magic

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

    def number(self, offset: int, size: int, *, little: bool) -> int:
        """So many bytes in either order."""
        return int.from_bytes(self._range(offset, size), "little" if little else "big")

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

    def to_part(
        self,
        kind: str,
        name: str,
        fields: Mapping[str, Field] | None = None,
        children: Iterable[Part] = (),
        checks: Iterable[Check] = (),
        *,
        unpacked_size: int | None = None,
    ) -> Part:
        """All of it as a part of the image, with what it holds and the checks of it."""
        inside, checked = tuple(children), tuple(checks)
        return Part(kind, name, self.start, self.size, fields or {}, inside, checked, unpacked_size, self.raw)

    def filled_with(self, byte: int) -> bool:
        """Whether it holds nothing else than this byte (True where it is empty)."""
        same = bytes([byte]) * min(self.size, _CHUNK)
        return all(bytes(chunk) == same[: len(chunk)] for chunk in self.chunks())


def printable(data: bytes) -> str:
    """Bytes as text for people; what cannot be printed becomes `?`."""
    return _UNPRINTABLE.sub("?", data.decode("ascii", "replace"))


def open_view(path: Path) -> View:
    """A view of a plain file, which is mapped, not read. UserError where it is none, cannot be read, is empty
    or larger than any image."""
    try:
        with opened_plain(path, MAX_IMAGE_BYTES) as stream:
            return View(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)), what=path.name)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # mmap's word for an empty file
        raise ImageFormatError(f"{path} is empty") from error


class Kernels:
    """Kernels that were unpacked: the images of one device hold the same, which is unpacked once then. Each
    is known by all of its compressed bytes. Threads may share this."""

    def __init__(self) -> None:
        self._kept: list[tuple[str, bytes, memoryview]] = []
        self._told: dict[tuple[int, Callable[[memoryview], object]], object] = {}

    def find(self, kind: str, view: View, most: int) -> tuple[memoryview, int] | None:
        """What the beginning of a view unpacks to, and how many bytes that beginning has; None where no such
        kernel was kept, or it has more than `most` bytes. kind: the format's."""
        for kept, packed, data in tuple(self._kept):
            if kept == kind and len(data) <= most and view.has(packed[:_CHUNK]) and view.has(packed):
                return data, len(packed)
        return None

    def keep(self, kind: str, packed: View, data: memoryview) -> None:
        """Keep one, as long as all of them do not take too much memory."""
        if len(data) + sum(len(each) for _, _, each in self._kept) <= MOST_KEPT:
            self._kept.append((kind, bytes(packed.raw), data))

    def told(self, code: memoryview, look: Callable[[memoryview], T]) -> T:
        """What a look at code tells; each look at a kernel that was kept is taken once."""
        for number, (_, _, data) in enumerate(tuple(self._kept)):
            if data.obj is code.obj and len(data) == len(code):
                if (number, look) not in self._told:
                    self._told[number, look] = look(code)
                return cast(T, self._told[number, look])
        return look(code)


class Reading:
    """The reading of one image. unpack_left: bytes that may still be unpacked from it, all together. kernels:
    those of other images, which it may share."""

    def __init__(
        self,
        formats: Sequence[Format],
        *,
        most_unpacked: int = MOST_UNPACKED,
        kernels: Kernels | None = None,
    ) -> None:
        self._formats = formats
        self._depth = 0
        self.unpack_left = most_unpacked
        self.kernels = Kernels() if kernels is None else kernels

    @property
    def outermost(self) -> bool:
        """Whether what is read is the file itself, and lies in nothing else."""
        return self._depth <= 1

    def unpacked(self, data: bytes | memoryview, what: str) -> View:
        """A view of contents that were unpacked, counted against what may be."""
        self.count_unpacked(len(data))
        return View(data, what=what)

    def count_unpacked(self, size: int) -> None:
        """Count bytes that were unpacked against what may be."""
        self.unpack_left = max(0, self.unpack_left - size)

    def inside(self, view: View, name: str) -> Part:
        """What lies at the beginning of a view, under the name that its place gives it.

        A part that its format's module cannot read is a part with a failed check. Nothing is raised.
        """
        if self._depth >= DEEPEST:
            return damaged("too-deep", name, view, f"more than {DEEPEST} formats lie in one another")
        self._depth += 1
        try:
            for form in self._formats:
                if form.detect(view):
                    return self._parsed(form, view, name)
        finally:
            self._depth -= 1
        return view.to_part("data", name)

    def _parsed(self, form: Format, view: View, name: str) -> Part:
        try:
            return form.parse(view, self).renamed(name)
        except ImageFormatError as error:
            return damaged(form.kind, name, view, error.message)


@dataclass(frozen=True, slots=True)
class Format:
    """A line of the table of formats. detect: whether a view begins so; it never raises. parse: reads it, and
    may leave bytes behind it for its caller; raises ImageFormatError and nothing else. opened: whether what
    lies inside is read, or the format is only named. steps: those of OpenWrt's recipes that make it."""

    kind: str
    about: str
    detect: Callable[[View], bool]
    parse: Callable[[View, Reading], Part]
    opened: bool = True
    steps: str = ""


def begins_with(*magics: bytes, at: int = 0, least: int = 0) -> Callable[[View], bool]:
    """A format's detect(): one of these magics stands there, in a view of so many bytes at least."""
    return lambda view: view.size >= least and any(view.has(magic, at) for magic in magics)


def damaged(kind: str, name: str, view: View, reason: str) -> Part:
    """A part that could not be read."""
    check = Check(f"{name} can be read", f"a whole {kind}", reason, False)
    return view.to_part(kind, name, checks=(check,))


class Spool:
    """Contents that grow. size: bytes; stored: those of them that are no holes. in_memory: bytes, above which
    a file takes them. HostError where that file cannot be written."""

    def __init__(self, *, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._pieces: list[bytes] = []
        self._zeros: list[tuple[int, int]] = []
        self._file: IO[bytes] | None = None
        self._place = _folder()
        self.size = 0
        self.stored = 0

    def add(self, piece: bytes) -> None:
        """Put bytes behind what is there."""
        if self._file is None and self.size + len(piece) <= self._in_memory:
            self._pieces.append(piece)
            self.size += len(piece)
            self.stored += len(piece)
            return
        with disk_errors_explained(self._place):
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="firmware-", dir=self._place, buffering=0)  # noqa: SIM115 (closed with the last view of it)
                before, self._pieces = self._pieces, []
                self.size = self.stored = 0
                for one in before:
                    self._write(self._file, one)
            self._write(self._file, piece)

    def _write(self, file: IO[bytes], piece: bytes) -> None:
        end = self.size + len(piece)
        if len(piece) >= _SHORTEST_HOLE and not any_but_zeros(piece):
            start = self._zeros.pop()[0] if self._zeros and self._zeros[-1][1] == self.size else self.size
            self._zeros.append((start, end))
        else:
            left = memoryview(piece)
            while left:
                left = left[os.pwrite(file.fileno(), left, end - len(left)) :]
            self.stored += len(piece)
        self.size = end

    def view(self, what: str) -> View:
        """All of it. The file lives as long as the view does, or a part of it. what: its name in errors."""
        if self._file is None:
            return View(b"".join(self._pieces), what=what)
        with self._file as file, disk_errors_explained(self._place):
            os.ftruncate(file.fileno(), self.size)
            mapped = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
        return View(memoryview(mapped), what=what, zeros=tuple(self._zeros))


def any_but_zeros(data: bytes) -> bool:
    """Whether there is any other byte than zero."""
    return data != bytes(len(data))


def _folder() -> Path:
    """Where large files without a name go: what TMPDIR says, else /var/tmp."""
    roomy = "TMPDIR" not in os.environ and _ROOMY.is_dir() and os.access(_ROOMY, os.W_OK | os.X_OK)
    return _ROOMY if roomy else Path(tempfile.gettempdir())
