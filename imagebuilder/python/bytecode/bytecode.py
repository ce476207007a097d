"""Python packages in the form that OpenWrt ships: bytecode beside where the source was, sources apart.

The rules are those of lang/python in openwrt/packages from 21.02 on: `foo.py` gives `foo.pyc` in the same
folder (the legacy place, found without its source), with a checked hash in its header (PEP 552) because the
build exports SOURCE_DATE_EPOCH, and the target path as the name in its code objects. The compiler is a Python
of the same version, run in batches through host/run.py; our own Python's version does not matter.

What has no such bytecode the device would compile itself, each time that it starts, because bytecode is not
written there.
"""

from __future__ import annotations

import ast
import marshal
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Literal

from imagebuilder.errors import UserError
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.limits import Watch
from imagebuilder.host.run import Completed, clean_environment, how_it_ended, killed_by, run
from imagebuilder.host.walk import remove_tree
from imagebuilder.log import Log
from imagebuilder.python.bytecode.versions import version_facts
from imagebuilder.rootfs.files import content
from imagebuilder.rootfs.tree import Entry, FileTree, file_at, file_of, parent_of

HELPER = "compile_batch.py"  # run as text by another interpreter, not imported by ours
SHEBANG = re.compile(rb"\A#![^\n]*python[^\n]*")
TARGET_SHEBANG = b"#!/usr/bin/python3"

Validity = Literal["checked-hash", "unchecked-hash", "timestamp"]
Why = Literal["none", "hidden", "program"]
APPS_FOLDER = "/usr/lib/apps"  # where flat apps have a folder each
WARM_FOLDER = "/usr/lib/python-launcher"  # programs that a warm interpreter runs
PROGRAM_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/libexec", WARM_FOLDER)
_HEAD_BYTES = 128


class InterpreterError(UserError):
    """An interpreter that cannot compile for the target: another version, or it does not run."""


class CompileError(UserError):
    """Sources that do not compile. failures: target path and what is wrong, for each of them."""

    def __init__(self, failures: Iterable[tuple[str, str]]) -> None:
        self.failures = tuple(sorted(failures))
        lines = "\n".join(f"{path}: {problem}" for path, problem in self.failures)
        super().__init__(
            f"{len(self.failures)} Python sources do not compile:\n{lines}",
            hint="put them right, or drop them with a filespec rule `-|path`",
        )


@dataclass(frozen=True, slots=True)
class Interpreter:
    """How to run the Python that compiles. argv: the program with what comes before its options, for
    instance (ld.so, --library-path, FOLDER, python3.11). python: the version it must have, for messages;
    magic_number: that its bytecode must have. environment: what it needs besides, such as PYTHONHOME."""

    argv: tuple[str, ...]
    python: str
    magic_number: int
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """Which bytecode. optimize: 1 leaves assert statements out, 2 docstrings too. validity: by what an
    interpreter tells that bytecode in __pycache__ is its source's, where the source is there: its hash,
    checked or trusted, or its size and time (which is the epoch's, in seconds since 1970)."""

    optimize: Literal[0, 1, 2] = 0
    validity: Validity = "checked-hash"


OPENWRT = Form()


def form_of_openwrt(python: str) -> Form:
    """The form that OpenWrt's own packages have for a version, "3.11". VersionError."""
    return OPENWRT if version_facts(python).hashed else Form(validity="timestamp")


def usual_validity(python: str) -> Validity:
    """By what bytecode of one's own is told to be its source's where nobody says so: a hash that is
    trusted; before 3.7, which knows no hashes, the source's time. VersionError."""
    return "unchecked-hash" if version_facts(python).hashed else "timestamp"


