"""What a worker of a Dask cluster does for a client of this program: it takes parcels, builds, and gives
what came out of it in pieces. A worker without the plugin below, with which `worker` starts it, is none of
ours."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import stat
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from distributed import Worker, WorkerPlugin, get_worker

from imagebuilder import __version__
from imagebuilder.config.places import shipped_folder
from imagebuilder.fleet.attempt import attempted
from imagebuilder.fleet.job import BoardJob, Ended, HandedOver, JobFailure
from imagebuilder.fleet.parcel import Consignment, Parcel, here, unpack_project
from imagebuilder.fleet.processes import LocalProcesses
from imagebuilder.fleet.scheduler import JobEvent
from imagebuilder.fleet.work import build_job
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.handover import remove_whole
from imagebuilder.host.walk import walk
from imagebuilder.log import Note, OutputLine, Progress, Warned
from imagebuilder.made_of import code_digest
from imagebuilder.unchanged import PACKAGE

T = TypeVar("T")

BUILDER = "openwrt-builder"
_TELL_SECONDS = 0.5  # between two times that what programs print is sent
_KEPT_SECONDS = 3600.0  # a result whose client is gone
_SHIPPED = ("boards", "configs", "overlays", "apps")


@dataclass(frozen=True)
class Identity:
    """Which program it is. code: a digest of its modules and of the boards, configs, overlays and apps that
    come along: two that differ could make two images of one job."""

    version: str
    code: str

    def __str__(self) -> str:
        return f"{self.version} (code {self.code[:12]})"


@dataclass(frozen=True)
class Lacks:
    """What a worker was not sent yet. worker: its address."""

    worker: str
    parcels: tuple[Parcel, ...]


@dataclass(frozen=True)
class Stranger:
    """A worker that runs another program than the client, or (None) none of ours."""

    worker: str
    identity: Identity | None


@dataclass(frozen=True)
class SentFile:
    """A file that a client fetches. name: from the result's folder; place: on the worker; size: bytes;
    mode: its rights."""

    name: str
    place: str
    size: int
    mode: int
    sha256: str


@dataclass(frozen=True)
class Ran:
    """How a job ended on a worker. number: by which the result is let go; worker: its address; failure_log:
    of a build that failed."""

    ended: Ended[HandedOver]
    number: int
    worker: str
    files: tuple[SentFile, ...]
    failure_log: SentFile | None = None


@dataclass(frozen=True)
class ParcelPiece:
    """A part of a parcel. sender: the client's session, since two that send one parcel at once are not to
    mix; offset: bytes before it; last: whether it is the end."""

    parcel: Parcel
    sender: str
    offset: int
    data: bytes = field(repr=False)
    last: bool


@cache
def own_identity() -> Identity:
    """This program's."""
    folders = (PACKAGE, *(shipped_folder() / name for name in _SHIPPED))
    whole = " ".join(map(code_digest, folders))
    return Identity(__version__, hashlib.sha256(whole.encode()).hexdigest())


class ImageWorker(WorkerPlugin):
    """What makes a worker one of ours. own_cache: its cache; work: a folder of its own, in which it builds,
    gone when it ends, on the file system of the cache; places: how many images at once."""

    name = BUILDER

    def __init__(self, own_cache: Path, work: Path, places: int) -> None:
        self.cache, self.work, self.places = own_cache, work, places
        self.processes = LocalProcesses(build_job, places, lines=True)
        self.address = ""
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._running: dict[tuple[str, int], BoardJob] = {}  # by a client's session and number
        self._over: set[tuple[str, int]] = set()
        self._held: dict[int, float] = {}

    def setup(self, worker: Worker) -> None:
        """Dask's: the worker begins."""
        self.address = worker.address

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - what Dask gives
        """Dask's: the worker ends, and with it what it runs."""
        self.processes.cancel()

    def lacking(self, consignment: Consignment) -> tuple[Parcel, ...]:
        """The parcels of a job that have not been sent."""
        return tuple(each for each in consignment.parcels if not each.place(self.cache).is_file())

    def run(self, session: str, consignment: Consignment) -> Ran:
        """Build a job in a process of its own; what comes out is held until it is let go. session: of the
        client's command."""
        with self._lock:
            number = next(self._numbers)
        place = self.work / f"job-{number}"
        place.mkdir(mode=0o700)
        try:
            ran = self._run(session, consignment, number, place)
        except BaseException:
            remove_whole(place)
            raise
        with self._lock:
            wanted = (session, consignment.job.number) not in self._over
            if wanted:
                self._held[number] = time.monotonic()
        if not wanted:
            remove_whole(place)
        return ran

    def _run(self, session: str, consignment: Consignment, number: int, place: Path) -> Ran:
        asked = consignment.job

        def prepared() -> BoardJob:
            unpack_project(consignment, self.cache, place / "project")
            return replace(here(consignment, place / "project", place / "out", self.cache), number=number)

        job = attempted(prepared)
        if isinstance(job, JobFailure):
            return Ran(Ended(asked, "failed", failure=job, where=self.address), number, self.address, ())
        words = {
            str(place / "project"): str(asked.request.library.root),
            str(place / "out"): str(asked.request.output),
        }
        teller = _Teller(session, asked.number, words)
        mine = session, asked.number
        with self._lock:
            self._running[mine] = job
            over = mine in self._over
        try:
            (ended,) = self.processes.run([job], teller) if not over else (Ended[HandedOver](job, "not run"),)
        finally:
            with self._lock:
                self._running.pop(mine, None)
        teller.flush()
        files = () if ended.found is None else tuple(_files(ended.found.folder))
        logs = sorted((place / "out").glob("*/*.failed.log"))
        log = _sent(logs[0], logs[0].name) if logs else None
        failure = None if ended.failure is None else _in_words_of(ended.failure, words)
        told = replace(ended, job=asked, failure=failure, where=self.address)
        return Ran(told, number, self.address, files, log)

    def end(self, session: str, numbers: Collection[int]) -> None:
        """End jobs of a client's command, by its numbers, and begin none of them."""
        wanted = {(session, each) for each in numbers}
        with self._lock:
            self._over |= wanted
            running = [job for asked, job in self._running.items() if asked in wanted]
        for job in running:
            self.processes.cancel(job)

    def let_go(self, number: int) -> None:
        """Remove a result that its client has, and those that nobody has asked for in an hour."""
        with self._lock:
            old = time.monotonic() - _KEPT_SECONDS
            gone = [each for each, since in self._held.items() if each == number or since < old]
            for each in gone:
                del self._held[each]
        for each in gone:
            remove_whole(self.work / f"job-{each}")


