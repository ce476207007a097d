"""Where one build writes. Results appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.places import FAILED_LOG
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import (
    is_temporary,
    names,
    remove_abandoned,
    remove_if_abandoned,
    replace_folder,
    temporary_folder,
)
from imagebuilder.host.memory import folder_in_memory
from imagebuilder.host.own_folders import OwnFolder
from imagebuilder.report.files import BUILD_LOG, RESULT

_EARLIER_LOCKS = ".*.lock"  # beside each result, in versions that took one there


@dataclass(frozen=True)
class Workspace:
    """The folders of one build.

    work: everything temporary, on the same file system as the results. in_memory: what make changes in its
    tree, where there is plenty of memory for that, else that is in `work`: the thousands of small files that
    make writes and removes take longer on a disk. result: what is to be handed over.
    place: where the result will appear. output: where all results are; own: whether that is a folder of this
    program's.
    """

    work: Path
    in_memory: Path | None
    result: Path
    place: Path
    output: Path
    own: bool

    @property
    def failure_log(self) -> Path:
        """`out/CONFIG/BOARD.failed.log`."""
        return self.place.with_name(f"{self.place.name}{FAILED_LOG}")

    def hand_over(self) -> None:
        """Put the result in its place; an older result goes. Of two builds of one image the last's stays."""
        self._mark_output()
        replace_folder(self.result, self.place)
        self.failure_log.unlink(missing_ok=True)

    def keep_failure_log(self) -> Path | None:
        """Move build.log to where the user finds it although there is no result; None if there is none."""
        log = self.result / BUILD_LOG
        if not log.exists():
            return None
        self._mark_output()
        log.replace(self.failure_log)
        return self.failure_log

    def _mark_output(self) -> None:
        if self.own:
            OUTPUT.mark(self.output)


@contextmanager
def open_workspace(
    output: Path, config: str, board: str, most_changed: int | None = None
) -> Iterator[Workspace]:
    """A workspace below `output`, removed at the end whatever happens, and with it the folders that were made
    for it and hold nothing. What builds that were killed left there is removed first. most_changed: bytes of
    what make changes, at most, where that is known."""
    folder = output / config
    with no_empty_folder_left(folder), disk_errors_explained(output):
        own = OUTPUT.stranger(output) is None
        _remove_left_behind(output, folder, own=own)
        with (
            temporary_folder("work", folder) as work,
            folder_in_memory(most_changed) as in_memory,
        ):
            (work / "result").mkdir()
            yield Workspace(work, in_memory, work / "result", folder / board, output, own)


def remove_left_behind(output: Path, config: str) -> None:
    """Remove what builds that were killed left. OSError."""
    if output.is_dir():
        _remove_left_behind(output, output / config, own=OUTPUT.stranger(output) is None)


def _remove_left_behind(output: Path, folder: Path, *, own: bool) -> None:
    """own: all that is in the folder of the results is ours. Elsewhere only this config's folder is."""
    folders = [output / name for name in names(output)] if own else [folder]
    for place in (output, *folders):
        remove_abandoned(place)
    for lock in (folder / name for name in names(folder)):
        if _is_earlier_lock(lock):
            remove_if_abandoned(lock)


def _is_earlier_lock(place: Path) -> bool:
    with suppress(FileNotFoundError):  # another build removes it just now
        return place.match(_EARLIER_LOCKS) and place.is_file() and place.stat().st_size == 0
    return False


def _is_ours(place: Path) -> bool:
    """Whether something that lies in the folder of results holds results, failed builds' logs and what is
    temporary, no more."""
    return place.is_dir() and not place.is_symlink() and all(_is_known(place / name) for name in names(place))


def _is_known(place: Path) -> bool:
    if is_temporary(place.name) or _is_earlier_lock(place):
        return True
    if place.is_symlink() or not place.is_dir():
        return place.is_file() and place.name.endswith(FAILED_LOG)
    try:
        said = json.loads((place / RESULT).read_bytes())
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