def _run_batch(
    interpreter: Interpreter,
    sources: list[tuple[str, Entry]],
    start: int,
    *,
    into: Path,
    epoch: int,
    form: Form,
    log: Log | None,
) -> list[tuple[str, str]]:
    """Compile to into/NUMBER.pyc, numbers from `start`; target paths and reasons of those that fail."""
    manifest = {
        "magic": interpreter.magic_number,
        "into": str(into),
        "start": start,
        "optimize": form.optimize,
        "validity": form.validity,
        "hashed": version_facts(interpreter.python).hashed,
        "epoch": epoch,
        "sources": [
            {"name": path, "file": str(entry.source)}
            if entry.source is not None
            else {"name": path, "data": entry.data or b""}
            for path, entry in sources
        ],
    }
    environment = clean_environment(
        PYTHONHASHSEED=str(epoch % 2**32),  # the same for every build of one epoch, as OpenWrt has it
        SOURCE_DATE_EPOCH=str(epoch),
        PYTHONDONTWRITEBYTECODE="1",
        PYTHONNOUSERSITE="1",
        **interpreter.environment,
    )
    # a file: from 3.13 on -c wants linecache, and -W wants warnings, which python3-base has not. Not -I: it
    # would ignore PYTHONHASHSEED. The file's folder, which is put on the path, holds no other module
    helper = into / f"batch-{start}" / HELPER
    helper.parent.mkdir()
    helper.write_bytes((resources.files(__package__) / HELPER).read_bytes())
    done = run(
        [*interpreter.argv, "-S", str(helper)],
        cwd=into,
        env=environment,
        stdin=marshal.dumps(manifest, 2).hex().encode(),  # a form that every Python 3 reads
        check=False,
        log=log,
        watch=Watch("compiling Python modules", into),
    )
    remove_tree(helper.parent)
    return _failures(interpreter, done)


def _failures(interpreter: Interpreter, done: Completed) -> list[tuple[str, str]]:
    """What a batch answered. InterpreterError for an answer that is none, or from another version."""
    try:
        answer = ast.literal_eval(done.stdout)
        magic, failures = int(answer["magic"]), [(str(name), str(why)) for name, why in answer["failures"]]
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError) as error:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-5:])
        if killed_by(done.code) is not None:
            raise InterpreterError(
                f"{interpreter.argv[-1]} {how_it_ended(done.code)} instead of compiling: {last}",
                hint="is it for this processor? Where it is emulated, [emulation] user in the board's file"
                " must name one that knows all instructions of the packages' architecture",
            ) from error
        raise InterpreterError(
            f"{interpreter.argv[-1]} did not compile (exit code {done.code}): {last}",
            hint=f"Python {interpreter.python} is needed, able to run on this machine",
        ) from error
    if magic != interpreter.magic_number:
        raise InterpreterError(
            f"{interpreter.argv[-1]} is Python {answer['version']}, whose bytecode has magic number {magic}",
            hint=f"Python {interpreter.python} (magic number {interpreter.magic_number}) is needed",
        )
    return failures


def is_source(path: str, entry: Entry) -> bool:
    """Whether a file of a package is a module's source."""
    return entry.kind == "file" and path.endswith(".py")


