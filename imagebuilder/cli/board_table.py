"""A table on a terminal of what several boards are at, while they are."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imagebuilder.cli.terminal import harmless
from imagebuilder.log import Event, Progress, StepStarted

_LINES_LEFT = 4  # of the terminal's height, for what is said above the table and the line below
_REFRESHES = 4  # a second


@dataclass
class _Row:
    began: float = field(default_factory=time.monotonic)
    step: str = ""
    text: str = ""


class BoardTable:
    """Rows of the boards that are worked on, each with its step and for how long; below, a line with how many
    are done and what is waited for. Drawn by a thread of its own while its block runs."""

    def __init__(self, console: Console, count: int) -> None:
        self._console, self._count = console, count
        self._rows: dict[str, _Row] = {}
        self._ended: dict[str, int] = {}
        self._waits = ""
        self._live = Live(
            console=console, get_renderable=self.drawn, transient=True, refresh_per_second=_REFRESHES
        )

    def start(self) -> None:
        """Draw it from now on."""
        self._live.start()

    def stop(self) -> None:
        """Take it away."""
        self._live.stop()

    def begun(self, name: str) -> None:
        """A board begins."""
        self._waits = ""
        self._rows[name] = _Row()

    def waits(self, name: str, text: str) -> None:
        """There is no room for a board."""
        self._waits = f"{name} waits for {text}"

    def show(self, event: Event, name: str) -> None:
        """What a board is at, if the event says so."""
        row = self._rows.get(name)
        if row is None:
            return
        if isinstance(event, StepStarted):
            row.step, row.text = event.step, ""
        elif isinstance(event, Progress):
            row.text = event.text if event.total is None else f"{event.text} ({event.done}/{event.total})"

    def ended(self, name: str, state: str) -> None:
        """A board has ended."""
        self._rows.pop(name, None)
        self._ended[state] = self._ended.get(state, 0) + 1

    def drawn(self) -> Group:
        """The table as it is now."""
        now = time.monotonic()
        rows = sorted(dict(self._rows).items(), key=lambda item: item[1].began)
        most = max(1, self._console.height - _LINES_LEFT)
        table = Table.grid(padding=(0, 2))
        for style in ("bold", None, None):
            table.add_column(style=style, no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for name, row in rows[:most]:
            cells = (name, row.step, f"{now - row.began:.0f} s", row.text.replace("\n", " "))
            table.add_row(*(Text(harmless(cell)) for cell in cells))
        more = [Text(f"and {len(rows) - most} more")] if len(rows) > most else []
        return Group(table, *more, Text(harmless(self._line(len(rows))), style="dim"))

    def _line(self, running: int) -> str:
        ended = sum(self._ended.values())
        states = [f"{count} {state}" for state, count in sorted(dict(self._ended).items())]
        rest = self._count - ended - running
        parts = [
            *states,
            *([f"{running} at work"] if running else []),
            *([f"{rest} to come"] if rest else []),
        ]
        return f"{ended} of {self._count}: {', '.join(parts)}{f'; {self._waits}' if self._waits else ''}"
