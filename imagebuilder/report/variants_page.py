"""What `compare --html` writes: every variant of a config for one board, as a page with pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from imagebuilder.model.budget import FlashBudget
from imagebuilder.model.size import human_size
from imagebuilder.model.variant_table import VariantFigure, VariantRow, VariantTable
from imagebuilder.report.flash_bar import segments
from imagebuilder.report.html import page

_KINDS = {"kernel": "kernel", "base": "system", "python": "python", "apps": "yours", "free": "free"}
_NAMES = {"kernel": "kernel", "system": "system", "python": "Python", "yours": "your own", "free": "free"}
_PLANNED = "~ "  # before a figure that nobody measured
# a table's columns of figures, by what a row calls them
_HEADINGS = {
    "packages": "packages",
    "flash": "flash",
    "free": "free flash",
    "start": "hello world",
    "memory": "memory",
    "modules": "modules",
    "bytecode": "bytecode files",
}


@dataclass(frozen=True)
class VariantPiece:
    """A part of a variant's bar. share: percent of the longest bar."""

    kind: str
    size: int
    share: float


@dataclass(frozen=True)
class VariantBar:
    """A variant in a picture. text: the figure beside the bar."""

    name: str
    text: str
    pieces: Sequence[VariantPiece]


@dataclass(frozen=True)
class VariantPicture:
    """Bars below one another, on one scale. ref: what its rules of style are called after; limit: percent of
    the width at which the board's flash ends, None where nothing is longer."""

    ref: str
    title: str
    about: str
    bars: Sequence[VariantBar]
    limit: float | None = None
    limit_text: str = ""


def size_text(figure: VariantFigure | None) -> str:
    """Bytes, as a table shows them; below nothing: too much."""
    if figure is None:
        return ""
    value = int(figure.value)
    text = f"{human_size(-value)} too much" if value < 0 else human_size(value)
    doubt = f" ± {human_size(int(figure.uncertainty))}" if figure.uncertainty else ""
    return f"{_mark(figure)}{text}{doubt}"


def seconds_text(figure: VariantFigure | None) -> str:
    """Seconds, as a table shows them."""
    return "" if figure is None else f"{_mark(figure)}{figure.value:.3f} s"


def count_text(figure: VariantFigure | None) -> str:
    """A number, as a table shows it."""
    return "" if figure is None else f"{_mark(figure)}{figure.value:.0f}"


def room(table: VariantTable) -> str:
    """What shares the flash that the figures are of; "" where nobody knows how much that is."""
    if table.partition is None:
        return ""
    whole = human_size(table.partition)
    if table.settings is None:
        return f"{whole} for kernel, system and settings"
    return f"{whole} for the system, {human_size(table.settings)} apart for settings"


def _mark(figure: VariantFigure) -> str:
    return "" if figure.measured else _PLANNED


def cells(row: VariantRow) -> tuple[tuple[str, str], ...]:
    """What a table has in each column of a variant: the column's heading, and the text."""
    texts = (
        count_text(row.packages),
        size_text(row.flash),
        size_text(row.free),
        seconds_text(row.start),
        size_text(row.memory),
        count_text(row.modules),
        count_text(row.bytecode),
    )
    return (("variant", row.variant), ("Python", row.python), *zip(_HEADINGS.values(), texts, strict=True))


def remarks(row: VariantRow) -> str:
    """What is said of a variant besides its figures."""
    state = row.state if row.state not in ("planned", "measured", "does not fit") else ""
    said = ": ".join(filter(None, (state, row.why)))
    return "; ".join(filter(None, (said, *row.remarks)))


def legend(table: VariantTable) -> str:
    """Which figures are planned, in words."""
    rows = table.variants
    figures = [figure for row in rows for _, figure in row if isinstance(figure, VariantFigure)]
    if not figures:
        return ""
    if not any(figure.measured for figure in figures):
        return "All figures are planned: nothing was built."
    if all(figure.measured for figure in figures):
        return "All figures are measured."
    said = "Figures with ~ are planned, the others measured in images that were built."
    return " ".join([said, *_mixed(rows)])


