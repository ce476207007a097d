"""kill -9 at every call by which a command changes something: the old result or the new one, and the next run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.commands import COMMANDS
from tests.torture.support import Command, Torture, Victim, sample
from tests.torture.world import World, make_world

SAMPLE = 2  # kills of each of two kinds, of each command


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def victim(world: World) -> Iterator[Victim]:
    with Victim(world) as running:
        yield running


def by_name(command: Command) -> str:
    return command.name.replace(" ", "-")


@pytest.mark.parametrize("command", COMMANDS, ids=by_name)
def test_some_kills(command: Command, world: World, victim: Victim, capsys: pytest.CaptureFixture[str]) -> None:
    torture = Torture(command, world, victim)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}, of {len(torture.points)} points")
    for at in sample(torture.points, SAMPLE, seed):
        torture.kill(at)
    assert torture.figures.faults() == []
    assert torture.figures.kills > 0


@pytest.mark.torture
@pytest.mark.parametrize("command", COMMANDS, ids=by_name)
def test_every_kill(command: Command, world: World, victim: Victim, capsys: pytest.CaptureFixture[str]) -> None:
    torture = Torture(command, world, victim)
    for at in range(1, len(torture.points) + 1):
        torture.kill(at)
    with capsys.disabled():
        print("", torture.figures.line(), *torture.figures.faults(), sep="\n")
    assert torture.figures.faults() == []
