"""Where contents go that are unpacked: memory while there are few, else a file without a name whose zeros are
holes.

A disk image is mostly zeros behind its root file system, so that gigabytes of it take little space, and no
memory that the system could not take back.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import IO

from imagebuilder.firmware.reader import View
from imagebuilder.host.fs import disk_errors_explained

IN_MEMORY = 32 << 20
_SHORTEST_HOLE = 1 << 16
_ROOMY = Path("/var/tmp")  # noqa: S108 (for what is large: /tmp is memory on many systems)


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
