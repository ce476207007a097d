"""Jobs on the workers of a Dask cluster: a Scheduler (scheduler.py) where one machine is not enough.

Dask gives each job to a worker that has a place free, and to another one when that dies. What a job needs
goes to a worker when it says that it lacks it; each result is fetched in pieces and appears in its place
whole, by this process alone. So a job that ran twice, because its worker was taken for dead, leaves one
result. Sources: distributed.dask.org (Resilience, Client, TLS/SSL).
"""

from __future__ import annotations

import asyncio
import ipaddress
import pickle
import queue
import secrets
import urllib.parse
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker, Security
from distributed.comm.core import connect

from imagebuilder.called import typed
from imagebuilder.errors import HostError, UserError
from imagebuilder.fleet.attempt import attempted
from imagebuilder.fleet.carrier import GONE, Carrier
from imagebuilder.fleet.job import Begun, BoardJob, Ended, HandedOver, JobFailure
from imagebuilder.fleet.parcel import Consignment, Parcel, TravelError, consign
from imagebuilder.fleet.scheduler import Tell
from imagebuilder.fleet.worker import (
    Identity,
    Lacks,
    Ran,
    Stranger,
    end_jobs,
    identity,
    own_identity,
    run_job,
)
from imagebuilder.log import Warned

CONNECT_SECONDS = 20
NO_SCHEDULER = "start one with `dask scheduler`; for tls:// Dask's configuration names its certificates"
_MOST_TRIES = 4  # of one job, where workers die under it
_LOOK_SECONDS = 0.2
_ENCRYPTED = "tls"
_SAME = "the same version has to be installed everywhere: two could make two images of one job"


def security_for(address: str) -> Security | None:
    """The certificates of Dask's configuration, for an address that wants them."""
    return Security() if urllib.parse.urlsplit(address).scheme == _ENCRYPTED else None


def check_address(address: str) -> None:
    """UserError for what is no address of a scheduler."""
    if urllib.parse.urlsplit(address).scheme not in ("tcp", _ENCRYPTED):
        raise UserError(
            f"{address} is no address of a Dask scheduler",
            hint="it begins with tls:// or tcp://, tls://HOST:8786",
        )


