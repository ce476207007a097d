"""Room for what is built at once: memory and disk. A build waits until there is enough; one always goes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagebuilder.fleet.job import BoardJob, Ended
from imagebuilder.fleet.journal import LastRun, board_key
from imagebuilder.host.fs import free_bytes
from imagebuilder.host.memory import available_memory
from imagebuilder.model.size import human_size

# What a build takes of which nothing was measured. An image of the kit takes 210 MiB of memory in all, of
# which a good part is shared with others at once, one of LEDE 17.01.7 less; a tree of 23.05 with 10,000
# packages in its indexes 330. On disk there are the changed files of the tree, root file systems and images:
# 120 MiB for the kit, 60 for a router of 4 MiB
MEMORY_BYTES = 384 << 20
DISK_BYTES = 512 << 20
_SPARE_MEMORY = 64 << 20  # that stays for all else
_SPARE_DISK = 64 << 20
_MEASURED = 1.2  # by how much a build may take more than the one before
_VIEW_BYTES = 128 << 20  # of what a build writes and removes again, besides as much again as its result


@dataclass(frozen=True)
class RoomNeed:
    """Bytes that a job takes at most. folder: on whose disk."""

    memory: int
    disk: int
    folder: Path


@dataclass
class Room:
    """What is taken of this machine by jobs at once, for several threads. measured: by CONFIG/BOARD, as the
    journal has it. memory, disk: how many bytes are free, the second below a folder."""

    measured: dict[str, LastRun] = field(default_factory=dict)
    memory: Callable[[], int] = available_memory
    disk: Callable[[Path], int] = free_bytes
    _taken: dict[int, RoomNeed] = field(default_factory=dict)
    _whole: int = 0  # memory that was free when nothing ran
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, job: BoardJob) -> str | None:
        """Take the room for a job: None; or else what it waits for, in words, and nothing is taken."""
        need = self._need(job)
        with self._lock:
            if not self._taken:
                self._whole = self.memory()
            elif lack := self._lack(need):
                return lack
            self._taken[id(job)] = need
        return None

    def give_back(self, job: BoardJob) -> None:
        """The job has ended, or was not begun."""
        with self._lock:
            self._taken.pop(id(job), None)

    def learn(self, ended: Ended[Any]) -> None:
        """Remember what a job took: those that follow may take as much."""
        if ended.peak:
            with self._lock:
                key = board_key(ended.job)
                before = self.measured.get(key, LastRun())
                self.measured[key] = LastRun(ended.state, ended.seconds, ended.peak, before.disk)

    def _need(self, job: BoardJob) -> RoomNeed:
        run = self.measured.get(board_key(job), LastRun())
        memory = int(run.memory * _MEASURED) or MEMORY_BYTES
        disk = int(run.disk * 2 * _MEASURED) + _VIEW_BYTES if run.disk else DISK_BYTES
        return RoomNeed(memory, disk, _there(job.request.output))

    def _lack(self, need: RoomNeed) -> str | None:
        """What is missing. What runs has taken a part of its memory by now, nobody knows how much: it is
        counted against what was free before any began, and what is free at this moment has to do as well. Of
        the disk it is taken to have nothing yet."""
        running = sum(each.memory for each in self._taken.values())
        free = min(self._whole - running, self.memory()) - _SPARE_MEMORY
        if free < need.memory:
            return f"{human_size(need.memory - max(free, 0))} of memory"
        running = sum(each.disk for each in self._taken.values())
        free = self.disk(need.folder) - running - _SPARE_DISK
        if free < need.disk:
            return f"{human_size(need.disk - max(free, 0))} of disk below {need.folder}"
        return None


def _there(folder: Path) -> Path:
    """The folder, or the nearest above that is there."""
    return next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
