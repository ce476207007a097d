"""Package versions in Alpine's order, beside what the real apk says."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.packages.apk.version import compare, is_valid, satisfies, version_key
from tests.support.apk_versions import FITTING, INVALID, ORDER, WANTED

SIGNS = {"<": -1, "=": 0, ">": 1}
PAIRS = [pair.split() for line in ORDER.splitlines() for pair in line.split("; ")]
OPERATORS = ("=", "<", ">", "<=", ">=", "~", "<~", ">~")


def test_the_order_is_apks() -> None:
    assert len(PAIRS) > 300
    said = {(one, sign, other): compare(one, other) for one, sign, other in PAIRS}
    assert [pair for pair, ours in said.items() if ours != SIGNS[pair[1]]] == []
    assert all(is_valid(version) for one, _, other in PAIRS for version in (one, other))


def test_constraints_are_apks() -> None:
    taken = {}
    for line in FITTING.splitlines():
        version, operator, *fitting = line.split()
        taken[version, operator] = sorted(fitting)
    for version in {version for version, _ in taken}:
        for operator in OPERATORS:
            ours = sorted(wanted for wanted in WANTED if satisfies(version, operator, wanted))
            assert ours == taken.get((version, operator), []), (version, operator)


@pytest.mark.parametrize("version", INVALID)
def test_what_apk_refuses(version: str) -> None:
    assert not is_valid(version)


def test_the_order_of_suffixes() -> None:
    suffixes = ("_alpha", "_alpha1", "_beta", "_pre", "_rc", "_rc2", "", "-r1", "~ab", "_cvs", "_svn")
    versions = [f"1.2{suffix}" for suffix in (*suffixes, "_git20240101", "_hg", "_p", "_p1", "a", ".0")]
    assert all(compare(one, other) < 0 for one, other in pairwise(versions))


def test_numbers_have_64_bits() -> None:
    assert compare("18446744073709551616", "0") == 0
    assert compare("1." + "9" * 5000, "1." + "9" * 5000) == 0


def test_an_unknown_operator_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        satisfies("1", ">>", "1")


PART = st.sampled_from(["", "0", "1", "01", "10", ".", "a", "_", "_rc", "_p", "~ab", "~", "-r", "-r1", "A"])
VERSIONS = st.lists(PART, max_size=7).map("".join) | st.text(max_size=12)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_every_text_has_its_place(one: str, two: str, three: str) -> None:
    assert compare(one, two) == -compare(two, one)
    assert compare(one, one) == 0
    first, second, third = sorted((one, two, three), key=version_key)
    assert compare(first, second) <= 0
    assert compare(first, third) <= 0
    assert compare(second, third) <= 0


@given(VERSIONS, VERSIONS)
def test_constraints_follow_the_order(one: str, two: str) -> None:
    order = compare(one, two)
    assert satisfies(one, "=", two) == (order == 0)
    assert satisfies(one, "<=", two) == (order <= 0)
    assert satisfies(one, ">", two) == (order > 0)
    assert satisfies(one, "~", two) >= (order == 0)
    assert satisfies(one, ">~", two) == (order > 0 or satisfies(one, "~", two))
