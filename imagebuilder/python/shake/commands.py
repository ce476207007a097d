"""Commands of an image, run in its root file system: which modules they import, proof that they work with
what was left of Python, and what a start costs.

Every module that is looked for is written down by shim.py, which is laid over the root's `encodings`; starts
are timed by timer.py.
"""

from __future__ import annotations

import re
import shutil
import statistics
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.run import TAIL_LINES, how_it_ended, killed_by
from imagebuilder.log import Log
from imagebuilder.model.result import Start
from imagebuilder.python.shake.run import (
    WORK,
    Root,
    RootError,
    command_words,
    emulator_argv,
    program_argv,
    run_in,
)

SHIM = "shim.py"  # laid over the root's own, not imported by us
TIMER = "timer.py"  # run as text by the root's own Python
MAX_TRACE_BYTES = 16 << 20

_ORIGINAL = "_original"
_NO_MODULE = re.compile(r"No module named '([A-Za-z0-9_.]+)'")
_NO_NAME = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
_NO_CODEC = re.compile(r"LookupError: unknown encoding: ([A-Za-z0-9_.-]+)")
_NO_LIBRARY = re.compile(r"ImportError: (\S+\.so\S*): cannot open shared object file")


class ProofError(UserError):
    """A command that does not work in the root file system that was built."""


class CrashError(ProofError):
    """A program that did not fail, but died of a signal, as one does that is for another processor."""


@dataclass(frozen=True, slots=True)
class Looked:
    """How a Python that ended went about its imports. modules: that it had in the end, built-in ones too;
    look_ups: how often it asked whether a file is there, listed a folder, opened a file."""

    modules: int
    look_ups: int


@dataclass(frozen=True, slots=True)
class Traced:
    """A command's run. modules: all names that it looked for, found or not, sorted, those of its child
    processes too; looked: of each Python that ended, in that order; code, output: how it ended, and the last
    lines of what it said on standard error, or else on standard output."""

    command: str
    modules: tuple[str, ...]
    looked: tuple[Looked, ...]
    code: int
    output: str

    def check_alive(self) -> None:
        """CrashError where it died of a signal."""
        if killed_by(self.code) is not None:
            raise CrashError(
                f"{self.command!r} {how_it_ended(self.code)} in the image:\n{self.output}",
                hint="where it is emulated, see that [emulation] user in the board's file names a processor"
                " that knows all instructions of the packages' architecture; else the program is broken,"
                " or was given too little memory",
            )


def parse_trace(data: bytes) -> tuple[tuple[str, ...], tuple[Looked, ...]]:
    """The names and the counts in a trace. Lines that are neither are an app's own doing, and left out."""
    names: set[str] = set()
    looked = []
    for line in data[:MAX_TRACE_BYTES].decode("utf-8", "replace").split("\n"):
        match line.split("\t"):
            case ["M", name]:
                names.add(name)
            case ["END", *counts] if len(counts) == 2 and all(map(_is_count, counts)):
                looked.append(Looked(*map(int, counts)))
    return tuple(sorted(names)), tuple(looked)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 12