def is_private(address: str) -> bool:
    """Whether nobody else hears what goes to a scheduler: certificates, or this machine itself."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == _ENCRYPTED:
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    return parts.hostname == "localhost"


async def _answers(address: str, security: Security | None) -> None:
    """Speak to a scheduler once: a Client that fails to leaves threads behind, and may not end."""
    told = {} if security is None else security.get_connection_args("client")
    comm = await connect(address, timeout=CONNECT_SECONDS, **told)
    await comm.close()


@dataclass
class _Under:
    """A job on its way. tries: how often its worker died; begun: whether one has told of it."""

    consignment: Consignment
    tries: int = 0
    begun: bool = False
    future: Future[Ran | Lacks | Stranger] | None = None

    @property
    def job(self) -> BoardJob:
        return self.consignment.job


class Cluster:
    """The workers that a Dask scheduler has. address: `tcp://HOST:PORT` or `tls://HOST:PORT`.

    UserError for what is no address.
    HostError where nobody answers there, no worker is there, and where one runs another version of this
    program.
    """

    def __init__(self, address: str) -> None:
        check_address(address)
        self.address = address
        self._session = f"owrt-{secrets.token_hex(8)}"
        security = security_for(address)
        try:
            asyncio.run(_answers(address, security))
            self._client = Client(address, security=security, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:  # Dask's own for what is no address, or certificate
            told = f"no Dask scheduler answers at {address}: {str(error) or type(error).__name__}"
            raise HostError(told, hint=NO_SCHEDULER) from error
        self._news: queue.SimpleQueue[tuple[str, int, Any]] = queue.SimpleQueue()
        self._strangers: set[str] = set()
        self._packed: dict[Path, Parcel] = {}
        self._carrier = Carrier(self._client, self._session)
        self._stopping = self._all_cancelled = False
        self._cancelled: set[int] = set()
        try:
            self._check_workers()
            self._client.subscribe_topic(self._session, self._told)
        except BaseException:
            self._client.close()
            raise

    def close(self) -> None:
        """Leave the cluster."""
        self._client.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_workers(self) -> None:
        """HostError unless there are workers, and all of this program in this version."""
        with suppress(TimeoutError):
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        found = self._client.run(identity, on_error="return")
        if not found:
            raise HostError(
                f"no worker is connected to {self.address}",
                hint=f"start one on each machine that is to build: {typed(f'worker {self.address}')}",
            )
        mine = own_identity()
        others = {address: each for address, each in found.items() if each != mine}
        if others:
            told = ", ".join(f"{address} runs {_program(each)}" for address, each in sorted(others.items()))
            raise HostError(
                f"the cluster has workers of another program than this one, {mine}: {told}", hint=_SAME
            )

    def _told(self, event: tuple[float, Any]) -> None:
        """By a worker; in the client's own thread."""
        message = event[1]
        for each in pickle.loads(message["events"]):  # noqa: S301 - from a cluster that can run anything here
            self._news.put(("event", message["job"], each))

    def stop_starting(self) -> None:
        """As Scheduler.stop_starting()."""
        self._stopping = True

    def cancel(self, job: BoardJob | None = None) -> None:
        """As Scheduler.cancel()."""
        if job is None:
            self._all_cancelled = True
        else:
            self._cancelled.add(job.number)

    def run(self, jobs: Sequence[BoardJob], tell: Tell) -> Generator[Ended[HandedOver], None, None]:
        """As Scheduler.run(). TravelError of a job is its own failure."""
        under: dict[int, _Under] = {}
        left: list[BoardJob] = []
        try:
            for job in jobs:
                if self._stopping or self._is_cancelled(job):
                    left.append(job)
                    continue
                consignment = self._consigned(job)
                if isinstance(consignment, JobFailure):
                    yield Ended(job, "failed", failure=consignment)
                    continue
                under[job.number] = _Under(consignment)
                self._give_away(under[job.number])
            while under:
                for ended in self._call_off(under):
                    if ended.state == "interrupted":
                        yield ended
                    else:
                        left.append(ended.job)
                yield from self._heard(under, tell)
            yield from (Ended(job, "not run") for job in sorted(left, key=lambda job: job.number))
        finally:
            self._end(list(under.values()))

    def _consigned(self, job: BoardJob) -> Consignment | JobFailure:
        def consigned() -> Consignment:
            consignment = consign(job, self._packed)
            if consignment.secrets and not is_private(self.address):
                names = ", ".join(sorted(consignment.secrets))
                raise TravelError(
                    f"the image holds secrets ({names}), and {self.address} is no way that nobody listens on",
                    hint="use a scheduler with certificates, tls://HOST:PORT, or one on this machine",
                )
            return consignment

        return attempted(consigned)

    def _is_cancelled(self, job: BoardJob) -> bool:
        return self._all_cancelled or job.number in self._cancelled

    def _give_away(self, one: _Under, worker: str | None = None) -> None:
        """worker: the one that has all that the job needs; another one, if that is gone."""
        number = one.job.number
        future = self._client.submit(
            run_job,
            self._session,
            own_identity(),
            one.consignment,
            key=f"{self._session}-{number}-{secrets.token_hex(4)}",
            workers=[worker] if worker else self._ours(),
            allow_other_workers=worker is not None,
            priority=-number,
            pure=False,
        )
        one.future = future
        future.add_done_callback(lambda done: self._news.put(("ended", number, done)))

    def _ours(self) -> list[str] | None:
        """The workers that may be asked; None: all."""
        if not self._strangers:
            return None
        return [address for address in self._client.ncores() if address not in self._strangers]

    def _call_off(self, under: dict[int, _Under]) -> Iterator[Ended[HandedOver]]:
        """End what somebody cancelled, and what has not begun where nothing is to begin any more."""
        over = [
            one for one in under.values() if self._is_cancelled(one.job) or (self._stopping and not one.begun)
        ]
        self._end(over)
        for one in over:
            del under[one.job.number]
            yield Ended(one.job, "interrupted" if one.begun else "not run")

    def _end(self, jobs: Sequence[_Under]) -> None:
        """Take jobs from the workers, which end what they run of them. Those that are gone have."""
        for one in jobs:
            if one.future is not None:
                one.future.cancel()
        if jobs:
            with suppress(*GONE):
                numbers = tuple(one.job.number for one in jobs)
                self._client.run(end_jobs, self._session, numbers, on_error="ignore")

    def _heard(self, under: dict[int, _Under], tell: Tell) -> Iterator[Ended[HandedOver]]:
        """Wait for the next thing that happens, for a while."""
        try:
            kind, number, what = self._news.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            if self._client.status not in ("running", "connecting"):
                raise HostError(
                    f"the connection to {self.address} is lost",
                    hint="what was finished stays; the same command can be run again",
                ) from None
            return
        one = under.get(number)
        if one is None:
            return
        if kind == "event":
            one.begun = one.begun or isinstance(what, Begun)
            tell(one.job, what)
        elif one.future is not None and what is one.future:
            ended = self._ended(one, one.future, tell)
            if ended is not None:
                del under[number]
                yield ended

    def _ended(
        self, one: _Under, future: Future[Ran | Lacks | Stranger], tell: Tell
    ) -> Ended[HandedOver] | None:
        """How a job ended; None where it was given away again."""
        if future.status != "finished":
            return Ended(one.job, "failed", failure=_gave_up(future))
        said = future.result()
        if isinstance(said, Stranger):
            return self._elsewhere(one, said, tell)
        try:
            if isinstance(said, Lacks):
                for parcel in said.parcels:
                    mine = next(each for each in self._packed.values() if each.key == parcel.key)
                    self._carrier.send(mine, said.worker, lambda event: tell(one.job, event))
                self._give_away(one, said.worker)
                return None
            return self._carrier.fetched(said)
        except GONE:
            return self._again(one, said.worker, tell)

    def _elsewhere(self, one: _Under, stranger: Stranger, tell: Tell) -> Ended[HandedOver] | None:
        """A worker that has come since is none for us."""
        self._strangers.add(stranger.worker)
        told = f"the worker {stranger.worker} is not asked: it runs {_program(stranger.identity)}"
        if not self._ours():
            return Ended(one.job, "failed", failure=JobFailure(told, _SAME))
        tell(one.job, Warned(told))
        self._give_away(one)
        return None

    def _again(self, one: _Under, worker: str, tell: Tell) -> Ended[HandedOver] | None:
        """Give a job away once more, whose worker is gone."""
        one.tries += 1
        if one.tries >= _MOST_TRIES:
            told = f"its workers died {one.tries} times, the last was {worker}"
            return Ended(one.job, "failed", failure=JobFailure(told, ours=True))
        tell(one.job, Warned(f"the worker {worker} is gone: it is built elsewhere"))
        one.begun = False
        self._give_away(one)
        return None


def _gave_up(future: Future[Any]) -> JobFailure:
    """Dask gave up: the workers died under it, or what runs there is not what we know."""
    if future.status == "cancelled":
        return JobFailure("the scheduler gave the job up", "is it still there? its log says more", ours=True)
    error = future.exception()
    if isinstance(error, KilledWorker):
        told = f"the workers that had it died, the last was {error.last_worker.address}"
        return JobFailure(told, "short of memory? `worker -j 1` builds one image at a time", ours=True)
    return JobFailure(f"a worker could not run it: {type(error).__name__}: {error}", ours=True)


def _program(found: Identity | BaseException | None) -> str:
    if isinstance(found, BaseException):
        return f"something else ({type(found).__name__}: {found})"
    return "none of this program's" if found is None else str(found)
