"""Four builds at once, and `clean` beside them: each build ends well, and nobody sees half a result."""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from imagebuilder.report.files import BUILD_LOG, LOCK, MANIFEST, REPORT, RESULT, SBOM, SUMS
from tests.torture import world as worlds
from tests.torture.commands import BUILD, CLEAN
from tests.torture.conftest import Report
from tests.torture.support import Ended, Figures, Victim
from tests.torture.world import World

BUILDERS = 4


class Onlooker:
    """Somebody who reads a result again and again while it is replaced. seen: how often there was one."""

    def __init__(self, place: Path) -> None:
        self._place, self._ended = place, threading.Event()
        self.faults: list[str] = []
        self.seen = 0
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._ended.wait(0.001):
            try:
                folder: int = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                names = set(os.listdir(folder))
                self._judge(names, self._place.stat().st_ino == os.fstat(folder).st_ino)
            except FileNotFoundError:
                continue
            finally:
                os.close(folder)

    def _judge(self, names: set[str], still: bool) -> None:
        """still: whether the folder had its name after it was read."""
        self.seen += still
        if still and not {RESULT, MANIFEST, SUMS, BUILD_LOG, SBOM, LOCK, REPORT} <= names:
            self.faults.append(f"half a result: {sorted(names)}")

    def __enter__(self) -> Onlooker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def rounds(world: World, count: int, chosen: random.Random) -> Figures:
    """So many rounds of builds that begin together, and of `clean` that begins some time later, or twice."""
    figures = Figures(f"{BUILDERS} builds at once with clean", "rounds")
    with ExitStack() as stack:
        victims = [stack.enter_context(Victim(world)) for _ in range(BUILDERS + 1)]
        for variant in ("a", "b"):
            assert victims[0].run(BUILD.argv(world, variant)).code == 0
        wanted, new = worlds.names(world.written), BUILD.result(world)
        pool = stack.enter_context(ThreadPoolExecutor(BUILDERS + 1))
        for number in range(count):
            with Onlooker(world.result()) as onlooker:
                builds = [
                    pool.submit(victim.run, BUILD.argv(world, "ab"[at % 2]))
                    for at, victim in enumerate(victims[:BUILDERS])
                ]
                cleans = pool.submit(_cleans, victims[BUILDERS], CLEAN.argv(world, "a"), chosen)
                ended = [*(each.result() for each in builds), *cleans.result()]
            _judge(figures, f"round {number}", ended)
            figures.lost.extend(onlooker.faults)
            last = victims[0].run(BUILD.argv(world, "b"))
            _judge(figures, f"round {number}, then", [last])
            if BUILD.result(world) != new:
                figures.lost.append(f"round {number}: another result: {sorted(BUILD.result(world))}")
            more = sorted(worlds.names(world.written) ^ wanted)
            figures.leftovers.extend([f"round {number}: {more}"] if more else [])
            figures.made += 1
    return figures


def _cleans(victim: Victim, argv: list[str], chosen: random.Random) -> list[Ended]:
    ended = []
    for _ in range(chosen.randrange(1, 4)):
        time.sleep(chosen.uniform(0, 1.0))
        ended.append(victim.run(argv))
    return ended


def _judge(figures: Figures, what: str, ended: list[Ended]) -> None:
    figures.failing.extend(
        f"{what}: ended with {each.code}: {each.said[-600:]}" for each in ended if each.code
    )
    figures.living.extend(f"{what}: {each.left}" for each in ended if each.left)


def test_a_few_rounds(world: World) -> None:
    print(f"seed {(seed := random.randrange(1 << 32))}")
    figures = rounds(world, 1, random.Random(seed))
    assert figures.faults() == []


@pytest.mark.torture
def test_many_rounds(world: World, report: Report) -> None:
    report(rounds(world, 30, random.Random(1)))
