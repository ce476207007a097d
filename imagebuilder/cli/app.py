"""The commands. Each reads its arguments, calls one thing, and prints what comes back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from imagebuilder.cli.boards import boards_app
from imagebuilder.cli.guard import USER_FAULT, guarded
from imagebuilder.cli.init import init
from imagebuilder.cli.options import (
    PROJECT,
    BoardName,
    Cache,
    ConfigName,
    Imagebuilder,
    Json,
    Mirrors,
    NoSandbox,
    Offline,
    Output,
    Quiet,
    Root,
    Verbose,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Builds OpenWrt firmware with the Python that fits: boards and configs in TOML, images out.",
)

app.command()(init)
app.add_typer(boards_app, name="boards")


@app.command()
@guarded
def build(
    config: ConfigName,
    board: BoardName = None,
    imagebuilder: Imagebuilder = None,
    mirror: Mirrors = None,
    offline: Offline = False,
    no_sandbox: NoSandbox = False,
    check_reproducible: Annotated[
        bool, typer.Option("--check-reproducible", help="Build twice; the images must be the same.")
    ] = False,
    output: Output = Path("out"),
    project: Root = PROJECT,
    cache: Cache = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Build the images of a config, for each of its boards."""
    from imagebuilder.cli import show
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.pipeline import build_image, build_twice, requests

    with Reporter(quiet=quiet, verbose=verbose) as log:
        asked = requests(
            project,
            config,
            board=board,
            imagebuilder=imagebuilder,
            output=output,
            cache=cache,
            mirrors=mirror or (),
            offline=offline,
            sandbox=not no_sandbox,
        )
        work = build_twice if check_reproducible else build_image
        built = [work(request, log) for request in asked]
    if as_json:
        show.as_json([{"folder": place, **result.model_dump(mode="json")} for place, result in built])
    else:
        for place, result in built:
            show.result(place, result)


@app.command()
@guarded
def plan(
    config: ConfigName,
    board: BoardName = None,
    imagebuilder: Imagebuilder = None,
    mirror: Mirrors = None,
    offline: Offline = False,
    no_sandbox: NoSandbox = False,
    project: Root = PROJECT,
    cache: Cache = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Show what would be built: profile, packages and why, and the make command."""
    from imagebuilder.cli import show
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.pipeline import plan_image, requests

    with Reporter(quiet=quiet, verbose=verbose) as log:
        asked = requests(
            project,
            config,
            board=board,
            imagebuilder=imagebuilder,
            cache=cache,
            mirrors=mirror or (),
            offline=offline,
            sandbox=not no_sandbox,
        )
        plans = [plan_image(request, log) for request in asked]
    if as_json:
        show.as_json(plans)
    else:
        for each in plans:
            show.plan(each)


@app.command()
@guarded
def configs(project: Root = PROJECT, as_json: Json = False) -> None:
    """List the configs."""
    from imagebuilder.cli import show
    from imagebuilder.load.config import load_config
    from imagebuilder.load.library import Library

    library = Library(project)
    found = [load_config(library, name).config for name in library.config_names()]
    (show.as_json if as_json else show.configs)(found)


@app.command(name="show")
@guarded
def show_one(
    name: Annotated[str, typer.Argument(help="A board or a config.")],
    board: BoardName = None,
    project: Root = PROJECT,
    as_json: Json = False,
) -> None:
    """Show a board's data sheet, or a config with all that it extends and where each value came from."""
    from imagebuilder.cli import show, show_boards
    from imagebuilder.load.config import load_config
    from imagebuilder.load.explain import explain, shown_config
    from imagebuilder.load.library import Library

    library = Library(project)
    if name in (*library.board_names(), *(device.id for device in library.unsupported())):
        found = library.board(name)
        (show.as_json if as_json else show_boards.board)(found)
        return
    loaded = load_config(library, name, board)
    if as_json:
        show.as_json({"config": shown_config(library, loaded.config), "origins": loaded.origins})
    else:
        show.config(loaded.config.name, explain(library, loaded))


@app.command()
@guarded
def schema(
    kind: Annotated[Literal["board", "config", "overlay"], typer.Argument(help="Which kind of file.")],
) -> None:
    """Print the JSON schema of board, config or overlay files, for editors."""
    from imagebuilder.cli import show
    from imagebuilder.load.schema import schema_of

    show.as_json(schema_of(kind))


@app.command()
@guarded
def releases(as_json: Json = False) -> None:
    """List the releases that are known without asking a server."""
    from imagebuilder.cli import show
    from imagebuilder.openwrt.releases import shipped_releases

    known = shipped_releases()
    if as_json:
        show.as_json([{"release": each, "end_of_life": known.end_of_life(each)} for each in known.versions])
    else:
        show.table(("release", "remark"), ((each, known.end_of_life(each) or "") for each in known.versions))


@app.command()
@guarded
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Install what is missing (apt, as root).")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Say which host programs are missing and what each is for."""
    from imagebuilder.cli import show
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.host.tools import TOOLS, USES, install, install_command, missing_tools

    if fix:
        with Reporter(quiet=quiet, verbose=verbose) as log:
            install(missing_tools(USES), log)
    missing = missing_tools(USES)
    present = [tool for tool in TOOLS if tool not in missing]
    if as_json:
        show.as_json({"missing": list(map(vars, missing)), "present": list(map(vars, present))})
    else:
        show.doctor(missing, present)
        if missing:
            print(f"to install what is missing: python3 build.py doctor --fix, or {install_command(missing)}")
    if missing:
        sys.exit(USER_FAULT)


@app.command()
@guarded
def demo(
    output: Output = Path("out"),
    cache: Cache = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Build the demo image, boot it in QEMU with 128 MB, and let its Python answer."""
    from imagebuilder.cli import show
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.host.tools import install, missing_tools
    from imagebuilder.pipeline import requests, run_demo

    with Reporter(quiet=quiet, verbose=verbose) as log:
        install(missing_tools(("build", "sandbox", "kit", "boot")), log)
        (request,) = requests(PROJECT, "demo", output=output, cache=cache)
        place, result, answer = run_demo(request, log)
    if as_json:
        show.as_json({"folder": place, "result": result, "guest": answer})
    else:
        show.result(place, result)
        show.answer(answer)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@guarded
def test(context: typer.Context, imagebuilder: Imagebuilder = None) -> None:
    """Run the tests on all cores; with --imagebuilder also those on that genuine tree.

    What follows is passed on to pytest, for example -k overlay -n 0 (one after the other).
    """
    import os

    import pytest

    from imagebuilder.cli.progress import Reporter
    from imagebuilder.host.tools import USES, install, missing_tools

    with Reporter() as log:
        install(missing_tools(USES), log)
    # with `=`: pytest would take the value for a folder of tests before it knows the option
    genuine = [f"--imagebuilder={Path(imagebuilder).resolve()}"] if imagebuilder else []
    os.chdir(PROJECT)
    sys.exit(pytest.main(["-n", "auto", *genuine, *context.args]))


@app.command()
@guarded
def clean(
    output: Output = Path("out"),
    cache: Cache = None,
    all_caches: Annotated[
        bool, typer.Option("--all", help="Also downloads, unpacked trees and the kit.")
    ] = False,
) -> None:
    """Remove results (and with --all everything that can be made or fetched again)."""
    from imagebuilder.host.fs import remove_tree, user_cache

    remove_tree(output)
    if all_caches:
        remove_tree(cache or user_cache())