@contextmanager
def _shimmed(root: Root, scratch: Path) -> Iterator[Root]:
    """The root with our encodings over its own, which is beside."""
    place = f"/usr/lib/python{root.python}/encodings"
    own = root.path / place[1:]
    shim = scratch / "encodings"
    shutil.copytree(own, shim, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
    for ending in (".pyc", ".py"):
        original = shim / f"__init__{ending}"
        if original.is_file():
            original.rename(shim / f"{_ORIGINAL}{ending}")
    text = (resources.files(__package__) / SHIM).read_text("utf-8")
    (shim / "__init__.py").write_text(text, "utf-8")
    yield replace(root, over={**root.over, place: shim})


def trace(root: Root, commands: Sequence[str], work: Path, log: Log) -> tuple[Traced, ...]:
    """Run commands in a root and say what each imported. A command must end by itself, within RUN_SECONDS;
    it is split as a shell does it, but there is no shell.

    RootError for a command that is not there, and for a root without Python; HostError; ProgramTimeoutError.
    """
    if not (root.path / f"usr/lib/python{root.python}/encodings").is_dir():
        raise RootError(
            f"{root.path} has no Python {root.python}", hint="a trace needs python3-base in the image"
        )
    work.mkdir(parents=True, exist_ok=True)
    runs = []
    for command in commands:
        log.progress(f"tracing {command}")
        with tempfile.TemporaryDirectory(dir=work) as name, _shimmed(root, Path(name)) as shimmed:
            shared = Path(name) / "work"
            done = run_in(shimmed, program_argv(shimmed, command_words(command)), shared)
            file = shared / "trace"
            names, looked = parse_trace(file.read_bytes() if file.is_file() else b"")
        last = "\n".join((done.stderr or done.stdout).splitlines()[-TAIL_LINES:])
        runs.append(Traced(command, names, looked, done.code, last))
    return tuple(runs)


def lacking(output: str) -> tuple[str, str] | None:
    """What a program that failed says is missing, and the pattern for `keep` that would bring it; None if it
    failed for another reason. output: its last lines."""
    if "Could not import runpy module" in output:  # the interpreter's own words for -m
        return "the module runpy", "runpy"
    if found := list(_NO_MODULE.finditer(output)):
        return f"the module {found[-1][1]}", found[-1][1]
    if found := list(_NO_CODEC.finditer(output)):
        name = re.sub(r"[^a-z0-9]+", "_", found[-1][1].lower())
        return f"the codec {found[-1][1]}", f"encodings.{name}"
    if found := list(_NO_NAME.finditer(output)):
        return f"the module {found[-1][2]}.{found[-1][1]}", f"{found[-1][2]}.{found[-1][1]}"
    return None


def prove(
    root: Root, commands: Sequence[str], work: Path, log: Log, *, dropped: Collection[str] = ()
) -> tuple[Traced, ...]:
    """Run commands in a built root: each must end with 0. dropped: modules that shake left out. What they
    looked for and does not matter to them is among the runs' modules.

    ProofError naming command, module and the `keep` that brings it; what trace() raises.
    """
    runs = trace(root, commands, work, log)
    for run in runs:
        if run.code != 0:
            run.check_alive()
            raise _failure(run, dropped)
    return runs


def _failure(run: Traced, dropped: Collection[str]) -> ProofError:
    """Why a command failed, as far as its output and its trace tell."""
    how = how_it_ended(run.code)
    if (found := lacking(run.output)) is not None:
        what, keep = found
        return ProofError(
            f"{run.command!r} {how} in the image: {what} is missing:\n{run.output}",
            hint=f'add it: keep = ["{keep}"] in [python]',
        )
    hint = "run it on a device with all of Python, to see whether it fails there too"
    if (library := _NO_LIBRARY.search(run.output)) is not None:
        hint = f"the library {library[1]} is missing: name its package in packages.add"
    elif missed := sorted(set(run.modules) & set(dropped)):
        listed = ", ".join(f'"{name}"' for name in missed)
        hint = f"perhaps it lacks what was shaken off and it looked for: keep = [{listed}] in [python]"
    return ProofError(f"{run.command!r} {how} in the image:\n{run.output}", hint=hint)


def start_facts(root: Root, command: str, work: Path, log: Log, *, runs: int) -> Start:
    """Start a command, which must end by itself with 0, in a root: once to count, then `runs` times for the
    median of its seconds on this machine. Its options decide (an app's site and isolated): they stand in its
    program's first line.

    CrashError if it dies of a signal, ProofError if it fails otherwise or is no Python; RootError;
    HostError; ProgramTimeoutError.
    """
    (traced,) = trace(root, [command], work, log)
    traced.check_alive()
    if traced.code != 0:
        raise ProofError(
            f"{command!r} exited with {traced.code}:\n{traced.output}",
            hint="a start is measured with a command that ends by itself and works",
        )
    if not traced.looked:
        raise ProofError(f"{command!r} started no Python", hint="name the app's own program")
    last = traced.looked[-1]
    return Start(
        command=command,
        modules=last.modules,
        look_ups=last.look_ups,
        seconds=statistics.median(_seconds(root, command, work, runs)),
    )


def _seconds(root: Root, command: str, work: Path, runs: int) -> list[float]:
    """Measured inside, by the root's own Python, so that the sandbox's start is not counted."""
    (work / TIMER).write_bytes((resources.files(__package__) / TIMER).read_bytes())
    argv = [*emulator_argv(root), *program_argv(root, command_words(command))]
    timer = [root.interpreter, "-I", "-S", f"{WORK}/{TIMER}", str(runs)]
    done = run_in(root, [*timer, *argv], work)
    try:
        return [float(line) for line in done.stdout.split("\n") if line] or [float("nan")]
    except ValueError as error:
        last = (done.stderr or done.stdout)[-400:]
        raise ProofError(f"{command!r} could not be measured: {last}") from error