def _mixed(rows: Sequence[VariantRow]) -> Iterator[str]:
    """Of the columns that have figures of both kinds, whose are planned: they are not of one measure."""
    columns: dict[tuple[str, ...], list[str]] = {}
    for name, heading in _HEADINGS.items():
        found = [(row.variant, figure) for row in rows if (figure := getattr(row, name)) is not None]
        planned = tuple(variant for variant, figure in found if not figure.measured)
        if 0 < len(planned) < len(found):
            columns.setdefault(planned, []).append(heading)
    for variants, headings in columns.items():
        yield f"Planned for {', '.join(variants)}: {', '.join(headings)}."


def variants_page(table: VariantTable) -> str:
    """The page, as text of HTML."""
    pictures = [each for each in _pictures(table.variants) if each.bars]
    shown = {piece.kind for picture in pictures for bar in picture.bars for piece in bar.pieces}
    return page(
        "variants.html",
        styles=("report.css", "variants.css"),
        rules="".join(rule for picture in pictures for rule in _rules(picture)),
        table=table,
        pictures=pictures,
        names={kind: _NAMES[kind] for kind in _NAMES if kind in shown},
        rows=[(row, cells(row), remarks(row)) for row in table.variants],
        legend=legend(table),
        room=room(table),
    )


def _pictures(rows: Sequence[VariantRow]) -> Iterator[VariantPicture]:
    yield _flash_picture(rows)
    yield _plain("start", "Time until hello world has run", rows, lambda row: row.start, seconds_text)
    yield _plain("memory", "Memory of the interpreter", rows, lambda row: row.memory, size_text)
    yield _plain("modules", "Modules that it has loaded then", rows, lambda row: row.modules, count_text)


def _flash_picture(rows: Sequence[VariantRow]) -> VariantPicture:
    """What fills the flash of each, up to its end, and beyond it what is too much."""
    whole = [(row, _filled(row.budget)) for row in rows if row.budget is not None]
    longest = max((sum(sizes.values()) for _, sizes in whole), default=0) or 1
    bars = [
        VariantBar(
            row.variant,
            size_text(row.flash),
            [VariantPiece(_KINDS[key], size, size * 100 / longest) for key, size in sizes.items()],
        )
        for row, sizes in whole
    ]
    known = (row.budget.partition for row in rows if row.budget is not None)
    end = next((each for each in known if each is not None), None)
    beyond = end is not None and end < longest
    return VariantPicture(
        ref="flash",
        title="What fills the flash",
        about="All of it lies compressed in the flash.",
        bars=bars,
        limit=end * 100 / longest if beyond and end is not None else None,
        limit_text=f"the board's flash ends at {human_size(end)}" if beyond and end is not None else "",
    )


def _filled(budget: FlashBudget) -> dict[str, int]:
    """The segments of a flash, the bytes that are too much among those of what they are."""
    return {key: size for key, size in segments(budget).items() if key != "over"}


def _plain(
    ref: str,
    title: str,
    rows: Sequence[VariantRow],
    of: Callable[[VariantRow], VariantFigure | None],
    text: Callable[[VariantFigure | None], str],
) -> VariantPicture:
    """One bar a variant."""
    figures = [(row.variant, figure) for row in rows if (figure := of(row)) is not None]
    longest = max((figure.value for _, figure in figures), default=0) or 1
    bars = [
        VariantBar(name, text(figure), [VariantPiece("python", 0, figure.value * 100 / longest)])
        for name, figure in figures
    ]
    return VariantPicture(ref, title, "", bars)


def _rules(picture: VariantPicture) -> Iterator[str]:
    """How long the pieces are, and where the flash ends."""
    for number, bar in enumerate(picture.bars):
        for at, piece in enumerate(bar.pieces):
            yield f".{picture.ref}{number}-{at}{{width:{piece.share:.2f}%}}\n"
    if picture.limit is not None:
        yield f".{picture.ref}-end{{left:{picture.limit:.2f}%}}\n"
