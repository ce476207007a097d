"""Programs of a root file system, run in it: shut into bubblewrap with the root as `/`, read-only and without
a network, natively or under QEMU's user-mode emulation. Of commands: which modules they import, proof that
they work with what was left of Python, and what a start costs.

Every module that is looked for is written down by shim.py, which is laid over the root's `encodings`; starts
are timed by timer.py.
"""

from __future__ import annotations

import os
import re
import shlex
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host import bubblewrap
from imagebuilder.host.beneath import real_folder
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.limits import Watch
from imagebuilder.host.run import TAIL_LINES, Completed, find_program, how_it_ended, killed_by, run
from imagebuilder.host.walk import copy_tree
from imagebuilder.log import Log
from imagebuilder.model.result import Start
from imagebuilder.python.bytecode.bytecode import WARM_FOLDER
from imagebuilder.python.imports.needs import cure, said
from imagebuilder.python.wheels.libraries import package_names

RUN_SECONDS = 120.0
DEVICE_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # OpenWrt's /etc/profile
EMULATOR = "/.emulator"
WORK = "/.work"
_MOST_LINKS = 40  # that are followed, as in Linux
_HEAD_BYTES = 256
_LIBRARY = re.compile(r"(?:(\S+) => )?(/\S+) \(0x[0-9a-f]+\)")
# what a running system mounts itself
_OWN = frozenset({"dev", "proc", "sys", "tmp", "run", "var", EMULATOR[1:], WORK[1:]})
SHIM = "shim.py"  # laid over the root's own, not imported by us
TIMER = "timer.py"  # run as text by the root's own Python
MAX_TRACE_BYTES = 16 << 20

_ORIGINAL = "_original"
_NO_MODULE = re.compile(r"No module named '([A-Za-z0-9_.]+)'")
_NO_NAME = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
_NO_CODEC = re.compile(r"LookupError: unknown encoding: ([A-Za-z0-9_.-]+)")
# as glibc's linker says it, and musl's
_NO_LIBRARY = re.compile(
    r"ImportError: (\S+\.so\S*): cannot open shared object file"
    r"|Error loading shared library ([^\s:]+\.so[^\s:]*): No such file"
)
_CODEC_PARTS = ("encodings.", "unicodedata", "stringprep", "_codecs_", "_multibytecodec")


class RootError(UserError):
    """A command that is not in a root file system, or cannot be run in it."""


@dataclass(frozen=True, slots=True)
class Root:
    """An unpacked root file system. python: "3.11". emulated: what bytecode.interpreter.emulator() says of
    the folder /, which the root is; empty where this machine runs its programs itself. over: host folders or
    files to be shown in place of what is at a path in the root."""

    path: Path
    python: str
    emulated: tuple[str, ...] = ()
    over: Mapping[str, Path] = field(default_factory=dict)

    @property
    def interpreter(self) -> str:
        """Its Python."""
        return f"/usr/bin/python{self.python}"


def inside(root: Path, path: str) -> Path:
    """The host's path of a path in a root, links followed there. RootError for links in a circle."""
    place, waiting = root, [part for part in reversed(path.split("/")) if part]
    for _ in range(_MOST_LINKS * len(waiting) + _MOST_LINKS):
        if not waiting:
            return place
        part = waiting.pop()
        if part == "..":
            place = place.parent if place != root else root
        elif part != ".":
            place = place / part
            if place.is_symlink():
                target = str(place.readlink())
                place = root if target.startswith("/") else place.parent
                waiting += [each for each in reversed(target.split("/")) if each]
    raise RootError(f"{path} leads in a circle in {root}", hint="which package has that link?")


