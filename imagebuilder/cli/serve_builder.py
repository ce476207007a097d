"""`serve --builder`: a build server for OpenWrt's own clients."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from imagebuilder.cli.options import BoardNames, Cache, Mirrors, Offline, Root, Shown, open_library


@dataclass(frozen=True, kw_only=True)
class Builder(Shown):
    """What a build server builds, and where it keeps it."""

    config: Annotated[
        list[str] | None,
        typer.Option("--config", help="With --builder: what is built, in place of what firmware.toml says."),
    ] = None
    board: BoardNames = None
    imagebuilder: Annotated[
        list[str] | None,
        typer.Option(
            "--imagebuilder",
            metavar="PATH",
            help="An ImageBuilder's folder or archive, in place of the configs' own. Several are possible.",
        ),
    ] = None
    mirror: Mirrors = None
    offline: Offline = False
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=64, help="So many builds at once, as there is room.")
    ] = 1
    host: Annotated[
        str, typer.Option("--host", help="The address at which it listens; 0.0.0.0: all of this machine.")
    ] = "127.0.0.1"
    state: Annotated[
        Path | None,
        typer.Option("--state", help="Where requests and results stay; by default server/ in the project."),
    ] = None
    project: Root = None
    cache: Cache = None

    @property
    def asks_for_more(self) -> bool:
        """Whether something is given that counts for a build server alone."""
        return self != Builder(verbose=self.verbose, quiet=self.quiet, as_json=self.as_json)


def serve_builder(given: Builder, port: int) -> None:
    """Serve until somebody ends it."""
    from imagebuilder.service.run import require_server

    require_server()
    from imagebuilder.cli import show
    from imagebuilder.fleet.processes import LocalProcesses
    from imagebuilder.server.mirror import parse_mirrors
    from imagebuilder.service.run import serve
    from imagebuilder.service.served import asked_of_server, load_served
    from imagebuilder.service.work import build_asked

    parse_mirrors(given.mirror or ())  # a wrong one is told also where none is asked
    library = open_library(given.project, quiet=given.quiet, verbose=given.verbose)
    options = library.settings().server
    folder = (given.state or library.path(options.folder)).absolute()
    asked = asked_of_server(
        library.root,
        options,
        given.config or (),
        board=given.board,
        imagebuilder=given.imagebuilder or (),
        cache=library.cache(given.cache),
        output=folder / "store",
        mirrors=given.mirror or (),
        offline=given.offline,
    )

    def ready(address: str) -> None:
        facts = [
            {
                "version": each.version,
                "target": each.tree.target,
                "profile": each.profile.name,
                "board": each.board.id,
                "config": each.request.config,
            }
            for each in catalogue.served
        ]
        if given.as_json:
            show.as_json({"address": address, "folder": folder, "served": facts})
        else:
            show.rows(facts)
            print(f"the build server is at {address}; Ctrl-C ends it")
        sys.stdout.flush()

    with given.reporter() as log, LocalProcesses(build_asked, given.jobs) as scheduler:
        scheduler.ready()
        catalogue = load_served(asked, options, log)
        serve(
            catalogue,
            folder,
            scheduler,
            log,
            host=given.host,
            port=port,
            at_once=given.jobs,
            ready=ready,
        )
