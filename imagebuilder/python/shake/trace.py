"""What a command really imports: run in a root file system, with every module that is looked for written
down (shim.py)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from imagebuilder.host.run import TAIL_LINES
from imagebuilder.log import Log
from imagebuilder.python.shake.run import RUN_SECONDS, Root, RootError, command_words, program_argv, run_in

SHIM = "shim.py"  # laid over the root's own, not imported by us
MAX_TRACE_BYTES = 16 << 20
_ORIGINAL = "_original"


@dataclass(frozen=True, slots=True)
class Looked:
    """How a Python that ended went about its imports. modules: that it had in the end, built-in ones too;
    stats, listings, opened: how often it asked whether a file is there, listed a folder, opened a file."""

    modules: int
    stats: int
    listings: int
    opened: int


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


def parse_trace(data: bytes) -> tuple[tuple[str, ...], tuple[Looked, ...]]:
    """The names and the counts in a trace. Lines that are neither are an app's own doing, and left out."""
    names: set[str] = set()
    looked = []
    for line in data[:MAX_TRACE_BYTES].decode("utf-8", "replace").split("\n"):
        match line.split("\t"):
            case ["M", name]:
                names.add(name)
            case ["END", *counts] if len(counts) == 4 and all(map(_is_count, counts)):
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


def trace(
    root: Root, commands: Sequence[str], work: Path, log: Log, *, timeout: float = RUN_SECONDS
) -> tuple[Traced, ...]:
    """Run commands in a root and say what each imported. A command must end by itself, within `timeout`
    seconds; it is split as a shell does it, but there is no shell.

    RootError for a command that is not there, and for a root without Python; HostError; ProgramTimeoutError.
    """
    if not (root.path / f"usr/lib/python{root.python}/encodings").is_dir():
        raise RootError(
            f"{root.path} has no Python {root.python}", hint="a trace needs python3-base in the image"
        )
    found = []
    for command in commands:
        log.progress(f"tracing {command}")
        with tempfile.TemporaryDirectory(dir=_made(work)) as name, _shimmed(root, Path(name)) as shimmed:
            shared = Path(name) / "work"
            argv = program_argv(shimmed, command_words(command))
            done = run_in(shimmed, argv, shared, timeout=timeout)
            file = shared / "trace"
            names, looked = parse_trace(file.read_bytes() if file.is_file() else b"")
        last = "\n".join((done.stderr or done.stdout).splitlines()[-TAIL_LINES:])
        found.append(Traced(command, names, looked, done.code, last))
    return tuple(found)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def traced_modules(runs: Sequence[Traced]) -> Mapping[str, str]:
    """The modules of several runs, each with the command that first looked for it."""
    found: dict[str, str] = {}
    for each in runs:
        for name in each.modules:
            found.setdefault(name, each.command)
    return found
