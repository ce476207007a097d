"""`report.html`: what a build is, how it gets onto its device, what fills it, and why each package is there.

What a page shows is made here of what the build says of itself; the template only puts it in its place. No
time is in it but the one that the images are dated, and the seconds that trials took.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imagebuilder.model.budget import FlashBudget, RamBudget
from imagebuilder.model.firmware import Check, RootFacts
from imagebuilder.model.package import LOCAL, Selected, shown_way
from imagebuilder.model.result import PackageSize, Result
from imagebuilder.model.size import human_size
from imagebuilder.report.changes import Changes
from imagebuilder.report.flash_bar import flash_left, ram_left, segments
from imagebuilder.report.flashing import ways
from imagebuilder.report.html import page
from imagebuilder.report.treemap import Group, GroupBox, Leaf, Rect, treemap

MOST_ROWS = 1500  # of a table; genuine images have some hundred packages
_MOST_TEXT = 160
_MOST_PATH = 200
# kinds of what fills an image, in the order of the legend; the template's classes are called so
KINDS = {
    "kernel": "kernel",
    "system": "system",
    "modules": "kernel modules",
    "python": "Python",
    "asked": "asked for, and what it needs",
    "yours": "your own",
    "rest": "the rest",
}
_SEGMENTS = {"kernel": "kernel", "base": "system", "python": "python", "apps": "yours", "over": "over"}
_RAM_KINDS = ("kernel", "system", "python", "yours", "asked", "modules")


@dataclass(frozen=True)
class PageFacts:
    """What a page is made of, besides the result. board: its name for people; formats: of its images, by
    type; note: what somebody who builds with this release should know; checks: of each image, by its file;
    root: the root file system, where it can be read; epoch: as BillFacts has it; project: the folder in which
    texts name files; compared: what is other than in an earlier result, and earlier what that is called, in
    words; papers: the names of the other files of the result."""

    result: Result
    board: str
    formats: Mapping[str, str]
    note: str
    packages: Sequence[Selected]
    checks: Mapping[str, Sequence[Check]]
    root: RootFacts | None
    epoch: int = 0
    project: str = ""
    compared: Changes | None = None
    earlier: str = ""
    papers: Sequence[str] = ()


@dataclass(frozen=True)
class Piece:
    """A part of a bar. share: percent of the bar."""

    name: str
    kind: str
    size: int
    share: float


@dataclass(frozen=True)
class Row:
    """A package in the table. ref: where links lead to; way: who asked, and the names down to it."""

    ref: str
    name: str
    version: str
    text: str
    license: str
    stored: int | None
    way: Sequence[str]
    feed: str


def report_page(facts: PageFacts) -> str:
    """The page, as text of HTML."""
    result = facts.result
    rows = tuple(_rows(facts))
    boxes = treemap(_groups(facts))
    flash, ram = _flash_pieces(result.flash), _ram_pieces(result.ram)
    total = sum(box.size for box in boxes)
    return page(
        "report.html",
        styles=("report.css",),
        rules="".join((*_box_rules(boxes), *_bar_rules("fb", flash), *_bar_rules("rb", ram))),
        script="treemap.js",
        facts=facts,
        result=result,
        rows=rows[:MOST_ROWS],
        left_out=max(len(rows) - MOST_ROWS, 0),
        refs={row.name: row.ref for row in rows[:MOST_ROWS]},
        boxes=boxes,
        total=total,
        kinds={kind: words for kind, words in KINDS.items() if any(box.kind == kind for box in boxes)},
        flash=flash,
        flash_left=None if result.flash is None else flash_left(result.flash),
        ram=ram,
        ram_left=None if result.ram is None else ram_left(result.ram),
        ways=ways(result.images, facts.formats),
        passed=sum(result.checks.values()),
        warned=[(file, check) for file, checks in facts.checks.items() for check in checks if not check.ok],
        python=_python(facts),
        date=datetime.fromtimestamp(facts.epoch, UTC).strftime("%Y-%m-%d") if facts.epoch else "",
        words=_words,
    )


def _python(facts: PageFacts) -> str:
    inside = facts.root.python if facts.root is not None else None
    return facts.result.python if inside is None else f"{inside.version} {inside.variant}".rstrip()


def _words(box: GroupBox, total: int) -> str:
    """What a box of the map is, for a reader of the screen and for the head of its own map."""
    share = f"{box.size * 100 / total:.1f} % of the image"
    return f"{box.name}: {human_size(box.size)}, {share}"


def _rows(facts: PageFacts) -> Iterator[Row]:
    """The packages, those that take most first."""
    stored = _stored(facts.result)
    order = sorted(
        facts.packages,
        key=lambda each: (-(stored[each.name].stored if each.name in stored else 0), each.name),
    )
    for number, each in enumerate(order):
        size = stored.get(each.name)
        yield Row(
            ref=f"p{number}",
            name=each.name,
            version=each.version,
            text=_short(each.package.description, _MOST_TEXT),
            license=_short(each.package.extra.get("License", ""), _MOST_TEXT),
            stored=None if size is None else size.stored,
            way=[_short(_inside(facts.project, word), _MOST_PATH) for word in shown_way(each.why)],
            feed=each.feed,
        )


def _inside(project: str, text: str) -> str:
    """A text that names files of the project, without the project's folder."""
    return text.replace(f"{project}/", "") if project else text


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _stored(result: Result) -> dict[str, PackageSize]:
    return {} if result.rootfs is None else {each.name: each for each in result.rootfs.packages}


