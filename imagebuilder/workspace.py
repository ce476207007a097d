"""Where one build writes. Results appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import (
    is_temporary,
    remove_abandoned,
    remove_if_abandoned,
    replace_folder,
    temporary_folder,
)
from imagebuilder.host.own_folders import OwnFolder

_FAILED = ".failed.log"
_EARLIER_LOCKS = ".*.lock"  # beside each result, in versions that took one there


@dataclass(frozen=True)
class Workspace:
    """The folders of one build.

    work: everything temporary, on the same file system as the results. result: what is to be handed over.
    place: where the result will appear. output: where all results are; own: whether that is a folder of this
    program's.
    """

    work: Path
    result: Path
    place: Path
    output: Path
    own: bool

    @property
    def failure_log(self) -> Path:
        """`out/CONFIG/BOARD.failed.log`."""
        return self.place.with_name(f"{self.place.name}{_FAILED}")

    def hand_over(self) -> None:
        """Put the result in its place; an older result goes. Of two builds of one image the last's stays."""
        self._mark_output()
        replace_folder(self.result, self.place)
        self.failure_log.unlink(missing_ok=True)

    def keep_failure_log(self) -> Path | None:
        """Move build.log to where the user finds it although there is no result; None if there is none."""
        log = self.result / "build.log"
        if not log.exists():
            return None
        self._mark_output()
        log.replace(self.failure_log)
        return self.failure_log

    def _mark_output(self) -> None:
        if self.own:
            OUTPUT.mark(self.output)


@contextmanager
def open_workspace(output: Path, config: str, board: str) -> Iterator[Workspace]:
    """A workspace below `output`, removed at the end whatever happens, and with it the folders that were made
    for it and hold nothing. What builds that were killed left there is removed first."""
    folder = output / config
    with no_empty_folder_left(folder), disk_errors_explained(output):
        own = OUTPUT.stranger(output) is None
        _remove_left_behind(output, folder, own=own)
        with temporary_folder("work", folder) as work:
            (work / "result").mkdir()
            yield Workspace(work, work / "result", folder / board, output, own)


def _remove_left_behind(output: Path, folder: Path, *, own: bool) -> None:
    """own: all that is in the folder of the results is ours. Elsewhere only this config's folder is."""
    folders = [place for place in output.glob("*") if place.is_dir()] if own else [folder]
    for place in (output, *folders):
        remove_abandoned(place)
    for lock in folder.glob(_EARLIER_LOCKS):
        if _is_earlier_lock(lock):
            remove_if_abandoned(lock)


def _is_earlier_lock(place: Path) -> bool:
    return place.match(_EARLIER_LOCKS) and place.is_file() and place.stat().st_size == 0


def _is_ours(place: Path) -> bool:
    """Whether something that lies in the folder of results holds results, failed builds' logs and what is
    temporary, no more."""
    return place.is_dir() and not place.is_symlink() and all(map(_is_known, place.iterdir()))


def _is_known(place: Path) -> bool:
    if is_temporary(place.name) or _is_earlier_lock(place):
        return True
    if place.is_symlink() or not place.is_dir():
        return place.is_file() and place.name.endswith(_FAILED)
    try:
        said = json.loads((place / "result.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    named = (said.get("config"), said.get("board")) if isinstance(said, dict) else ()
    return named == (place.parent.name, place.name)


OUTPUT = OwnFolder(
    "a folder of results",
    ".openwrt-imagebuilder",
    "openwrt-python-imagebuilder made this folder: its command `clean` removes all that is in it.\n",
    _is_ours,
)


@contextmanager
def no_empty_folder_left(folder: Path) -> Iterator[None]:
    """The folder and those above it that are not there yet: what of them is empty at the end is removed."""
    new = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        yield
    finally:
        with suppress(OSError):  # a result is there, or another build's
            for each in new:
                each.rmdir()
