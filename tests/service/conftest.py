"""A build server over the small tree, with a scheduler that works in the thread that asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from imagebuilder.config.model_server import ServerOptions
from imagebuilder.errors import UserError
from imagebuilder.fleet.job import BoardJob, Ended, HandedOver, JobFailure
from imagebuilder.fleet.scheduler import Tell
from imagebuilder.log import Log
from imagebuilder.service.api import make_api
from imagebuilder.service.builds import Builds
from imagebuilder.service.served import ServedBoards, asked_of_server, load_served
from imagebuilder.service.work import build_asked

BOARD = "tplink-tl-wr740n-v4"
VERSION, TARGET, PROFILE = "23.05.5", "ath79/tiny", "tplink_tl-wr740n-v4"
Work = Callable[[BoardJob, Log], HandedOver]


def asked(**more: Any) -> dict[str, Any]:
    """The least that a client sends."""
    return {"version": VERSION, "target": TARGET, "profile": PROFILE, **more}


class Here:
    """A scheduler whose jobs are done in the thread that asks, each when `gate` is open. worked: the
    configs of all jobs that were begun; broken: what a job ends in, if not in its work."""

    def __init__(self, work: Work = build_asked) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.worked: list[str] = []
        self._work, self._stopped = work, threading.Event()

    def run(self, jobs: Sequence[BoardJob], tell: Tell) -> Generator[Ended[HandedOver], None, None]:
        for job in jobs:
            self.worked.append(Path(job.request.config).stem)
            while not self.gate.wait(0.02):
                if self._stopped.is_set():
                    yield Ended(job, "interrupted", failure=JobFailure("interrupted"))
                    return
            try:
                found = self._work(job, Log([lambda event, job=job: tell(job, event)]))
            except UserError as error:
                yield Ended(job, "failed", failure=JobFailure.of(error))
            else:
                yield Ended(job, "done", found)

    def stop_starting(self) -> None:
        self._stopped.set()

    def cancel(self, job: BoardJob | None = None) -> None:
        self._stopped.set()


@pytest.fixture
def catalogue_of(project: Path, small_tree: Path, tmp_path: Path) -> Callable[..., ServedBoards]:
    def make(config: str = "router", **options: Any) -> ServedBoards:
        said = ServerOptions(**options)
        wanted = asked_of_server(
            project,
            said,
            [config],
            board=[BOARD],
            imagebuilder=[str(small_tree)],
            cache=tmp_path / "cache",
            output=tmp_path / "state/store",
        )
        return load_served(wanted, said, Log())

    return make


@pytest.fixture
def builds_of(catalogue_of: Callable[..., ServedBoards], tmp_path: Path) -> Iterator[Callable[..., Builds]]:
    running: list[Builds] = []

    def make(scheduler: Here, catalogue: ServedBoards | None = None, **options: Any) -> Builds:
        builds = Builds(catalogue or catalogue_of(**options), tmp_path / "state", scheduler, Log())
        builds.start()
        running.append(builds)
        return builds

    yield make
    for builds in running:
        builds.stop()


@contextmanager
def served(builds: Builds) -> Iterator[str]:
    """The API at an address on loopback."""
    config = uvicorn.Config(make_api(builds, Log()), port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def client_of(builds_of: Callable[..., Builds]) -> Iterator[Callable[..., httpx.Client]]:
    with ExitStack() as stack:

        def make(scheduler: Here | None = None, **options: Any) -> httpx.Client:
            address = stack.enter_context(served(builds_of(scheduler or Here(), **options)))
            return stack.enter_context(httpx.Client(base_url=address, timeout=60, trust_env=False))

        yield make


def ended(client: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    """What became of a request, once it is no longer 202; `http` is the answer's own status."""
    while answer.status_code == 202:
        time.sleep(0.02)
        answer = client.get(f"/api/v1/build/{answer.json()['request_hash']}")
    return {**answer.json(), "http": answer.status_code}
