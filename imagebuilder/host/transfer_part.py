"""A file that is on its way: where it is from, what has come of it, and what can be wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.called import typed
from imagebuilder.errors import HostError, UserError
from imagebuilder.host.fs import free_bytes

Meter = Callable[[int, int | None], None]


class DownloadError(UserError):
    """A file that could not be had from where it should be."""


class NotThereError(DownloadError):
    """The place says that it has no such file."""


class InterruptedTransfersError(DownloadError):
    """A transfer that was given up because the work was interrupted."""


@dataclass(frozen=True)
class Source:
    """Where a file is: an http(s) address that holds no credentials, or a path. auth: user and password."""

    address: str
    auth: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def remote(self) -> bool:
        """Whether it takes the network."""
        return self.address.startswith(("https://", "http://"))


@dataclass(frozen=True)
class PartialFile:
    """The beginning of a file, in `place`; beside it, in `place.from`, by what to tell that the server's file
    is still the same. max_bytes: a larger file is refused. meter: called with the bytes so far, and the total
    or None."""

    place: Path
    max_bytes: int
    meter: Meter = lambda _done, _total: None

    def size(self) -> int:
        """Bytes that are there."""
        return self.place.stat().st_size if self.place.exists() else 0

    def forget(self) -> None:
        """Remove all of it."""
        self.place.unlink(missing_ok=True)
        self._origin.unlink(missing_ok=True)

    def finish(self) -> None:
        """Remove what stands beside a whole file."""
        self._origin.unlink(missing_ok=True)

    def note_origin(self, source: Source, headers: Mapping[str, str]) -> None:
        """Keep what the server says of its file: a strong ETag, or its date."""
        etag = headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
        self._origin.write_text(json.dumps({"address": source.address, "validator": validator}))

    def validator(self, source: Source) -> str | None:
        """What note_origin() kept, if it was from this place; None if nothing can be told."""
        try:
            record = json.loads(self._origin.read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        if not isinstance(record, dict) or record.get("address") != source.address:
            return None
        kept = record.get("validator")
        sane = isinstance(kept, str) and kept.isascii() and kept.isprintable()
        return kept if sane and kept else None

    def check_room(self, source: Source, total: int) -> None:
        """DownloadError for a file of more than max_bytes, HostError for one that the disk has no room
        for."""
        if total > self.max_bytes:
            raise DownloadError(
                f"{source.address}: has {total} bytes, more than the {self.max_bytes} that it may"
            )
        free, to_come = free_bytes(self.place.parent), total - self.size()
        if to_come > free:
            raise HostError(
                f"{source.address} has {to_come} bytes to come, but {free} are free in {self.place.parent}",
                hint=f"{typed('clean --fetched')} makes room, --cache DIR chooses another place",
            )

    def append(self, chunks: Iterator[bytes], source: Source, total: int | None) -> None:
        """Write what comes behind what is there. DownloadError where it grows beyond max_bytes; OSError."""
        with self.place.open("ab") as stream:
            done = stream.tell()
            for chunk in chunks:
                done += len(chunk)
                if done > self.max_bytes:
                    raise DownloadError(f"{source.address}: is larger than {self.max_bytes} bytes")
                stream.write(chunk)
                self.meter(done, total)

    @property
    def _origin(self) -> Path:
        return self.place.with_name(f"{self.place.name}.from")
