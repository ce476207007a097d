"""`build.py boot`: an image, started in a machine of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from imagebuilder.cli.guard import USER_FAULT, guarded
from imagebuilder.cli.image_options import of_one_board
from imagebuilder.cli.trial import TriedImages
from imagebuilder.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagebuilder.log import Log
    from imagebuilder.trial.session import BootAsked

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class BootedImage(TriedImages):
    """What is booted, in which machine, and for how long."""

    of_configs: ClassVar[tuple[str, ...]] = (*TriedImages.of_configs, "no_trial")

    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Hand the terminal to its console; Ctrl-] leaves.")
    ] = False
    forward: Annotated[
        list[str] | None,
        typer.Option(
            "--forward",
            metavar="HERE:GUEST",
            help="Lead a port of 127.0.0.1 to one of the guest, which then stays until Ctrl-C; several.",
        ),
    ] = None
    memory: Annotated[
        int | None,
        typer.Option("--memory", metavar="MIB", min=8, max=1 << 16, help="Its RAM; by default the board's."),
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=1,
            max=86400,
            help="How long its start may take; with --forward also how long it then stays.",
        ),
    ] = None
    log: Annotated[
        Path | None,
        typer.Option(
            "--log", help="Keep what its console says in this file; by default beside a config's result."
        ),
    ] = None
    no_trial: Annotated[
        bool, typer.Option("--no-trial", help="Boot it also where its programs do not stand their trial.")
    ] = False


@guarded
def boot(
    asked: BootedImage,
    whole: Annotated[bool, typer.Option("--all", help="Show all that was found, notes too.")] = False,
) -> None:
    """Boot an image in QEMU, run the config's trials inside, look at its kernel and services, shut it down.

    A config's image is brought up to date before; where QEMU has no machine for its board, that of the
    board's twin. What the machine writes is gone when it ends.
    """
    from imagebuilder.cli.at_once import check_writable
    from imagebuilder.host.ports import forwarded_ports

    if asked.log is not None:
        check_writable(asked.log)  # before minutes are spent
    if asked.interactive:
        from imagebuilder.cli.handed import require_terminal

        if asked.as_json:
            raise UserError("--interactive hands the terminal to the guest, and leaves no place for --json")
        for option, given in (("--timeout", asked.timeout is not None), ("--all", whole)):
            if given:
                raise UserError(f"--interactive tries nothing, and leaves no place for {option}")
        require_terminal()
    forwards = forwarded_ports(asked.forward or ())
    if asked.interactive:
        _interact(asked, forwards)
    else:
        _look(asked, forwards, whole=whole)


def _look(asked: BootedImage, forwards: Mapping[int, int], *, whole: bool) -> None:
    from imagebuilder.cli import screen, show
    from imagebuilder.report.boot import boot_text
    from imagebuilder.trial.session import boot_session

    with asked.reporter() as log:
        session = _prepared(asked, forwards, log)
        with log.step("boot"):
            report = boot_session(session, log)
    if asked.as_json:
        show.as_json({**report.model_dump(mode="json"), "failed": len(report.failed)})
    else:
        screen.say_lines(boot_text(report, whole=whole))
    if report.failed:
        sys.exit(USER_FAULT)


def _interact(asked: BootedImage, forwards: Mapping[int, int]) -> None:
    from contextlib import ExitStack

    from imagebuilder.cli.handed import LEAVE_TOLD, hand_over
    from imagebuilder.trial.session import asked_console

    with ExitStack() as stack:
        with asked.reporter() as log:
            session = _prepared(asked, forwards, log)
            console = stack.enter_context(asked_console(session, log))
        said = f"the console of {session.image.name}: {LEAVE_TOLD} leaves it, and ends the machine"
        print(said, file=sys.stderr, flush=True)
        left = hand_over(console)
    print("\nthe machine was ended" if left else "\nthe machine ended", file=sys.stderr)


def _prepared(asked: BootedImage, forwards: Mapping[int, int], log: Log) -> BootAsked:
    """What is booted; a config's image is there then."""
    from imagebuilder.trial.session import BootAsked

    memory = None if asked.memory is None else asked.memory * MIB
    image = asked.image
    if image is not None:
        board = asked.board_of_image(image)
        return BootAsked(
            image,
            None if board is None else board.emulation.system,
            memory,
            asked.board,
            forwards=forwards,
            seconds=asked.timeout,
            log_file=asked.log,
        )
    from imagebuilder.build import image_of_config

    request = of_one_board(asked.requests())
    found = image_of_config(replace(request, trial=not asked.no_trial), log)
    booted = found.booted
    return BootAsked(
        found.image,
        booted.system,
        memory or booted.memory,
        booted.board.id,
        "" if booted.twin_of is None else booted.twin_of.id,
        found.config.trial,
        forwards,
        asked.timeout,
        asked.log or found.folder.with_name(f"{found.folder.name}.console.log"),
    )
