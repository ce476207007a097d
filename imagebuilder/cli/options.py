"""Options that several commands share, each declared once; those of every command are a group that commands
take as one argument. Groups about images are in image_options.py."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagebuilder.cli.terminal import harmless

if TYPE_CHECKING:
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.config.library import Library
    from imagebuilder.log import Log
    from imagebuilder.server.obtain_lists import Asking


def _in_project(context: typer.Context) -> Library | None:
    """The project that a command line which is being completed is about; None where that cannot be told."""
    from imagebuilder.config.project import open_project
    from imagebuilder.errors import UserError

    given = context.params.get("project")  # a text where typer has made no path of it yet
    try:
        return open_project(None if given is None else Path(given))[0]
    except UserError:
        return None


def complete_configs(context: typer.Context) -> list[str]:
    """The names of configs, for completion."""
    library = _in_project(context)
    return [] if library is None else library.config_names()


def _boards(context: typer.Context) -> list[str]:
    library = _in_project(context)
    return [] if library is None else library.board_names()


def open_library(given: Path | None, *, quiet: bool = False, verbose: bool = False) -> Library:
    """The project that a command is about, over what comes with this program. Says on standard error what was
    passed over in looking for it, and, where that is wanted, what was found. UserError."""
    from imagebuilder.config.project import open_project

    library, found = open_project(given)
    said = [] if quiet else [f"warning: {line}" for line in found.refused]
    said += [f"project: {found.text()}", *found.passed_over] if verbose else []
    for line in said:
        print(harmless(line), file=sys.stderr)
    return library


def _boards_and_configs(context: typer.Context) -> list[str]:
    return [*_boards(context), *complete_configs(context)]


Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every command and its output.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Show results, warnings and errors, no progress and advice."),
]
Root = Annotated[
    Path | None,
    typer.Option("--project", help="Your project's folder; by default found from the current one upwards."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where results go; by default out/ in the project.")
]
Cache = Annotated[Path | None, typer.Option("--cache", help="Where downloads, trees and kits are kept.")]
ConfigName = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG|PATH",
        help="A config's name, or the path of its file.",
        autocompletion=complete_configs,
    ),
]
ConfigNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG|PATH...",
        help="Configs by their names, or the paths of their files.",
        autocompletion=complete_configs,
    ),
]
BoardNames = Annotated[
    list[str] | None,
    typer.Option(
        "--board",
        "-b",
        help="For this board only, or as CONFIG/BOARD for that config; several, each with --board.",
        autocompletion=_boards,
    ),
]
Everything = Annotated[
    bool,
    typer.Option(
        "--all", help="All boards that the configs name; without a config, those of all of the project."
    ),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first board that fails, and leave out the rest.")
]
ShownName = Annotated[str, typer.Argument(help="A board or a config.", autocompletion=_boards_and_configs)]
BoardsToCheck = Annotated[
    list[str] | None, typer.Argument(help="Boards; by default all.", autocompletion=_boards)
]
FlashedBoard = Annotated[
    str | None,
    typer.Option(
        "--board",
        "-b",
        help="The board that it should be flashed on; of a result's folder by default the result's.",
        autocompletion=_boards,
    ),
]
ConfigsBoard = Annotated[
    str, typer.Option("--board", "-b", help="For which board its config is.", autocompletion=_boards)
]
NewBoard = Annotated[
    str | None, typer.Option("--board", "-b", help="For which board.", autocompletion=_boards)
]
BoardName = Annotated[
    str | None, typer.Option("--board", "-b", help="For this board only.", autocompletion=_boards)
]
Imagebuilder = Annotated[
    str | None,
    typer.Option(
        "--imagebuilder",
        metavar="PATH",
        help="An ImageBuilder's folder, its archive, or the archive's address.",
    ),
]
Mirrors = Annotated[
    list[str] | None,
    typer.Option(
        "--mirror",
        metavar="PATH",
        help="A copy of the download server: https or a folder. Several, in order.",
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing: use what is in the cache.")]
ReleaseName = Annotated[
    str | None,
    typer.Option("--release", help="Ask the server: 24.10.4, 24.10 (its newest), latest or snapshot."),
]
ReleaseWanted = Annotated[
    str | None,
    typer.Option("--release", help="For this release, in place of the config's release and tree."),
]
Locked = Annotated[bool, typer.Option("--locked", help="Exactly what locks/CONFIG.lock says, or fail.")]
NoSandbox = Annotated[
    bool, typer.Option("--no-sandbox", help="Let make see the host and its network, without limits.")
]


@dataclass(frozen=True, kw_only=True)
class Told:
    """How much a command says. Every command has these options: what takes no group of them has them all the
    same (see expanded()), and nothing to leave out or to add."""

    verbose: Verbose = False
    quiet: Quiet = False

    def reporter(self) -> Reporter:
        """What shows on standard error what is being done."""
        from imagebuilder.cli.progress import Reporter

        return Reporter(quiet=self.quiet, verbose=self.verbose)


@dataclass(frozen=True, kw_only=True)
class Shown(Told):
    """How a command shows what it does, and its facts."""

    as_json: Json = False


@dataclass(frozen=True, kw_only=True)
class AskedServer(Shown):
    """The download server, which is asked for lists of releases and devices."""

    mirror: Mirrors = None
    offline: Offline = False
    project: Root = None
    cache: Cache = None

    def library(self) -> Library:
        """The project that is asked for. UserError."""
        return open_library(self.project, quiet=self.quiet, verbose=self.verbose)

    def asking(self, library: Library, log: Log) -> Asking:
        """Where such lists are from: the mirrors, given and the project's, or the server; and the cache."""
        from imagebuilder.host.cache import Cache as Kept
        from imagebuilder.server.obtain_lists import Asking

        mirrors = (*(self.mirror or ()), *library.mirrors())
        return Asking(Kept(library.cache(self.cache)), mirrors, self.offline, log)
