"""`bench`: one table of ratios, from the benchmarks among the tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.cli import main

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Calls `bench`; exit code, standard output and standard error."""

    def run(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["build.py", "bench", *argv])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_growth_is_told_as_multiples_of_the_first_time(bench: Bench) -> None:
    code, out, err = bench("--only", "stage", "--only", "compile", "--most", "10")
    assert code == 0, err
    heading, *lines = [line.split() for line in out.splitlines() if line.strip()]
    assert heading == ["benchmark", "1", "is", "1", "takes", "10"]
    assert [line[0] for line in lines] == ["stage", "compile"], "in the order in which they stand"
    for line in lines:
        assert line[-2] == "x"
        assert float(line[-1]) > 0


def test_seconds_are_told_to_programs(bench: Bench) -> None:
    code, out, err = bench("--only", "index", "--most", "10", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert [point["work"] for point in row["points"]] == [1, 10]
    assert row["points"][1]["seconds"] > row["points"][0]["seconds"] > 0, "100 packages against ten"
    assert row["why"] == ""


def test_what_wants_a_tree_says_so(bench: Bench) -> None:
    code, out, _ = bench("--only", "pipeline")
    assert code == 0
    assert "not run, because it wants --imagebuilder" in out


def test_a_name_that_is_none_is_refused(bench: Bench) -> None:
    code, out, err = bench("--only", "stag")
    assert (code, out) == (2, "")
    assert "there is no benchmark 'stag'" in err
    assert "resolve-opkg" in err


def test_an_installed_copy_says_that_it_has_no_benchmarks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("imagebuilder.cli.bench._PROJECT", tmp_path)
    code, out, err = bench()
    assert (code, out) == (2, "")
    assert "an installed copy does not have" in err