def command_words(command: str) -> list[str]:
    """A command's words, as a shell splits them; nothing else of a shell. RootError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise RootError(
            f"the command {command!r} cannot be read: {error}", hint="close its quotes"
        ) from error
    if not words:
        raise RootError("an empty command", hint="name a program and its arguments")
    return words


def program_argv(root: Root, words: Sequence[str]) -> list[str]:
    """A command with its program's path in the root, and with its interpreter in front if it is a script,
    since an emulator starts programs only; what a warm interpreter would run, as it is run without one.
    RootError if it is not there."""
    name, *arguments = words
    folders = (WARM_FOLDER, *DEVICE_PATH.split(":"))
    places = [name] if "/" in name else [f"{folder}/{name}" for folder in folders]
    path = next((place for place in places if inside(root.path, place).is_file()), None)
    if path is None:
        raise RootError(
            f"the root file system has no program {name}",
            hint=f"name a program of {DEVICE_PATH}, or one with its path on the device",
        )
    with inside(root.path, path).open("rb") as stream:
        head = stream.read(_HEAD_BYTES).partition(b"\n")[0]
    if not head.startswith(b"#!"):
        return [path, *arguments]
    interpreter = head[2:].decode("utf-8", "replace").strip().split(None, 1)
    return [*interpreter, path, *arguments]


def run_in(
    root: Root,
    argv: Sequence[str],
    work: Path,
    *,
    timeout: float = RUN_SECONDS,
) -> Completed:
    """Run a program of the root, whatever its exit code. work: a host folder, which it has at WORK and may
    write to, besides /tmp. Its child processes run too, under emulation only if this machine's kernel knows
    the emulator (binfmt_misc).

    HostError without bubblewrap or the emulator; ProgramTimeoutError.
    """
    bubblewrap.check_present()
    variables = {"PATH": DEVICE_PATH, "HOME": "/tmp", "USER": "root"}  # noqa: S108
    work.mkdir(parents=True, exist_ok=True)
    shut = [*_sandbox(root, work, variables), *emulator_argv(root)]
    watch = Watch(f"starting {argv[0]} of the image", work)
    return run([*shut, *argv], timeout=timeout, check=False, watch=watch)


def _sandbox(root: Root, work: Path, variables: Mapping[str, str]) -> list[str]:
    """bubblewrap's argv. The root's own folders are shown one by one, so that what is missing there can be
    added without writing into it."""
    shown: list[str] = []
    for place in sorted(root.path.iterdir()):
        if place.is_symlink():
            if place.name not in _OWN:
                shown += ["--symlink", str(place.readlink()), f"/{place.name}"]
        elif place.name not in _OWN:
            shown += ["--ro-bind", str(place.resolve()), f"/{place.name}"]
    shown += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108
    for name in ("run", "log", "lib", "lock"):
        shown += ["--dir", f"/tmp/{name}"]  # noqa: S108
    shown += ["--symlink", "tmp", "/var", "--symlink", "tmp/run", "/run"]
    for path, source in root.over.items():
        shown += ["--ro-bind", str(source.resolve()), path]
    shown += ["--bind", str(work.resolve()), WORK]
    for path, file in _emulator_files(root).items():
        shown += ["--ro-bind", str(file), path]
    settings = [word for name, value in variables.items() for word in ("--setenv", name, value)]
    user = () if os.geteuid() == 0 else ("--unshare-user", "--uid", "0", "--gid", "0")
    return [
        *("bwrap", "--die-with-parent", "--new-session", *user, "--unshare-net", "--unshare-ipc"),
        *("--unshare-pid", "--unshare-uts", "--hostname", "OpenWrt", "--cap-drop", "ALL", "--clearenv"),
        *settings,
        *shown,
        *("--remount-ro", "/", "--chdir", "/tmp", "--"),  # noqa: S108
    ]


def _emulator_files(root: Root) -> Mapping[str, Path]:
    """The emulator and, if it is no static program, its loader and libraries, by places in the sandbox."""
    if not root.emulated:
        return {}
    program = Path(find_program(root.emulated[0]))
    return _with_libraries(program, program.stat().st_mtime_ns)


@cache
def _with_libraries(program: Path, _changed: int) -> Mapping[str, Path]:
    files = {f"{EMULATOR}/qemu": program.resolve()}
    listed = run(["ldd", str(program)], check=False)
    for name, path in _LIBRARY.findall(listed.stdout):
        files[f"{EMULATOR}/{Path(name).name if name else 'loader'}"] = Path(path).resolve()
    return files


def emulator_argv(root: Root) -> list[str]:
    """What stands before a program's argv."""
    if not root.emulated:
        return []
    loader = f"{EMULATOR}/loader"
    linked = [loader, "--library-path", EMULATOR] if loader in _emulator_files(root) else []
    return [*linked, f"{EMULATOR}/qemu", *root.emulated[1:]]


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


