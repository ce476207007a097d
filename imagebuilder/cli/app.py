"""The commands: a module for each subject that has several, the others here. Each reads its arguments, calls
one thing, and prints what comes back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

from imagebuilder import __version__
from imagebuilder.called import COMMAND, called, typed
from imagebuilder.cli.bench import bench
from imagebuilder.cli.boards import boards_app
from imagebuilder.cli.boot import boot
from imagebuilder.cli.bring import bring_along
from imagebuilder.cli.compare import compare
from imagebuilder.cli.completion import completion
from imagebuilder.cli.firmware import cat, diff, extract, formats, inspect, ls, verify
from imagebuilder.cli.guard import USER_FAULT, NotTriedError, guarded
from imagebuilder.cli.help import HELP_COLUMNS, Commands
from imagebuilder.cli.images import build, fetch, lock, outdated, plan
from imagebuilder.cli.init import init, new
from imagebuilder.cli.interpreters import interpreters
from imagebuilder.cli.matrix import matrix
from imagebuilder.cli.options import (
    AskedServer,
    BoardName,
    Cache,
    Imagebuilder,
    Json,
    Output,
    Root,
    Shown,
    ShownName,
    open_library,
)
from imagebuilder.cli.packages import packages_app, why
from imagebuilder.cli.publish import publish
from imagebuilder.cli.screen import columns
from imagebuilder.cli.serve import serve
from imagebuilder.cli.trial import trial
from imagebuilder.cli.worker import worker

# the faster tests: without the kit, guests, pages in a browser, whole builds, the bytes of firmware, and what
# looks at the sources and not at what they do
_WITHOUT = ("-m", "not kit and not boot and not browser and not genuine")
_NO_BUILDS = ("tests/firmware", "tests/torture", "tests/test_house.py", "tests/test_bootstrap.py")
FAST = (*_WITHOUT, *(f"--ignore={each}" for each in ("tests/whole", *_NO_BUILDS)))
# whole builds too: what an ordinary user may not do shows itself there. Nothing is kept below the project
AS_USER = (*_WITHOUT, *(f"--ignore={each}" for each in _NO_BUILDS), "-p", "no:cacheprovider")


class _Started(typer.Context):
    """Usage lines name the program as it was started, and fit the terminal that output goes to: what typer
    asks is the standard output that Python began with."""

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        width = columns()
        if width is not None:
            self.terminal_width = min(width, HELP_COLUMNS) - 2

    @property
    def command_path(self) -> str:
        return called() if self.parent is None else super().command_path


class _Commands(TyperGroup):
    context_class = _Started


app = Commands(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

for command in (
    new,
    init,
    build,
    plan,
    fetch,
    lock,
    outdated,
    matrix,
    compare,
    bench,
    why,
    interpreters,
    inspect,
    verify,
    extract,
    ls,
    cat,
    diff,
    formats,
    trial,
    boot,
    worker,
    publish,
    serve,
    completion,
):
    app.command()(command)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"{COMMAND} {__version__}")
        raise typer.Exit


@app.callback()
def _whole(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Builds OpenWrt firmware with the Python that fits: boards and configs in TOML, images out."""


app.command(name="import")(bring_along)
app.add_typer(boards_app, name="boards")
app.add_typer(packages_app, name="packages")


@app.command()
@guarded
def configs(project: Root = None, as_json: Json = False) -> None:
    """List the configs."""
    from imagebuilder.cli import show
    from imagebuilder.config.config import load_config

    library = open_library(project)
    found = [load_config(library, name).config for name in library.config_names()]
    (show.as_json if as_json else show.configs)(found)


@app.command(name="show")
@guarded
def show_one(
    name: ShownName,
    board: BoardName = None,
    project: Root = None,
    as_json: Json = False,
) -> None:
    """Show a board's data sheet, or a config with all that it extends and where each value came from."""
    from imagebuilder.cli import show
    from imagebuilder.config.config import explain, load_config, replaced_files, shown_config
    from imagebuilder.config.project import open_project

    library, found = open_project(project)
    if name in (*library.board_names(), *(device.id for device in library.unsupported())):
        its_board, path = library.board(name), library.board_path(name)
        replaced = library.replaced(path)
        if as_json:
            facts = its_board.model_dump(mode="json")
            show.as_json({**facts, "file": path, "in_place_of": replaced})
        else:
            show.board(its_board, path, replaced)
        return
    loaded = load_config(library, name, board)
    in_place = replaced_files(library, loaded)
    if as_json:
        facts = {"config": shown_config(library, loaded.config), "origins": loaded.origins}
        show.as_json(
            {**facts, "project": found, "in_place_of": {str(path): of for path, of in in_place.items()}}
        )
    else:
        show.config(loaded.config.name, explain(library, loaded))
        show.project(found, in_place)


