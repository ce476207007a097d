"""What the tests of torture share: a world, a process to torture in it, and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.torture.support import Figures, Victim
from tests.torture.world import World, make_world

Report = Callable[[Figures], None]
_FIGURES = "torture"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def victim(world: World) -> Iterator[Victim]:
    with Victim(world) as running:
        yield running


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Keeps figures for the end of the run, and fails the test where something is wrong."""

    def tell(figures: Figures) -> None:
        request.node.user_properties.append((_FIGURES, figures.line()))
        assert figures.faults() == []
        assert figures.made > 0

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of all commands, also those that other processes of pytest have found."""
    ended = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, ())]
    lines = [text for each in ended for name, text in each.user_properties if name == _FIGURES]
    if lines:
        terminalreporter.section("torture")
        for line in lines:
            terminalreporter.write_line(line)
