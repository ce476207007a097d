"""What became of each board when it was last asked for, and what that took: `.boards.jsonl` in the folder of
results, for `--only-failed` and for how many builds go at once.

One JSON object a line, of which the last for a board counts: `board` is CONFIG/BOARD, `state` the word that
the summary has for it, `seconds`, `memory` and `disk` (bytes) what a build took. A command first writes that
none of its boards was run, then a line whenever one ends, so that what was killed counts as not run. Lines
are added by one write each; those of several commands at once do not mix. What is no such line is passed
over: the power may fail while one is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagebuilder.fleet.job import BoardJob, Ended, HandedOver
from imagebuilder.host.fs import make_folder
from imagebuilder.host.handover import alone, write_whole
from imagebuilder.workspace import OUTPUT

NAME = ".boards.jsonl"
NOT_RUN = "not run"
GOOD = frozenset({"built", "up to date", "from the cache"})
_MOST_BYTES = 64 << 20  # a hundred thousand boards have less
_OLD_LINES = 10  # lines a board, after which the file is written anew


@dataclass(frozen=True)
class LastRun:
    """Of one board. memory, disk: bytes; 0 where nobody measured."""

    state: str = NOT_RUN
    seconds: float = 0.0
    memory: int = 0
    disk: int = 0


class Journal:
    """The file of one folder of results. Where it cannot be written, `problem` says why, and all goes on: no
    build fails for it."""

    def __init__(self, output: Path) -> None:
        self._output, self.place = output, output / NAME
        self.boards: dict[str, LastRun] = {}
        self.problem: str | None = None
        self._active = self.place.is_file()
        lines = 0
        with suppress(OSError), self.place.open("rb") as stream:
            for line in stream.read(_MOST_BYTES).split(b"\n"):
                lines += 1
                self._take(line)
        self._is_long = lines > _OLD_LINES * (len(self.boards) + 10)

    def begin(self, jobs: Sequence[BoardJob]) -> None:
        """Write down that these are to be run, and were not. One board alone is written down where others
        were before."""
        self._active = self._active or len(jobs) > 1
        for job in jobs:
            self.boards[board_key(job)] = self._of(job, NOT_RUN)
        if not self._active:
            return
        with self._noting():
            if OUTPUT.stranger(self._output) is None:
                make_folder(self._output)
                OUTPUT.mark(self._output)
            if self._is_long:
                with alone(self._output):
                    write_whole(self.place, b"".join(map(_line, self.boards, self.boards.values())))
            self._add(b"".join(_line(key, self.boards[key]) for key in map(board_key, jobs)))

    def ended(self, ended: Ended[Any], disk: int = 0) -> None:
        """Write down how one ended. disk: bytes that its result takes."""
        found = ended.found
        state = found.state if isinstance(found, HandedOver) else ended.state
        before = self._of(ended.job, state)
        run = LastRun(
            state,
            round(ended.seconds, 3),
            ended.peak or before.memory,
            disk or before.disk,
        )
        self.boards[board_key(ended.job)] = run
        if self._active:
            with self._noting():
                self._add(_line(board_key(ended.job), run))

    def failed(self, jobs: Iterable[BoardJob]) -> Iterator[BoardJob]:
        """Those that failed or were not run when they were last asked for, or never were."""
        for job in jobs:
            if self.boards.get(board_key(job), LastRun()).state not in GOOD:
                yield job

    def _of(self, job: BoardJob, state: str) -> LastRun:
        before = self.boards.get(board_key(job), LastRun())
        return LastRun(state, 0.0, before.memory, before.disk)

    def _add(self, lines: bytes) -> None:
        handle = os.open(self.place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(handle, lines)
        finally:
            os.close(handle)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = error.strerror or str(error)

    def _take(self, line: bytes) -> None:
        with suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
            said = json.loads(line)
            numbers = (float(said["seconds"]), int(said["memory"]), int(said["disk"]))
            self.boards[str(said["board"])] = LastRun(str(said["state"]), *numbers)


def board_key(job: BoardJob) -> str:
    """`CONFIG/BOARD`, as its result lies below the folder of results."""
    return f"{job.config}/{job.board}"


def _line(key: str, run: LastRun) -> bytes:
    facts = {"board": key, "state": run.state, "seconds": run.seconds, "memory": run.memory, "disk": run.disk}
    return json.dumps(facts).encode() + b"\n"
