"""Options that several commands share, each declared once: in a group that commands take as one argument."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagebuilder.cli.terminal import harmless

if TYPE_CHECKING:
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.config.library import Library
    from imagebuilder.config.request import Request
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


def _configs(context: typer.Context) -> list[str]:
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
    return [*_boards(context), *_configs(context)]


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
        metavar="CONFIG|PATH", help="A config's name, or the path of its file.", autocompletion=_configs
    ),
]
ConfigNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG|PATH...",
        help="Configs by their names, or the paths of their files.",
        autocompletion=_configs,
    ),
]
BoardNames = Annotated[
    list[str] | None,
    typer.Option(
        "--board", "-b", help="For this board only; several, each with --board.", autocompletion=_boards
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
    str, typer.Option("--board", "-b", help="The board that it should be flashed on.", autocompletion=_boards)
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


@dataclass(frozen=True, kw_only=True)
class _FromPlaces(Shown):
    """Boards, and where what their images are made of is looked for."""

    board: BoardNames = None
    imagebuilder: Imagebuilder = None
    mirror: Mirrors = None
    release: ReleaseWanted = None
    project: Root = None
    cache: Cache = None

    def _requests(self, configs: Sequence[str], *, everything: bool = False) -> list[Request]:
        """One for each board. UserError for none, for a mirror that is no place, and for what is no
        release."""
        from imagebuilder.config.request import requests
        from imagebuilder.server.mirror import parse_mirrors

        parse_mirrors(self.mirror or ())  # a wrong one is told also where none is asked
        asked = requests(
            open_library(self.project, quiet=self.quiet, verbose=self.verbose).root,
            configs,
            board=self.board,
            everything=everything,
            imagebuilder=self.imagebuilder,
            cache=self.cache,
            mirrors=self.mirror or (),
        )
        return asked if self.release is None else [each.for_release(self.release) for each in asked]


@dataclass(frozen=True, kw_only=True)
class AskedConfig(_FromPlaces):
    """The images of one config that something is asked about."""

    config: ConfigName
    offline: Offline = False

    @contextmanager
    def asked(self) -> Iterator[tuple[list[Request], Log]]:
        """A request for each board, and the log, which shows what happens until this ends."""
        with self.reporter() as log:
            yield [replace(each, offline=self.offline) for each in self._requests([self.config])], log


@dataclass(frozen=True, kw_only=True)
class Images(_FromPlaces):
    """The images of some configs."""

    config: ConfigNames = None
    everything: Everything = False
    fail_fast: FailFast = False

    def requests(self) -> list[Request]:
        """One for each board of each config. UserError for none, and for a mirror that is no place."""
        from imagebuilder.errors import UserError

        if self.everything and self.board:
            raise UserError("--all and --board say two things", hint="give one of them")
        return self._requests(self.config or (), everything=self.everything)


@dataclass(frozen=True, kw_only=True)
class FetchedImages(Images):
    """Images for which all is fetched."""

    locked: Locked = False

    def requests(self) -> list[Request]:
        """A request for each board, with these options."""
        return [replace(each, locked=self.locked) for each in Images.requests(self)]


@dataclass(frozen=True, kw_only=True)
class AskedImages(Images):
    """Images that something is asked about."""

    offline: Offline = False

    def requests(self) -> list[Request]:
        """A request for each board, with these options."""
        return [replace(each, offline=self.offline) for each in Images.requests(self)]


@dataclass(frozen=True, kw_only=True)
class DecidedImages(AskedImages):
    """Images that are planned or built."""

    locked: Locked = False
    no_sandbox: NoSandbox = False

    def requests(self) -> list[Request]:
        """A request for each board, with these options."""
        asked = AskedImages.requests(self)
        return [replace(each, locked=self.locked, sandbox=not self.no_sandbox) for each in asked]


@dataclass(frozen=True, kw_only=True)
class BuiltImages(DecidedImages):
    """Images that are built."""

    output: Output = None
    accept_unchecked: Annotated[
        bool,
        typer.Option("--accept-unchecked", help="Hand over images too of which nobody knows what they are."),
    ] = False

    def requests(self) -> list[Request]:
        """A request for each board, with these options."""
        asked = DecidedImages.requests(self)
        return [
            replace(each, output=each.library.output(self.output), accept_unchecked=self.accept_unchecked)
            for each in asked
        ]


UNUSED = "its own"  # the name under which a command that takes no group has its options


def expanded(
    command: Callable[..., None], *, passes_on: bool = False
) -> tuple[inspect.Signature, dict[str, type[Told]]]:
    """A command's signature with the options of its groups in place of the groups, and the groups by the
    command's names for them. passes_on: another program gets what the command does not know, --quiet and
    --verbose too."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[Told]] = {}
    parameters: list[inspect.Parameter] = []
    last = [field.name for field in fields(Shown)]
    for parameter in signature.parameters.values():
        group = parameter.annotation
        if isinstance(group, type) and issubclass(group, Told):
            groups[parameter.name] = group
            parameters += _options(group)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    if not groups and not passes_on:
        groups[UNUSED] = Told
        parameters += _options(Told)
    parameters.sort(key=lambda parameter: parameter.name in last)  # what all commands have, help shows last
    return signature.replace(parameters=parameters), groups


def _options(group: type[Told]) -> list[inspect.Parameter]:
    return list(inspect.signature(group, eval_str=True).parameters.values())


def gathered(groups: Mapping[str, type[Told]], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, those of groups as a group."""
    left = dict(options)
    for name, group in groups.items():
        left[name] = group(**{field.name: left.pop(field.name) for field in fields(group)})
    return {name: value for name, value in left.items() if name != UNUSED}
