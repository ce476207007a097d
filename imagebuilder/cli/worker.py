"""`build.py worker`: this machine builds what clients of a Dask cluster ask for."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from imagebuilder.cli.guard import guarded
from imagebuilder.cli.options import Cache, Told


@guarded
def worker(
    told: Told,
    scheduler: Annotated[
        str, typer.Argument(help="The cluster's scheduler: tls://HOST:PORT or tcp://HOST:PORT.")
    ],
    places: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, help="Images at once. Left out: one for two processors."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the cluster calls this worker.")] = None,
    cache: Cache = None,
) -> None:
    """Build on this machine what `build --scheduler` asks for, until it is stopped.

    Whoever can reach a scheduler without certificates can run any program on its workers.
    """
    from imagebuilder.fleet.extra import require_dask

    require_dask()
    from imagebuilder.fleet.serve_worker import serve_worker
    from imagebuilder.host.fs import user_cache

    at_once = places or max(1, (os.cpu_count() or 1) // 2)

    def say(address: str) -> None:
        if not told.quiet:
            print(f"builds for {scheduler}, {at_once} at once, as {address}", flush=True)

    serve_worker(scheduler, cache or user_cache(), places=at_once, name=name, say=say)