def _groups(facts: PageFacts) -> Iterator[Group]:
    """What fills the image: the kernel, each package with its files, what no package has, and the tables of
    the file system. Sizes are bytes of the image, compressed."""
    result, root = facts.result, facts.root
    kernel = result.flash.kernel if result.flash is not None else None
    if kernel is not None and root is not None:
        yield Group("the kernel", kernel.bytes, "kernel")
    if root is None:
        return
    files: dict[str, list[Leaf]] = {}
    for file in root.files:
        if file.stored > 0:
            leaf = Leaf(_path(file.path), file.stored)
            files.setdefault(root.owners.get(file.path, ""), []).append(leaf)
    kinds = {each.name: _kind(each) for each in facts.packages}
    for share in root.shares:
        name = share.name or "files of no package"
        kind = kinds.get(share.name, "yours" if not share.name else "system")
        yield Group(name, share.stored, kind, files.get(share.name, ()))
    yield Group("tables of the file system", root.tables, "rest")


def _path(path: str) -> str:
    return path if len(path) <= _MOST_PATH else f"…{path[-_MOST_PATH + 1 :]}"


def _kind(selected: Selected) -> str:
    name = selected.name
    if selected.feed == LOCAL:
        return "yours"
    if name.startswith("kmod-"):
        return "modules"
    if name.split("-")[0].rstrip("0123456789.") in ("python", "micropython", "libpython"):
        return "python"
    asker = selected.why[0]
    by_tree = asker.startswith(("the default packages of", "the profile ", "the ImageBuilder"))
    return "system" if by_tree else "asked"


def _flash_pieces(budget: FlashBudget | None) -> tuple[Piece, ...]:
    """What fills the flash; what is free is last, and white."""
    if budget is None:
        return ()
    sizes = segments(budget)
    whole = sum(size for name, size in sizes.items() if name != "over") or 1
    names = {"base": "system", "python": "Python", "apps": "your own", "over": "too much"}
    return tuple(
        Piece(names.get(name, name), _SEGMENTS.get(name, name), size, min(size * 100 / whole, 100.0))
        for name, size in sizes.items()
    )


def _ram_pieces(budget: RamBudget | None) -> tuple[Piece, ...]:
    if budget is None:
        return ()
    needs = [(need.name, need.amount.bytes) for need in budget.needs]
    free = max(budget.free or 0, 0)
    whole = sum(size for _, size in needs) + free or 1
    pieces = [
        Piece(name, _RAM_KINDS[number % len(_RAM_KINDS)], size, size * 100 / whole)
        for number, (name, size) in enumerate(needs)
    ]
    return (*pieces, *((Piece("free", "free", free, free * 100 / whole),) if free else ()))


def _box_rules(boxes: Sequence[GroupBox]) -> Iterator[str]:
    """Where the boxes lie, as rules of style: their places for wide windows, and for tall ones."""
    for number, box in enumerate(boxes):
        wide, tall = _place(box.wide), _place(box.tall)
        values = [f"--{name}:{value}" for name, value in zip("ltwhLTWH", (*wide, *tall), strict=True)]
        yield f"#g{number}{{{';'.join(values)}}}\n"
        for at, file in enumerate(box.files):
            left, top, width, height = _place(file.place)
            yield f"#g{number}f{at}{{left:{left}%;top:{top}%;width:{width}%;height:{height}%}}\n"


def _place(place: Rect) -> tuple[str, str, str, str]:
    left, top, width, height = (
        f"{value:.2f}" for value in (place.left, place.top, place.width, place.height)
    )
    return left, top, width, height


def _bar_rules(name: str, pieces: Sequence[Piece]) -> Iterator[str]:
    for number, piece in enumerate(pieces):
        yield f".{name}{number}{{width:{piece.share:.2f}%}}\n"
