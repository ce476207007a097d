"""A worker of a Dask cluster that builds images, until somebody stops it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from distributed import Worker

from imagebuilder.errors import HostError
from imagebuilder.fleet.cluster import NO_SCHEDULER, check_address, security_for
from imagebuilder.fleet.worker import ImageWorker
from imagebuilder.host.architecture import require_x86_64
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.own_folders import ready_cache
from imagebuilder.host.tools import require

_WORK = "cluster"  # of the cache: on its file system, so that parcels need no copy
_CONNECT_SECONDS = 60


def serve_worker(
    address: str, cache: Path, *, places: int, name: str | None, say: Callable[[str], None]
) -> None:
    """Build what clients of the cluster ask for, until SIGINT, SIGTERM, or the scheduler is gone.

    address: the scheduler's. places: how many images at once. name: by which the cluster calls it. say: is
    told the worker's address when it is ready. UserError for what is no address; HostError where this machine
    cannot build, or nobody answers at the address.
    """
    require_x86_64("a worker")
    require(["build", "sandbox"])
    ready_cache(cache)
    check_address(address)
    with temporary_folder("work", cache / _WORK) as work:
        builder = ImageWorker(cache, work, places)
        with builder.processes:
            asyncio.run(_serve(address, builder, name, say))


async def _serve(address: str, builder: ImageWorker, name: str | None, say: Callable[[str], None]) -> None:
    dask = builder.work / "dask"
    dask.mkdir()
    try:
        worker = Worker(
            address,
            nthreads=builder.places,
            name=name,
            local_directory=str(dask),
            security=security_for(address),
            plugins=(builder,),
            memory_limit=0,  # what builds take is their processes', whose room is looked after there
            death_timeout=_CONNECT_SECONDS,
            dashboard=False,
        )
        await worker
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        told = f"no Dask scheduler answers at {address}: {str(error) or type(error).__name__}"
        raise HostError(told, hint=NO_SCHEDULER) from error
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: loop.create_task(worker.close()))
    say(worker.address)
    await worker.finished()
