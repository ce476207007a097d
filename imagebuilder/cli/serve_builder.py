"""`serve --builder`: a build server for OpenWrt's own clients."""

from __future__ import annotations

import sys

from imagebuilder.cli.options import Builder, open_library


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
