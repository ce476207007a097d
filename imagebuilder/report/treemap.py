"""A treemap of what fills an image: boxes of packages, and in each the boxes of its files.

The layout is the squarified one (Bruls, Huizing and van Wijk, Squarified Treemaps, 2000): rows of boxes that
are as near to squares as can be. It is reckoned here, in percent of the box around, once for a wide window
and once for a tall one, so that a page needs no script to show it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from imagebuilder.model.size import human_size

# of width to height: of a map in a wide window, and in a phone's
WIDE, TALL = 2.0, 0.8
MOST_BOXES = 1200  # of files on one page, some 200 bytes each
MOST_FILES = 90  # of one package
_LEAST_PACKAGE, _LEAST_FILE = 0.0025, 0.0001  # parts of the whole; smaller ones are boxes in a common one
# what a label needs: CSS pixels of a map in a wide window and in a phone's, and of a sign and a line of text
_MAPS = ((1040.0, 520.0), (350.0, 437.0))
_SIGN, _LINE, _LEAST_LABEL = 7.2, 20.0, 44.0


@dataclass(frozen=True, slots=True)
class Rect:
    """A box in percent of the one around it."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Leaf:
    """Something with a size, in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Group:
    """A package, or what is like one. kind: by which it is coloured. files: what of its size is told."""

    name: str
    size: int
    kind: str
    files: Sequence[Leaf] = ()


@dataclass(frozen=True, slots=True)
class FileBox:
    """A file in the box of its package; of several small ones together: how many."""

    name: str
    size: int
    place: Rect
    several: int = 0


@dataclass(frozen=True, slots=True)
class GroupBox:
    """A package in the map. wide, tall: its place there; labels: how much fits in, in each: 0 nothing, 1 its
    name or the beginning of it, 2 its size too. several: of small packages that are shown together: how
    many."""

    name: str
    size: int
    kind: str
    wide: Rect
    tall: Rect
    labels: tuple[int, int]
    files: tuple[FileBox, ...]
    several: int = 0


def treemap(groups: Iterable[Group]) -> tuple[GroupBox, ...]:
    """The boxes of all groups that have a size, the largest first; small ones are one box together, and so
    are small files. However many there are, no more than MOST_BOXES files and some hundred packages have one
    of their own."""
    whole = sorted((each for each in groups if each.size > 0), key=lambda each: (-each.size, each.name))
    total = sum(each.size for each in whole)
    shown = [each for each in whole if each.size >= total * _LEAST_PACKAGE]
    rest = whole[len(shown) :]
    if len(rest) == 1:
        shown, rest = whole, []
    several = dict.fromkeys((each.name for each in shown), 0)
    if rest:
        parts = [Leaf(each.name, each.size) for each in rest]
        common = Group(f"{len(rest)} smaller ones", sum(each.size for each in rest), "rest", parts)
        shown = sorted((*shown, common), key=lambda each: -each.size)
        several[common.name] = len(rest)
    places = zip(*(squarified([each.size for each in shown], ratio) for ratio in (WIDE, TALL)), strict=True)
    left = MOST_BOXES
    boxes = []
    for group, (wide, tall) in zip(shown, places, strict=True):
        ratio = WIDE * wide.width / wide.height
        files = tuple(_files(group, ratio, total, min(left, MOST_FILES)))
        left -= len(files)
        labels = (_label(group, wide, *_MAPS[0]), _label(group, tall, *_MAPS[1]))
        count = several[group.name]
        boxes.append(GroupBox(group.name, group.size, group.kind, wide, tall, labels, files, count))
    return tuple(boxes)


def _label(group: Group, place: Rect, width: float, height: float) -> int:
    """How much of a label fits in. width, height: of the map, in CSS pixels."""
    across, down = place.width * width / 100, place.height * height / 100
    if across < _LEAST_LABEL or down < _LINE:
        return 0
    return 2 if (len(group.name) + len(human_size(group.size)) + 2) * _SIGN < across else 1


def _files(group: Group, ratio: float, total: int, most: int) -> Iterator[FileBox]:
    """The boxes of a group's files; several small ones are one."""
    files = sorted((each for each in group.files if each.size > 0), key=lambda each: (-each.size, each.name))
    big = [each for each in files if each.size >= total * _LEAST_FILE][: max(most - 1, 0)]
    small = files[len(big) :]
    if not big or most < 2:
        return
    if small:
        big = sorted((*big, Leaf("", sum(each.size for each in small))), key=lambda each: -each.size)
    for leaf, place in zip(big, squarified([each.size for each in big], ratio), strict=True):
        if leaf.name:
            yield FileBox(leaf.name, leaf.size, place)
        else:
            yield FileBox(f"{len(small)} smaller files", leaf.size, place, len(small))


def squarified(sizes: Sequence[int], ratio: float) -> list[Rect]:
    """The places of boxes with these sizes, in their order, in a box of that ratio of width to height; sizes
    that fall give the best squares. Together they fill it."""
    total = sum(sizes)
    if not sizes or total <= 0:
        return []
    left, top, width, height = 0.0, 0.0, ratio, 1.0  # of what is free by now
    areas = [size / total * ratio for size in sizes]
    found: list[Rect] = []
    at = 0
    while at < len(areas):
        side = min(width, height)
        end = _row(areas, at, side)
        row = areas[at:end]
        depth = sum(row) / side if side > 0 else 0.0
        along = 0.0
        for area in row:
            length = area / depth if depth > 0 else 0.0
            if width >= height:
                found.append(Rect(left, top + along, depth, length))
            else:
                found.append(Rect(left + along, top, length, depth))
            along += length
        if width >= height:
            left, width = left + depth, max(width - depth, 0.0)
        else:
            top, height = top + depth, max(height - depth, 0.0)
        at = end
    return [
        Rect(place.left / ratio * 100, place.top * 100, place.width / ratio * 100, place.height * 100)
        for place in found
    ]


def _row(areas: Sequence[float], first: int, side: float) -> int:
    """Where the row that begins there ends: as long as another box makes its worst one no longer."""
    total = areas[first]
    worst = _worst(total, areas[first], areas[first], side)
    end = first + 1
    while end < len(areas):
        more = total + areas[end]
        next_worst = _worst(more, areas[first], areas[end], side)
        if next_worst > worst:
            break
        total, worst, end = more, next_worst, end + 1
    return end


def _worst(total: float, largest: float, smallest: float, side: float) -> float:
    """The ratio of the longest box in a row."""
    if smallest <= 0 or side <= 0:
        return float("inf")
    square = side * side
    return max(square * largest / (total * total), total * total / (square * smallest))