def _no_python(root: Root) -> RootError:
    return RootError(
        f"{root.path} has no Python {root.python}", hint="a trace needs python3-base in the image"
    )


@contextmanager
def _shimmed(root: Root, scratch: Path) -> Iterator[Root]:
    """The root with our encodings over its own, which is beside."""
    place = f"/usr/lib/python{root.python}/encodings"
    own = real_folder(root.path, place[1:])
    if own is None:
        raise _no_python(root)
    shim = scratch / "encodings"
    copy_tree(own, shim, lambda path: path.rpartition("/")[2] != "__pycache__")
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
    work.mkdir(parents=True, exist_ok=True)
    runs = []
    for command in commands:
        log.progress(f"tracing {command}")
        with temporary_folder("scratch", work) as scratch, _shimmed(root, scratch) as shimmed:
            shared = scratch / "work"
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
    for traced in runs:
        if traced.code != 0:
            traced.check_alive()
            raise _failure(traced, dropped)
    return runs


def _failure(run: Traced, dropped: Collection[str]) -> ProofError:
    """Why a command failed, as far as its output and its trace tell."""
    how = how_it_ended(run.code)
    if (known := said(run.output)) is not None and not _shaken_codec(run, dropped):
        need, key = known
        what = f"{need.name} ({key})" if key else need.name
        return ProofError(
            f"{run.command!r} {how} in the image: it does not find {what}:\n{run.output}",
            hint=f"say {help_}" if (help_ := cure(need, key)) else need.reason,
        )
    if (found := lacking(run.output)) is not None:
        what, keep = found
        return ProofError(
            f"{run.command!r} {how} in the image: {what} is missing:\n{run.output}",
            hint=f'add it: keep = ["{keep}"] in [python]',
        )
    hint = "run it on a device with all of Python, to see whether it fails there too"
    if (library := _NO_LIBRARY.search(run.output)) is not None:
        name = library[1] or library[2]
        likely = " or ".join(each.name for each in package_names(name)[:2])
        hint = f"the library {name} is missing: name its package in packages.add, perhaps {likely}"
    elif missed := sorted(set(run.modules) & set(dropped)):
        listed = ", ".join(f'"{name}"' for name in missed)
        hint = f"perhaps it lacks what was shaken off and it looked for: keep = [{listed}] in [python]"
    return ProofError(f"{run.command!r} {how} in the image:\n{run.output}", hint=hint)


def _shaken_codec(run: Traced, dropped: Collection[str]) -> bool:
    """Whether a command looked for parts of a codec that were shaken off: `keep` brings them back."""
    looked = set(run.modules).intersection(dropped)
    return _NO_CODEC.search(run.output) is not None and any(name.startswith(_CODEC_PARTS) for name in looked)


def start_facts(
    root: Root, command: str, work: Path, log: Log, *, runs: int, traced: Traced | None = None
) -> Start:
    """Start a command, which must end by itself with 0, in a root: once to count, then `runs` times for the
    median of its seconds on this machine. Its options decide (an app's site and isolated): they stand in its
    program's first line. traced: it was started to count already.

    CrashError if it dies of a signal, ProofError if it fails otherwise or is no Python; RootError;
    HostError; ProgramTimeoutError.
    """
    if traced is None:
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
