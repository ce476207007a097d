"""Package versions: Debian's order (Policy 5.6.12)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.packages.opkg.version import compare_versions, satisfies, version_key

OLDER_FIRST = [
    ("1", "2"),
    ("1.9", "1.10"),
    ("1.0", "1.0.1"),
    ("1.0", "1.0a"),
    ("1.0a", "1.0b"),
    ("1.0a", "1.0ab"),
    ("1.0a", "1.0."),
    ("1.0a", "1.0+"),
    ("1.0~rc1", "1.0"),
    ("1.0~rc1", "1.0~rc2"),
    ("1.0~~", "1.0~"),
    ("1.0~~a", "1.0~"),
    ("1.0~", "1.0"),
    ("0~1", "0"),
    ("0~1", "0.1"),
    ("1.0-1", "1.0-2"),
    ("1.0-9", "1.0-10"),
    ("1.0", "1.0-1"),
    ("1.0-1", "1.0.1-1"),
    ("1.0-1", "1.0-1.1"),
    ("1.0-1~bpo1", "1.0-1"),
    ("9", "1:1"),
    ("1:9", "2:1"),
    ("2:1.0~", "2:1.0"),
    ("3.11.7-1", "3.11.7-2"),
    ("3.9.18-1", "3.11.7-1"),
    ("2017-01-25-650758b1-1", "2018-01-25-0a0a0a0a-1"),
    ("2018-07-25-3d5c8f1a-1", "2018-07-25-3d5c8f1a-2"),
    ("173.6-r4030", "173.6-r4031"),
    ("git-19.271.72080-7b230b0-1", "git-20.002.00000-0000000-1"),
    ("26.180.11111~abcdef", "26.180.11112~000000"),
    ("1.31.0-r1", "1.31.0-r10"),
    ("a", "b"),
    ("A", "a"),
    ("z", "+"),
    ("1.2.3", "1.2.a"),
    ("", "1"),
    ("~", ""),
]
SAME = [
    ("1.0", "1.0"),
    ("1.0", "1.00"),
    ("01.0", "1.0"),
    ("0:1.0", "1.0"),
    ("1.0-0", "1.0"),
    ("1.0-", "1.0"),
    ("", "0"),
    ("1.a0", "1.a"),
    ("9" * 5000, "0" + "9" * 5000),
]


@pytest.mark.parametrize(("older", "newer"), OLDER_FIRST)
def test_the_first_is_older(older: str, newer: str) -> None:
    assert compare_versions(older, newer) == -1
    assert compare_versions(newer, older) == 1


@pytest.mark.parametrize(("one", "other"), SAME)
def test_both_are_the_same(one: str, other: str) -> None:
    assert compare_versions(one, other) == compare_versions(other, one) == 0


@pytest.mark.parametrize(
    ("operator", "older", "same", "newer"),
    [
        ("<<", True, True, False),
        ("<=", True, True, False),
        ("=", False, True, False),
        (">=", False, True, True),
        (">>", False, True, True),
    ],
)
def test_operators(operator: str, older: bool, same: bool, newer: bool) -> None:
    assert [satisfies(each, operator, "1.5") for each in ("1.4", "1.5", "1.10")] == [older, same, newer]
    with pytest.raises(KeyError):
        satisfies("1", "~", "1")


def _verrevcmp(one: str, other: str) -> int:
    """The rule once more, character by character, as the policy puts it, to hold the keys against."""

    def order(text: str, at: int) -> int:
        if at >= len(text) or text[at] in "0123456789":
            return 0
        if text[at] == "~":
            return -1
        return ord(text[at]) if text[at].isalpha() else ord(text[at]) + 256

    i = j = 0
    while i < len(one) or j < len(other):
        while (i < len(one) and not one[i].isdigit()) or (j < len(other) and not other[j].isdigit()):
            if order(one, i) != order(other, j):
                return -1 if order(one, i) < order(other, j) else 1
            i, j = i + 1, j + 1
        first, second = i, j
        while i < len(one) and one[i].isdigit():
            i += 1
        while j < len(other) and other[j].isdigit():
            j += 1
        numbers = int(one[first:i] or "0"), int(other[second:j] or "0")
        if numbers[0] != numbers[1]:
            return -1 if numbers[0] < numbers[1] else 1
    return 0


PARTS = st.text("019abZ.+~", max_size=8)


@given(PARTS, PARTS)
def test_keys_follow_the_rule(one: str, other: str) -> None:
    assert compare_versions(one, other) == _verrevcmp(one, other)


@given(st.text(), st.text(), st.text())
def test_every_text_has_a_place_in_one_order(one: str, two: str, three: str) -> None:
    assert compare_versions(one, one) == 0
    assert compare_versions(one, two) == -compare_versions(two, one)
    ordered = sorted([one, two, three], key=version_key)
    assert compare_versions(ordered[0], ordered[2]) <= 0
