"""The commands. Each reads its arguments, calls one thing, and prints what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imagebuilder.cli.guard import guarded

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Builds OpenWrt firmware with the Python that fits: boards and configs in TOML, images out.",
)

PROJECT = Path(__file__).resolve().parents[2]

Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every command and its output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")]
Root = Annotated[
    Path, typer.Option("--project", help="The folder that holds boards/, configs/ and overlays/.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where results go.")]
Cache = Annotated[Path | None, typer.Option("--cache", help="Where downloads, trees and kits are kept.")]
BoardName = Annotated[str | None, typer.Option("--board", "-b", help="For this board only.")]
Imagebuilder = Annotated[
    str | None, typer.Option("--imagebuilder", help="An ImageBuilder's folder, or its archive.")
]


@app.command()
@guarded
def build(
    config: Annotated[str, typer.Argument(help="A config's name, or the path of its file.")],
    board: BoardName = None,
    imagebuilder: Imagebuilder = None,
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
    from imagebuilder.pipeline import build_image, requests

    with Reporter(quiet=quiet, verbose=verbose) as log:
        asked = requests(project, config, board=board, imagebuilder=imagebuilder, output=output, cache=cache)
        built = [build_image(request, log) for request in asked]
    if as_json:
        show.as_json([{"folder": place, **result.model_dump(mode="json")} for place, result in built])
    else:
        for place, result in built:
            show.result(place, result)


@app.command()
@guarded
def plan(
    config: Annotated[str, typer.Argument(help="A config's name, or the path of its file.")],
    board: BoardName = None,
    imagebuilder: Imagebuilder = None,
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
        asked = requests(project, config, board=board, imagebuilder=imagebuilder, cache=cache)
        plans = [plan_image(request, log) for request in asked]
    if as_json:
        show.as_json(plans)
    else:
        for each in plans:
            show.plan(each)


@app.command()
@guarded
def boards(project: Root = PROJECT, as_json: Json = False) -> None:
    """List the boards."""
    from imagebuilder.cli import show
    from imagebuilder.load.library import Library

    library = Library(project)
    found = [library.board(name) for name in library.board_names()]
    (show.as_json if as_json else show.boards)(found)


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
    from imagebuilder.cli import show
    from imagebuilder.load.config import load_config
    from imagebuilder.load.library import Library

    library = Library(project)
    if name in library.board_names():
        found = library.board(name)
        (show.as_json if as_json else show.board)(found)
        return
    loaded = load_config(library, name, board)
    if as_json:
        show.as_json({"config": loaded.config, "origins": loaded.origins})
    else:
        show.config(loaded)


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
        raise typer.Exit(1)


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
        install(missing_tools(("build", "kit", "boot")), log)
        (request,) = requests(PROJECT, "demo", output=output, cache=cache)
        place, result, answer = run_demo(request, log)
    if as_json:
        show.as_json({"folder": place, "result": result, "guest": answer})
    else:
        show.result(place, result)
        show.answer(answer)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@guarded
def test(context: typer.Context) -> None:
    """Run the tests; what follows is passed on to pytest (--imagebuilder PATH: also those on that tree)."""
    import os
    import sys

    import pytest

    from imagebuilder.cli.progress import Reporter
    from imagebuilder.host.tools import USES, install, missing_tools

    with Reporter() as log:
        install(missing_tools(USES), log)
    os.chdir(PROJECT)
    sys.exit(pytest.main(context.args))


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
