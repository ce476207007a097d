"""The table that a terminal has of several boards at once."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from imagebuilder.cli.board_table import BoardTable
from imagebuilder.cli.progress import Reporter
from imagebuilder.log import Note, Progress, StepFinished, StepStarted, Warned


def console(height: int = 10, width: int = 60) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)


def drawn(table: BoardTable, at: Console) -> list[str]:
    with at.capture() as captured:
        at.print(table.drawn())
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_row_a_board_and_how_many_are_done() -> None:
    at = console()
    table = BoardTable(at, 5)
    for name in ("one", "two", "three"):
        table.begun(name)
    table.show(StepStarted("build"), "one")
    table.show(Progress("installing", 3, 10), "one")
    table.show(Progress("un\x1b[2Jpacking"), "two")
    table.ended("three", "failed")
    table.waits("four", "300 MiB of memory")
    rows = drawn(table, at)
    assert rows[0].split() == ["one", "build", "0", "s", "installing", "(3/10)"]
    assert rows[1].startswith("two")
    assert "\x1b" not in rows[1]
    whole = " ".join(rows[2:])
    assert "1 of 5: 1 failed, 2 at work, 2 to come; four waits for" in whole
    table.begun("four")
    assert "waits" not in " ".join(drawn(table, at))


def test_what_the_terminal_does_not_hold_is_counted() -> None:
    at = console(height=7)
    table = BoardTable(at, 20)
    for number in range(9):
        table.begun(f"board{number}")
    rows = drawn(table, at)
    assert [row.split()[0] for row in rows[:3]] == ["board0", "board1", "board2"]
    assert rows[3] == "and 6 more"
    assert rows[4] == "0 of 20: 9 at work, 11 to come"


def test_lines_are_said_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is worth a line; steps and progress are in the table."""
    at = console(width=100)
    reporter = Reporter()
    monkeypatch.setattr(reporter, "_console", at)
    with reporter.of_several(2):
        reporter.begun("one", "1 of 2")
        reporter.show(StepStarted("build"), "one")
        reporter.show(Warned("beware"), "one")
        reporter.show(StepFinished("build", 1.0), "one")
        reporter.show(Note("a fact"), "one")
        reporter.ended("one", "built", "built in 1.0 s")
    assert isinstance(at.file, io.StringIO)
    said = at.file.getvalue()
    for line in ("one: warning: beware", "one: a fact", "one: built in 1.0 s"):
        assert line in said
    assert "one: build: 1.0 s" not in said
    assert "1 of 2: 1 built, 1 to come" in said
