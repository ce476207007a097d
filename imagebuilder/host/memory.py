"""How much memory can be had here: the machine's, or less where a control group bounds this process, as
containers and CI's runners do; and a folder in it.

Sources: proc(5); the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from imagebuilder.host.handover import IN_MEMORY, temporary_folder

_ROOT = Path("/")
_SPARE = 8  # of the memory that can be had, what one folder may take is one part in so many
_HALF = 2  # and of what the file system in memory has left
# of each version: its folder below /sys/fs/cgroup, what bounds, what is used, and what of that is files'
# content, which the kernel takes back where programs want more
_V2 = ("", "memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = (
    "memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)


def available_memory(root: Path = _ROOT) -> int:
    """Bytes that programs can have from now on without anything being swapped or killed. root: `/`, or what
    plays it."""
    return max(0, min(_of_machine(root), *_of_groups(root)))


@contextmanager
def folder_in_memory(need: int | None, place: Path = IN_MEMORY) -> Iterator[Path | None]:
    """A folder of one's own whose files lie in memory, removed at the end. None where nobody knows how many
    bytes will be needed, where there is no such file system or not plenty of room in it, and where what lies
    in it cannot have a user's attributes, which the changes of an overlay need (tmpfs has them since Linux
    6.6). place: of that file system."""
    with ExitStack() as ended:
        yield _folder_in_memory(need, place, ended)


def _folder_in_memory(need: int | None, place: Path, ended: ExitStack) -> Path | None:
    if need is None:
        return None
    try:
        if need > min(available_memory() // _SPARE, shutil.disk_usage(place).free // _HALF):
            return None
        folder = ended.enter_context(temporary_folder("work", place))
    except OSError:  # a machine without one, or it may not be written to
        return None
    return folder if _keeps_attributes(folder) else None


def _keeps_attributes(folder: Path) -> bool:
    with suppress(OSError):
        os.setxattr(folder, "user.overlay.test", b"y")
        os.removexattr(folder, "user.overlay.test")
        return True
    return False


def _of_machine(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups(root: Path) -> Iterator[int]:
    """Of each control group that this process is in, and those above, as far as they can be seen."""
    yield _of_machine(root)
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and controllers == "":
            version = _V2
        elif "memory" in controllers.split(","):
            version = _V1
        else:
            continue
        top = root / "sys/fs/cgroup" / version[0]
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            left = _left(folder, version)
            if left is not None:
                yield left


def _left(folder: Path, version: tuple[str, str, str, tuple[str, str]]) -> int | None:
    """What a group leaves; None where it does not bound, or cannot be read: in a container its own path may
    not be there, and the folder above stands for it."""
    _, limit, used, files = version
    try:
        most, now = (int((folder / name).read_text("ascii")) for name in (limit, used))
        given_back = _numbers((folder / "memory.stat").read_text("ascii"))
    except (OSError, ValueError):  # "max" is no number
        return None
    return most - now + sum(given_back.get(name, 0) for name in files)


def _numbers(text: str) -> Mapping[str, int]:
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}
