"""`import`: a config from a call of make, a script with one, a list of packages, a request's JSON."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.called import typed
from imagebuilder.cli.guard import guarded
from imagebuilder.cli.options import BoardName, Root, Shown, open_library

if TYPE_CHECKING:
    from imagebuilder.config.bring import BroughtImage, CallChoice

_MAKE = ("make", "gmake")


@guarded
def bring_along(
    shown: Shown,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE | -- make image ...",
            help="A script, a list of packages or a request's JSON (`-`: standard input); or the command.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The new config's name; by default the file's or the profile's.")
    ] = None,
    board: BoardName = None,
    line: Annotated[
        int | None,
        typer.Option(help="The line of the `make image` that is meant, where a script has several."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="The profile that is meant.")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A variable that a script takes from outside, or an argument by its number. Several.",
        ),
    ] = None,
    project: Root = None,
) -> None:
    """Write a config that asks for what a call of ImageBuilder's make, a script with one, a list of packages
    (opkg list-installed, apk info -v, a manifest) or a request to the build server asks for. Scripts are read
    and never run."""
    from imagebuilder.cli import screen, show
    from imagebuilder.config.bring import CallChoice
    from imagebuilder.config.bring_write import name_for, write_brought
    from imagebuilder.config.init import check_new

    library = open_library(project, quiet=shown.quiet, verbose=shown.verbose)
    if board is not None:
        library.board(board)
    file = None if words[0] == "-" or Path(words[0]).name in _MAKE else Path(words[0])
    found = _read(words, file, CallChoice(line, profile, _given(given or [])))
    wanted = name or name_for(found, file)
    check_new(library, wanted)
    near = [*([file.absolute().parent] if file is not None else []), Path.cwd(), library.root]
    written = write_brought(library, wanted, found, near=near, board=board)
    if shown.as_json:
        facts = {"file": written.path, "boards": written.boards, "release": found.release}
        show.as_json({**facts, "notes": written.notes})
        return
    screen.say_lines(f"wrote {written.path}")
    for note in written.notes:
        screen.say_lines(f"not carried over: {note}")
    if shown.quiet:
        return
    which = "" if written.boards else " --board BOARD"
    tree = "" if found.release is not None else " --imagebuilder PATH"
    screen.command("next:", typed(f"plan {wanted}{which}{tree}"))


def _read(words: list[str], file: Path | None, choice: CallChoice) -> BroughtImage:
    """What the words of the command line, standard input or a file ask for. UserError."""
    from imagebuilder.config.bring import MAX_BYTES, bring
    from imagebuilder.errors import UserError
    from imagebuilder.host.files import read_plain_text

    if Path(words[0]).name in _MAKE:
        return bring(shlex.join(words), "a command line", choice)
    if len(words) > 1:
        hint = typed("import -- make image PROFILE=...")
        raise UserError(f"{words[0]} is followed by more than a file", hint=hint)
    if file is not None:
        return bring(read_plain_text(file, MAX_BYTES, errors="replace"), file.name, choice)
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"standard input has more than {MAX_BYTES >> 20} MiB")
    return bring(data.decode("utf-8", "replace"), "standard input", choice)


def _given(options: list[str]) -> dict[str, str]:
    """What --set says. UserError for what assigns nothing."""
    from imagebuilder.errors import UserError

    wrong = next((each for each in options if not each.partition("=")[0] or "=" not in each), None)
    if wrong is not None:
        raise UserError(f"--set {wrong!r} sets nothing", hint="--set PROFILE=tl-wr740n-v4, or --set 1=FIRST")
    return {name: value for name, _, value in (each.partition("=") for each in options)}
