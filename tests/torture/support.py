"""A fault, and what is asserted after it: one function, whatever the command and the fault."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.conftest import PROJECT
from tests.torture import world as worlds
from tests.torture.points import Point, read_points
from tests.torture.world import Found, World

KILLED = -9
SLACK_BYTES = 4096  # by which two results of one thing may differ: seconds are written down in them
_NAMES_CHANGE = ("rename", "renameat2", "link", "symlink")


@dataclass(frozen=True)
class Ended:
    """A command that ended. code: minus the signal that killed it; left: processes that went on; said: what
    it printed; points: what it did."""

    code: int | None
    left: list[str]
    said: str
    points: list[Point]


class Victim:
    """Runs commands in a world and kills them; see victim.py. prefix: what its process is started with."""

    def __init__(self, world: World, prefix: Sequence[str] = ()) -> None:
        self._world = world
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.torture.victim"],
            cwd=PROJECT,
            env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, argv: Sequence[str], at: int = 0, after: float | None = None, program: Sequence[str] = ()
    ) -> Ended:
        """Run one command; at: the point at which it is killed; after: the seconds after which it is.
        program: what runs the builder, in a process that loads it anew and has no points."""
        said, record = (self._world.root / f"{name}-{self._process.pid}" for name in ("said", "record"))
        asked = {
            "argv": list(argv),
            "at": at,
            "after": after,
            "program": [*program, sys.executable, "-m", "imagebuilder"] if program else [],
            "below": [str(folder) for folder in (*self._world.written, self._world.site)],
            "environment": self._world.environment(),
            "folder": str(self._world.root),
            "said": str(said),
            "record": str(record),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(asked)}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        points = read_points(record)
        return Ended(answer["code"], answer["left"], said.read_text("utf-8", "replace"), points)

    def __enter__(self) -> Victim:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@dataclass(frozen=True)
class Command:
    """A command to torture, in two variants that take turns, so that old and new can be told apart.

    argv: by the world and the variant. before: what is done before it. result: what it gives the user.
    faults: what is wrong with that by itself. prepare: what is done once, with runs that nothing happens to.
    once: a second run refuses (2) where the first one did it all. left: what a run that went well leaves
    behind and should not, in folders that turn over with each one.
    """

    name: str
    argv: Callable[[World, str], list[str]]
    result: Callable[[World], Found]
    before: Callable[[World, str], None] = lambda _world, _variant: None
    faults: Callable[[World], list[str]] = lambda _world: []
    prepare: Callable[[World, Victim], None] = lambda _world, _victim: None
    once: bool = False
    left: Callable[[World], list[str]] = lambda _world: []


@dataclass
class Figures:
    """How often something was done to a command (kind: what), and what was wrong after it, in words."""

    command: str
    kind: str = "kills"
    made: int = 0
    lost: list[str] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    living: list[str] = field(default_factory=list)

    def line(self) -> str:
        """For the report."""
        return (
            f"{self.command}: {self.made} {self.kind}, {len(self.lost)} lost, {len(self.failing)} failed,"
            f" {len(self.leftovers)} left something, {len(self.living)} went on"
        )

    def faults(self) -> list[str]:
        """All that is wrong."""
        return [*self.lost, *self.failing, *self.leftovers, *self.living]


@dataclass
class Torture:
    """A command in a world: what it gives when nothing goes wrong, and what is there after a fault."""

    command: Command
    world: World
    victim: Victim
    kind: str = "kills"
    figures: Figures = field(init=False)

    def __post_init__(self) -> None:
        self.figures = Figures(self.command.name, self.kind)
        self._turn = 0
        self.new: dict[str, Found] = {}
        self.names: dict[str, set[str]] = {}
        self.size: dict[str, int] = {}
        self.points: list[Point] = []
        self.seconds = 0.0  # that the last run took
        self._mounted = worlds.mounts(self.world.root)
        self.command.prepare(self.world, self.victim)
        for _ in range(2):  # in the second round each finds what the other one left
            for variant in ("a", "b"):
                self.command.before(self.world, variant)
                begun = time.monotonic()
                ended = self.victim.run(self.command.argv(self.world, variant))
                self.seconds = time.monotonic() - begun
                assert ended.code == 0, ended.said
                self.points = ended.points
                self.new[variant] = self.command.result(self.world)
                self.names[variant] = self._names()
                self.size[variant] = worlds.size(self.world.written)
                assert self.command.faults(self.world) == []

    def kill(self, at: int) -> None:
        """Kill it at one point, look, run it again, and look."""
        point = self.points[at - 1]
        place = os.path.relpath(point.path, self.world.disk)
        self.suffer(f"at {at}, {point.call} {place}", lambda argv: self.victim.run(argv, at))

    def kill_after(self, seconds: float) -> None:
        """The same after some time, whatever it or its programs are doing then."""
        self.suffer(f"after {seconds:.3f} s", lambda argv: self.victim.run(argv, after=seconds))

    def suffer(
        self, what: str, fault: Callable[[list[str]], Ended], codes: Sequence[int | None] = (KILLED, 0)
    ) -> Ended:
        """Let something go wrong with a run, look, run it again, and look. codes: with which of them that
        run may end."""
        variant = "ab"[self._turn % 2]
        self._turn += 1
        command, world, figures = self.command, self.world, self.figures
        command.before(world, variant)
        argv, old = command.argv(world, variant), command.result(world)
        hurt = fault(argv)
        seen = command.result(world)
        figures.made += hurt.code != 0
        wrong = [*command.faults(world), *worlds.cache_faults(world.cache)]
        if seen not in (old, self.new[variant]):
            wrong.append(f"neither the old nor the new result: {_difference(self.new[variant], seen)}")
        self._note(figures.lost, what, wrong)
        if hurt.code not in codes:
            self._note(figures.failing, what, [f"it ends with {hurt.code}: {hurt.said[-600:]}"])
        again = self.victim.run(argv)
        if again.code != 0 and not (command.once and again.code == 2 and seen == self.new[variant]):
            self._note(figures.failing, what, [f"the next run ends with {again.code}: {again.said[-600:]}"])
        elif command.result(world) != self.new[variant]:
            difference = _difference(self.new[variant], command.result(world))
            self._note(figures.failing, what, [f"the next run gives something else: {difference}"])
        there = self._names()
        more = there - self.names[variant]
        left = [f"left {sorted(path for path in more if str(Path(path).parent) not in more)}"] if more else []
        grown = worlds.size(world.written) - self.size[variant]
        left += command.left(world) if again.code == 0 else []
        left += [f"grown by {grown} bytes"] if not left and grown > SLACK_BYTES else []
        self._note(figures.leftovers, what, left)
        for path in sorted(more, reverse=True):  # the next fault is to find its own
            Path(path).rmdir() if Path(path).is_dir() and not Path(path).is_symlink() else Path(path).unlink()
        mounted = [line for line in worlds.mounts(world.root) if line not in self._mounted]
        living = [*hurt.left, *again.left, *mounted]
        self._note(figures.living, what, [f"goes on: {living}"] if living else [])
        return hurt

    def _note(self, notes: list[str], what: str, faults: list[str]) -> None:
        root = f"{self.world.root}/"
        if faults:
            notes.append(f"{self.command.name} {what}: {'; '.join(faults)}".replace(root, ""))

    def _names(self) -> set[str]:
        found = worlds.names((*self.world.written, self.world.temporary))
        return {path for path in found if not self._is_pythons(Path(path))}

    def _is_pythons(self, path: Path) -> bool:
        """Whether it is what tempfile writes to see whether it can, and removes at once."""
        tried = path.parent == self.world.temporary and re.fullmatch("[a-z0-9_]{8}", path.name)
        return bool(tried) and path.is_file() and path.stat().st_size <= len(b"blat")


def _difference(wanted: Found, seen: Found) -> str:
    lacking = [Path(each).name for each in wanted if each not in seen]
    more = [Path(each).name for each in seen if each not in wanted]
    other = [Path(each).name for each in wanted if each in seen and seen[each] != wanted[each]]
    return f"lacks {lacking}, has {more} besides, other content in {other}"


def sample(points: Sequence[Point], count: int, chosen: random.Random) -> list[int]:
    """Some of the points: those at which names change, of many the same number, and as many others."""
    numbers = range(1, len(points) + 1)
    naming = [number for number in numbers if points[number - 1].call in _NAMES_CHANGE]
    others = [number for number in numbers if number not in naming]
    half = [chosen.sample(some, min(len(some), count)) for some in (naming, others)]
    return sorted([*half[0], *half[1]])
