"""The requests of a build server: taken, queued, built once each by the fleet's scheduler, and answered.

A request is on the disk before anybody is told that it is taken (records.py), so whatever becomes of the
server, the next one builds it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from imagebuilder.errors import HostError, UserError
from imagebuilder.fleet.job import BoardJob, Ended, HandedOver, JobFailure, Waits
from imagebuilder.fleet.scheduler import JobEvent, Scheduler
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.walk import remove_tree
from imagebuilder.log import Log, StepStarted
from imagebuilder.service.asked import BuildRequest, RefusedRequestError
from imagebuilder.service.documents import Document, finished, stamped, version_fault
from imagebuilder.service.recipe import write_recipe
from imagebuilder.service.records import AskedRecord, OutcomeRecord, Records
from imagebuilder.service.served import Served, ServedBoards
from imagebuilder.service.store import DamagedResultError, Store

FAILURE_KEPT = 600.0  # seconds in which a request that failed is not built again
OVERLOADED = 529  # asu's own number, which no registry has: "Site is overloaded"
_DAY = 86_400
_TAIL = 200  # lines of make's output that a client gets
_SHORT = 12  # digits of a number, to be read
# what clients call the steps of a build; LuCI knows no others
_STATUS: Mapping[str, str] = {
    "": "init",
    "tree": "container_setup",
    "plan": "validate_manifest",
    "fetch": "validate_manifest",
    "stage": "validate_manifest",
}
_BUILDING = "building_image"


@dataclass(frozen=True)
class BuildAnswer:
    """What a client gets. status: of HTTP."""

    status: int
    document: Document
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Entry:
    """A request in memory. step: that is being done; ended: when it was, in seconds since 1970; size: bytes
    of its result."""

    record: AskedRecord
    state: Literal["queued", "running", "done", "failed"] = "queued"
    step: str = ""
    ended: float = 0.0
    size: int = 0


class Builds:
    """All requests, and who builds them. Every method may be called from any thread."""

    def __init__(
        self,
        catalogue: ServedBoards,
        folder: Path,
        scheduler: Scheduler[HandedOver],
        log: Log,
        *,
        at_once: int = 1,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        """folder: for what has to stay. at_once: how many builds the scheduler is given at once. broken: is
        called where this program fails, see stop()."""
        self.catalogue = catalogue
        self._records = Records(folder)
        self._store = Store(folder / "store")
        self._recipes = folder / "recipes"
        self._scheduler = scheduler
        self._log = log
        self._at_once = at_once
        self._broken = broken
        self._entries: dict[str, _Entry] = {}
        self._queue: list[str] = []
        self._taking = threading.Lock()  # held while a request is written down, so that equal ones are one
        self._changed = threading.Condition()  # for entries and queue; never held while something is written
        self._stopping = False
        self._numbers = itertools.count(1)
        self._order = itertools.count(1)
        self._workers: list[Future[None]] = []
        self._unwritten: dict[str, OutcomeRecord] = {}  # outcomes for which the disk had no room

    def start(self) -> None:
        """Read what an earlier server left, and begin to build. HostError, UserError."""
        self._records.open()
        self._store.open()
        with disk_errors_explained(self._recipes):
            if self._recipes.exists():
                remove_tree(self._recipes)
        records = self._records.requests()
        self._order = itertools.count(max((each.order for each in records), default=0) + 1)
        for record in records:
            self._entries[record.number] = self._restored(record)
        self._records.drop_strays()
        self._store.drop_strays(self._entries.keys())
        self._queue = [number for number, entry in self._entries.items() if entry.state == "queued"]
        if self._queue:
            self._log.note(f"{len(self._queue)} requests were waiting, and are built now")
        pool = ThreadPoolExecutor(self._at_once, "builds")
        for _ in range(self._at_once):
            worker = pool.submit(self._work)
            worker.add_done_callback(self._worker_ended)
            self._workers.append(worker)
        pool.shutdown(wait=False)

    def stop(self) -> None:
        """End what is being built, which the next server builds again, and wait for it. An error of this
        program that ended the building is raised here."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._scheduler.stop_starting()
        self._scheduler.cancel()
        for worker in self._workers:
            worker.result()

    def take(self, asked: BuildRequest) -> BuildAnswer:
        """Take a request, or say what became of one that is equal to it. RefusedRequestError for what is not
        built here, is not allowed, or cannot be taken now."""
        served, asked = self.catalogue.taken(asked)
        number = asked.number(served.basis)
        known = self._entry(number)
        if known is not None and self._answers(known):
            return self.answer(number) or self._as_queued(known)
        with self._taking:
            now = self._entry(number)
            if now is not None and now is not known:  # an equal one was taken meanwhile
                return self.answer(number) or self._as_queued(now)
            entry = self._queued(asked, number)
        return self.answer(number) or self._as_queued(entry)

    def _queued(self, asked: BuildRequest, number: str) -> _Entry:
        """A request, written down and in the queue; self._taking is held. RefusedRequestError where it cannot
        be taken now."""
        waiting = self.waiting()
        if waiting >= self.catalogue.options.queue:
            raise RefusedRequestError(
                f"server overload, queue contains too many build requests: {waiting}",
                status=OVERLOADED,
                title="Server overloaded",
            )
        entry = _Entry(AskedRecord(number=number, order=next(self._order), at=time.time(), asked=asked))
        try:
            self._records.acknowledge(entry.record)
            self._unwritten.pop(number, None)
        except HostError as error:
            self._log.warn(f"a request cannot be written down: {error.message}")
            raise RefusedRequestError("no room for more requests", status=503) from error
        with self._changed:
            self._entries[number] = entry
            self._queue.append(number)
            self._changed.notify()
        return entry

    def answer(self, number: str) -> BuildAnswer | None:
        """What became of a request; None where nobody made it."""
        with self._changed:
            entry = self._entries.get(number)
            if entry is None:
                return None
            ahead = self._queue.index(number) if entry.state == "queued" and number in self._queue else 0
            entry = replace(entry)
        if entry.state == "queued":
            return self._as_queued(entry, ahead)
        facts = self._facts(entry)
        if entry.state == "running":
            status = _STATUS.get(entry.step, _BUILDING)
            said = {"detail": "started", "imagebuilder_status": status, "status": 202}
            return BuildAnswer(202, {**facts, **said}, _headers(status))
        outcome = self._outcome(number)
        if outcome is None:  # asked for anew, just now
            return self._as_queued(entry)
        if outcome.state == "done":
            done = {"imagebuilder_status": "done", "status": 200}
            return BuildAnswer(200, {**outcome.document, **facts, **done}, _headers("done"))
        said = {"detail": outcome.detail, "stderr": outcome.stderr, "stdout": outcome.stdout}
        failed = {**facts, **said, "imagebuilder_status": "failed", "status": 500}
        return BuildAnswer(500, failed, _headers("failed"))

    def file(self, number: str, name: str) -> Path | None:
        """A file of a result; None where there is no such, or nobody may have it. RefusedRequestError for one
        that is damaged: its request is built anew then."""
        entry = self._entry(number)
        if entry is None or entry.state != "done":
            return None
        outcome = self._outcome(number)
        if outcome is None:
            return None
        try:
            return self._store.file(number, outcome.board, outcome.document["images"], name)
        except DamagedResultError as error:
            self._log.warn(f"{number[:_SHORT]}: {error.message}; it is built anew")
            with self._taking:
                if self._entry(number) is entry:  # else somebody was before
                    self._remove(number)
                    self._queued(entry.record.asked, number)
            raise RefusedRequestError(f"{name} is damaged: it is built anew", status=404) from error

    def _remove(self, number: str) -> None:
        try:
            self._store.remove(number)
        except HostError as error:
            self._log.warn(f"a damaged result cannot be removed: {error.message}")

    def waiting(self) -> int:
        """How many requests wait to be built."""
        with self._changed:
            return len(self._queue)

    def _entry(self, number: str) -> _Entry | None:
        with self._changed:
            return self._entries.get(number)

    def _outcome(self, number: str) -> OutcomeRecord | None:
        return self._unwritten.get(number) or self._records.outcome(number)

    def _answers(self, entry: _Entry) -> bool:
        """Whether what is known of a request answers another one that is equal to it."""
        age = time.time() - entry.ended
        if entry.state == "failed":
            return age < FAILURE_KEPT
        if entry.state != "done":
            return True
        outcome = self._outcome(entry.record.number)
        fresh = outcome is not None and age < self.catalogue.options.keep * _DAY
        return (
            fresh
            and outcome is not None
            and self._store.is_whole(entry.record.number, outcome.board, outcome.document["images"])
        )

    def _as_queued(self, entry: _Entry, ahead: int = 0) -> BuildAnswer:
        said = {"detail": "queued", "queue_position": ahead, "status": 202}
        return BuildAnswer(202, {**self._facts(entry), **said}, _headers("queued", ahead))

    @staticmethod
    def _facts(entry: _Entry) -> Document:
        record = entry.record
        return {
            "request_hash": record.number,
            "enqueued_at": stamped(record.at),
            "request": record.asked.model_dump(mode="json"),
        }

    def _restored(self, record: AskedRecord) -> _Entry:
        """A request of an earlier server, as far as it came."""
        entry, number = _Entry(record), record.number
        outcome = self._records.outcome(number)
        if outcome is None:
            outcome = self._adopted(record)
        if outcome is not None:
            entry.state, entry.ended = outcome.state, outcome.at
            entry.size = self._store.size(number)
        return entry

    def _adopted(self, record: AskedRecord) -> OutcomeRecord | None:
        """The outcome of a request whose result was handed over, when the server died before it could say
        so."""
        try:
            served = self.catalogue.find(record.asked)
        except RefusedRequestError:
            return None
        if record.asked.number(served.basis) != record.number:
            return None
        result = self._store.result(record.number, served.board.id)
        if result is None:
            return None
        document = finished(served, record.asked, record.number, result)
        outcome = _ended_well(record, served, document)
        self._records.end(outcome)
        return outcome

    def _work(self) -> None:
        while (number := self._next()) is not None:
            entry = self._entries[number]
            began = time.monotonic()
            try:
                outcome = self._built(entry)
            except UserError as error:
                outcome = self._failed(entry.record, JobFailure.of(error))
            if outcome is None:
                return  # the server stops: it stays written down as it is
            self._end(entry, outcome, time.monotonic() - began)
            with self._taking:  # else one that is asked for anew just now would go too
                self._prune(number)

    def _next(self) -> str | None:
        """The number of the next request to build; None when the server stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._queue)
            if self._stopping:
                return None
            number = self._queue.pop(0)
            self._entries[number].state = "running"
            return number

    def _built(self, entry: _Entry) -> OutcomeRecord | None:
        """How building ended; None where the server stops. UserError."""
        record = entry.record
        served = self.catalogue.find(record.asked)
        recipe = self._recipes / record.number
        request = write_recipe(served, record.asked, record.number, recipe, self._store.folder)
        job = BoardJob(next(self._numbers), request, record.number)

        def tell(_: BoardJob, event: JobEvent) -> None:
            if isinstance(event, StepStarted):
                entry.step = event.step
            elif isinstance(event, Waits):
                self._log.note(f"{record.number[:_SHORT]} waits for {event.text}")

        ended: Ended[HandedOver] | None = None
        for ended in self._scheduler.run([job], tell):  # noqa: B007 - there is one
            pass
        with disk_errors_explained(recipe):
            remove_tree(recipe)
        if ended is None or ended.state in ("interrupted", "not run"):
            if self._stopping:
                return None
            return self._failed(record, JobFailure("the build was interrupted"))
        if ended.failure is not None:
            return self._failed(record, ended.failure)
        return self._checked(record, served)

    def _checked(self, record: AskedRecord, served: Served) -> OutcomeRecord:
        """The outcome of a build that handed something over."""
        result = self._store.result(record.number, served.board.id)
        if result is None:
            return self._failed(record, JobFailure("the result is gone, or damaged"))
        document = finished(served, record.asked, record.number, result)
        fault = version_fault(record.asked.versions, document["manifest"])
        if fault is None and not document["images"]:
            fault = f"no image has the file system {record.asked.filesystem}"
        if fault is not None:
            self._store.remove(record.number)
            return self._failed(record, JobFailure(fault))
        return _ended_well(record, served, document)

    def _failed(self, record: AskedRecord, failure: JobFailure) -> OutcomeRecord:
        """The outcome of a build that failed. Clients show `detail` as one line, and the others below it."""
        if failure.trace:
            self._log.warn(failure.trace)
        lines = [failure.message, *failure.notes, *([f"hint: {failure.hint}"] if failure.hint else [])]
        text = self._harmless("\n".join(lines), record.number)
        return OutcomeRecord(
            number=record.number,
            at=time.time(),
            state="failed",
            detail=f"Error: {text.partition(chr(10))[0]}",
            stderr=text,
            stdout=self._harmless(self._make_said(record), record.number),
        )

    def _make_said(self, record: AskedRecord) -> str:
        """The last lines of make's output of a failed build."""
        logs = sorted((self._store.folder / record.number).glob("*.failed.log"))
        said = [log.read_text("utf-8", "replace").splitlines()[-_TAIL:] for log in logs]
        return "\n".join(line for lines in said for line in lines)

    def _harmless(self, text: str, number: str) -> str:
        """A text without the paths of this machine that have to do with the request."""
        recipe = self._recipes / number
        root = self.catalogue.served[0].request.library.root if self.catalogue.served else None
        for path, word in (
            (f"{recipe / number}.toml", "request"),
            (f"{recipe / 'files'}", "request"),
            (f"{self._store.folder}", "store"),
            (f"{root}", "project"),
        ):
            text = text.replace(path, word)
        return text

    def _end(self, entry: _Entry, outcome: OutcomeRecord, seconds: float) -> None:
        number = entry.record.number
        try:
            self._records.end(outcome)
        except HostError as error:
            self._unwritten[number] = outcome
            self._log.warn(f"what became of {number[:_SHORT]} cannot be written down: {error.message}")
        size = self._store.size(number)
        with self._changed:
            entry.state, entry.ended, entry.size = outcome.state, outcome.at, size
        what = f"{number[:_SHORT]} for {entry.record.asked.profile}"
        said = f"built in {seconds:.1f} s" if outcome.state == "done" else f"failed: {outcome.detail}"
        self._log.note(f"{what}: {said}")

    def _prune(self, newest: str) -> None:
        """Remove the oldest results as long as all of them take more room than they may, and what is left of
        failed requests that nobody is told of any more."""
        with self._changed:
            ended = [each for each in self._entries.values() if each.state in ("done", "failed")]
            size = sum(each.size for each in ended)
            old = time.time() - self.catalogue.options.keep * _DAY
            gone: list[str] = []
            for entry in sorted(ended, key=lambda each: each.ended):
                number = entry.record.number
                too_much = size > self.catalogue.options.storage
                if number != newest and (too_much or (entry.state == "failed" and entry.ended < old)):
                    size -= entry.size
                    gone.append(number)
                    del self._entries[number]
        try:
            for number in gone:
                self._unwritten.pop(number, None)
                self._records.forget(number)
                self._store.remove(number)
        except HostError as error:
            self._log.warn(f"an old result cannot be removed: {error.message}")

    def _worker_ended(self, worker: Future[None]) -> None:
        if worker.exception() is not None:
            self._broken()


def _ended_well(record: AskedRecord, served: Served, document: Document) -> OutcomeRecord:
    return OutcomeRecord(
        number=record.number, at=time.time(), state="done", board=served.board.id, document=document
    )


def _headers(status: str, position: int = 0) -> dict[str, str]:
    return {"X-Imagebuilder-Status": status, "X-Queue-Position": str(position)}
