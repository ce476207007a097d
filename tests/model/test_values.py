"""Sizes and releases: pure rules, checked with plain values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from imagebuilder.config.releases import shipped_releases
from imagebuilder.model.release import (
    SNAPSHOT,
    Release,
    check_release,
    check_release_range,
    covers,
    lower_bound,
)
from imagebuilder.model.size import format_size, human_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4M", 4 << 20),
        ("3904K", 3904 << 10),
        ("3904k", 3997696),
        ("0.5G", 1 << 29),
        (3669504, 3669504),
        ("7", 7),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4 M", "M", "-1", -1, "4MB", "1.0001K", True, 1.5, None, "4T", "٤M"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected a size|whole number"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=1 << 39))
def test_sizes_survive_being_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_human_sizes() -> None:
    assert [human_size(size) for size in (7, 1536, 4 << 20)] == ["7 bytes", "1.5 KiB", "4.0 MiB"]


@pytest.mark.parametrize(
    ("expression", "release", "expected"),
    [
        (">=19.07", "19.07.0", True),
        (">=19.07", "18.06.9", False),
        (">=19.07", "24.10.4", True),
        (">=18.06,<21.02", "21.02.0", False),
        (">=18.06,<21.02", "19.07.10", True),
        ("17.01", "17.01.7", True),
        ("17.01", "18.06.0", False),
        (">=19.07,<23.05.6", "23.05.5", True),
        (">=19.07,<23.05.6", "23.05.6", False),
        (">=24.10", "24.10.0-rc1", True),  # built from its series' branch
        ("<24.10", "24.10.0-rc1", False),
        ("24.10", "24.10.0-rc1", True),
        ("<24.10", "23.05.0-rc1", True),
        (">=24.10", "24.10-SNAPSHOT", True),
        (">=24.10", "snapshot", True),
        ("<25.12", "snapshot", False),
        ("snapshot", "24.10.4", False),
        ("embedded", "embedded", True),
        ("embedded", "embedded-3.13", True),
        (">=17.01", "embedded", False),
        (">=17.01", "embedded-3.13", False),
        ("embedded", "23.05.5", False),
        ("snapshot", "embedded", False),
        (">=17.01", "PandoraBox", False),
    ],
)
def test_release_ranges(expression: str, release: str, expected: bool) -> None:
    assert covers(check_release_range(expression), release) is expected


@pytest.mark.parametrize(
    ("name", "series", "candidate", "since"),
    [
        ("24.10.4", "24.10", False, True),
        ("24.10.0-rc1", "24.10", True, True),
        ("23.05.6", "23.05", False, False),
        ("25.12-SNAPSHOT", "25.12", False, True),
        ("19.07.8-vendor", "19.07", False, False),
        ("25.12_vendor", "25.12", False, True),
        ("snapshot", "snapshot", False, True),
        ("embedded-3.13", "embedded-3.13", False, False),
        ("r460", "r460", False, False),
        ("4.1.2", "4.1.2", False, False),
        ("24.101", "24.101", False, False),
        ("", "", False, False),
    ],
)
def test_what_a_release_is_of(name: str, series: str, candidate: bool, since: bool) -> None:
    release = Release(name)
    assert (release.series, release.candidate, release.since("24.10")) == (series, candidate, since)


def test_releases_are_in_the_order_in_which_they_came() -> None:
    """The numbered, then snapshot, then what has no place among them."""
    newest_first = ["embedded-3.13", "embedded", "PandoraBox", SNAPSHOT, *shipped_releases().versions]
    assert sorted(newest_first, key=Release) == newest_first[::-1]
    numbered = [Release(version) for version in shipped_releases().versions]
    assert [release.series for release in numbered] == sorted(
        (release.series for release in numbered), reverse=True
    )
    assert all(release.number == Version(release.name) for release in numbered)
    assert Release("24.10.0-rc7") < Release("24.10.0") < Release("24.10.1") < Release("24.10.10")


NAMES = st.one_of(
    st.sampled_from([*shipped_releases().versions, SNAPSHOT, "embedded", "embedded-3.13", "24.10"]),
    st.from_regex(r"[0-9]{2}\.[0-9]{2}(\.[0-9]{1,2})?(-rc[0-9]{1,2}|-SNAPSHOT|-[0-9]|_x)?", fullmatch=True),
    st.text(max_size=12),
)


@given(NAMES, NAMES, NAMES)
def test_releases_have_one_order(one: str, two: str, three: str) -> None:
    a, b, c = sorted([Release(one), Release(two), Release(three)])
    assert a <= b <= c
    assert a <= c
    assert [a < b, a == b, a > b].count(True) == 1
    assert (a == b) == (a.name == b.name)
    assert {a.name, b.name, c.name} == {one, two, three}
    if a.numbered and b.numbered:
        assert Release(a.series) <= Release(b.series)
        assert b.since(a.series)


@pytest.mark.parametrize("expression", ["", "new", ">=", "24", ">=x", "24.10 or so"])
def test_what_is_no_release_range(expression: str) -> None:
    with pytest.raises(ValueError, match="no release expression"):
        check_release_range(expression)


@pytest.mark.parametrize(
    "release", ["24.10.4", "24.10", "snapshot", "embedded", "embedded-3.13", "24.10.0-rc3"]
)
def test_releases(release: str) -> None:
    assert check_release(release) == release


@pytest.mark.parametrize("release", ["", "24", "latest!", "24.10.4.1", "24.1"])
def test_what_is_no_release(release: str) -> None:
    with pytest.raises(ValueError, match="is no release"):
        check_release(release)


def test_the_newest_range_is_the_one_that_begins_latest() -> None:
    ranges = ["17.01", ">=24.10,<24.10.2", ">=19.07,<23.05.6", ">=18.06,<21.02"]
    assert sorted(ranges, key=lower_bound, reverse=True) == [
        ">=24.10,<24.10.2",
        ">=19.07,<23.05.6",
        ">=18.06,<21.02",
        "17.01",
    ]


@given(st.text(max_size=30))
def test_any_text_is_a_range_or_a_value_error(text: str) -> None:
    try:
        expression = check_release_range(text)
    except ValueError:
        return
    assert covers(expression, "24.10.4") in (True, False)
