"""Where one build writes. Results appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.host.fs import disk_errors_explained, replace_folder
from imagebuilder.host.walk import remove_tree

_PREFIX = ".work-"


@dataclass(frozen=True)
class Workspace:
    """The folders of one build.

    work: everything temporary, on the same file system as the results. result: what is to be handed over.
    place: where the result will appear. failure_log: where build.log is kept when the build fails.
    """

    work: Path
    result: Path
    place: Path

    @property
    def failure_log(self) -> Path:
        """`out/CONFIG/BOARD.failed.log`."""
        return self.place.with_name(f"{self.place.name}.failed.log")

    def hand_over(self) -> None:
        """Put the result in its place; an older result goes. Two builds of one image take turns."""
        lock = self.place.with_name(f".{self.place.name}.lock")
        with lock.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            replace_folder(self.result, self.place)
            self.failure_log.unlink(missing_ok=True)

    def keep_failure_log(self) -> Path | None:
        """Move build.log to where the user finds it although there is no result; None if there is none."""
        log = self.result / "build.log"
        if not log.exists():
            return None
        log.replace(self.failure_log)
        return self.failure_log


@contextmanager
def open_workspace(output: Path, config: str, board: str) -> Iterator[Workspace]:
    """A workspace below `output`, removed at the end whatever happens, and with it the folders that were made
    for it and hold nothing. What builds that were killed left there is removed first."""
    folder = output / config
    with no_empty_folder_left(folder), ExitStack() as stack:
        with disk_errors_explained(output):
            fresh = _fresh_folder(folder)
            _remove_abandoned(folder)
            (fresh / "result").mkdir()
            lock = stack.enter_context((fresh / ".lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        # only now that the lock is held may other builds see this as a workspace
        work = fresh.rename(folder / fresh.name.replace(".new-", _PREFIX, 1))
        try:
            with disk_errors_explained(output):
                yield Workspace(work, work / "result", folder / board)
        finally:
            remove_tree(work)


@contextmanager
def no_empty_folder_left(folder: Path) -> Iterator[None]:
    """The folder and those above it that are not there yet: what of them is empty at the end is removed."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    finally:
        with suppress(OSError):  # a result is there, or another build's
            for each in new:
                each.rmdir()


def _fresh_folder(folder: Path) -> Path:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another build ended just now, and took the empty folder with it
            return Path(tempfile.mkdtemp(prefix=".new-", dir=folder))


def _remove_abandoned(folder: Path) -> None:
    """A living build holds the lock of its workspace; the system frees it when the process dies."""
    for work in folder.glob(f"{_PREFIX}*"):
        lock = work / ".lock"
        with suppress(BlockingIOError, FileNotFoundError):
            handle = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(work)
            finally:
                os.close(handle)
