"""`compare`: every variant has its row, with what was planned and what was measured, or with why not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.cli import main
from imagebuilder.compare import measured_row, trial_figures
from imagebuilder.config.python_form import COMPARED
from imagebuilder.errors import UserError
from imagebuilder.model.result import Result
from imagebuilder.model.trial import TrialFigure, TrialReport, TrialWay
from imagebuilder.model.variant_table import VariantFigure, VariantRow
from tests.support.report_making import result_of

BOARD = "tplink-tl-wr740n-v4"
Call = Callable[..., tuple[int, str, str]]
AddConfig = Callable[[str, str], str]


@pytest.fixture
def call(
    project: Path,
    small_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """Calls `compare` on the small tree; exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str | Path) -> tuple[int, str, str]:
        places = ["--imagebuilder", str(small_tree), "--project", str(project), "--cache", "c"]
        monkeypatch.setattr(sys, "argv", ["build.py", "compare", *map(str, argv), *places])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def rows_of(document: str) -> dict[str, dict[str, Any]]:
    return {row["variant"]: row for row in json.loads(document)["variants"]}


def test_a_plan_tells_of_every_variant_and_builds_nothing(
    call: Call, tmp_path: Path, small_tree: Path
) -> None:
    (small_tree / "behaviour-fails").touch()
    code, out, _ = call(
        "router", "--board", BOARD, "--plan", "--json", "--variants", "none,base,full,micropython"
    )
    assert code == 0
    rows = rows_of(out)
    assert list(rows) == ["none", "base", "full", "micropython"], "in the order in which they were asked for"
    assert {row["state"] for row in rows.values()} == {"planned"}
    counts = [row["packages"]["value"] for row in rows.values()]
    assert counts[1] == counts[0] + 1, "python3-base has no dependencies in this tree"
    assert not any(row["packages"]["measured"] for row in rows.values())
    assert [row["python"] for row in rows.values()] == ["", "3.11.7", "3.11.7", "1.20"]
    assert rows["none"]["memory"] is None
    assert rows["base"]["memory"]["value"] > rows["micropython"]["memory"]["value"] > 0
    assert all(row["start"] is None for row in rows.values()), "only an image shows that"


def test_by_default_the_seven_are_compared_and_built(call: Call, tmp_path: Path) -> None:
    code, out, err = call("router", "--board", BOARD, "--json", "-j", "2")
    assert code in (0, 2), err
    document = json.loads(out)
    rows = {row["variant"]: row for row in (document.get("found") or document)["variants"]}
    assert tuple(rows) == COMPARED
    for name in ("none", "base", "light", "full"):
        assert rows[name]["state"] == "measured", (name, rows[name]["why"])
        assert rows[name]["packages"]["measured"]
    assert not (tmp_path / "out").exists(), "no image is handed over"
    assert not [path.name for path in (tmp_path / "c").iterdir() if path.name.startswith(".scratch")]


def test_a_release_that_has_no_such_python_is_a_row_that_says_why(call: Call) -> None:
    code, out, _ = call("router", "--board", BOARD, "--plan", "--variants", "python2-base,none")
    assert code == 0
    assert 'not offered: python.variant = "python2-base": OpenWrt 23.05 has no Python 2' in out
    assert "All figures are planned" in out


def test_what_a_config_has_of_its_own_is_left_out_where_nothing_runs_it(
    call: Call, project: Path, add_config: AddConfig
) -> None:
    (project / "apps").mkdir()
    (project / "apps/hello.py").write_text("import ipaddress\n")
    add_config(
        "own",
        f'extends = "base"\nboards = ["{BOARD}"]\n[python]\nvariant = "auto"\napps = ["apps/hello.py"]\n',
    )
    code, out, _ = call("own", "--plan", "--json", "--variants", "none,micropython,full")
    assert code == 0
    rows = rows_of(out)
    assert rows["none"]["remarks"] == ["without what the config has of its own: nothing would run it"]
    (remark,) = rows["micropython"]["remarks"]
    assert "no module 'ipaddress'" in remark
    assert rows["full"]["remarks"] == []
    assert rows["full"]["packages"]["value"] > rows["none"]["packages"]["value"] + 1, "python3 and the app"


def test_what_does_not_fit_is_not_built_and_says_by_how_much(
    call: Call, small_tree: Path, add_config: AddConfig
) -> None:
    config = add_config("tight", f'extends = "router"\nboards = ["{BOARD}"]\n[budget]\nram_free = "2G"\n')
    (small_tree / "behaviour-fails").touch()
    code, out, err = call(config, "--json", "--variants", "none,base")
    assert code == 0, err
    assert {row["state"] for row in rows_of(out).values()} == {"does not fit"}
    assert all("the RAM" in row["why"] for row in rows_of(out).values())


