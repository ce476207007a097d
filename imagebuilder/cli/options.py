"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PROJECT = Path(__file__).resolve().parents[2]


def _configs() -> list[str]:
    from imagebuilder.load.library import Library

    return Library(PROJECT).config_names()


def _boards() -> list[str]:
    from imagebuilder.load.library import Library

    return Library(PROJECT).board_names()


Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every command and its output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")]
Root = Annotated[
    Path, typer.Option("--project", help="The folder that holds boards/, configs/ and overlays/.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where results go.")]
Cache = Annotated[Path | None, typer.Option("--cache", help="Where downloads, trees and kits are kept.")]
ConfigName = Annotated[
    str, typer.Argument(help="A config's name, or the path of its file.", autocompletion=_configs)
]
BoardName = Annotated[
    str | None, typer.Option("--board", "-b", help="For this board only.", autocompletion=_boards)
]
Imagebuilder = Annotated[
    str | None,
    typer.Option("--imagebuilder", help="An ImageBuilder's folder, its archive, or the archive's address."),
]
Mirrors = Annotated[
    list[str] | None,
    typer.Option("--mirror", help="A copy of the download server: https or a folder. Several, in order."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing: use what is in the cache.")]
ReleaseName = Annotated[
    str | None,
    typer.Option("--release", help="Ask the server: 24.10.4, 24.10 (its newest), latest or snapshot."),
]
Locked = Annotated[bool, typer.Option("--locked", help="Exactly what locks/CONFIG.lock says, or fail.")]
NoSandbox = Annotated[
    bool, typer.Option("--no-sandbox", help="Let make see the host and its network. The result says so.")
]
