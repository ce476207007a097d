"""What was asked for and what became of it, on the disk before anybody is told: a server that is killed, or
whose machine loses its power, goes on where it was.

`requests/NUMBER.json` is a request that was acknowledged, `outcomes/NUMBER.json` how it ended. A request
without an outcome is to be built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from imagebuilder.errors import UserError
from imagebuilder.host.files import read_plain
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import remove_abandoned, write_durable
from imagebuilder.service.asked import BuildRequest

NUMBER = re.compile(r"[0-9a-f]{64}")
_MOST_RECORD = 16 << 20  # bytes
Record = TypeVar("Record", bound=BaseModel)


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AskedRecord(_Written):
    """A request that was acknowledged. order: its place among all; at: when, in seconds since 1970."""

    number: str
    order: int
    at: float
    asked: BuildRequest


class OutcomeRecord(_Written):
    """How a request ended, and when. board: whose result it is. document: what clients get of one that was
    built; detail, stderr, stdout: of one that failed."""

    number: str
    at: float
    state: Literal["done", "failed"]
    board: str = ""
    document: dict[str, Any] = {}
    detail: str = ""
    stderr: str = ""
    stdout: str = ""


@dataclass(frozen=True)
class Records:
    """The records in a folder, which is this user's alone: requests can hold what nobody else should read."""

    folder: Path

    def open(self) -> None:
        """Make the folders, and remove what was half-written. HostError."""
        with disk_errors_explained(self.folder):
            for place in (self._requests, self._outcomes):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
                remove_abandoned(place)
            self.folder.chmod(0o700)

    @property
    def _requests(self) -> Path:
        return self.folder / "requests"

    @property
    def _outcomes(self) -> Path:
        return self.folder / "outcomes"

    def acknowledge(self, record: AskedRecord) -> None:
        """Write a request down; an outcome that it had goes. HostError where that cannot be done: then nobody
        may be told that it is taken."""
        with disk_errors_explained(self._requests):
            self._outcome(record.number).unlink(missing_ok=True)
            write_durable(self._request(record.number), record.model_dump_json().encode())

    def end(self, record: OutcomeRecord) -> None:
        """Write down how a request ended. HostError."""
        with disk_errors_explained(self._outcomes):
            write_durable(self._outcome(record.number), record.model_dump_json().encode())

    def forget(self, number: str) -> None:
        """Remove all that is written of a request. HostError."""
        with disk_errors_explained(self.folder):
            self._request(number).unlink(missing_ok=True)  # first: without it an outcome is nobody's
            self._outcome(number).unlink(missing_ok=True)

    def requests(self) -> list[AskedRecord]:
        """All requests, in the order in which they came. UserError for a record that cannot be read."""
        found = (self._read(place, AskedRecord) for place in self._numbered(self._requests))
        return sorted(found, key=lambda record: record.order)

    def outcome(self, number: str) -> OutcomeRecord | None:
        """How a request ended; None where it has not. UserError as requests()."""
        place = self._outcome(number)
        return self._read(place, OutcomeRecord) if place.exists() else None

    def drop_strays(self) -> None:
        """Remove outcomes of requests that were forgotten. HostError."""
        with disk_errors_explained(self._outcomes):
            for place in self._numbered(self._outcomes):
                if not self._request(place.stem).exists():
                    place.unlink(missing_ok=True)

    def _request(self, number: str) -> Path:
        return self._requests / f"{number}.json"

    def _outcome(self, number: str) -> Path:
        return self._outcomes / f"{number}.json"

    @staticmethod
    def _numbered(folder: Path) -> Iterator[Path]:
        return (place for place in sorted(folder.glob("*.json")) if NUMBER.fullmatch(place.stem))

    @staticmethod
    def _read(place: Path, kind: type[Record]) -> Record:
        try:
            return kind.model_validate_json(read_plain(place, _MOST_RECORD))
        except ValidationError as error:
            raise UserError(
                f"{place} is no record of this build server: {error.errors()[0]['msg']}",
                hint="it is damaged, or of another version: move it elsewhere, and that request is lost",
            ) from error
