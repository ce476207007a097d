"""`serve`: a site, for a look, or a build server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imagebuilder.cli.guard import guarded
from imagebuilder.cli.serve_builder import Builder, serve_builder
from imagebuilder.errors import UserError


@guarded
def serve(
    given: Builder,
    site: Annotated[
        Path | None, typer.Argument(help="A site that publish made; with --builder none.")
    ] = None,
    builder: Annotated[
        bool,
        typer.Option("--builder", help="In place of a site: build what owut, LuCI and the selector ask for."),
    ] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
) -> None:
    """Serve a site on 127.0.0.1 for a look, until Ctrl-C; or, with --builder, be a build server for OpenWrt's
    own clients."""
    if builder and site is not None:
        raise UserError("--builder serves no site", hint="give one of the two")
    if builder:
        serve_builder(given, port)
        return
    if given.asks_for_more:
        raise UserError("these options are for a build server", hint="give --builder too, or leave them out")
    if site is None:
        raise UserError("no site is named", hint="name the folder that publish made, or give --builder")
    from imagebuilder.cli import show
    from imagebuilder.site.serve import site_server

    with site_server(site, port) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        if given.as_json:
            show.as_json({"address": address})
        else:
            print(f"{site} is at {address}; Ctrl-C ends it")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
