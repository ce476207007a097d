"""Who compiles for the target: a Python of this machine whose bytecode is the target's, or the target's own
interpreter, run where it is native or under QEMU's user-mode emulation, in the sandbox."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from imagebuilder.called import typed
from imagebuilder.config.board import Board
from imagebuilder.errors import HostError, UserError
from imagebuilder.host import bubblewrap
from imagebuilder.host.elf import ElfError, ElfHeader, read_elf
from imagebuilder.host.run import CLEAN_PATH, clean_environment, run
from imagebuilder.host.tools import emulator_names, user_emulator
from imagebuilder.python.bytecode.bytecode import Interpreter, InterpreterError

PROBE_SECONDS = 20.0
_MAGIC = "import importlib.util as u; print(int.from_bytes(u.MAGIC_NUMBER[:2], 'little'))"
_LOADERS = ("lib/ld-musl-*.so.1", "lib*/ld-linux*.so.*", "lib/ld.so.1")


def host_interpreter(
    python: str, magic_number: int, programs: Iterable[str] | None = None
) -> Interpreter | None:
    """A Python of this machine whose bytecode is that of the target's ("3.11"); None if there is none.
    programs: to look at, by default this one, and those that are called as the target's is."""
    path = f"{CLEAN_PATH}:{os.environ.get('PATH', '')}"
    names = (sys.executable, f"python{python}", "python3") if programs is None else programs
    for name in names:
        program = shutil.which(name, path=path)
        if program is not None and _magic(program) == magic_number:
            return Interpreter((program,), python, magic_number)
    return None


def _magic(program: str) -> int | None:
    try:
        done = run(
            [program, "-S", "-E", "-c", _MAGIC], env=clean_environment(), timeout=PROBE_SECONDS, check=False
        )
    except UserError:  # it does not run, or not in time: another one may
        return None
    text = done.stdout.strip()
    return int(text) if done.code == 0 and text.isdecimal() else None


def emulation(board: Board, root: Path) -> tuple[str, ...]:
    """What runs the board's programs on this machine; empty where it does so itself, and where the board's
    file does not say. root: as the emulator sees the root file system. HostError without the emulator."""
    user = board.emulation.user
    native = user is None or user.binary == platform.machine()
    return () if user is None or native else emulator(user.binary, user.cpu, root)


def emulator(binary: str, cpu: str | None, root: Path) -> tuple[str, ...]:
    """QEMU's user-mode emulation of a processor, for the programs of a root file system. binary, cpu: of the
    board's emulation.user. HostError if it is not on this machine."""
    program = user_emulator(binary)
    if program is None:
        first, second = emulator_names(binary)
        raise HostError(
            f"neither {first} nor {second} is on this machine: Debian's package qemu-user brings the first",
            hint=f"{typed('doctor --fix')} installs what is missing",
        )
    return (program, *(("-cpu", cpu) if cpu else ()), "-L", str(root))


def target_interpreter(
    root: Path, python: str, magic_number: int, emulated: Sequence[str] | None = None
) -> Interpreter:
    """The interpreter in a root file system (python3-base or more). emulated: the argv of what runs programs
    of the target, see emulator(); None where this machine runs them itself.

    InterpreterError where there is no such interpreter, or this machine cannot run it.
    """
    program = root / f"usr/bin/python{python}"
    try:
        elf = read_elf(program.read_bytes()).header
    except (OSError, ElfError) as error:
        reason = error.message if isinstance(error, ElfError) else error.strerror
        raise InterpreterError(
            f"{program} is no interpreter: {reason}",
            hint=f"Python {python} (magic number {magic_number}) is needed: python3-base in its root",
        ) from error
    native = _is_native(elf)
    if native or emulated is not None:
        # under QEMU too: what the root has not where its loader looks first, QEMU takes from this machine,
        # and libraries of this machine's processor are there
        argv = (*(emulated or ()), *(_loader(root) if native else ()), str(program))
    else:
        raise InterpreterError(
            f"{program} is for another processor (ELF machine {elf.machine})",
            hint="name how it is emulated in the board's [emulation] user, and install qemu-user",
        )
    return Interpreter(argv, python, magic_number, {"PYTHONHOME": str(root / "usr")})


def can_run(root: Path, python: str, emulated: Sequence[str]) -> bool:
    """Whether the interpreter of a root file system can be started on this machine: there is an emulator for
    it (see emulator()), or its processor is this one's."""
    if emulated:
        return True
    try:
        return _is_native(read_elf((root / f"usr/bin/python{python}").read_bytes()).header)
    except (OSError, ElfError):
        return False


def _is_native(elf: ElfHeader) -> bool:
    own = read_elf(Path(sys.executable).resolve().read_bytes()).header
    return (own.machine, own.bits, own.little_endian) == (elf.machine, elf.bits, elf.little_endian)


def _loader(root: Path) -> tuple[str, ...]:
    """The root's own dynamic loader and its libraries: this machine's would be another C library's."""
    found = next((path for pattern in _LOADERS for path in sorted(root.glob(pattern))), None)
    if found is None:
        return ()  # a static program
    folders = [root / "lib", *sorted(root.glob("lib/*-linux-*")), root / "usr/lib"]
    return str(found), "--library-path", ":".join(map(str, folders))


def sandboxed(interpreter: Interpreter, into: Path) -> Interpreter:
    """An interpreter, shut in: it may read this machine's files and write into one folder, and has no
    network. HostError where there is no bubblewrap."""
    bubblewrap.check_present()
    folder = str(into.absolute())
    into.mkdir(parents=True, exist_ok=True)
    user = () if os.geteuid() == 0 else ("--unshare-user",)
    prefix = (
        *("bwrap", "--die-with-parent", "--new-session", *user, "--unshare-net", "--unshare-ipc"),
        *("--unshare-pid", "--unshare-uts", "--cap-drop", "ALL", "--ro-bind", "/", "/"),
        *("--dev", "/dev", "--proc", "/proc", "--bind", folder, folder, "--chdir", folder, "--"),
    )
    return replace(interpreter, argv=(*prefix, *interpreter.argv))


def choose_interpreter(
    python: str,
    magic_number: int,
    *,
    root: Path | None = None,
    emulated: Sequence[str] | None = None,
    programs: Iterable[str] | None = None,
) -> Interpreter:
    """Who compiles: a Python of this machine, or the one in the target's root file system `root`.

    InterpreterError that says which version is needed, where there is neither.
    """
    found = host_interpreter(python, magic_number, programs)
    if found is not None:
        return found
    if root is not None:
        return target_interpreter(root, python, magic_number, emulated)
    raise InterpreterError(
        f"no Python of this machine makes bytecode for Python {python} (magic number {magic_number})",
        hint=f"install Python {python}, or qemu-user and say in the board's [emulation] what emulates it",
    )
