"""`compare`: every variant has its row, with what was planned and what was measured, or with why not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagebuilder.cli import main
from imagebuilder.compare import measured_row, shown_error, trial_figures
from imagebuilder.errors import UserError
from imagebuilder.model.result import Result
from imagebuilder.model.trial import TrialFigure, TrialReport, TrialWay
from imagebuilder.model.variant_table import VariantFigure, VariantRow
from tests.report.test_page import Seen
from tests.support import nor_tree
from tests.support.report_making import result_of

BOARD = "tplink-tl-wr740n-v4"
LARGE = 64 * nor_tree.BLOCK
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
        tree = [] if "--imagebuilder" in argv else ["--imagebuilder", str(small_tree)]
        places = [*tree, "--project", str(project), "--cache", "c"]
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


# by default, and what each has besides the tree's default packages; the tree's packages are noise, so that
# no interpreter of theirs tells what could be cut
SEVEN = {
    "none": "",
    "micropython": "micropython",
    "base": "python3-base",
    "light": "python3-light",
    "full": "python3",
    "auto": "python3-base",
    "auto+shake": None,
}


def made_by_hand(tree: Path, place: Path, packages: str) -> tuple[int, int]:
    """What make alone makes of these packages: how many there are, and bytes of flash in erase blocks."""
    words = [f"PROFILE={nor_tree.PROFILE}", f"PACKAGES={packages}", f"BIN_DIR={place}"]
    shutil.copytree(tree, place / "tree", symlinks=True)
    subprocess.run(["make", "-C", place / "tree", "image", *words], check=True, capture_output=True)
    (manifest,) = place.glob("*.manifest")
    size = (place / nor_tree.IMAGE).stat().st_size  # whole blocks, and the four bytes of a mark for JFFS2
    return len(manifest.read_text().splitlines()), size // nor_tree.BLOCK * nor_tree.BLOCK


def test_by_default_the_seven_are_compared_and_built(call: Call, project: Path, tmp_path: Path) -> None:
    """In text, JSON and page, with the figures of images that make made of these packages without us."""
    tree = nor_tree.make_nor_tree(tmp_path / "nor", limit=LARGE)
    board = nor_tree.BOARD_TOML.replace(str(nor_tree.FIRMWARE), str(LARGE)).replace("2M", "8M")
    (project / "boards/nor-test.toml").write_text(board)
    (project / "configs/nor.toml").write_text('boards = ["nor-test"]\n')
    by_hand = {
        name: made_by_hand(tree, tmp_path / f"hand-{name}", packages)
        for name, packages in SEVEN.items()
        if packages is not None
    }
    asked = ("nor", "--imagebuilder", tree, "--page", "page.html", "-j", "2")
    code, out, err = call(*asked, "--json")
    assert code == 2, err  # for auto+shake
    rows = rows_of(json.dumps(json.loads(out)["found"]))
    assert list(rows) == list(SEVEN)
    why = rows["auto+shake"]["why"]
    assert "python3.6 is no interpreter" in why
    assert why.endswith(")"), "and what to do"
    assert {name for name, row in rows.items() if row["state"] != "measured"} == {"auto+shake"}
    for name, (packages, flash) in by_hand.items():
        row = rows[name]
        assert row["packages"] == {"value": packages, "measured": True, "uncertainty": 0}, name
        assert row["flash"] == {"value": flash, "measured": True, "uncertainty": 0}, name
        assert row["free"]["value"] == LARGE - flash, name
        # nothing here runs programs of that processor
        assert (row["memory"] is None) == (name == "none")
        assert row["memory"] is None or not row["memory"]["measured"]
    sizes = [by_hand[name][1] for name in ("none", "micropython", "base", "light", "full")]
    assert sizes == sorted(set(sizes)), "each is larger than the one before"
    assert not (tmp_path / "out").exists(), "no image is handed over"
    assert not [path.name for path in (tmp_path / "c").iterdir() if path.name.startswith(".scratch")]

    code, text, _ = call(*asked)
    assert code == 2
    table = dict(zip(SEVEN, text.split("bytecode files")[1].splitlines()[1:], strict=False))
    page = Seen((tmp_path / "page.html").read_text()).text.split("bytecode files")[1]
    in_page = dict(zip(SEVEN, filter(str.strip, page.splitlines()), strict=False))
    for name in SEVEN:
        assert table[name].split()[0] == name
        assert in_page[name].startswith(name)
    for name, (packages, flash) in by_hand.items():
        figure = f"{flash / 1024:.1f} KiB" if flash < 1 << 20 else f"{flash / (1 << 20):.1f} MiB"
        assert f"  {packages}  {figure}  " in table[name]
        assert f"{packages}{figure}" in in_page[name]
        assert ("~ " in table[name], "~ " in in_page[name]) == (name != "none", name != "none")
    assert "Figures with ~ are planned, the others measured" in text
    assert "Figures with ~ are planned, the others measured" in page


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


def test_a_python_that_a_package_brings_is_not_taken_for_the_variant(
    call: Call, add_config: AddConfig
) -> None:
    config = add_config(
        "both", f'extends = "router"\nboards = ["{BOARD}"]\n[packages]\nadd = ["python3-base"]\n'
    )
    code, out, err = call(config, "--plan", "--json", "--variants", "none,micropython,base")
    assert code == 0, err
    rows = rows_of(out)
    assert [row["python"] for row in rows.values()] == ["3.11.7", "1.20", "3.11.7"]
    told = [" ".join(row["remarks"]) for row in rows.values()]
    assert [" is in it all the same: packages.add in " in each for each in told] == [True, True, False]


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


def test_a_message_of_several_lines_is_shown_in_one() -> None:
    assert shown_error("it fails:\n  first\n\nsecond") == "it fails: first; second"
