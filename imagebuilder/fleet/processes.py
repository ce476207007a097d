"""Jobs in processes of this machine, several at once; see host/children.py for what these are."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar, cast

from imagebuilder.errors import TerminatedError
from imagebuilder.fleet.job import Begun, BoardJob, Ended, JobFailure, Waits, ended
from imagebuilder.fleet.room import Room
from imagebuilder.fleet.scheduler import Tell
from imagebuilder.fleet.work import Work, WorkEnded, work_in_child
from imagebuilder.host.children import GRACE_SECONDS, Child, ChildError, ChildMaker
from imagebuilder.host.handover import remove_abandoned
from imagebuilder.host.run import how_it_ended
from imagebuilder.log import Event, StepFinished, StepStarted

T = TypeVar("T")
_LOOK_SECONDS = 0.5  # between two looks whether there is room by now
_KILLED_HINT = (
    "short of memory? then the kernel ends what takes most (`dmesg` tells), and fewer at once, -j, may do"
)


class LocalProcesses(Generic[T]):
    """A Scheduler (scheduler.py). work: a function of a module. places: how many at once at most. room: what
    they take together. lines: programs, and what they print, are told of too. load: modules that the work
    needs, loaded once for all."""

    def __init__(
        self,
        work: Work[T],
        places: int,
        *,
        room: Room | None = None,
        lines: bool = False,
        load: Sequence[str] = ("imagebuilder.fleet.work", "imagebuilder.made"),
    ) -> None:
        self.work, self.lines = work, lines
        self.maker = ChildMaker(load)
        self.room = room or Room()
        self.stopping = False
        self._places = threading.BoundedSemaphore(places)
        self._lock = threading.Lock()
        self._runs: list[_Run[T]] = []

    def ready(self) -> None:
        """Load meanwhile what the work needs."""
        self.maker.ready()

    def run(self, jobs: Sequence[BoardJob], tell: Tell) -> Generator[Ended[T], None, None]:
        """As Scheduler.run()."""
        run = _Run(self, jobs, tell)
        with self._lock:
            self._runs.append(run)
        try:
            yield from run.ended()
        except (KeyboardInterrupt, TerminatedError):
            yield from run.close()
            raise
        finally:
            with self._lock:
                self._runs.remove(run)
            run.close()

    def stop_starting(self) -> None:
        """As Scheduler.stop_starting()."""
        self.stopping = True
        with self._lock:
            for run in self._runs:
                run.wake()

    def cancel(self, job: BoardJob | None = None) -> None:
        """As Scheduler.cancel()."""
        with self._lock:
            for run in self._runs:
                run.cancel(job)

    def take_place(self) -> bool:
        """Whether there was one; to be given back."""
        return self._places.acquire(blocking=False)

    def give_back(self, job: BoardJob) -> None:
        """The place and the room of a job."""
        self.room.give_back(job)
        self._places.release()

    def close(self) -> None:
        """To be called at the end, when nothing runs any more."""
        self.maker.close()

    def __enter__(self) -> LocalProcesses[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class _Running:
    job: BoardJob
    child: Child
    began: float = field(default_factory=time.monotonic)
    step: str = ""
    ended: WorkEnded | None = None
    cancelled: bool = False
    kill_at: float | None = None  # by when it has to have ended
    silent: bool = False  # it has closed its end
    code: int | None = None


class _Run(Generic[T]):
    """Jobs that one thread runs."""

    def __init__(self, owner: LocalProcesses[T], jobs: Sequence[BoardJob], tell: Tell) -> None:
        self._owner, self._tell = owner, tell
        self._waiting = deque(jobs)
        self._left: list[BoardJob] = []  # that were cancelled before they began
        self._running: list[_Running] = []
        self._cancelled: set[int] = set()
        self._all_cancelled = False
        self._said: tuple[int, str] | None = None
        self._given_up: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def wake(self) -> None:
        """Have it look again."""
        with suppress(OSError):
            self._waker.send(b"w")

    def cancel(self, job: BoardJob | None) -> None:
        """End a job of this run, or all."""
        if job is None:
            self._all_cancelled = True
        else:
            self._cancelled.add(job.number)
        self.wake()

    def ended(self) -> Iterator[Ended[T]]:
        """Run them."""
        while self._waiting or self._running:
            if self._owner.stopping or self._all_cancelled:
                self._left += self._waiting
                self._waiting.clear()
            waits = self._begin()
            self._end_cancelled()
            yield from self._looked(_LOOK_SECONDS if waits or self._late() else None)
        for job in sorted(self._left, key=lambda job: job.number):
            yield Ended(job, "not run")

    def _begin(self) -> bool:
        """Begin what there is room for; whether there is not enough for the next."""
        while self._waiting:
            job = self._waiting[0]
            if job.number in self._cancelled:
                self._left.append(self._waiting.popleft())
                continue
            if not self._owner.take_place():
                return not self._running  # another thread's end wakes nobody here
            lack = self._owner.room.take(job)
            child = None if lack else self._child(job)
            if child is None:
                self._owner.give_back(job)
                if lack:
                    self._say_lack(job, lack)
                return True
            self._waiting.popleft()
            running = _Running(job, child)
            self._running.append(running)
            self._selector.register(child.connection, selectors.EVENT_READ, running)
            self._selector.register(child.status, selectors.EVENT_READ, running)
            self._tell(job, Begun())
        return False

    def _child(self, job: BoardJob) -> Child | None:
        """None where there is no process to be had for it now. ChildError where there is none at all."""
        sent = replace(job, given_up=tuple(sorted({*job.given_up, *self._given_up})))
        try:
            owner = self._owner
            return owner.maker.start(work_in_child, owner.work, sent, str(Path.cwd()), owner.lines)
        except BaseException as error:
            if isinstance(error, ChildError) and self._running:
                return None
            self._owner.give_back(job)
            raise

    def _say_lack(self, job: BoardJob, lack: str) -> None:
        said = (job.number, lack.rsplit(" of ", 1)[-1])
        if self._said != said:
            self._said = said
            self._tell(job, Waits(lack))

    def _end_cancelled(self) -> None:
        now = time.monotonic()
        for running in self._running:
            if not running.cancelled and (self._all_cancelled or running.job.number in self._cancelled):
                running.cancelled = True
                running.kill_at = now + GRACE_SECONDS
                running.child.signal(signal.SIGTERM)
            elif running.kill_at is not None and now >= running.kill_at:
                running.kill_at = now + GRACE_SECONDS
                _kill(running.child)

    def _late(self) -> bool:
        return any(running.kill_at is not None for running in self._running)

    def _looked(self, seconds: float | None) -> Iterator[Ended[T]]:
        """What of the jobs ended, after something happened, or so many seconds."""
        events = self._selector.select(seconds)
        if any(key.fileobj is self._woken for key, _ in events):
            with suppress(BlockingIOError):
                self._woken.recv(4096)
        seen = {id(key.data): key.data for key, _ in events if key.data is not None}
        over = {id(key.data) for key, _ in events if key.data and key.fd == key.data.child.status}
        for running in cast("list[_Running]", list(seen.values())):
            if self._heard(running, wholly=id(running) in over):
                how = self._end(running)
                self._owner.room.learn(how)
                yield how

    def _heard(self, running: _Running, *, wholly: bool) -> bool:
        """Tell what the child said; whether it has ended. wholly: it has, and there is no more to come."""
        connection = running.child.connection
        try:
            while connection.poll(0):
                self._take(running, connection.recv())
        except (EOFError, OSError):  # OSError: it was killed while it wrote
            if not running.silent:
                running.silent = True
                self._selector.unregister(connection)
        if wholly:
            running.code = running.child.wait()
            if running.code is None:
                _wait_for_end(running.child)
        return wholly

    def _take(self, running: _Running, said: Event | WorkEnded) -> None:
        if isinstance(said, WorkEnded):
            running.ended = said
            return
        if isinstance(said, StepStarted):
            running.step = said.step
        elif isinstance(said, StepFinished):
            running.step = ""
        self._tell(running.job, said)

    def _end(self, running: _Running) -> Ended[T]:
        self._forget(running)
        job, seconds, said = running.job, time.monotonic() - running.began, running.ended
        if said is not None:
            self._given_up.update(said.given_up)
            if said.loaded:
                self._owner.maker.load(said.loaded)
            how = ended(job, cast("T | JobFailure", said.found), seconds)
            step = running.step if how.state == "failed" else ""
            return replace(how, step=step, peak=said.peak, given_up=said.given_up)
        remove_abandoned(job.request.output / job.config)
        if running.cancelled:
            return Ended(job, "interrupted", None, None, seconds, running.step)
        return Ended(job, "failed", None, _died(running.code), seconds, running.step)

    def _forget(self, running: _Running) -> None:
        self._running.remove(running)
        if not running.silent:
            self._selector.unregister(running.child.connection)
        self._selector.unregister(running.child.status)
        running.child.close()
        self._owner.give_back(running.job)

    def close(self) -> list[Ended[T]]:
        """End what runs: gently, and by force where it takes too long, or somebody is impatient. How they
        ended: one may have been done just then. What they say meanwhile is read, since who cannot write
        cannot end, and not told."""
        self._tell, late = _nobody, list[Ended[T]]()
        try:
            for running in self._running:
                running.cancelled = True
                running.child.signal(signal.SIGTERM)
            until = time.monotonic() + GRACE_SECONDS
            while self._running and time.monotonic() < until:
                late += self._looked(until - time.monotonic())
        finally:
            for running in self._running:
                _kill(running.child)
            while self._running:
                late += self._looked(None)
            self._selector.close()
            self._woken.close()
            self._waker.close()
        return late


def _nobody(_job: BoardJob, _event: object) -> None:
    pass


def _kill(child: Child) -> None:
    child.signal(signal.SIGKILL)


def _wait_for_end(child: Child) -> None:
    """Of a child whose maker was killed: the kernel has sent it SIGTERM. Its end closes the connection."""
    until = time.monotonic() + GRACE_SECONDS
    with suppress(EOFError, OSError):
        while time.monotonic() < until:
            if child.connection.poll(0.1):
                child.connection.recv_bytes()
        os.kill(child.process, signal.SIGKILL)  # it holds the connection open: the number is still its own


def _died(code: int | None) -> JobFailure:
    """Why a child that said nothing at its end gave nothing."""
    if code is None:
        return JobFailure("the process that this one was started by was killed", hint=_KILLED_HINT, ours=True)
    hint = _KILLED_HINT if code == -signal.SIGKILL else None
    return JobFailure(f"the process that worked on it {how_it_ended(code)}", hint=hint, ours=True)