@app.command()
@guarded
def schema(
    kind: Annotated[
        Literal["board", "config", "overlay", "lock", "project"] | None,
        typer.Argument(help="Which kind of file."),
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Print every key of every kind instead, a page of Markdown.")
    ] = False,
) -> None:
    """Print the JSON schema of board, config, overlay, lock or project files, for editors."""
    from imagebuilder.cli import show
    from imagebuilder.config.schema import KINDS, reference_text, schema_of
    from imagebuilder.errors import UserError

    if reference == (kind is not None):
        raise UserError("say one kind of file, or --reference", hint=f"kinds: {', '.join(KINDS)}")
    if kind is None:
        print(reference_text(), end="")
    else:
        show.as_json(schema_of(kind))


@app.command()
@guarded
def releases(server: AskedServer) -> None:
    """List the releases that the server names, and which series still get security fixes."""
    from imagebuilder.cli import show
    from imagebuilder.server.obtain_lists import list_releases

    library = server.library()
    with server.reporter() as log:
        found = list_releases(server.asking(library, log))
    (show.as_json if server.as_json else show.releases)(found)


@app.command()
@guarded
def doctor(
    shown: Shown,
    fix: Annotated[
        bool, typer.Option("--fix", help="Install what is missing (as root; apt, dnf, pacman, zypper, apk).")
    ] = False,
) -> None:
    """Say what this machine lacks, what for, and the one command that helps."""
    from imagebuilder.cli import show
    from imagebuilder.config.library import checkout
    from imagebuilder.host.diagnosis import diagnose
    from imagebuilder.host.tools import install, missing_tools, possible_uses

    tests = checkout() is not None
    if fix:
        with shown.reporter() as log:
            install(missing_tools(possible_uses(tests=tests)), log, partly=True)
    found = diagnose(tests=tests)
    (show.as_json if shown.as_json else show.doctor)(found)
    if not found.healthy:
        sys.exit(USER_FAULT)


_DEMOS = {"embedded": "demo", "embedded-3.13": "demo-3.13"}


@app.command()
@guarded
def demo(
    shown: Shown,
    release: Annotated[
        Literal["embedded", "embedded-3.13"],
        typer.Option("--release", help="Which edition of the kit: CPython 3.11 of Debian 12, 3.13 of 13."),
    ] = "embedded",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make the kit anew where Debian has newer packages.")
    ] = False,
    output: Output = None,
    project: Root = None,
    cache: Cache = None,
) -> None:
    """Build the demo image, boot it in QEMU with 128 MB, and let its Python answer."""
    from imagebuilder.build import run_demo
    from imagebuilder.cli import show
    from imagebuilder.config.places import shipped_folder
    from imagebuilder.config.request import requests
    from imagebuilder.host.tools import install, missing_tools
    from imagebuilder.kit.prepare import check_kit, prepare_kit
    from imagebuilder.model.edition import EDITIONS

    edition = EDITIONS[release]
    library = open_library(project, quiet=shown.quiet, verbose=shown.verbose)
    config, place = _DEMOS[release], library.output(output)
    (request,) = requests(shipped_folder(), config, output=place, cache=library.cache(cache))
    check_kit(edition, request.cache)  # before minutes are spent on installing programs
    with shown.reporter() as log:
        install(missing_tools(("build", "sandbox", "kit", "boot")), log)
        if fresh:
            prepare_kit(edition, request.cache, log, fresh=True)
        place, result, answer = run_demo(request, log)
    if shown.as_json:
        show.as_json({"folder": place, "result": result, "guest": answer})
    else:
        show.result(place, result)
        show.answer(answer)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@partial(guarded, passes_on=True)
