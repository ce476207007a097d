"""`build.py init`: a config from a few questions, each of them also an option."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from imagebuilder.called import typed
from imagebuilder.cli.guard import guarded
from imagebuilder.cli.options import NewBoard, Root, Told, open_library

VARIANTS = ("none", "micropython", "base", "light", "full")  # of all, those that a new config may want
Wifi = Literal["none", "client", "ap"]


def _ask(question: str, given: str | None, default: str, choices: tuple[str, ...] = ()) -> str:
    """The option's value, or on a terminal the answer, or the default."""
    if given is not None:
        return given
    if not sys.stdin.isatty():
        return default
    shown = f"{question} ({', '.join(choices)})" if choices else question
    while True:
        answer = str(typer.prompt(shown, default=default, show_default=bool(default))).strip()
        if not choices or answer in choices:
            return answer
        print(f"one of: {', '.join(choices)}", file=sys.stderr)


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
    from imagebuilder.config.faults import nearest
    from imagebuilder.config.init import WIFI_SECRET, Answers, read_public_key, write_config
    from imagebuilder.errors import UserError
    from imagebuilder.host.fs import expand_home

    library = open_library(project, quiet=told.quiet, verbose=told.verbose)
    if board is None and not sys.stdin.isatty():
        raise UserError("which board?", hint=f"--board; {typed('boards')} lists them")
    board = _ask("Board", board, "qemu-x86-64", tuple(library.board_names()))
    library.board(board)
    python = _ask("Python", python, "light", VARIANTS)
    hostname = _ask("Host name", hostname, "OpenWrt")
    chosen = _ask("Wi-Fi", wifi, "none", get_args(Wifi))
    if chosen not in get_args(Wifi) or python not in VARIANTS:
        wrong, known = (chosen, get_args(Wifi)) if chosen not in get_args(Wifi) else (python, VARIANTS)
        raise UserError(f"'{wrong}' is no answer", hint=nearest(wrong, known))
    ssid = _ask("Network name (SSID)", ssid, "") if chosen != "none" else ""
    usual = Path("~/.ssh/id_ed25519.pub")
    key_file = _ask(
        "ssh public key file (empty: none)", ssh_key, str(usual) if expand_home(usual).is_file() else ""
    )
    answers = Answers(
        board=board,
        python=python,
        hostname=hostname,
        wifi=chosen,  # type: ignore[arg-type]  # checked above
        ssid=ssid,
        ssh_key=read_public_key(Path(key_file)) if key_file else "",
    )
    path = write_config(library, name, answers)
    print(f"wrote {path}")
    if chosen != "none":
        print(f"the network's key: set the environment variable {WIFI_SECRET}, or write it into secrets.toml")
    if told.quiet:
        return
    given = "" if library.board(board).profiles_for("embedded") else " --imagebuilder PATH"
    print(f"next: {typed(f'build {name}{given}')}")