class _Teller:
    """Sends the events of a job to the client. words: folders of the worker, and the client's for them."""

    def __init__(self, session: str, number: int, words: dict[str, str]) -> None:
        self._topic, self._number, self._words = session, number, words
        self._worker = get_worker()
        self._waiting: list[JobEvent] = []
        self._last = 0.0

    def __call__(self, _: BoardJob, event: JobEvent) -> None:
        self._waiting.append(_event_in_words_of(event, self._words))
        if not isinstance(event, OutputLine | Progress) or time.monotonic() - self._last > _TELL_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        self._last = time.monotonic()
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._worker.log_event(self._topic, {"job": self._number, "events": pickle.dumps(waiting)})


def _event_in_words_of(event: JobEvent, words: dict[str, str]) -> JobEvent:
    if isinstance(event, Note | Warned | OutputLine | Progress):
        return replace(event, text=_replaced(event.text, words))
    return event


def _in_words_of(failure: JobFailure, words: dict[str, str]) -> JobFailure:
    """What it says, with the client's folders for the worker's."""

    def said(text: str | None) -> str | None:
        return None if text is None else _replaced(text, words)

    faults = tuple(
        replace(
            each,
            file=_replaced(each.file, words),
            message=_replaced(each.message, words),
            hint=said(each.hint),
        )
        for each in failure.faults
    )
    return replace(
        failure,
        message=_replaced(failure.message, words),
        hint=said(failure.hint),
        notes=tuple(_replaced(each, words) for each in failure.notes),
        faults=faults,
    )


def _replaced(text: str, words: dict[str, str]) -> str:
    for mine, theirs in words.items():
        text = text.replace(mine, theirs)
    return text


def _files(folder: Path) -> Iterator[SentFile]:
    for item in walk(folder, bounded=True):
        if item.is_file:
            yield _sent(folder / item.path, item.path)


def _sent(file: Path, name: str) -> SentFile:
    status = file.stat()
    return SentFile(name, str(file), status.st_size, stat.S_IMODE(status.st_mode), sha256_of(file))


# What clients call on a worker. All of it is found by its name, in the worker's own copy of this program.


def _builder(worker: Worker) -> ImageWorker | None:
    found = worker.plugins.get(BUILDER)
    return found if isinstance(found, ImageWorker) else None


def _ours(worker: Worker) -> ImageWorker:
    builder = _builder(worker)
    if builder is None:
        raise LookupError(f"{worker.address} is no worker of this program's")
    return builder


def identity(dask_worker: Worker) -> Identity | None:
    """Which program a worker runs; None for one that is none of ours."""
    return own_identity() if _builder(dask_worker) is not None else None


def run_job(session: str, wanted: Identity, consignment: Consignment) -> Ran | Lacks | Stranger:
    """Build a job, or say why not here."""
    builder = _builder(get_worker())
    if builder is None or own_identity() != wanted:
        return Stranger(get_worker().address, None if builder is None else own_identity())
    lacking = builder.lacking(consignment)
    return Lacks(builder.address, lacking) if lacking else builder.run(session, consignment)


def take_piece(piece: ParcelPiece, dask_worker: Worker) -> None:
    """Take a piece of a parcel, which has its name when the last one has come."""
    builder = _ours(dask_worker)
    part = builder.work / f"{piece.parcel.key}-{piece.sender}"
    with part.open("r+b" if piece.offset else "wb") as stream:
        stream.seek(piece.offset)
        stream.write(piece.data)
    if piece.last:
        place = piece.parcel.place(builder.cache)
        place.parent.mkdir(parents=True, exist_ok=True)
        part.replace(place)


def give_piece(place: str, offset: int, size: int) -> bytes:
    """A piece of a file of a result."""
    with Path(place).open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def let_go(number: int, dask_worker: Worker) -> None:
    """As ImageWorker.let_go()."""
    _ours(dask_worker).let_go(number)


def end_jobs(session: str, numbers: tuple[int, ...], dask_worker: Worker) -> None:
    """As ImageWorker.end()."""
    builder = _builder(dask_worker)
    if builder is not None:
        builder.end(session, numbers)
