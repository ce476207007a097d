"""`build.py boards`: list, search, add and check. Each reads its arguments, calls one thing, and prints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.cli.guard import USER_FAULT, guarded
from imagebuilder.cli.options import PROJECT, Cache, Imagebuilder, Json, Quiet, Root, Verbose

if TYPE_CHECKING:
    from imagebuilder.model.tree import Tree

boards_app = typer.Typer(help="List the boards; search, add and check them.")

FlashBound = Annotated[str | None, typer.Option("--flash", help="Flash to have, such as '>=8M'.")]
RamBound = Annotated[str | None, typer.Option("--ram", help="RAM to have, such as '>=64M'.")]


@boards_app.callback(invoke_without_command=True)
@guarded
def list_boards(
    context: typer.Context,
    flash: FlashBound = None,
    ram: RamBound = None,
    project: Root = PROJECT,
    as_json: Json = False,
) -> None:
    """List the boards, all of them or those with enough flash and RAM."""
    from imagebuilder.errors import UserError

    if context.invoked_subcommand is None:
        _list(project, flash, ram, [], as_json=as_json)
    elif (flash, ram, project, as_json) != (None, None, PROJECT, False):
        command = context.invoked_subcommand
        raise UserError(f"options belong behind the command: build.py boards {command} …")


@boards_app.command()
@guarded
def search(
    words: Annotated[list[str], typer.Argument(help="Vendor, model, chip or profile, or parts of them.")],
    flash: FlashBound = None,
    ram: RamBound = None,
    project: Root = PROJECT,
    as_json: Json = False,
) -> None:
    """List the boards in whose names every word occurs."""
    _list(project, flash, ram, words, as_json=as_json)


def _list(project: Root, flash: str | None, ram: str | None, words: list[str], *, as_json: bool) -> None:
    from imagebuilder.cli import show, show_boards
    from imagebuilder.load.boards_filter import BoardFilter, parse_bound
    from imagebuilder.load.library import Library

    wanted = BoardFilter(
        flash=None if flash is None else parse_bound("--flash", flash),
        ram=None if ram is None else parse_bound("--ram", ram),
        words=tuple(words),
    )
    library = Library(project)
    found, unsupported = wanted.boards(library.boards()), wanted.unsupported(library.unsupported())
    if as_json:
        show.as_json(show_boards.as_facts(found, unsupported))
    else:
        show_boards.boards(found, unsupported)


@boards_app.command()
@guarded
def add(
    profile: Annotated[str, typer.Argument(help="The ImageBuilder's name for the device.")],
    imagebuilder: Imagebuilder = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The board's name; by default the profile's.")
    ] = None,
    ram: Annotated[str | None, typer.Option("--ram", help="How much it has, such as 64M.")] = None,
    flash: Annotated[
        str | None, typer.Option("--flash", help="How much it has, such as 8M; or removable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also over a file that is there already.")] = False,
    project: Root = PROJECT,
    cache: Cache = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write a new board's file from what an ImageBuilder knows of the device."""
    from imagebuilder.cli import show, show_boards
    from imagebuilder.load.boards_write import given_flash, given_size, write_board
    from imagebuilder.load.library import Library
    from imagebuilder.openwrt.device_facts import device_facts, known_profile

    its_ram, its_flash = given_size("--ram", ram), given_flash("--flash", flash)
    tree = _tree(imagebuilder, cache, verbose=verbose, quiet=quiet)
    facts = device_facts(tree, known_profile(tree, profile))
    written = write_board(Library(project), facts, name, ram=its_ram, flash=its_flash, force=force)
    if as_json:
        places = [{"line": line, "wanted": wanted} for line, wanted in written.fill_in]
        show.as_json({"board": written.path.stem, "file": written.path, "fill_in": places})
    else:
        show_boards.written(written)


@boards_app.command()
@guarded
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Boards; by default all.")] = None,
    imagebuilder: Imagebuilder = None,
    project: Root = PROJECT,
    cache: Cache = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Compare board files with what an ImageBuilder says; exits with 2 where they differ."""
    from imagebuilder.cli import show, show_boards
    from imagebuilder.load.library import Library
    from imagebuilder.openwrt.board_check import check_boards

    library = Library(project)
    boards = [library.board(name) for name in names] if names else library.boards()
    tree = _tree(imagebuilder, cache, verbose=verbose, quiet=quiet)
    found, not_covered = check_boards(boards, tree, all_of_them=bool(names))
    if as_json:
        show.as_json({"checks": list(map(vars, found)), "not_covered": not_covered})
    else:
        show_boards.comparisons(found, not_covered)
    if not all(each.same for each in found):
        sys.exit(USER_FAULT)


def _tree(imagebuilder: str | None, cache: Cache, *, verbose: bool, quiet: bool) -> Tree:
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.errors import UserError
    from imagebuilder.host.fs import user_cache
    from imagebuilder.host.tools import require
    from imagebuilder.openwrt.device_facts import look_at_tree

    if imagebuilder is None:
        raise UserError("no ImageBuilder was given", hint="--imagebuilder PATH: its folder or its archive")
    require(["build", "genuine"])
    with Reporter(quiet=quiet, verbose=verbose) as log, log.step("tree"):
        return look_at_tree(imagebuilder, cache or user_cache(), log)
