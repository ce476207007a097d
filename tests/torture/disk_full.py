"""A command on a disk that gets full, at one size of it after another: in a mount namespace of its own, where
what the builder writes to is a tmpfs of that size. test_disk_full.py runs it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.torture.commands import COMMANDS
from tests.torture.support import Ended, Torture, Victim
from tests.torture.world import World, make_world

ROOM_KIB = 256 << 10  # when nothing is to go wrong
ENOUGH = 2  # sizes at which nothing goes wrong, after which larger ones are not tried


def tortured(torture: Torture, sizes: Iterable[int]) -> None:
    """Run the command at sizes, which are what is free, in KiB."""
    disk, enough = torture.world.disk, 0

    def full(argv: list[str]) -> Ended:
        status = os.statvfs(disk)
        _resize(disk, ((status.f_blocks - status.f_bfree) * status.f_frsize >> 10) + free)
        ended = torture.victim.run(argv)
        _resize(disk, ROOM_KIB)
        return ended

    for free in sizes:
        hurt = torture.suffer(f"with {free} KiB free", full, (0, 2))
        if hurt.code == 2 and not re.search(r"[Nn]o space left|\d (MiB )?are free", hurt.said):
            torture.figures.failing.append(
                f"with {free} KiB free it does not say why it ends: {hurt.said[-600:]}"
            )
        enough += hurt.code == 0
        if enough == ENOUGH:
            return


def _resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("command")
    parser.add_argument("sizes", nargs=3, type=int)
    given = parser.parse_args()
    world = World(given.folder)
    world.disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM_KIB}k", "full", str(world.disk)], check=True)
    make_world(world.root)
    (command,) = (each for each in COMMANDS if each.name == given.command)
    with Victim(world) as victim:
        torture = Torture(command, world, victim, "sizes of a full disk")
        tortured(torture, range(*given.sizes))
    print(json.dumps(dataclasses.asdict(torture.figures)))


if __name__ == "__main__":
    main()
