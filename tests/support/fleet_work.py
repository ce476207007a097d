"""Work for jobs of a fleet that builds nothing: processes elsewhere find it here by its name."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from pathlib import Path

from imagebuilder.config.library import Library
from imagebuilder.config.request import Request
from imagebuilder.errors import Fault, FaultsError, TerminatedError, UserError
from imagebuilder.fleet.job import BoardJob, HandedOver
from imagebuilder.host.once import Once
from imagebuilder.log import Log
from imagebuilder.report.files import write_result
from tests.support.result_maker import MadeResult

STEPS = ("tree", "plan", "fetch", "stage", "build", "verify", "report")
STEP_SECONDS = 0.02
SLEPT = MadeResult().result()  # what each of those gives that only sleep
RARE = "imagebuilder.firmware.formats.ubi"  # a module that nothing here needs


def jobs(folder: Path, *words: str) -> list[BoardJob]:
    """A job for each word, which says what is done: see work()."""
    library = Library(folder)
    asked = [Request(library, "config", word, folder / "out", folder / "cache") for word in words]
    return [BoardJob(number, request, "config") for number, request in enumerate(asked)]


def work(job: BoardJob, log: Log) -> tuple[str, int, int]:
    """What the board's name says; see _do(). Gives the name, the process and its group."""
    what, _, rest = job.board.partition(" ")
    with log.step(what):
        _do(job, what, rest, log)
    return job.board, os.getpid(), os.getpgrp()


def _do(job: BoardJob, what: str, rest: str, log: Log) -> None:
    folder = job.request.library.root
    if what == "sleep":
        log.note(f"from {time.monotonic()}")
        _sleep(folder, float(rest))
        log.note(f"to {time.monotonic()}")
    elif what == "meet":
        _meet(folder, int(rest), log)
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "exit":
        os._exit(3)
    elif what == "bug":
        raise ZeroDivisionError("a bug")
    elif what == "fault":
        error = UserError("it is wrong", hint="mend it")
        error.add_note("a note")
        raise error
    elif what == "faults":
        raise FaultsError([Fault("a.toml", 3, "key", "is wrong")])
    elif what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _sleep(folder, 60.0)
    else:
        _say(job, what, log)


def _say(job: BoardJob, what: str, log: Log) -> None:
    if what == "tells":
        log.warn("beware")
        log.output("a line of a program")
        log.command(["make"])
    elif what == "gives":
        once = job.request.once or Once()
        once.given_up.add("https://nobody.example")
    elif what == "asks":
        log.note(f"given up: {sorted((job.request.once or Once()).given_up)}")
    elif what == "loads":
        log.note(f"loaded: {RARE not in sys.modules}")
        importlib.import_module(RARE)
    elif what == "where":
        log.note(str(Path.cwd()))


def sleep_job(job: BoardJob, log: Log) -> HandedOver:
    """As build_job(), with a sleep for each step."""
    for step in STEPS:
        with log.step(step):
            log.progress(step)
            time.sleep(STEP_SECONDS)
    place = job.request.output / job.config / job.board
    place.mkdir(parents=True, exist_ok=True)
    write_result(SLEPT, place)
    return HandedOver.of(place, SLEPT)


def _meet(folder: Path, number: int, log: Log) -> None:
    """Wait until so many that meet are at work at once."""
    log.note(f"from {time.monotonic()}")
    (folder / f"meets-{os.getpid()}").touch()
    until = time.monotonic() + 30
    while len(list(folder.glob("meets-*"))) < number:
        if time.monotonic() > until:
            raise UserError("nobody came")
        time.sleep(0.01)
    log.note(f"to {time.monotonic()}")


def _sleep(folder: Path, seconds: float) -> None:
    """Says that it runs, by a file of its process's number, as long as it does."""
    mark = folder / f"runs-{os.getpid()}"
    mark.touch()
    try:
        time.sleep(seconds)
    except TerminatedError:
        (folder / f"unwound-{os.getpid()}").touch()
        raise
    finally:
        mark.unlink()
