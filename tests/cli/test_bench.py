"""`bench`: one table of ratios, from the benchmarks among the tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    assert row["fault"] == ""


def test_a_fault_of_its_user_costs_no_other(bench: Bench, tmp_path: Path) -> None:
    argv = ("--only", "index", "--only", "pipeline", "--most", "1", "--imagebuilder", str(tmp_path / "none"))
    code, out, err = bench(*argv)
    assert code == 2, err
    assert "index" in out
    assert "failed: " in out
    assert "none" in out.partition("failed: ")[2]
    assert "1 of 2 failed: pipeline" in err
    code, out, err = bench(*argv, "--json")
    told = json.loads(out)
    assert code == 2
    assert "1 of 2 failed: pipeline" in json.dumps(told)
    found = {row["name"]: row for row in _rows(told)}
    assert found["pipeline"]["fault"] != found["index"]["fault"] == ""
    assert len(found["index"]["points"]) == 1


def _rows(told: object) -> list[dict[str, Any]]:
    """The rows in an error's document, wherever they stand in it."""
    if isinstance(told, list) and told and "points" in told[0]:
        return told
    inner = told.values() if isinstance(told, dict) else told if isinstance(told, list) else ()
    return next(filter(None, map(_rows, inner)), [])


OTHERS = """\
import json, sys
row = {"name": sys.argv[1], "what": "", "unit": "1 piece", "points": [{"work": 1, "seconds": 0.5}]}
if sys.argv[1] == "--list":
    print("good\\nbad\\nlast")
else:
    print(json.dumps(row))
    if sys.argv[1] == "bad":
        raise ZeroDivisionError("of ours")
"""


def test_a_fault_of_ours_costs_no_other_and_keeps_what_was_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tests/benchmarks").mkdir(parents=True)
    (tmp_path / "tests/benchmarks/table.py").write_text(OTHERS)
    for folder in ("tests", "tests/benchmarks"):
        (tmp_path / folder / "__init__.py").write_text("")
    monkeypatch.setattr("imagebuilder.cli.bench._PROJECT", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code, out, err = bench()
    assert code == 1
    lines = [line.split() for line in out.splitlines() if line.strip()]
    for name in ("good", "bad", "last"):
        assert [name, "1", "piece", "500.00", "ms"] in lines
    assert "ZeroDivisionError: of ours" in out, "beside its row"
    assert "Traceback" in err
    assert "1 of 3 failed: bad" in err


def test_ratios_and_steps_that_are_left_out_stand_below(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tests/benchmarks").mkdir(parents=True)
    (tmp_path / "tests/benchmarks/table.py").write_text(
        "import json, sys\n"
        "print('one') if sys.argv[1] == '--list' else print(json.dumps({'name': 'one', 'what': '',"
        "'unit': 'x',"
        "'points': [{'work': 1, 'seconds': 1.0}, {'work': 10, 'seconds': 4.0}],"
        "'left_out': [{'work': 100, 'why': 'it is late'}], 'ratios': [{'what': 'a / b', 'value': 1.25}]}))\n"
    )
    for folder in ("tests", "tests/benchmarks"):
        (tmp_path / folder / "__init__.py").write_text("")
    monkeypatch.setattr("imagebuilder.cli.bench._PROJECT", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code, out, err = bench()
    assert code == 0, err
    table = " ".join(out.split())
    assert "one x 1000.00 ms x 4.0 -" in table
    assert "one a / b 1.250" in table
    assert "100 is left out: it is late" in table


def test_a_board_is_of_a_tree(bench: Bench) -> None:
    code, out, err = bench("--board", "tplink-tl-wr740n-v4")
    assert (code, out) == (2, "")
    assert "--imagebuilder" in err


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
