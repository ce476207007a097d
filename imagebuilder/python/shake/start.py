"""What starting an app costs: modules, file look-ups, time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from imagebuilder.host.run import how_it_ended, killed_by
from imagebuilder.log import Log
from imagebuilder.python.shake.proof import CRASH_HINT, CrashError, ProofError
from imagebuilder.python.shake.run import (
    RUN_SECONDS,
    WORK,
    Root,
    command_words,
    emulator_argv,
    program_argv,
    run_in,
)
from imagebuilder.python.shake.trace import trace

TIMER = "timer.py"  # run as text by the root's own Python
RUNS = 9


@dataclass(frozen=True, slots=True)
class StartFacts:
    """One command, from its start to its end. modules: that its Python had in the end, built-in ones too;
    stats, listings, opened: how often the import system asked whether a file is there, listed a folder,
    opened a file; seconds: the median of some runs on this machine."""

    command: str
    modules: int
    stats: int
    listings: int
    opened: int
    seconds: float

    @property
    def look_ups(self) -> int:
        """All times that the import system went to the file system."""
        return self.stats + self.listings + self.opened


def start_facts(root: Root, command: str, work: Path, log: Log, *, runs: int = RUNS) -> StartFacts:
    """Start a command, which must end by itself with 0, in a root: once to count, then `runs` times to
    measure. Its options decide (an app's site and isolated): they stand in its program's first line.

    CrashError if it dies of a signal, ProofError if it fails otherwise or is no Python; RootError;
    HostError; ProgramTimeoutError.
    """
    (traced,) = trace(root, [command], work, log)
    if killed_by(traced.code) is not None:
        raise CrashError(
            f"{command!r} {how_it_ended(traced.code)} in the image:\n{traced.output}", hint=CRASH_HINT
        )
    if traced.code != 0:
        raise ProofError(
            f"{command!r} exited with {traced.code}:\n{traced.output}",
            hint="a start is measured with a command that ends by itself and works",
        )
    if not traced.looked:
        raise ProofError(f"{command!r} started no Python", hint="name the app's own program")
    last = traced.looked[-1]
    counts = last.modules, last.stats, last.listings, last.opened
    return StartFacts(command, *counts, statistics.median(_seconds(root, command, work, runs)))


def _seconds(root: Root, command: str, work: Path, runs: int) -> list[float]:
    """Measured inside, by the root's own Python, so that the sandbox's start is not counted."""
    work.mkdir(parents=True, exist_ok=True)
    (work / TIMER).write_bytes((resources.files(__package__) / TIMER).read_bytes())
    argv = [*emulator_argv(root), *program_argv(root, command_words(command))]
    timer = [root.interpreter, "-I", "-S", f"{WORK}/{TIMER}", str(runs)]
    done = run_in(root, [*timer, *argv], work, timeout=RUN_SECONDS)
    try:
        return [float(line) for line in done.stdout.split("\n") if line] or [float("nan")]
    except ValueError as error:
        last = (done.stderr or done.stdout)[-400:]
        raise ProofError(f"{command!r} could not be measured: {last}") from error