def test_a_build_that_fails_is_told_and_costs_no_other(call: Call, small_tree: Path) -> None:
    (small_tree / "behaviour").write_text(
        'case "$PACKAGES" in *python3-base*) touch behaviour-fails;; esac\n'
    )
    code, out, _ = call("router", "--board", BOARD, "--json", "--variants", "base,none")
    assert code == 2
    document = json.loads(out)
    rows = {row["variant"]: row for row in document["found"]["variants"]}
    assert (rows["base"]["state"], rows["none"]["state"]) == ("failed", "measured")
    assert rows["base"]["why"]
    assert rows["base"]["packages"] == {
        "value": rows["none"]["packages"]["value"] + 1,
        "measured": False,
        "uncertainty": 0,
    }
    assert "base" in document["error"]
    code, out, _ = call("router", "--board", BOARD, "--variants", "base,none")
    assert code == 2
    assert "base  " in out, "people see the table too"


def test_faults_of_the_config_are_the_command_s_own(call: Call, add_config: AddConfig) -> None:
    add_config("broken", f'extends = "router"\nboards = ["{BOARD}"]\n[python]\nvariant = "lite"\n')
    code, out, err = call("broken", "--plan")
    assert (code, out) == (2, "")
    assert "variant" in err


def test_one_board_is_compared_at_a_time(call: Call) -> None:
    code, _, err = call("router", "--plan")
    assert code == 2
    assert "linksys-wrt1200ac" in err
    assert "name one with --board" in err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--variants", "ful"), "there is no 'ful'"),
        (("--variants", ","), "names none"),
        (("--plan", "-j", "2"), "--plan builds none"),
        (("--page", "."), "is no file"),
    ],
)
def test_what_says_nothing_or_two_things_is_refused(call: Call, given: tuple[str, ...], said: str) -> None:
    code, _, err = call("router", "--board", BOARD, *given)
    assert code == 2
    assert said in err


def test_the_page_is_written_too(call: Call, tmp_path: Path) -> None:
    code, out, _ = call(
        "router", "--board", BOARD, "--plan", "--variants", "none,base", "--page", "deep/page.html"
    )
    assert code == 0
    page = (tmp_path / "deep/page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "TP-Link TL-WR740N" in page
    assert "All figures are planned" in out


def test_where_nothing_can_be_planned_the_reason_is_the_command_s(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_server(*_: object) -> None:
        raise UserError("the server does not answer")

    monkeypatch.setattr("imagebuilder.compare.plan_and_budgets", no_server)
    code, out, err = call("router", "--board", BOARD, "--plan")
    assert (code, out) == (2, "")
    assert "the server does not answer" in err


def tried(way: TrialWay, seconds: float, memory: int | None) -> TrialFigure:
    return TrialFigure(way=way, command="python3", seconds=seconds, modules=33, look_ups=70, memory=memory)


def with_trial(*figures: TrialFigure, why: str = "") -> Result:
    return result_of(trial=TrialReport(by="" if why else "this machine", why=why, checks=(), figures=figures))


def test_what_a_trial_found_is_read_in_one_place() -> None:
    planned = VariantRow(variant="base", state="planned", python="3.11.7")
    result = with_trial(tried("isolated", 0.1, 6000), tried("bytecode", 0.25, 7000))
    row = measured_row(planned, result)
    figures = trial_figures(result)
    assert figures is not None
    assert row.memory is not None
    assert (row.memory.value, row.memory.measured) == (7000 * 1024, True), "bytes of KiB"
    assert row.start is not None
    assert (row.start.value, row.start.measured) == (figures.seconds, True) == (0.25, True)
    assert row.modules is not None
    assert row.modules.value == 33
    assert row.look_ups is not None
    assert row.look_ups.value == 70
    untried = measured_row(planned, with_trial(why="there is no qemu-mips"))
    assert untried.start is None
    assert untried.remarks == ("its interpreter was not measured: there is no qemu-mips",)


def test_memory_that_was_the_emulator_s_stays_as_planned() -> None:
    memory = VariantFigure(value=5 << 20, measured=False)
    planned = VariantRow(variant="base", state="planned", python="3.11.7", memory=memory)
    row = measured_row(planned, with_trial(tried("bytecode", 0.25, None)))
    assert row.memory == memory