def test(
    context: typer.Context,
    imagebuilder: Imagebuilder = None,
    lowest: Annotated[
        bool,
        typer.Option("--lowest", help="The fast tests alone, on the lowest versions of pyproject.toml."),
    ] = False,
    as_user: Annotated[
        bool, typer.Option("--as-user", help="Where this is root: the fast tests and builds as a user.")
    ] = False,
) -> None:
    """Run the tests on all cores; with --imagebuilder also those on that genuine tree.

    --lowest and --as-user together are one run: that of --as-user, on the lowest versions.

    What follows is passed on to pytest, for example -k overlay -n 0 (one after the other), --quiet and
    --verbose too.
    """
    import os

    from imagebuilder.cli.progress import Reporter
    from imagebuilder.config.library import checkout
    from imagebuilder.errors import UserError
    from imagebuilder.host.fs import user_cache
    from imagebuilder.host.lowest import NoIndexError, lowest_environment
    from imagebuilder.host.tools import install, missing_tools, possible_uses

    sources = checkout()
    if sources is None:
        raise UserError(
            "the tests are not installed", hint="they are in the sources: python3 build.py test there"
        )
    if (lowest or as_user) and imagebuilder:
        left_out = "--lowest" if lowest else "--as-user"
        raise UserError(
            f"{left_out} leaves out the tests of a genuine tree", hint="give --imagebuilder alone"
        )
    given = set(context.args)
    quiet, verbose = bool(given & {"-q", "--quiet"}), bool(given & {"-v", "-vv", "--verbose"})
    with Reporter(quiet=quiet, verbose=verbose) as log:
        install(missing_tools(possible_uses()), log)
        try:
            python = lowest_environment(sources, user_cache(), log) if lowest else None
        except NoIndexError as error:
            raise NotTriedError(error.message, hint=error.hint) from error
    import pytest

    # with `=`: pytest would take the value for a folder of tests before it knows the option
    genuine = [f"--imagebuilder={Path(imagebuilder).resolve()}"] if imagebuilder else []
    os.chdir(sources)
    if as_user:
        _test_as_user(sources, context.args, Path(sys.executable) if python is None else python)
    if python is not None:
        words = [str(python), "-m", "pytest", "-n", "auto", *FAST, *context.args]
        os.execv(python, words)  # noqa: S606 - no shell is what is wanted
    sys.exit(pytest.main(["-n", "auto", *genuine, *context.args]))


def _test_as_user(sources: Path, arguments: Sequence[str], python: Path) -> NoReturn:
    """Run the tests by an environment's Python, and end as they do. NotTriedError where nothing can be run as
    another user."""
    from imagebuilder.host.handover import temporary_folder
    from imagebuilder.host.ordinary_user import (
        NoOrdinaryUserError,
        environment,
        ordinary_user,
        own_places,
        unused_number,
    )
    from imagebuilder.host.run import stream

    with temporary_folder("scratch") as home:
        try:
            argv = ordinary_user(home, own_places(sources, python), unused_number(), python)
        except NoOrdinaryUserError as error:
            raise NotTriedError(error.message, hint=error.hint) from error
        # not pytest's own folders, whose names are long: a socket's path has 108 bytes at most
        tests = [str(python), "-m", "pytest", "-n", "auto", f"--basetemp={home}/t", *AS_USER, *arguments]
        settings = {**environment(home), "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis")}
        code = stream([*argv, *tests], partial(print, flush=True), env=settings, check=False).code
    sys.exit(code)


@app.command()
@guarded
def clean(
    output: Output = None,
    fetched: Annotated[
        bool, typer.Option("--fetched", help="In place of results: downloads, trees, indexes, kept results.")
    ] = False,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="With --fetched: as much as 2G may stay, what was used last."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Results, and all that can be made or fetched again, the kit too.")
    ] = False,
    project: Root = None,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Remove results; with --fetched what was fetched, with --all everything."""
    from imagebuilder.cli import show
    from imagebuilder.config.boards_write import given_size
    from imagebuilder.errors import UserError
    from imagebuilder.host.cache import Cache as Kept
    from imagebuilder.host.own_folders import CACHE
    from imagebuilder.workspace import OUTPUT

    limit, library = given_size("--keep", keep), open_library(project)
    folder, results = library.cache(cache), output or library.output()
    if limit is not None and (everything or not fetched):
        raise UserError("--keep goes with --fetched", hint=typed("clean --fetched --keep 2G"))
    whole = [*([(OUTPUT, results)] if everything or not fetched else [])]
    whole += [(CACHE, folder)] if everything else []
    for kind, place in (*whole, *([(CACHE, folder)] if fetched else [])):
        kind.check(place)
    gone = {place: kind.remove(place) for kind, place in whole if place.exists()}
    removed = [place for place, all_of_it in gone.items() if all_of_it]
    in_use = [place for place, all_of_it in gone.items() if not all_of_it]
    cleaned = Kept(folder).clean(limit or 0) if fetched and not everything else None
    if as_json:
        show.as_json({"removed": removed, "in_use": in_use, "cache": folder, "cleaned": cleaned})
    else:
        show.cleaned(removed, in_use, folder, cleaned)
