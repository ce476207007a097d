"""Groups of options about images: of which configs and boards, from where, and how they are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from imagebuilder.cli.options import (
    BoardNames,
    Cache,
    ConfigName,
    ConfigNames,
    Everything,
    FailFast,
    Imagebuilder,
    Locked,
    Mirrors,
    NoSandbox,
    Offline,
    Output,
    ReleaseWanted,
    Root,
    Shown,
    Told,
    open_library,
)
from imagebuilder.errors import UserError

if TYPE_CHECKING:
    from imagebuilder.config.request import Request
    from imagebuilder.log import Log
    from imagebuilder.unchanged import Standing

_MOST_AT_ONCE = 512


def board_requests(
    told: Told,
    project: Path | None,
    release: str | None,
    configs: str | Sequence[str],
    board: str | Sequence[str] | None,
    *,
    everything: bool = False,
    imagebuilder: str | None = None,
    mirrors: Sequence[str] | None = None,
    output: Path | None = None,
    cache: Path | None = None,
) -> list[Request]:
    """A request for each board of a project's configs, as options say it; what is said of the project goes
    where the command tells things. UserError for none, for --all beside boards, for a mirror that is no
    place, and for what is no release."""
    from imagebuilder.config.request import requests
    from imagebuilder.server.mirror import parse_mirrors

    if everything and board:
        raise UserError("--all and --board say two things", hint="give one of them")
    parse_mirrors(mirrors or ())  # a wrong one is told also where none is asked
    asked = requests(
        open_library(project, quiet=told.quiet, verbose=told.verbose).root,
        configs,
        board=board,
        everything=everything,
        imagebuilder=imagebuilder,
        output=output,
        cache=cache,
        mirrors=mirrors or (),
    )
    return asked if release is None else [each.for_release(release) for each in asked]


def of_one_board(asked: Sequence[Request]) -> Request:
    """The one request of a config. UserError where the board has to be named."""
    if len(asked) > 1:
        boards = ", ".join(each.board for each in asked)
        said = f"{asked[0].config_name()} is for several boards, and one is wanted here: {boards}"
        raise UserError(said, hint="name one with --board")
    return asked[0]


@dataclass(frozen=True, kw_only=True)
class Sought(Shown):
    """Where what images are made of is looked for, and for which release."""

    imagebuilder: Imagebuilder = None
    mirror: Mirrors = None
    release: ReleaseWanted = None
    project: Root = None
    cache: Cache = None

    def requests_for(
        self,
        configs: str | Sequence[str],
        board: str | Sequence[str] | None,
        *,
        everything: bool = False,
        output: Path | None = None,
    ) -> list[Request]:
        """One for each board. Errors as of board_requests()."""
        return board_requests(
            self,
            self.project,
            self.release,
            configs,
            board,
            everything=everything,
            imagebuilder=self.imagebuilder,
            mirrors=self.mirror,
            output=output,
            cache=self.cache,
        )


@dataclass(frozen=True, kw_only=True)
class _OfBoards(Sought):
    """Boards, and where what their images are made of is looked for."""

    board: BoardNames = None


@dataclass(frozen=True, kw_only=True)
class AskedConfig(_OfBoards):
    """The images of one config that something is asked about."""

    config: ConfigName
    offline: Offline = False

    @contextmanager
    def asked(self) -> Iterator[tuple[list[Request], Log]]:
        """A request for each board, and the log, which shows what happens until this ends."""
        with self.reporter() as log:
            yield (
                [replace(each, offline=self.offline) for each in self.requests_for(self.config, self.board)],
                log,
            )


@dataclass(frozen=True, kw_only=True)
class Images(_OfBoards):
    """The images of some configs."""

    config: ConfigNames = None
    everything: Everything = False
    fail_fast: FailFast = False

    def requests(self) -> list[Request]:
        """One for each board of each config. Errors as of board_requests()."""
        return self.requests_for(self.config or (), self.board, everything=self.everything)


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
