"""The results of a build server, each below its request's number: whole, checked when it is given out, and
bounded in what they take together."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from imagebuilder.errors import UserError
from imagebuilder.host.files import read_plain
from imagebuilder.host.fs import disk_errors_explained, sha256_of
from imagebuilder.host.handover import remove_whole
from imagebuilder.host.walk import walk
from imagebuilder.model.firmware import outcome_of
from imagebuilder.model.result import Result
from imagebuilder.report.files import MANIFEST, SIGNATURE, SUMS
from imagebuilder.report.sums import check_sums
from imagebuilder.service.records import NUMBER
from imagebuilder.trust.keys import Keys
from imagebuilder.trust.signature_sums import parse_sums
from imagebuilder.workspace import OUTPUT, remove_left_behind

_BESIDE = (MANIFEST, SUMS, SIGNATURE)  # what is given out besides the images


class DamagedResultError(UserError):
    """A file of a result that is gone, or another one than was built."""


@dataclass(frozen=True)
class Store:
    """The folder of all results."""

    folder: Path

    def open(self) -> None:
        """Make the folder, and remove what killed builds left. HostError."""
        with disk_errors_explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            OUTPUT.mark(self.folder)
            remove_left_behind(self.folder, "")

    def place(self, number: str, board: str) -> Path:
        """Where the result of a request is."""
        return self.folder / number / board

    def result(self, number: str, board: str) -> Result | None:
        """What is there of a request; None where there is nothing, or nothing whole."""
        place = self.place(number, board)
        try:
            result = Result.model_validate_json(read_plain(place / "result.json"))
        except (UserError, ValidationError):
            return None
        return result if _are_whole(place, {each.file: each.sha256 for each in result.images}) else None

    def is_whole(self, number: str, board: str, images: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the images that a client was told of are there, by their sums."""
        return _are_whole(self.place(number, board), {each["name"]: each["sha256"] for each in images})

    def file(self, number: str, board: str, images: Sequence[Mapping[str, Any]], name: str) -> Path | None:
        """The file of that name that clients may have; None for another. DamagedResultError where it is not
        what was built."""
        told = {each["name"]: each["sha256"] for each in images}
        folder = self.place(number, board)
        place = folder / name
        if name == SIGNATURE and not os.path.lexists(place):
            return None  # nobody signs here
        if name in told:
            whole = not place.is_symlink() and _are_whole(folder, {name: told[name]})
        elif name in _BESIDE:
            whole = _beside_is_whole(folder, told)
        else:
            return None
        if not whole:
            raise DamagedResultError(f"{name} is not what was built")
        return place

    def size(self, number: str) -> int:
        """The bytes that a request's results take."""
        place = self.folder / number
        return sum(item.status.st_size for item in walk(place) if item.is_file) if place.is_dir() else 0

    def remove(self, number: str) -> None:
        """Remove a request's results. HostError."""
        with disk_errors_explained(self.folder):
            remove_whole(self.folder / number)

    def drop_strays(self, known: Collection[str]) -> None:
        """Remove results of requests that nobody knows any more. HostError."""
        with disk_errors_explained(self.folder):
            names = [place.name for place in self.folder.iterdir()]
        for name in names:
            if NUMBER.fullmatch(name) and name not in known:
                self.remove(name)


def _beside_is_whole(folder: Path, images: Mapping[str, str]) -> bool:
    """Whether the sums are those of the images that a client was told of, and of all else that is there."""
    try:
        checks = check_sums(folder, Keys(), needed=(*images, MANIFEST))
        sums = parse_sums(read_plain(folder / SUMS, follow=False))
    except (UserError, OSError):
        return False
    same = all(sums.get(name) == sha256 for name, sha256 in images.items())
    return same and outcome_of(checks) != "refused"


def _are_whole(place: Path, images: Mapping[str, str]) -> bool:
    try:
        return all(sha256_of(place / file) == sha256 for file, sha256 in images.items())
    except OSError:
        return False
