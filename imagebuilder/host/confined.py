"""Work on what others wrote, of which nobody can say how much time and memory it takes: done in a child
process that the kernel bounds (setrlimit(2)).

The child is a copy of this process and runs a function of ours, no program: what it is given reaches it in
memory, so that a secret is in no argument, environment or file.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

MEMORY_BYTES = 128 << 20  # beside what this process has
CPU_SECONDS = 2
_DONE = 0


class BoundsError(Exception):
    """The work took more than it may. what: a predicate, such as `takes more than 2 s`."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def confined(
    work: Callable[[], bytes],
    most: int,
    *,
    seconds: int = CPU_SECONDS,
    memory: int = MEMORY_BYTES,
) -> bytes:
    """What a function gives, called in a child. It must raise nothing but MemoryError, and ask for no lock
    that another thread may hold.

    most: bytes that it may give; seconds: of processor time; memory: bytes that it may take.
    BoundsError where it wants more.
    """
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        _work_and_leave(work, into, seconds, memory)
    os.close(into)
    try:
        with os.fdopen(out, "rb") as stream:
            data = stream.read(most + 1)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if len(data) > most:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if len(data) > most:
        raise BoundsError(f"gives more than {most >> 20} MiB")
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        raise BoundsError(f"takes more than {seconds} s of processor time")
    if status != _DONE:
        raise BoundsError(f"takes more than {memory >> 20} MiB of memory")
    return data


def _work_and_leave(work: Callable[[], bytes], into: int, seconds: int, memory: int) -> None:
    """The child: whatever happens, it ends here, and none of what this process would do at its end."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (has + memory, has + memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        data = memoryview(work())
        while data:
            data = data[os.write(into, data) :]
        code = _DONE
    finally:
        os._exit(code)
