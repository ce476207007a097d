"""The proof that what was left suffices: the app's own commands, run in the image's root file system."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.run import how_it_ended, killed_by
from imagebuilder.log import Log
from imagebuilder.python.shake.run import RUN_SECONDS, Root
from imagebuilder.python.shake.trace import Traced, trace

_NO_MODULE = re.compile(r"No module named '([A-Za-z0-9_.]+)'")
_NO_NAME = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
_NO_CODEC = re.compile(r"LookupError: unknown encoding: ([A-Za-z0-9_.-]+)")
_NO_LIBRARY = re.compile(r"ImportError: (\S+\.so\S*): cannot open shared object file")


class ProofError(UserError):
    """A command that does not work in the root file system that was built."""


class CrashError(ProofError):
    """A program that did not fail, but died of a signal, as one does that is for another processor."""


CRASH_HINT = (
    "where it is emulated, see that [emulation] user in the board's file names a processor that knows all"
    " instructions of the packages' architecture; else the program is broken, or was given too little memory"
)


@dataclass(frozen=True, slots=True)
class Proved:
    """A command that works. missed: modules that it looked for and that were shaken off, sorted: it does
    without them, perhaps with less."""

    command: str
    missed: tuple[str, ...]


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
    root: Root,
    commands: Sequence[str],
    work: Path,
    log: Log,
    *,
    dropped: Collection[str] = (),
    timeout: float = RUN_SECONDS,
) -> tuple[Proved, ...]:
    """Run commands in a built root: each must end with 0. dropped: modules that shake left out.

    ProofError naming command, module and the `keep` that brings it; what trace() raises.
    """
    return tuple(_proved(each, dropped) for each in trace(root, commands, work, log, timeout=timeout))


def _proved(run: Traced, dropped: Collection[str]) -> Proved:
    if run.code == 0:
        return Proved(run.command, tuple(sorted(set(run.modules) & set(dropped))))
    how = how_it_ended(run.code)
    if killed_by(run.code) is not None:
        raise CrashError(f"{run.command!r} {how} in the image:\n{run.output}", hint=CRASH_HINT)
    found = lacking(run.output)
    missed = sorted(set(run.modules) & set(dropped))
    if found is not None:
        what, keep = found
        raise ProofError(
            f"{run.command!r} {how} in the image: {what} is missing:\n{run.output}",
            hint=f'add it: keep = ["{keep}"] in [python]',
        )
    library = _NO_LIBRARY.search(run.output)
    hint = "run it on a device with all of Python, to see whether it fails there too"
    if library is not None:
        hint = f"the library {library[1]} is missing: name its package in packages.add"
    elif missed:
        listed = ", ".join(f'"{each}"' for each in missed)
        hint = f"perhaps it lacks what was shaken off and it looked for: keep = [{listed}] in [python]"
    raise ProofError(f"{run.command!r} {how} in the image:\n{run.output}", hint=hint)
