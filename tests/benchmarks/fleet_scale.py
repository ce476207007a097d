"""What scheduling many boards costs: jobs whose steps are sleeps of known length, through the very scheduler
that builds, each in a process of its own, with events, outcomes and the file of what was run last.

    python -m tests.benchmarks.fleet_scale [--boards 1000] [--jobs 8]

Prints for a tenth of the boards and for all: what a board costs besides its sleep (the wall time times the
places, less the sleeps), the processor time of this process and of the others, by how much this process's
memory grows, and what bounds the number of boards.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.library import Library
from imagebuilder.config.request import Request
from imagebuilder.fleet.job import BoardJob, Ended, HandedOver
from imagebuilder.fleet.journal import Journal
from imagebuilder.fleet.outcomes import run_all
from imagebuilder.fleet.processes import LocalProcesses
from imagebuilder.fleet.room import Room
from imagebuilder.fleet.scheduler import JobEvent
from tests.support.fleet_work import STEP_SECONDS, STEPS, sleep_job

BOARD = "qemu-x86-64"


class Silent:
    """Told, as the command line is, and shows nothing."""

    def __init__(self) -> None:
        self.events = 0

    def told(self, job: BoardJob, event: JobEvent) -> None:
        self.events += 1

    def ended(self, how: Ended[HandedOver]) -> None:
        pass


@dataclass(frozen=True)
class Cost:
    """boards: how many. Of a board: scheduling, parent, child: ms; memory: KB that the parent grew by."""

    boards: int
    seconds: float
    scheduling: float
    parent: float
    children: float
    memory: float


def resident() -> int:
    """Bytes that this process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(folder: Path, boards: int, places: int) -> Cost:
    """Run so many boards."""
    library, output = Library(folder), folder / "out"
    asked = [Request(library, f"c{number}", BOARD, output, folder / "cache") for number in range(boards)]
    with LocalProcesses(
        sleep_job,
        places,
        room=Room(memory=lambda: 1 << 50, disk=lambda _: 1 << 50),
        load=("imagebuilder.fleet.work", "imagebuilder.made", "tests.support.fleet_work"),
    ) as scheduler:
        list(scheduler.run([BoardJob(0, asked[0], "c0")], lambda *_: None))  # the maker has loaded
        gc.collect()
        before, cpu, began = resident(), os.times(), time.monotonic()
        jobs = [BoardJob(number, request, request.config) for number, request in enumerate(asked)]
        outcomes = run_all(jobs, scheduler, Silent(), "built", journal=Journal(output))
        seconds, spent = time.monotonic() - began, os.times()
        gc.collect()
        grown = resident() - before
    whole = os.times()
    assert [each.failure for each in outcomes.all] == [None] * boards
    slept = boards * len(STEPS) * STEP_SECONDS
    return Cost(
        boards,
        seconds,
        (seconds * places - slept) / boards * 1000,
        (spent.user + spent.system - cpu.user - cpu.system) / boards * 1000,
        (whole.children_user + whole.children_system - cpu.children_user - cpu.children_system)
        / boards
        * 1000,
        grown / boards / 1000,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boards", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=8, help="how many at once")
    options = parser.parse_args()
    for boards in sorted({max(options.boards // 10, 1), options.boards}):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("boards", "configs"):
                (Path(folder) / name).mkdir()
            for number in range(boards):
                text = f'extends = "base"\nrelease = "embedded"\nboards = ["{BOARD}"]\n'
                (Path(folder) / f"configs/c{number}.toml").write_text(text)
            cost = measure(Path(folder), boards, options.jobs)
        alone = len(STEPS) * STEP_SECONDS * boards / options.jobs
        print(f"{boards} boards, {options.jobs} at once, {cost.seconds:.1f} s, {alone:.1f} asleep; each:")
        print(f"  scheduling   {cost.scheduling:8.2f} ms of a place")
        print(f"  this process {cost.parent:8.2f} ms of processor time")
        print(
            f"  the others   {cost.children:8.2f} ms: the maker is copied, and the copy tells of seven steps"
        )
        print(f"  memory       {cost.memory:8.2f} KB")
    processors = os.cpu_count() or 1
    most = processors * 1000 / (cost.parent + cost.children)
    print(
        f"10,000 boards take {10 * cost.parent:.0f} s of this process's time and {10 * cost.memory:.0f} MB;"
        f" {processors} processors can begin {most:.0f} boards a second, and so the bound is"
        f" {'this process' if cost.parent > cost.children else 'the copying of the maker'}"
    )


if __name__ == "__main__":
    main()
