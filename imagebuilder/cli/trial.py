"""`build.py trial`: an image's own programs, run on this machine before anybody flashes it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from imagebuilder.cli.guard import CANNOT_BE_TOLD, USER_FAULT, guarded
from imagebuilder.cli.image_options import Sought
from imagebuilder.cli.options import (
    Locked,
    NewBoard,
    NoSandbox,
    Offline,
    Output,
    complete_configs,
    open_library,
)
from imagebuilder.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagebuilder.build import TriedConfig
    from imagebuilder.config.board import Board
    from imagebuilder.config.request import Request
    from imagebuilder.model.trial import TrialReport

_CONFIG = ".toml"
TriedName = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG|IMAGE",
        help="A config, by its name or the path of its file, or an image file.",
        autocompletion=complete_configs,
    ),
]


@dataclass(frozen=True, kw_only=True)
class TriedImages(Sought):
    """What is run, and where what it is made of is looked for."""

    # what says how that which a config asks for is had, and nothing of an image that is there
    of_configs: ClassVar[tuple[str, ...]] = (
        *("imagebuilder", "mirror", "release", "locked", "no_sandbox", "output", "cache"),
    )
    fail_fast: ClassVar[bool] = False  # one board that fails costs no other

    config: TriedName
    board: NewBoard = None
    offline: Offline = False
    locked: Locked = False
    no_sandbox: NoSandbox = False
    output: Output = None

    @property
    def image(self) -> Path | None:
        """The image file that is named; None for a config."""
        path = Path(self.config)
        return path if path.suffix != _CONFIG and path.is_file() else None

    def board_of_image(self, image: Path) -> Board | None:
        """The board that an image is for, where one is named. UserError for an unknown one, and for options
        that say how a config is built."""
        for name in self.of_configs:
            if getattr(self, name):
                raise UserError(f"--{name.replace('_', '-')} is for a config, and {image} is an image")
        library = open_library(self.project, quiet=self.quiet, verbose=self.verbose)
        return None if self.board is None else library.board(self.board)

    def requests(self) -> list[Request]:
        """One for each board of the config. Errors as of board_requests()."""
        asked = self.requests_for(self.config, self.board, output=self.output)
        return [
            replace(each, offline=self.offline, locked=self.locked, sandbox=not self.no_sandbox)
            for each in asked
        ]


@guarded
def trial(
    images: TriedImages,
    whole: Annotated[
        bool, typer.Option("--all", help="Also what is as the release has it, and all that was found.")
    ] = False,
) -> None:
    """Run an image's own programs here, natively or under emulation: does it stand its trial?

    A config's image is brought up to date before; the root file system is taken out of the finished image.
    Its Pythons start, all modules are imported, programs find their libraries, scripts parse, and the
    commands of the config's trials are answered.

    Exit code 0 if it stands it, 2 if it does not, 3 if nothing in it could be run here.
    """
    image = images.image
    reports = _try_config(images, whole=whole) if image is None else [_try_image(images, image, whole=whole)]
    sys.exit(_exit_code(reports))


def _exit_code(reports: Iterable[TrialReport]) -> int:
    told = list(reports)
    if any(each.failed for each in told):
        return USER_FAULT
    return CANNOT_BE_TOLD if any(each.why for each in told) else 0


def _try_image(images: TriedImages, image: Path, *, whole: bool) -> TrialReport:
    from imagebuilder.cli import screen, show
    from imagebuilder.report.trial import trial_text
    from imagebuilder.trial.image import try_image

    board = images.board_of_image(image)
    with images.reporter() as log, log.step("trial"):
        report = try_image(image, board, log).report
    if images.as_json:
        show.as_json({"image": image.name, "board": images.board, **report.model_dump(mode="json")})
    else:
        screen.say_lines(f"{image.name}\n{trial_text(report, whole=whole)}")
    return report


def _try_config(images: TriedImages, *, whole: bool) -> list[TrialReport]:
    from imagebuilder.build import try_config
    from imagebuilder.cli import screen, show
    from imagebuilder.cli.many import command_error, entries, run_jobs
    from imagebuilder.config.request import sharing
    from imagebuilder.fleet.job import jobs_of
    from imagebuilder.report.trial import trial_text

    jobs = jobs_of(sharing(images.requests()))
    outcomes = run_jobs(images, jobs, lambda job, log: try_config(job.request, log), "tried")
    found = entries(outcomes, _facts) if images.as_json else []
    error = command_error(outcomes, found)
    if not images.as_json:
        for each in outcomes.all:
            if each.found is not None:
                where = each.found.image or "the image, which was not handed over"
                said = trial_text(each.found.report, whole=whole)
                screen.say_lines(f"{each.job.config} for {each.job.board}: {where}\n{said}")
    elif error is None:
        show.as_json(found)
    if error is not None:
        raise error
    return [each.report for each in outcomes.found]


def _facts(tried: TriedConfig) -> dict[str, Any]:
    places = {"folder": tried.folder, "image": None if tried.image is None else tried.image.name}
    return {**places, **tried.report.model_dump(mode="json")}
