"""How many builds have room at once, and how much memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuilder.fleet.job import Ended
from imagebuilder.fleet.journal import LastRun
from imagebuilder.fleet.room import DISK_BYTES, MEMORY_BYTES, Room
from imagebuilder.host.memory import available_memory
from tests.support.fleet_work import jobs

MIB = 1 << 20


@dataclass
class Machine:
    """What is free, in bytes."""

    memory: int = 1 << 40
    disk: int = 1 << 40

    def room(self, **measured: LastRun) -> Room:
        known = {f"config/{board}": run for board, run in measured.items()}
        return Room(known, lambda: self.memory, lambda _: self.disk)


def test_one_always_has_room(tmp_path: Path) -> None:
    first, second = jobs(tmp_path, "a", "b")
    machine = Machine(memory=0, disk=0)
    room = machine.room()
    assert room.take(first) is None
    assert (room.take(second) or "").endswith(" of memory")
    room.give_back(first)
    assert room.take(second) is None


def test_as_many_as_memory_allows(tmp_path: Path) -> None:
    asked = jobs(tmp_path, *"abcdef")
    machine = Machine(memory=4 * MEMORY_BYTES)
    room = machine.room()
    assert sum(room.take(job) is None for job in asked) == 3, "some stays for all else"
    machine.memory = MEMORY_BYTES  # what runs has taken it by now
    room.give_back(asked[0])
    assert room.take(asked[5]) == "64.0 MiB of memory", "others took what was free"
    machine.memory = 3 * MEMORY_BYTES
    assert room.take(asked[5]) is None


def test_what_was_measured_counts(tmp_path: Path) -> None:
    small, large, other = jobs(tmp_path, "small", "large", "other")
    machine = Machine(memory=1000 * MIB)
    room = machine.room(small=LastRun(memory=100 * MIB), large=LastRun(memory=700 * MIB))
    assert room.take(large) is None
    assert room.take(other) is not None
    assert room.take(small) is not None, "840 and 120 of 1000, of which 64 stay free"
    room.give_back(large)
    assert room.take(small) is None
    assert room.take(other) is None
    room.give_back(small)
    room.learn(Ended(large, "done", None, None, 1.0, peak=20 * MIB))
    assert room.take(large) is None


def test_the_disk_has_to_do_too(tmp_path: Path) -> None:
    first, second, third = jobs(tmp_path, "a", "b", "c")
    machine = Machine(disk=2 * DISK_BYTES + 64 * MIB)
    room = machine.room()
    assert room.take(first) is None
    assert room.take(second) is None
    lack = room.take(third) or ""
    assert lack == f"512.0 MiB of disk below {tmp_path}", "the folder of results is not there yet"


MEMINFO = "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n"


def machine(root: Path, group: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(MEMINFO)
    (root / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        place = root / "sys/fs/cgroup" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return root


WHOLE = 4000000 * 1024


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/\n", {}, WHOLE),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/b/memory.current": "5\n", "a/b/memory.stat": ""}, WHOLE),
        (
            "0::/a/b\n",
            {
                "a/memory.max": "1000\n",
                "a/memory.current": "700\n",
                "a/memory.stat": "anon 1\ninactive_file 200\nactive_file 100\n",
                "a/b/memory.max": "max\n",
            },
            600,
        ),
        (  # in a container the group's own path need not be there
            "0::/outside/of/it\n",
            {"memory.max": "500\n", "memory.current": "100\n", "memory.stat": "\n"},
            400,
        ),
        (
            "5:cpu:/x\n4:memory,cpu:/x\n",
            {
                "memory/x/memory.limit_in_bytes": "900\n",
                "memory/x/memory.usage_in_bytes": "1000\n",
                "memory/x/memory.stat": "total_inactive_file 50\n",
            },
            0,
        ),
        ("0::/a\n", {"a/memory.max": "\xff", "a/memory.current": "?"}, WHOLE),
        ("no line of this form\n\n", {}, WHOLE),
    ],
)
def test_memory_of_a_control_group(tmp_path: Path, group: str, files: dict[str, str], expected: int) -> None:
    assert available_memory(machine(tmp_path, group, files)) == expected


def test_memory_of_this_machine() -> None:
    assert 1 << 20 < available_memory() < 1 << 50
