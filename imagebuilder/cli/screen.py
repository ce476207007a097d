"""How text is laid out: for a terminal's width; for a file or a pipe lines stay whole, since nobody wants
folded names there, and prose alone is folded."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console

from imagebuilder.called import called
from imagebuilder.cli.terminal import harmless

PROSE_COLUMNS = 110  # longer lines are hard to read, on the widest screen
LEAST_COLUMNS = 20
LEAST_CELL = 20  # columns that a cell keeps when it is folded
_BETWEEN = "  "
_BELOW = "    "
_FIGURES = ("size", "bytes", "seconds", "packages")  # headings of columns that hold figures alone
_PIECE = re.compile(r"(?:± )?\S*[0-9] (?:bytes|[KMG]iB|%|s)(?!\w)\S*|\S+")
_GAP = re.compile("  +")


def columns(of: TextIO | None = None) -> int | None:
    """Of the terminal that standard output is, or another stream; None for a file or a pipe."""
    stream = sys.stdout if of is None else of
    if not stream.isatty():
        return None
    said = os.environ.get("COLUMNS", "")
    # not shutil's, which asks the standard output that Python began with
    own = int(said) if said.isdecimal() else os.get_terminal_size(stream.fileno()).columns
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
    if style is None:
        print(harmless(line))
    else:
        console = _Console(file=sys.stdout, highlight=False, soft_wrap=True, emoji=False)
        console.print(harmless(line), style=style, markup=False)


def pieces(text: str) -> list[str]:
    """What a text is folded between: its words; a figure and its unit are one."""
    return _PIECE.findall(text)


def fold(text: str | Sequence[str], width: int) -> list[str]:
    """Lines of so many columns at most, folded between words, or between the pieces that are given. What is
    longer stays whole: it can be a path, which somebody will copy."""
    lines, line, used = [], "", 0
    for word in pieces(text) if isinstance(text, str) else text:
        size = cell_len(word)
        if line and used + 1 + size > width:
            lines.append(line)
            line, used = "", 0
        line, used = (f"{line} {word}", used + 1 + size) if line else (word, size)
    return [*lines, line]


def hanging(first: str, text: str | Sequence[str], width: int | None) -> list[str]:
    """Text behind `first`, folded lines indented as far; one line where width is None. Where a word is longer
    than the place behind `first`, the text stands below it, if that helps."""
    words = pieces(text) if isinstance(text, str) else text
    if width is None:
        return [f"{first}{' '.join(words)}".rstrip()]
    indent = cell_len(first)
    longest = max(map(cell_len, words), default=0)
    helps = longest <= width - len(_BELOW) or indent > 2 * len(_BELOW)
    if longest > width - indent and helps and first.strip():
        return [first.rstrip(), *(f"{_BELOW}{line}" for line in fold(words, width - len(_BELOW)))]
    head, *rest = fold(words, max(width - indent, LEAST_COLUMNS))
    return [f"{first}{head}".rstrip(), *(f"{' ' * indent}{line}" for line in rest)]


def prose(first: str, text: str | Sequence[str]) -> None:
    """Text behind `first`, folded as prose is."""
    for line in hanging(first, text, prose_columns()):
        say(line)


def facts(rows: Iterable[tuple[str, str | Sequence[str]]]) -> None:
    """A name and a value a line; on a terminal long values are folded, between the pieces that are given or
    between words."""
    for name, value in rows:
        for line in hanging(f"{name:<16} ", value, columns()):
            say(line)


def say_lines(text: str) -> None:
    """Text whose lines are made already. On a terminal those that are too long are folded, below what stands
    behind their last gap."""
    width = columns()
    for line in harmless(text).splitlines():
        for each in [line] if width is None or cell_len(line) <= width else folded(line, width):
            print(each)


def complaint(text: str) -> list[str]:
    """What is said on standard error: on a terminal folded as prose is, but for lines with a command of this
    program, which somebody will copy."""
    width, lines = columns(sys.stderr), harmless(text).split("\n")
    if width is None:
        return lines
    room = min(width, PROSE_COLUMNS)
    kept = ((line, cell_len(line) <= room or called() in line) for line in lines)
    return [each for line, whole in kept for each in ([line] if whole else folded(line, room))]


def folded(line: str, width: int) -> list[str]:
    """A line on as many as it needs, the others below what stands behind its last gap (one in its first two
    thirds), or a little deeper than it begins."""
    gaps = [gap.end() for gap in _GAP.finditer(line) if gap.end() <= width * 2 // 3]
    head = line[: max(gaps, default=0)]
    if head.strip():
        return hanging(head, line[len(head) :], width)
    return _deeper(head, line[len(head) :], width)


def _deeper(indent: str, text: str, width: int) -> list[str]:
    first, *others = hanging(f"{indent}{_BETWEEN}", text, width)
    return [first.removeprefix(_BETWEEN), *others]


def command(words: str, typed: str) -> None:
    """What is said of a command, and the command, which stays whole: somebody will copy it. It stands on a
    line of its own where both are too long for one."""
    width = columns()
    whole = f"{words} {typed}"
    if width is None or cell_len(whole) <= width:
        say(whole)
    else:
        prose("", words)
        say(f"{_BETWEEN}{typed}")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows below headings; figures are aligned at their right. Where a terminal is too narrow, cells are
    folded between words; where that is not enough, the widest columns are none, and their cells stand below
    their rows, behind their headings."""
    cells = [[harmless(cell).replace("\n", " ") for cell in row] for row in rows]
    heading, *others = _table_rows([list(headings), *cells], columns())
    for line in heading:
        say(line, "bold")
    for each in others:
        for line in each:
            say(line)