def compile_sources(
    sources: Mapping[str, Entry],
    interpreter: Interpreter,
    into: Path,
    *,
    epoch: int,
    jobs: int = 2,
    log: Log | None = None,
    form: Form | None = None,
    lenient: bool = False,
) -> dict[str, Entry]:
    """Compile file entries by their target paths ('/usr/lib/python3.11/os.py'), in `jobs` runs at a time.

    into: a folder for the bytecode, which must stay as long as the result is used. epoch: SOURCE_DATE_EPOCH
    in seconds since 1970. form: OpenWrt's own where none is given. lenient: sources that do not compile are
    left out. Returns the bytecode's entry for each source's path: read and write bits of the source, writable
    by the owner, never executable.
    Raises CompileError, naming all that fail; InterpreterError, for a form too that this version does not
    know; VersionError; HostError.
    """
    form = form_of_openwrt(interpreter.python) if form is None else form
    if form.validity != "timestamp" and not version_facts(interpreter.python).hashed:
        raise InterpreterError(
            f"Python {interpreter.python} cannot tell bytecode by its source's hash ({form.validity}): 3.7"
            " and later can",
            hint='say pyc = "timestamp" in [python], or leave pyc out',
        )
    ordered = sorted(sources.items())
    if not ordered:
        return {}
    into = into.absolute()
    size = -(-len(ordered) // max(jobs, 1))
    starts = range(0, len(ordered), size)
    with disk_errors_explained(into):
        into.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(len(starts)) as pool:
        batches = [
            pool.submit(
                _run_batch,
                interpreter,
                ordered[start : start + size],
                start,
                into=into,
                epoch=epoch,
                form=form,
                log=log,
            )
            for start in starts
        ]
        failures = [failure for batch in batches for failure in batch.result()]
    if failures and not lenient:
        raise CompileError(failures)
    failed = {path for path, _ in failures}
    return {
        path: file_at(into / f"{number:06d}.pyc", entry.mode & 0o666 | 0o200)
        for number, (path, entry) in enumerate(ordered)
        if path not in failed
    }


def _target_script(entry: Entry) -> Entry:
    """A script for the target: a first line that names any Python becomes #!/usr/bin/python3, its options
    lost, as in OpenWrt."""
    if not head_of(entry).startswith(b"#!"):  # a binary may be large: look before reading
        return entry
    data = content(entry)
    changed = SHEBANG.sub(TARGET_SHEBANG, data, count=1)
    return entry if changed == data else file_of(changed, entry.mode)


def shipped_tree(tree: FileTree, bytecode: Mapping[str, Entry]) -> FileTree:
    """A package after its filespec, as it is shipped: no *.exe, bytecode in place of regular *.py files (a
    link that is named so stays), no empty folders, scripts in /usr/bin for the target's Python.

    bytecode: what compile_sources returned for the package's sources; KeyError if one is not in it.
    """
    entries: dict[str, Entry] = {}
    for path, entry in tree.items():
        if is_source(path, entry):
            entries[path + "c"] = bytecode[path]
        elif entry.kind == "file" and path.endswith(".exe"):
            continue
        elif entry.kind == "file" and parent_of(path) == "/usr/bin":
            entries[path] = _target_script(entry)
        else:
            entries.setdefault(path, entry)
    return FileTree(entries).without_empty_folders()


def source_tree(tree: FileTree) -> FileTree:
    """The package's -src twin: nothing but *.py files and links that are named so, first lines unchanged."""
    others = (path for path, entry in tree.items() if entry.kind != "dir" and not path.endswith(".py"))
    return tree.without(others).without_empty_folders()


def ship(
    packages: Mapping[str, FileTree],
    interpreter: Interpreter,
    into: Path,
    *,
    epoch: int,
    jobs: int = 2,
    log: Log | None = None,
) -> dict[str, FileTree]:
    """The shipped form of several packages, by name, compiled together. Parameters and errors are those of
    compile_sources; UserError too where two packages hold different sources of one path."""
    sources: dict[str, Entry] = {}
    for name, tree in packages.items():
        for path, entry in tree.items():
            if is_source(path, entry) and sources.setdefault(path, entry) != entry:
                raise UserError(
                    f"the package {name} and one before it hold different files {path}",
                    hint="two packages cannot own one file: drop it from one of them",
                )
    bytecode = compile_sources(sources, interpreter, into, epoch=epoch, jobs=jobs, log=log)
    return {name: shipped_tree(tree, bytecode) for name, tree in packages.items()}


@dataclass(frozen=True, slots=True, order=True)
class Uncompiled:
    """A source that is compiled whenever it is used. why: it has no bytecode; its bytecode lies beside it,
    where the source hides it (OpenWrt's -src packages do that); or it is a program, which never has any."""

    path: str
    why: Why


def cached_path(path: str, python: str) -> str:
    """Where the interpreter ("3.11") looks for the bytecode of a source that is there (PEP 3147)."""
    source = PurePosixPath(path)
    tag = python.replace(".", "")
    return str(source.parent / "__pycache__" / f"{source.stem}.cpython-{tag}.pyc")


def head_of(entry: Entry) -> bytes:
    """The first bytes of a file, enough to tell a program's first line, or ELF."""
    if entry.source is None:
        return (entry.data or b"")[:_HEAD_BYTES]
    with entry.source.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def is_program(path: str, entry: Entry) -> bool:
    """Whether a file among programs is a source for CPython, by its first line."""
    if str(PurePosixPath(path).parent) not in PROGRAM_FOLDERS or entry.kind != "file":
        return False
    first = head_of(entry).partition(b"\n")[0]
    return first.startswith(b"#!") and b"python" in first and b"micropython" not in first


def uncompiled(tree: FileTree, python: str) -> tuple[Uncompiled, ...]:
    """Every source in a root file system, or in a package, that Python ("3.11") would compile on the device,
    by path. Modules: all *.py below /usr/lib/pythonX.Y and APPS_FOLDER."""
    return tuple(sorted(_uncompiled(tree, python)))


def _uncompiled(tree: FileTree, python: str) -> Iterator[Uncompiled]:
    for path in (*tree.below(f"/usr/lib/python{python}"), *tree.below(APPS_FOLDER)):
        entry = tree[path]
        if entry.kind == "file" and path.endswith(".py") and cached_path(path, python) not in tree:
            yield Uncompiled(path, "hidden" if path + "c" in tree else "none")
    for folder in PROGRAM_FOLDERS:
        for path in tree.children(folder):
            if is_program(path, tree[path]):
                yield Uncompiled(path, "program")


def magic_of(entry: Entry) -> int:
    """The magic number of a file of bytecode."""
    return int.from_bytes(head_of(entry)[:2], "little")
