"""What OpenWrt's own filespec script made of random trees (recorded by tests/benchmarks/record_filespec.py)
against what the builder makes of them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.filespec_oracle import digest_of, ours, random_filespec

RECORDED = json.loads((Path(__file__).parents[1] / "data/filespec-outcomes.json").read_text("utf-8"))
OUTCOMES = RECORDED["outcomes"]
CASES = [random_filespec(seed) for seed in range(len(OUTCOMES))]


def test_the_outcomes_are_those_of_these_trees() -> None:
    """Whoever changes what the seeds make has to record anew."""
    assert digest_of(CASES) == RECORDED["digest"]


def test_a_filespec_does_what_openwrts_script_did() -> None:
    different = {
        seed: (case.text, outcome)
        for seed, (case, outcome) in enumerate(zip(CASES, OUTCOMES, strict=True))
        if ours(case) != outcome
    }
    assert different == {}
    refused = OUTCOMES.count("!")
    assert len(OUTCOMES) // 4 < refused < len(OUTCOMES) * 3 // 4  # neither all easy nor all hard


def test_every_operation_and_modes_and_globs_had_an_effect() -> None:
    """In filespecs that were followed to their end."""
    followed = "\n".join(case.text for case, outcome in zip(CASES, OUTCOMES, strict=True) if outcome != "!")
    lines = [line.replace(" ", "") for line in followed.splitlines()]
    for op in ("+", "-", "=", "=="):
        assert sum(line.startswith(f"{op}|") for line in lines) > 20, op
    assert sum("*" in line or "?" in line or "[" in line for line in lines) > 40
    assert sum(line.startswith("#") for line in lines) > 5
