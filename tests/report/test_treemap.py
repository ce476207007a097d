"""Boxes of a treemap: their areas are the sizes, they lie beside one another, and there are not too many."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as some

from imagebuilder.report.treemap import MOST_BOXES, TALL, WIDE, Group, Leaf, Rect, squarified, treemap


def overlap(one: Rect, other: Rect) -> float:
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return max(across, 0) * max(down, 0)


@given(
    some.lists(some.integers(1, 1 << 24), min_size=1, max_size=40), some.sampled_from([WIDE, TALL, 1.0, 9.0])
)
def test_boxes_fill_their_map_and_have_the_sizes_as_areas(sizes: list[int], ratio: float) -> None:
    sizes.sort(reverse=True)
    places = squarified(sizes, ratio)
    for size, place in zip(sizes, places, strict=True):
        assert place.width * place.height == pytest.approx(10_000 * size / sum(sizes), rel=1e-6)
        assert min(place.left, place.top) >= 0
        assert max(place.left + place.width, place.top + place.height) <= 100 + 1e-6
    assert max((overlap(*pair) for pair in itertools.combinations(places, 2)), default=0) < 1e-6


def test_the_layout_is_that_of_the_paper() -> None:
    """Squarified Treemaps, figure 4: 6, 6, 4, 3, 2, 2, 1 in a box of 6 by 4."""
    places = squarified([6, 6, 4, 3, 2, 2, 1], 6 / 4)
    found = [
        (round(p.left * 0.06, 2), round(p.top * 0.04, 2), round(p.width * 0.06, 2), round(p.height * 0.04, 2))
        for p in places
    ]
    assert found[:4] == [
        (0.0, 0.0, 3.0, 2.0),
        (0.0, 2.0, 3.0, 2.0),
        (3.0, 0.0, 1.71, 2.33),
        (4.71, 0.0, 1.29, 2.33),
    ]


def test_small_packages_and_files_share_a_box() -> None:
    groups = [Group("big", 1_000_000, "base", [Leaf(f"/f{n}", 1000) for n in range(1000)])]
    groups += [Group(f"small{n}", 10, "base") for n in range(5)]
    big, rest = treemap(groups)
    assert (rest.name, rest.size, rest.several) == ("5 smaller ones", 50, 5)
    assert sum(each.size for each in big.files) == 1_000_000
    assert big.files[0].name == "911 smaller files", "in its place by size, so that boxes are squares"
    (alone, second) = treemap([groups[0], Group("tiny", 1, "base")])
    assert (alone.name, second.name, second.several) == ("big", "tiny", 0), (
        "one small one needs no common box"
    )


def test_a_map_of_a_large_image_is_bounded() -> None:
    files = [Leaf(f"/usr/lib/{n}", 6000) for n in range(5000)]
    groups = [Group(f"p{n}", 60_000, "base", files[n * 10 : n * 10 + 10]) for n in range(500)]
    boxes = treemap(groups)
    assert sum(len(box.files) for box in boxes) <= MOST_BOXES
    assert sum(box.size for box in boxes) == 500 * 60_000
    assert len(boxes) <= 401


def test_nothing_is_no_map() -> None:
    assert treemap([]) == treemap([Group("empty", 0, "base")]) == ()