def _table_rows(rows: Sequence[Sequence[str]], room: int | None) -> list[list[str]]:
    """The lines of each row, the headings' first. What has no heading, at a row's beginning, names nothing:
    the next stays beside it."""
    by_column = list(zip(*rows, strict=True))
    beside, below = list(range(len(by_column))), list[int]()
    natural = [max(map(cell_len, cells)) for cells in by_column]
    widths: list[int] | None = natural
    names = 1 if rows[0][0] else 2
    if room is not None:
        widths = _narrowed(by_column, room)
        while widths is None and len(beside) > names:
            widest = max(beside[names:], key=lambda each: natural[each])
            beside.remove(widest)
            below.append(widest)
            widths = _narrowed([by_column[each] for each in beside], room)
    headings, *others = rows
    right = [headings[each] in _FIGURES for each in beside]
    found = []
    for row in rows:
        shown = [row[each] for each in beside]
        found.append(fold(" ".join(shown), room or 0) if widths is None else _row(shown, widths, right))
    for number, row in enumerate(others, 1):
        for each in filter(row.__getitem__, sorted(below)):
            label = f"{headings[each]}: " if headings[each] else ""
            found[number] += _deeper(_BELOW, f"{label}{row[each]}", room or 0)
    return found


def _narrowed(cells: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """The widths of columns that fit; the widest give, as long as no word of theirs is longer. None where
    that is not enough. cells: by columns."""
    widths = [max(map(cell_len, column)) for column in cells]
    longest = [max(cell_len(word) for cell in column for word in (pieces(cell) or [""])) for column in cells]
    for _ in range(sum(widths) + len(_BETWEEN) * (len(widths) - 1) - room):
        able = [number for number, width in enumerate(widths) if width > max(longest[number], LEAST_CELL)]
        if not able:
            return None
        widths[max(able, key=lambda number: widths[number])] -= 1
    return widths


def _row(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """The lines of a row; a cell that is wider than its column is folded. right: of which columns the cells
    are aligned there."""
    folded = [
        [cell] if cell_len(cell) <= width else fold(cell, width)
        for cell, width in zip(row, widths, strict=True)
    ]
    return [
        _BETWEEN.join(
            " " * (width - cell_len(part)) + part if at_right else part + " " * (width - cell_len(part))
            for part, width, at_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in zip_longest(*folded, fillvalue="")
    ]


def near(text: str) -> str:
    """Text in which files below the current folder are named from there, as a compiler names them."""
    here = Path.cwd()
    if here == Path(here.anchor):
        return text
    return re.sub(rf"(?<![^\s'\"(]){re.escape(str(here))}/", "", text)
