"""What the tests of torture share: a world, a process to torture in it, and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.torture.support import Figures, Victim
from tests.torture.world import World, make_world

Report = Callable[[Figures], None]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def victim(world: World) -> Iterator[Victim]:
    with Victim(world) as running:
        yield running


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Prints figures, also where the test passes, and fails it where something is wrong."""

    def tell(figures: Figures) -> None:
        with capsys.disabled():
            print("", figures.line(), *figures.faults(), sep="\n")
        assert figures.faults() == []
        assert figures.made > 0

    return tell
