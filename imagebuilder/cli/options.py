"""Options that several commands share, each declared once: in a group that commands take as one argument."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from imagebuilder.cli.terminal import harmless

if TYPE_CHECKING:
    from imagebuilder.cli.progress import Reporter
    from imagebuilder.config.library import Library
    from imagebuilder.config.request import Request
    from imagebuilder.log import Log
    from imagebuilder.server.obtain_lists import Asking
    from imagebuilder.unchanged import Standing


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

_MOST_AT_ONCE = 512


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


def _places(given: str | int) -> int:
    """How many at once `-j` says, or its default. typer's own error for what is no such number."""
    import os

    text = str(given)
    if text == "auto":
        return len(os.sched_getaffinity(0))
    if text.isascii() and text.isdecimal() and 0 < int(text) <= _MOST_AT_ONCE:
        return int(text)
    raise typer.BadParameter(f"'{text}' is no number from 1 to {_MOST_AT_ONCE}, nor `auto`")


_AT_ONCE = "So many at once, as there is room; auto: one a processor."
AtOnce = Annotated[int, typer.Option("--jobs", "-j", parser=_places, metavar="N|auto", help=_AT_ONCE)]


@dataclass(frozen=True, kw_only=True)
class ComparedImages(AskedConfig):
    """The images of one config for one board that differ in their Python. One that fails costs no other."""

    no_sandbox: NoSandbox = False
    at_once: AtOnce = 1
    fail_fast: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class BuiltImages(DecidedImages):
    """Images that are built."""

    output: Output = None
    at_once: AtOnce = 1
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Have the workers of a Dask cluster build: tls://HOST:PORT, tcp://HOST:PORT.",
        ),
    ] = None
    only_failed: Annotated[
        bool,
        typer.Option("--only-failed", help="Only those that failed or were not run when last asked for."),
    ] = False
    summary: Annotated[
        Path | None,
        typer.Option(
            "--summary", metavar="FILE", help="Write there in Markdown what became of each, for CI's page."
        ),
    ] = None
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Write there as JUnit XML each step, check and trial."),
    ] = None
    accept_unchecked: Annotated[
        bool,
        typer.Option("--accept-unchecked", help="Hand over images too of which nobody knows what they are."),
    ] = False
    no_trial: Annotated[
        bool,
        typer.Option("--no-trial", help="Do not run what was built before it is handed over."),
    ] = False
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            help="The report compares with the result there, or in its CONFIG/BOARD; else the last.",
        ),
    ] = None

    def requests(self) -> list[Request]:
        """A request for each board, with these options. UserError where -j is given with a cluster."""
        from imagebuilder.errors import UserError

        if self.scheduler is not None and self.at_once != 1:
            raise UserError(
                "-j says how many boards at once this machine builds, and --scheduler has others build",
                hint="leave -j out: each worker of the cluster is started with its own",
            )
        asked = DecidedImages.requests(self)
        return [
            replace(
                each,
                output=each.library.output(self.output),
                accept_unchecked=self.accept_unchecked,
                trial=not self.no_trial,
                against=self.against,
            )
            for each in asked
        ]

    @property
    def reports(self) -> bool:
        """Whether more is wanted than the results and what is said of them."""
        return self.only_failed or self.summary is not None or self.junit is not None

    def all_up_to_date(self) -> list[Standing] | None:
        """The standings of all of these images where each is up to date, as far as that can be told without
        loading the configs; else None."""
        from imagebuilder.config.places import located
        from imagebuilder.unchanged import Options, all_up_to_date

        if self.everything or self.verbose:
            return None
        found = located(self.project)
        if found.refused:
            return None  # open_library() tells of it
        options = Options(
            output=self.output,
            cache=self.cache,
            imagebuilder=self.imagebuilder,
            mirrors=tuple(self.mirror or ()),
            offline=self.offline,
            sandbox=not self.no_sandbox,
            locked=self.locked,
            release=self.release,
            accept_unchecked=self.accept_unchecked,
            trial=not self.no_trial,
        )
        return all_up_to_date(found.root, self.config or (), self.board or (), options)


@dataclass(frozen=True, kw_only=True)
class Builder(Shown):
    """What a build server builds, and where it keeps it."""

    config: Annotated[
        list[str] | None,
        typer.Option("--config", help="With --builder: what is built, in place of what firmware.toml says."),
    ] = None
    board: BoardNames = None
    imagebuilder: Annotated[
        list[str] | None,
        typer.Option(
            "--imagebuilder",
            metavar="PATH",
            help="An ImageBuilder's folder or archive, in place of the configs' own. Several are possible.",
        ),
    ] = None
    mirror: Mirrors = None
    offline: Offline = False
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=64, help="So many builds at once, as there is room.")
    ] = 1
    host: Annotated[
        str, typer.Option("--host", help="The address at which it listens; 0.0.0.0: all of this machine.")
    ] = "127.0.0.1"
    state: Annotated[
        Path | None,
        typer.Option("--state", help="Where requests and results stay; by default server/ in the project."),
    ] = None
    project: Root = None
    cache: Cache = None

    @property
    def asks_for_more(self) -> bool:
        """Whether something is given that counts for a build server alone."""
        return self != Builder(verbose=self.verbose, quiet=self.quiet, as_json=self.as_json)
