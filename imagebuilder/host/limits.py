"""How much a program in the sandbox may take, and who stops it.

An honest build takes a small part of each bound, a package's script that runs away takes all there is. Two
things hold the bounds. The kernel's resource limits (setrlimit(2)), which a program takes with it through
every exec, hold for one process each. What they cannot bound is watched from outside, ten times a second:
how many processes the sandbox has, what memory they take together with the files in its /tmp, how much room
the disk has left. The watch stops a sandbox by the first process of its process namespace, with which the
kernel ends all others at once and lets none begin (pid_namespaces(7)): nothing is left, however fast it
forks.

RLIMIT_NPROC stops a fork bomb before the watch does where it can be had: for an ordinary user, and since
Linux 5.14, which counts it for each user namespace; before, it counts all that the user runs. It does not
hold for root, whatever capabilities root gave away (kernel/fork.c, copy_process(): INIT_USER). There the
watch goes before what it watches instead, which an ordinary user's cannot. Control groups would do for both,
but to make one takes root or a session that hands them on.

Sources: proc(5), getrlimit(2).
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from imagebuilder.errors import HostError, UserError

_MEBIBYTE = 1 << 20
_GIBIBYTE = 1 << 30


def _memory() -> int:
    """This machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class SandboxLimits:
    """The bounds of one program in the sandbox and all that it starts.

    An image of LEDE 17.01.7 for a flash of 4 MiB (ar71xx, two processors) takes at most 17 processes and
    threads at once, 21 MiB of memory, nothing in /tmp, 1.5 s of processor time in one process, 12 s in all.
    """

    # processes and threads at once: those of a make, xz or mksquashfs on 256 processors, several times over
    tasks: int = 4096
    # bytes: what lies in memory of all processes and of the files in /tmp and /dev; more, and the machine
    # stands still
    memory: int = field(default_factory=lambda: _memory() * 4 // 5)
    # bytes in /tmp and /dev, which are in memory: half of what the kernel allows, so that it is told
    scratch: int = field(default_factory=lambda: _memory() // 4)
    # bytes of one file, holes included: images of disks are as large as their partitions
    file_size: int = 256 * _GIBIBYTE
    # bytes of the work folder's disk that must be left, since all else on this machine wants some; of a small
    # disk one part in _SMALL_DISK
    free: int = 32 * _MEBIBYTE
    # of one process, all its threads together; mksquashfs compresses 100 MiB in a minute or two
    cpu_seconds: int = 2 * 3600
    # from the start to the end, while the machine does not sleep
    seconds: float = 6 * 3600.0
    # bytes of private memory in one process, promised ones too: more than the machine could give. Not its
    # address space: emulators reserve that in great pieces and use little of it
    data: int = field(default_factory=lambda: max(2 * _memory(), 8 * _GIBIBYTE))


LIMITS = SandboxLimits()
_THREAD = "limits"

POLL_SECONDS = 0.1
_START_SECONDS = 0.01  # until the sandbox is there: a fork bomb begins at once
_FULL_LOOK = 5  # every fifth time each process is looked at, else only how many there are
_LITTLE_MEMORY = 4  # where less than a quarter of the memory is free, each is looked at every time
_SCRATCH = ("tmp", "dev")  # where the sandbox has file systems in memory
_SHOWN = 3  # programs in the line of those that started one another
_SHOWN_WORDS = 100  # characters of a command line
_SMALL_DISK = 100
_SLACK = (
    100  # tasks that the kernel allows beyond what the watch does, so that it sees that there are too many
)
_SAMPLE = 50  # processes of a fork bomb that are looked at before it is stopped
_PRIORITY = -15  # of the watch where this process may (nice(2))
_GRACE_SECONDS = 60  # the kernel stops a spinning process that much later than the watch, which says why
_HONEST = "an honest build needs far less; where this is one, --no-sandbox builds without these limits"

# what programs say of a write that the kernel refused: of signal 25 (shells) and of errno (all others)
_TOO_LARGE = ("File size limit exceeded", "File too large")
_NO_SPACE = ("No space left on device", "Disk quota exceeded")


def bounded_argv(limits: SandboxLimits = LIMITS) -> list[str]:
    """What stands before a program's argv in a sandbox with a user namespace of its own: it bounds the number
    of processes where the kernel counts them for that namespace alone."""
    if os.geteuid() == 0 or not _counts_by_namespace():
        return []
    return ["prlimit", f"--nproc={_at_most(resource.RLIMIT_NPROC, limits.tasks + _SLACK)}", "--"]


class LimitError(UserError):
    """A program in the sandbox took more than SandboxLimits allows, and was stopped."""


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    name: str
    threads: int
    cpu_seconds: float
    memory: int


class Watch:
    """Holds one program to its limits; each is for one run of one program.

    doing: what the program is run for, in words that begin a sentence: "make image". folder: what it writes
    to, whose disk must not run full. in_memory: what it writes to as well, in memory (host/memory.py).
    """

    def __init__(
        self,
        doing: str,
        folder: Path,
        limits: SandboxLimits = LIMITS,
        *,
        in_memory: Path | None = None,
    ) -> None:
        self.doing = doing
        self.folder = folder
        self.limits = limits
        self._folders = (folder,) if in_memory is None else (folder, in_memory)
        self.step = ""  # what it was at last, if it says so
        self._ended = threading.Event()
        self._error: UserError | None = None
        self._complaint = ""

    def restrict(self) -> None:
        """Give the process that calls this the kernel's limits; called between fork and exec."""
        limits = self.limits
        for kind, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, limits.file_size),
            (resource.RLIMIT_DATA, limits.data),
            (resource.RLIMIT_CPU, limits.cpu_seconds + _GRACE_SECONDS),
        ):
            lowest = _at_most(kind, most)
            resource.setrlimit(kind, (lowest, lowest))

    def hear(self, line: str) -> None:
        """Keep what the program says of a limit."""
        if not self._complaint and any(text in line for text in (*_TOO_LARGE, *_NO_SPACE)):
            self._complaint = line.strip()

    @contextmanager
    def over(self, pid: int, stop: Callable[[], None]) -> Iterator[None]:
        """Watch the program `pid` while the block runs. stop: ends it where it is not in a sandbox yet."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix=_THREAD) as threads:
            watching = threads.submit(self._look_on, pid, stop)
            try:
                yield
            finally:
                self._ended.set()
                watching.result()  # a fault of the watch itself is not lost

    def check(self, *, failed: bool) -> None:
        """Once it has ended. LimitError where it was stopped here; where it failed, or failed is True,
        LimitError or HostError if it complained of a file's size or a full disk."""
        if self._error is not None:
            raise self._error
        if not failed or not self._complaint:
            return
        if any(text in self._complaint for text in _TOO_LARGE):
            most = _size(self.limits.file_size)
            raise self._broken(f"a file grew beyond {most}, saying: {self._complaint}", stopped="failed")
        raise self._no_space(f"saying: {self._complaint}")

    def _look_on(self, pid: int, stop: Callable[[], None]) -> None:
        with suppress(PermissionError):  # an ordinary user's; see above
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _PRIORITY)
        started = time.monotonic()
        box: _Sandbox | None = None
        count = 0
        while not self._ended.wait(POLL_SECONDS if box is not None else _START_SECONDS):
            box = box or _Sandbox.of(pid)
            trouble = self._full_disk() or self._late(time.monotonic() - started)
            if trouble is None and box is not None:
                count += 1
                trouble = self._inside(box, thorough=count % _FULL_LOOK == 0 or _memory_is_short())
            if trouble is not None:
                self._error = trouble
                if box is not None:
                    box.kill()
                stop()
                break
        if box is not None:
            box.close()

    def _late(self, seconds: float) -> UserError | None:
        if seconds <= self.limits.seconds:
            return None
        return self._broken(f"it did not end within {self.limits.seconds:g} s")

    def _full_disk(self) -> UserError | None:
        for folder in self._folders:
            free = _free(folder)
            if free < min(self.limits.free, _disk_size(folder) // _SMALL_DISK):
                return self._no_space(f"which was stopped when {_size(free)} were left", folder)
        return None

    def _no_space(self, what: str, folder: Path | None = None) -> UserError:
        folder = folder or min(self._folders, key=_free)
        return HostError(
            f"no space left on the disk of {folder} for {self._who()}, {what}",
            hint=f"{_size(_free(folder))} are free now; free some space, or choose another place with"
            " --output; if it took all there was, look at what it runs",
        )

    def _inside(self, box: _Sandbox, *, thorough: bool) -> UserError | None:
        """What is wrong in the sandbox; None if nothing is."""
        pids = box.pids()
        if len(pids) > self.limits.tasks:
            return self._too_many(len(pids), box, box.processes(pids[-_SAMPLE:]))
        processes = box.processes(pids) if thorough else []
        if not processes:
            return None
        tasks = sum(each.threads for each in processes)
        if tasks > self.limits.tasks:
            return self._too_many(tasks, box, processes)
        busiest = max(processes, key=lambda each: each.cpu_seconds)
        if busiest.cpu_seconds > self.limits.cpu_seconds:
            return self._broken(
                f"one process took {busiest.cpu_seconds:.0f} s of processor time, more than"
                f" {self.limits.cpu_seconds}{box.line(busiest, processes)}"
            )
        return self._memory(box, processes)

    def _memory(self, box: _Sandbox, processes: list[_Process]) -> UserError | None:
        scratch = box.scratch()
        if scratch > self.limits.scratch:
            return self._broken(
                f"the files in its /tmp, which lie in memory, have {_size(scratch)}, more than"
                f" {_size(self.limits.scratch)}; it should write to $TMPDIR"
            )
        memory = sum(each.memory for each in processes) + scratch
        if memory <= self.limits.memory:
            return None
        largest = max(processes, key=lambda each: each.memory)
        return self._broken(
            f"it took {_size(memory)} of memory, more than"
            f" {_size(self.limits.memory)}{box.line(largest, processes)}"
        )

    def _too_many(self, number: int, box: _Sandbox, processes: list[_Process]) -> UserError:
        tasks = Counter[str]()
        for process in processes:
            tasks[process.name] += process.threads
        name = next((name for name, _ in tasks.most_common(1)), "")
        one = next((each for each in processes if each.name == name), None)
        return self._broken(
            f"{number} processes and threads ran at once, more than {self.limits.tasks}, most of them"
            f" '{name}'{box.line(one, processes)}"
        )

    def _who(self) -> str:
        return f"{self.doing} ({self.step})" if self.step else self.doing

    def _broken(self, why: str, stopped: str = "was stopped") -> LimitError:
        return LimitError(f"{self._who()} {stopped}: {why}", hint=f"look at what it runs; {_HONEST}")


class _Sandbox:
    """The process namespace of a program, seen by the /proc that it has itself."""

    def __init__(self, pid: int, handle: int) -> None:
        self._handle = handle
        self._proc = Path(f"/proc/{pid}/root/proc")
        self._file_systems = [Path(f"/proc/{pid}/root/{name}") for name in _SCRATCH]
        self._own_file_systems = {Path("/", name).stat().st_dev for name in _SCRATCH}

    @classmethod
    def of(cls, pid: int) -> _Sandbox | None:
        """That of bubblewrap, running as `pid` or below it; None while it has not made it."""
        above = [pid]
        with suppress(OSError):  # it ends
            while above:
                parent = above.pop()
                for child in _children(parent):
                    handle = os.pidfd_open(child)  # its number may be another's as soon as it has ended
                    box = cls(child, handle)
                    if child in _children(parent) and box.is_ready():
                        return box
                    os.close(handle)
                    above.append(child)
        return None

    def is_ready(self) -> bool:
        """The shell around bubblewrap has a process namespace too, and may have its /proc, but our files."""
        if self._proc.parent.samefile("/"):
            return False
        return self._proc.stat().st_dev != Path("/proc").stat().st_dev and (self._proc / "1").exists()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        os.close(self._handle)

    def pids(self) -> list[str]:
        with suppress(OSError):  # it has ended
            return [place.name for place in self._proc.iterdir() if place.name.isdigit()]
        return []

    def processes(self, pids: Iterable[str]) -> list[_Process]:
        return [each for each in map(self._process, pids) if each is not None]

    def _process(self, pid: str) -> _Process | None:
        """None where it ended in the meantime."""
        try:
            stat = (self._proc / pid / "stat").read_text("utf-8", "replace")
            status = (self._proc / pid / "status").read_text("utf-8", "replace")
        except OSError:
            return None
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        return _Process(
            pid=int(pid),
            parent=int(fields[1]),
            name=name,
            threads=int(fields[17]),
            cpu_seconds=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
            memory=sum(
                int(line.split()[1]) * 1024
                for line in status.splitlines()
                if line.startswith(("RssAnon:", "RssShmem:", "VmSwap:"))
            ),
        )

    def scratch(self) -> int:
        """Bytes of files that lie in memory."""
        used = 0
        for place in self._file_systems:
            with suppress(OSError):
                if place.stat().st_dev not in self._own_file_systems:
                    state = os.statvfs(place)
                    used += (state.f_blocks - state.f_bfree) * state.f_frsize
        return used

    def line(self, process: _Process | None, processes: list[_Process]) -> str:
        """Which programs started one another up to this one; the last are shown."""
        known = {each.pid: each for each in processes}
        words: list[str] = []
        while process is not None and process.pid != 1 and len(words) < _SHOWN:
            command = ""
            with suppress(OSError):
                data = (self._proc / str(process.pid) / "cmdline").read_bytes()
                command = data.replace(b"\0", b" ").decode("utf-8", "replace").strip()
            words.append(_shortened(" ".join((command or process.name).split())))
            process = known.get(process.parent)
        return f" (run as: {' > '.join(reversed(words))})" if words else ""


def _shortened(command: str) -> str:
    """Both ends of a command line: the program, and the script or file that it is run on."""
    if len(command) <= _SHOWN_WORDS:
        return command
    return f"{command[: _SHOWN_WORDS // 3]}…{command[-_SHOWN_WORDS * 2 // 3 :]}"


def _at_most(kind: int, most: int) -> int:
    """A limit that may be set: no higher than the one that this process has."""
    known = [each for each in resource.getrlimit(kind) if each != resource.RLIM_INFINITY]
    return min([most, *known])


def _counts_by_namespace() -> bool:
    """Whether this kernel counts a user's processes in each user namespace for itself."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(takewhile(str.isdigit, minor)) or 0)) >= (5, 14)


def _children(pid: int) -> list[int]:
    """The processes that a process started, of one in a namespace as this machine numbers them."""
    place = Path(f"/proc/{pid}/task/{pid}/children")
    if place.exists():
        return [int(name) for name in place.read_text().split()]
    found = []  # a kernel without CONFIG_PROC_CHILDREN
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                stat = (place / "stat").read_bytes()
                if int(stat.rpartition(b")")[2].split()[1]) == pid:
                    found.append(int(place.name))
    return found


def _memory_is_short() -> bool:
    """Whether less than a part of this machine's memory can be had without swapping."""
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 * _LITTLE_MEMORY < _memory()
    return True  # Linux says it since 3.14


def _free(folder: Path) -> int:
    """Bytes that this user may still write to the disk of a folder."""
    state = os.statvfs(folder)
    return (state.f_bfree if os.geteuid() == 0 else state.f_bavail) * state.f_frsize


def _disk_size(folder: Path) -> int:
    """Bytes of the whole disk of a folder."""
    state = os.statvfs(folder)
    return state.f_blocks * state.f_frsize


def _size(number: int) -> str:
    return f"{number / _MEBIBYTE:.0f} MiB" if number < 10 * _GIBIBYTE else f"{number / _GIBIBYTE:.0f} GiB"
