"""What genuine opkgs of several generations installed, recorded by tests/benchmarks/record_opkg.py, against
what the resolver says. Where there is a genuine tree, test_genuine.py asks its opkg."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from imagebuilder.packages.opkg.resolve import NEWEST, OpkgRules, opkg_rules
from imagebuilder.packages.universe import Universe
from tests.support.budget_making import index
from tests.support.opkg_oracle import (
    Case,
    answer,
    digest_of,
    random_case,
    read_outcome,
    real_case,
    verdict,
    written,
)

RECORDED = json.loads((Path(__file__).parents[2] / "data/opkg-outcomes.json").read_text("utf-8"))
OUTCOMES = RECORDED["outcomes"]
KINDS = ("random", "real")
SERIES = ("17.01", "18.06", "19.07", "21.02", "23.05")


@cache
def cases(kind: str) -> tuple[Case, ...]:
    """Those that were recorded, in the order of their seeds."""
    count = len(next(iter(OUTCOMES.values()))[kind])
    if kind == "random":
        return tuple(map(random_case, range(count)))
    packages = index()
    return tuple(real_case(seed, packages) for seed in range(count))


def verdicts(release: str, kind: str, rules: OpkgRules) -> dict[int, str]:
    lines = OUTCOMES[release][kind]
    assert len(lines) == len(cases(kind))
    # opkg keeps the package that it reads last, the universe the one that is given first
    return {
        seed: verdict(answer(case, Universe(reversed(case.packages)), rules), read_outcome(line), case)
        for seed, (case, line) in enumerate(zip(cases(kind), lines, strict=True))
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_outcomes_are_those_of_these_feeds(kind: str) -> None:
    """Whoever changes what the seeds make has to record anew."""
    assert digest_of(cases(kind)) == RECORDED["digests"][kind]


def test_every_generation_of_opkg_was_asked() -> None:
    assert {release[:5] for release in OUTCOMES} == set(SERIES)
    assert len({each["opkg"] for each in OUTCOMES.values()}) == len(SERIES)
    rules = {opkg_rules(release) for release in OUTCOMES}
    assert NEWEST in rules
    assert len(rules) == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("release", OUTCOMES)
def test_the_resolver_says_what_opkg_did(release: str, kind: str) -> None:
    found = verdicts(release, kind, opkg_rules(release))
    assert {seed: what for seed, what in found.items() if what not in ("same", "both fail")} == {}
    if kind == "random":  # the cases are neither all easy nor all hard
        assert min(Counter(found.values())[what] for what in ("same", "both fail")) > len(found) // 4


@pytest.mark.parametrize(("release", "others"), [("17.01.7", "23.05.2"), ("23.05.2", "17.01.7")])
def test_generations_differ_and_the_recorded_outcomes_tell(release: str, others: str) -> None:
    """Which rules count matters: with another generation's the resolver is wrong."""
    found = verdicts(release, "random", opkg_rules(others))
    assert len([what for what in found.values() if what not in ("same", "both fail")]) >= 3


def test_an_outcome_can_be_written_and_read() -> None:
    for release, each in OUTCOMES.items():
        for kind in KINDS:
            for line in each[kind]:
                assert written(read_outcome(line)) == line, (release, line)
