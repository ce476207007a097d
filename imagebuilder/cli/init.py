"""`new`: a project; `init`: a config from a few questions, each of them also an option."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from imagebuilder.called import typed
from imagebuilder.cli.guard import guarded
from imagebuilder.cli.options import ConfigsBoard, NewBoard, Root, Shown, Told, open_library
from imagebuilder.cli.terminal import harmless
from imagebuilder.model.variant import VARIANTS

if TYPE_CHECKING:
    from imagebuilder.config.library import Library
    from imagebuilder.errors import UserError

Wifi = Literal["none", "client", "ap"]


Check = Callable[[str], object]  # raises UserError for an answer that is none


def _ask(
    question: str, given: str | None, default: str, check: Check, *, choices: tuple[str, ...] = ()
) -> str:
    """The option's value, or on a terminal the answer, or the default. On a terminal what is no answer is
    told, and asked for again; UserError elsewhere."""
    from imagebuilder.errors import UserError

    if given is not None or not sys.stdin.isatty():
        answer = default if given is None else given
        check(answer)
        return answer
    shown = f"{question} ({', '.join(choices)})" if choices else question
    while True:
        answer = str(typer.prompt(shown, default=default, show_default=bool(default))).strip()
        try:
            check(answer)
        except UserError as error:
            _tell(error)
        else:
            return answer


def _tell(error: UserError) -> None:
    hint = f" ({error.hint})" if error.hint else ""
    print(harmless(f"{error.message}{hint}"), file=sys.stderr)


def _one_of(choices: tuple[str, ...]) -> Check:
    from imagebuilder.config.faults import nearest
    from imagebuilder.errors import UserError

    def check(answer: str) -> None:
        if answer not in choices:
            raise UserError(
                f"'{answer}' is no answer; one of: {', '.join(choices)}", hint=nearest(answer, choices)
            )

    return check


def _ask_key(library: Library, overlay: str) -> str:
    """The network's key, asked for on a terminal where there is none yet, and written into secrets.toml; a
    line on it. SecretError for one that is there already and cannot be used."""
    from imagebuilder.config.init import WIFI_SECRET, check_answer, has_secret, keep_secret
    from imagebuilder.errors import UserError

    if has_secret(library, overlay, "key"):
        return f"the network's key: the secret {WIFI_SECRET}, which is there already"
    while sys.stdin.isatty():
        key = str(
            typer.prompt(
                "Network key (is not shown; empty: later)", default="", hide_input=True, show_default=False
            )
        )
        if not key:
            break
        try:
            check_answer(library, overlay, "key", key)
        except UserError as error:
            _tell(error)
        else:
            return f"wrote {keep_secret(library, key)}: keep it out of git"
    return f"the network's key: set the environment variable {WIFI_SECRET}, or write it into secrets.toml"


@guarded
def init(
    told: Told,
    name: Annotated[str, typer.Argument(help="The new config's name.")],
    board: NewBoard = None,
    python: Annotated[str | None, typer.Option(help=f"Which Python: {', '.join(VARIANTS)}.")] = None,
    hostname: Annotated[str | None, typer.Option(help="The device's name in the network.")] = None,
    wifi: Annotated[str | None, typer.Option(help="none, client (join) or ap (offer).")] = None,
    ssid: Annotated[str | None, typer.Option(help="The wireless network's name.")] = None,
    ssh_key: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The file of a public key that may log in; empty for none."),
    ] = None,
    project: Root = None,
) -> None:
    """Ask a few questions and write a config. Without a terminal, what no option says keeps its default."""
    from imagebuilder.cli import screen
    from imagebuilder.config.init import Answers, check_answer, check_new, read_public_key, write_config
    from imagebuilder.errors import UserError
    from imagebuilder.host.fs import expand_home

    library = open_library(project, quiet=told.quiet, verbose=told.verbose)
    check_new(library, name)
    if board is None and not sys.stdin.isatty():
        raise UserError("which board?", hint=f"--board; {typed('boards')} lists them")

    def read_key(file: str) -> str:
        key = read_public_key(Path(file)) if file else ""
        if key:
            check_answer(library, "ssh-keys", "keys", [key])
        return key

    board = _ask("Board", board, "qemu-x86-64", library.board)
    python = _ask("Python", python, "light", _one_of(VARIANTS), choices=VARIANTS)
    hostname = _ask("Host name", hostname, "OpenWrt", partial(check_answer, library, "base", "hostname"))
    chosen = _ask("Wi-Fi", wifi, "none", _one_of(get_args(Wifi)), choices=get_args(Wifi))
    said = ""
    if chosen != "none":
        overlay = f"wifi-{chosen}"
        ssid = _ask("Network name (SSID)", ssid, "", partial(check_answer, library, overlay, "ssid"))
        said = _ask_key(library, overlay)
    usual = Path("~/.ssh/id_ed25519.pub")
    known = str(usual) if expand_home(usual).is_file() else ""
    key_file = _ask("ssh public key file (empty: none)", ssh_key, known, read_key)
    answers = Answers(
        board=board,
        python=python,
        hostname=hostname,
        wifi=chosen,  # type: ignore[arg-type]  # checked above
        ssid=ssid or "",
        ssh_key=read_key(key_file),
    )
    path = write_config(library, name, answers)
    screen.say_lines(f"wrote {path}")
    if said:
        screen.say_lines(said)
    if told.quiet:
        return
    given = "" if library.board(board).profiles_for("embedded") else " --imagebuilder PATH"
    screen.command("next:", typed(f"build {name}{given}"))


@guarded
def new(
    shown: Shown,
    folder: Annotated[Path, typer.Argument(help="The project's folder; what lies in it stays.")],
    board: ConfigsBoard = "qemu-x86-64",
) -> None:
    """Make a project: firmware.toml, a config, an app, .gitignore, a nightly workflow."""
    from imagebuilder.cli import screen, show
    from imagebuilder.config.new_project import CONFIG, new_project

    made = new_project(folder, board)
    if shown.as_json:
        show.as_json(made)
        return
    for name in made.written:
        screen.say_lines(f"wrote {made.folder / name}")
    for name in made.kept:
        screen.say_lines(f"left as it is: {made.folder / name}")
    if made.ignore:
        screen.say_lines(f"add to .gitignore: {', '.join(made.ignore)}")
    if shown.quiet:
        return
    words = typed(f"plan {CONFIG}")
    here = made.folder.resolve() == Path.cwd()
    screen.command("next:", words if here else f"cd {shlex.quote(str(made.folder))} && {words}")
