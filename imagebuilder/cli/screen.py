"""How text is laid out: for a terminal's width; for a file or a pipe lines stay whole, since nobody wants
folded names there, and prose alone is folded."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console

from imagebuilder.cli.terminal import harmless

PROSE_COLUMNS = 110  # longer lines are hard to read, on the widest screen
LEAST_COLUMNS = 20
LEAST_CELL = 20  # columns that a cell keeps when it is folded
_BETWEEN = "  "


def columns() -> int | None:
    """Of the terminal that standard output is; None for a file or a pipe."""
    if not sys.stdout.isatty():
        return None
    said = os.environ.get("COLUMNS", "")
    # not shutil's, which asks the standard output that Python began with
    own = int(said) if said.isdecimal() else os.get_terminal_size(sys.stdout.fileno()).columns
    return max(own or 80, LEAST_COLUMNS)


def prose_columns() -> int:
    """As far as prose goes before it is folded."""
    return min(columns() or PROSE_COLUMNS, PROSE_COLUMNS)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Where nobody reads on, `| head` for one: cli/guard.py says how a command ends then."""
        raise BrokenPipeError


def say(line: str, style: str | None = None) -> None:
    """One line; style: of rich, for a terminal alone."""
    console = _Console(file=sys.stdout, highlight=False, soft_wrap=True)
    console.print(harmless(line), style=style, markup=False)


def fold(text: str | Sequence[str], width: int) -> list[str]:
    """Lines of so many columns at most, folded between words, or between the pieces that are given. What is
    longer stays whole: it can be a path, which somebody will copy."""
    lines, line, used = [], "", 0
    for word in text.split() if isinstance(text, str) else text:
        size = cell_len(word)
        if line and used + 1 + size > width:
            lines.append(line)
            line, used = "", 0
        line, used = (f"{line} {word}", used + 1 + size) if line else (word, size)
    return [*lines, line]


def hanging(first: str, text: str | Sequence[str], width: int | None) -> list[str]:
    """Text behind `first`, folded lines indented as far; one line where width is None."""
    indent = cell_len(first)
    room = sys.maxsize if width is None else max(width - indent, LEAST_COLUMNS)
    head, *rest = fold(text, room)
    return [f"{first}{head}".rstrip(), *(f"{' ' * indent}{line}" for line in rest)]


def prose(first: str, text: str | Sequence[str]) -> None:
    """Text behind `first`, folded as prose is."""
    for line in hanging(first, text, prose_columns()):
        say(line)


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """A name and a value a line; on a terminal long values are folded."""
    for name, value in rows:
        for line in hanging(f"{name:<16} ", value, columns()):
            say(line)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows below headings. Where a terminal is too narrow, cells are folded between words; where that is not
    enough, the last cells stand below their rows."""
    cells = [[harmless(cell).replace("\n", " ") for cell in row] for row in rows]
    heading, *others = _table_rows([list(headings), *cells], columns())
    for line in heading:
        say(line, "bold")
    for lines in others:
        for line in lines:
            say(line)


def _table_rows(rows: Sequence[Sequence[str]], room: int | None) -> list[list[str]]:
    """The lines of each row."""
    natural = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    if room is None:
        return [_row(row, natural) for row in rows]
    widths = _narrowed(rows, natural, room)
    if widths is not None:
        return [_row(row, widths) for row in rows]
    aligned = sum(natural[:-1]) + len(_BETWEEN) * (len(natural) - 2) <= room
    heads = (_row(row[:-1], natural) if aligned else fold_cells(row[:-1], room) for row in rows)
    return [
        [*head, *(hanging("    ", row[-1], room) if row[-1] else [])]
        for head, row in zip(heads, rows, strict=True)
    ]


def _narrowed(rows: Sequence[Sequence[str]], natural: Sequence[int], room: int) -> list[int] | None:
    """The widths of columns that fit; the widest give, as long as no word of theirs is longer. None where
    that is not enough."""
    widths = list(natural)
    longest = [
        max(cell_len(word) for cell in cells for word in (cell.split() or [""]))
        for cells in zip(*rows, strict=True)
    ]
    for _ in range(sum(widths) + len(_BETWEEN) * (len(widths) - 1) - room):
        able = [number for number, width in enumerate(widths) if width > max(longest[number], LEAST_CELL)]
        if not able:
            return None
        widths[max(able, key=lambda number: widths[number])] -= 1
    return widths


def _row(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of a row; a cell that is wider than its column is folded."""
    folded = [
        [cell] if cell_len(cell) <= width else fold(cell, width)
        for cell, width in zip(row, widths, strict=False)
    ]
    lines = zip_longest(*folded, fillvalue="")
    return [
        _BETWEEN.join(
            part + " " * (width - cell_len(part)) for part, width in zip(line, widths, strict=False)
        ).rstrip()
        for line in lines
    ]


def fold_cells(cells: Iterable[str], width: int) -> list[str]:
    """Cells behind one another on as many lines as they need."""
    lines: list[str] = []
    for cell in filter(None, cells):
        if lines and cell_len(lines[-1]) + len(_BETWEEN) + cell_len(cell) <= width:
            lines[-1] += f"{_BETWEEN}{cell}"
        else:
            lines += [f"{_BETWEEN}{line}" if lines else line for line in fold(cell, width - len(_BETWEEN))]
    return lines or [""]


def near(text: str) -> str:
    """Text in which files below the current folder are named from there, as a compiler names them."""
    here = Path.cwd()
    if here == Path(here.anchor):
        return text
    return re.sub(rf"(?<![^\s'\"(]){re.escape(str(here))}/", "", text)
