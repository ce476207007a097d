"""Programs of a root file system, run in it: shut into bubblewrap with the root as `/`, read-only and without
a network, natively or under QEMU's user-mode emulation."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host import bubblewrap
from imagebuilder.host.run import Completed, find_program, run

RUN_SECONDS = 120.0
DEVICE_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # OpenWrt's /etc/profile
EMULATOR = "/.emulator"
WORK = "/.work"
_MOST_LINKS = 40  # that are followed, as in Linux
_HEAD_BYTES = 256
_LIBRARY = re.compile(r"(?:(\S+) => )?(/\S+) \(0x[0-9a-f]+\)")
# what a running system mounts itself
_OWN = frozenset({"dev", "proc", "sys", "tmp", "run", "var", EMULATOR[1:], WORK[1:]})


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
    since an emulator starts programs only. RootError if it is not there."""
    name, *arguments = words
    places = [name] if "/" in name else [f"{folder}/{name}" for folder in DEVICE_PATH.split(":")]
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
    return run([*_sandbox(root, work, variables), *emulator_argv(root), *argv], timeout=timeout, check=False)


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


def _emulator_files(root: Root) -> dict[str, Path]:
    """The emulator and, if it is no static program, its loader and libraries, by places in the sandbox."""
    if not root.emulated:
        return {}
    program = Path(find_program(root.emulated[0]))
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
