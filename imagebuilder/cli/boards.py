"""`build.py boards`: list, search, add and check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.called import typed
from imagebuilder.cli.guard import USER_FAULT, guarded
from imagebuilder.cli.help import Commands
from imagebuilder.cli.options import (
    AskedServer,
    BoardsToCheck,
    Cache,
    Imagebuilder,
    ReleaseName,
    Root,
    Shown,
    open_library,
)

if TYPE_CHECKING:
    from imagebuilder.config.library import BoardFilter
    from imagebuilder.model.tree import Tree

boards_app = Commands(help="List the boards; search, add and check them.")

FlashBound = Annotated[str | None, typer.Option("--flash", help="Flash to have, such as '>=8M'.")]
RamBound = Annotated[str | None, typer.Option("--ram", help="RAM to have, such as '>=64M'.")]


@boards_app.callback(invoke_without_command=True)
@guarded
def list_boards(
    context: typer.Context,
    shown: Shown,
    flash: FlashBound = None,
    ram: RamBound = None,
    project: Root = None,
) -> None:
    """List the boards, all of them or those with enough flash and RAM."""
    from imagebuilder.cli import show
    from imagebuilder.errors import UserError

    if context.invoked_subcommand is None:
        wanted, library = (
            _wanted(flash, ram, []),
            open_library(project, quiet=shown.quiet, verbose=shown.verbose),
        )
        found, unsupported = wanted.boards(library.boards()), wanted.unsupported(library.unsupported())
        if shown.as_json:
            show.as_json(show.board_facts(found, unsupported))
        else:
            show.boards(found, unsupported)
    elif (flash, ram, project, shown) != (None, None, None, Shown()):
        started = typed(f"boards {context.invoked_subcommand}")
        raise UserError(f"options belong behind the command: {started} …")


@boards_app.command()
@guarded
def search(
    server: AskedServer,
    words: Annotated[list[str], typer.Argument(help="Vendor, model, chip or profile, or parts of them.")],
    flash: FlashBound = None,
    ram: RamBound = None,
    release: ReleaseName = None,
) -> None:
    """List the boards in whose names every word occurs; with --release also what the server builds for."""
    from imagebuilder.cli import show
    from imagebuilder.config.library import boards_by_profile
    from imagebuilder.errors import UserError

    wanted, library = _wanted(flash, ram, words), server.library()
    boards = library.boards()
    found, unsupported = wanted.boards(boards), wanted.unsupported(library.unsupported())
    if release is None:
        if server.as_json:
            show.as_json(show.board_facts(found, unsupported))
        else:
            show.boards(found, unsupported)
            if not server.quiet:
                show.search_hint(words)
        return
    if flash is not None or ram is not None:
        raise UserError("the server's list has no flash and RAM: --release goes without --flash and --ram")
    from imagebuilder.server.obtain_lists import search_devices

    with server.reporter() as log, log.step("search"):
        listed = search_devices(release, words, server.asking(library, log))
    names = boards_by_profile(boards, listed.release)
    if server.as_json:
        devices = show.device_facts(listed, names)
        local = show.board_facts(found, unsupported)
        show.as_json({"release": listed.release, "boards": local, "devices": devices})
    else:
        show.boards(found, unsupported)
        show.devices(listed, names, advice=not server.quiet)


def _wanted(flash: str | None, ram: str | None, words: list[str]) -> BoardFilter:
    from imagebuilder.config.library import BoardFilter, parse_bound

    return BoardFilter(
        flash=None if flash is None else parse_bound("--flash", flash),
        ram=None if ram is None else parse_bound("--ram", ram),
        words=tuple(words),
    )


@boards_app.command()
@guarded
def add(
    server: AskedServer,
    profile: Annotated[str, typer.Argument(help="The ImageBuilder's name for the device.")],
    imagebuilder: Imagebuilder = None,
    release: ReleaseName = None,
    target: Annotated[
        str | None, typer.Option("--target", help="With --release: where the profile is in several targets.")
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option("--trust", help="sha256:… of the target's profiles.json, in place of a signature."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="A folder of keys to trust besides OpenWrt's own.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The board's name; by default the profile's.")
    ] = None,
    ram: Annotated[str | None, typer.Option("--ram", help="How much it has, such as 64M.")] = None,
    flash: Annotated[
        str | None, typer.Option("--flash", help="How much it has, such as 8M; or removable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also over a file that is there already.")] = False,
) -> None:
    """Write a new board's file from what an ImageBuilder, or a release's signed list, says of the device."""
    from imagebuilder.cli import show
    from imagebuilder.config.boards_write import given_flash, given_size, write_board
    from imagebuilder.errors import UserError

    library = server.library()
    its_ram, its_flash = given_size("--ram", ram), given_flash("--flash", flash)
    if release is None:
        if target or trust or keys or server.mirror or server.offline:
            raise UserError("--target, --mirror, --trust, --keys and --offline go with --release")
        from imagebuilder.seen import known_facts
        from imagebuilder.tree.device_facts import known_profile

        tree = _tree(imagebuilder, library.cache(server.cache), server)
        facts = known_facts(tree, known_profile(tree, profile))
    else:
        if imagebuilder is not None:
            raise UserError("--imagebuilder and --release are two places to look: give one of them")
        from imagebuilder.server.obtain_lists import listed_facts

        with server.reporter() as log, log.step("list"):
            asking = server.asking(library, log)
            trusted = keys or library.keys()
            facts = listed_facts(profile, release, asking, target=target, trust=trust, keys=trusted)
    written = write_board(library, facts, name, ram=its_ram, flash=its_flash, force=force)
    if server.as_json:
        places = [{"line": line, "wanted": wanted} for line, wanted in written.fill_in]
        show.as_json({"board": written.path.stem, "file": written.path, "fill_in": places})
    else:
        show.written(written, facts.version if facts.listed else None, advice=not server.quiet)


@boards_app.command()
@guarded
def check(
    shown: Shown,
    names: BoardsToCheck = None,
    imagebuilder: Imagebuilder = None,
    project: Root = None,
    cache: Cache = None,
) -> None:
    """Compare board files with what an ImageBuilder says; exits with 2 where they differ."""
    from imagebuilder.cli import show
    from imagebuilder.tree.device_facts import check_boards

    library = open_library(project, quiet=shown.quiet, verbose=shown.verbose)
    boards = [library.board(name) for name in names] if names else library.boards()
    tree = _tree(imagebuilder, library.cache(cache), shown)
    found, not_covered = check_boards(boards, tree, all_of_them=bool(names))
    if shown.as_json:
        show.as_json({"checks": found, "not_covered": not_covered})
    else:
        show.comparisons(found, not_covered)
    if not all(each.same for each in found):
        sys.exit(USER_FAULT)


def _tree(imagebuilder: str | None, cache: Path, shown: Shown) -> Tree:
    from imagebuilder.ask import look_at_tree
    from imagebuilder.errors import UserError
    from imagebuilder.host.tools import require

    if imagebuilder is None:
        hint = "--imagebuilder PATH: its folder or its archive (`boards add` also takes --release)"
        raise UserError("no ImageBuilder was given", hint=hint)
    require(["build", "genuine"])
    with shown.reporter() as log, log.step("tree"):
        return look_at_tree(imagebuilder, cache, log)
