"""Options that several commands share, each declared once: in a group that commands take as one argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.config.request import Request
    from imagebuilder.log import Log
    from imagebuilder.server.obtain_lists import Asking

PROJECT = Path(__file__).resolve().parents[2]


def _configs() -> list[str]:
    from imagebuilder.config.library import Library

    return Library(PROJECT).config_names()


def _boards() -> list[str]:
    from imagebuilder.config.library import Library

    return Library(PROJECT).board_names()


def _boards_and_configs() -> list[str]:
    return [*_boards(), *_configs()]


Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show every command and its output.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Show results, warnings and errors, no progress and advice."),
]
Root = Annotated[
    Path, typer.Option("--project", help="The folder that holds boards/, configs/ and overlays/.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where results go.")]
Cache = Annotated[Path | None, typer.Option("--cache", help="Where downloads, trees and kits are kept.")]
ConfigName = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG|PATH", help="A config's name, or the path of its file.", autocompletion=_configs
    ),
]
ShownName = Annotated[str, typer.Argument(help="A board or a config.", autocompletion=_boards_and_configs)]
BoardNames = Annotated[
    list[str] | None, typer.Argument(help="Boards; by default all.", autocompletion=_boards)
]
FlashedBoard = Annotated[
    str, typer.Option("--board", "-b", help="The board that it should be flashed on.", autocompletion=_boards)
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
    cache: Cache = None

    def asking(self, log: Log) -> Asking:
        """Where such lists are from: the mirrors or the server, and the cache."""
        from imagebuilder.host.cache import Cache as Kept
        from imagebuilder.host.fs import user_cache
        from imagebuilder.server.obtain_lists import Asking

        return Asking(Kept(self.cache or user_cache()), tuple(self.mirror or ()), self.offline, log)


@dataclass(frozen=True, kw_only=True)
class Images(Shown):
    """The images of a config, and where what they are made of is looked for."""

    config: ConfigName
    board: BoardName = None
    imagebuilder: Imagebuilder = None
    mirror: Mirrors = None
    project: Root = PROJECT
    cache: Cache = None

    def requests(self) -> list[Request]:
        """One for each board. UserError for none, and for a mirror that is no place."""
        from imagebuilder.config.request import requests
        from imagebuilder.server.mirror import parse_mirrors

        parse_mirrors(self.mirror or ())  # a wrong one is told also where none is asked
        return requests(
            self.project,
            self.config,
            board=self.board,
            imagebuilder=self.imagebuilder,
            cache=self.cache,
            mirrors=self.mirror or (),
        )

    @contextmanager
    def asked(self) -> Iterator[tuple[list[Request], Log]]:
        """A request for each board, and the log, which shows what happens until this ends."""
        with self.reporter() as log:
            yield self.requests(), log


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
class PlannedImages(DecidedImages):
    """Images that are planned, perhaps for another release."""

    release: Annotated[
        str | None,
        typer.Option("--release", help="Plan for this release, in place of the config's tree or release."),
    ] = None

    def requests(self) -> list[Request]:
        """A request for each board, for that release. UserError for what is no release, and for two trees."""
        asked = DecidedImages.requests(self)
        return asked if self.release is None else [each.for_release(self.release) for each in asked]


@dataclass(frozen=True, kw_only=True)
class BuiltImages(DecidedImages):
    """Images that are built."""

    output: Output = Path("out")
    accept_unchecked: Annotated[
        bool,
        typer.Option("--accept-unchecked", help="Hand over images too of which nobody knows what they are."),
    ] = False

    def requests(self) -> list[Request]:
        """A request for each board, with these options."""
        output, unchecked = self.output.absolute(), self.accept_unchecked
        asked = DecidedImages.requests(self)
        return [replace(each, output=output, accept_unchecked=unchecked) for each in asked]


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
