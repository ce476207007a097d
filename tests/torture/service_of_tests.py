"""A build server without an address, which is given one request, builds it and ends: in one process, so that
each call by which it changes something can be counted."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from imagebuilder.config.model_server import ServerOptions
from imagebuilder.errors import UserError
from imagebuilder.fleet.job import BoardJob, Ended, HandedOver, JobFailure
from imagebuilder.fleet.scheduler import Tell
from imagebuilder.log import Log
from imagebuilder.service.asked import BuildRequest
from imagebuilder.service.builds import Builds
from imagebuilder.service.served import asked_of_server, load_served
from imagebuilder.service.work import build_asked

ASKED = BuildRequest(
    version="23.05.5",
    target="ath79/tiny",
    profile="tplink_tl-wr740n-v4",
    packages=("dropbear",),
    defaults="true\n",
)


class _Here:
    """A scheduler that works in the thread that asks."""

    def run(self, jobs: Sequence[BoardJob], tell: Tell) -> Generator[Ended[HandedOver], None, None]:
        for job in jobs:
            try:
                yield Ended(job, "done", build_asked(job, Log()))
            except UserError as error:
                yield Ended(job, "failed", failure=JobFailure.of(error))

    def stop_starting(self) -> None:
        """Nothing runs when this is called."""

    def cancel(self, job: BoardJob | None = None) -> None:
        """Nothing runs when this is called."""


def serve_once(project: Path, state: Path, cache: Path, tree: Path, acknowledged: Path) -> None:
    """Serve the config `mine` until the request is built. acknowledged: the file to which its number is
    written as soon as a client would have been told. UserError."""
    options = ServerOptions(defaults=True)
    asked = asked_of_server(
        project, options, ["mine"], imagebuilder=[str(tree)], cache=cache, output=state / "store"
    )
    served = load_served(asked, options, Log())
    builds = Builds(served, state, _Here(), Log())
    builds.start()
    answer = builds.take(ASKED)
    number = str(answer.document["request_hash"])
    with acknowledged.open("a") as stream:
        stream.write(f"{number}\n")
        stream.flush()
        os.fsync(stream.fileno())
    while answer.status == 202:
        time.sleep(0.01)
        now = builds.answer(number)
        if now is None:
            raise UserError(f"{number} is lost")
        answer = now
    builds.stop()
    if answer.status != 200:
        raise UserError(answer.document["detail"])
