"""`build -j N`: several boards at once, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from imagebuilder.fleet.journal import NAME
from tests.support.heeding import HEEDING

MODEL = "tplink-tl-wr740n-v4"
BOARDS = tuple("abcdefgh")
BROKEN = '[[board.c.overlay]]\nname = "broken"\n'
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fleet(project: Path) -> Path:
    """A project whose config `fleet` names eight boards, all the small tree's device."""
    for name in BOARDS:
        shutil.copy(project / f"boards/{MODEL}.toml", project / f"boards/{name}.toml")
    broken = project / "overlays/broken"
    (broken / "files/etc").mkdir(parents=True)
    (broken / "overlay.toml").write_text('description = "broken"\n')
    (broken / "files/etc/what.j2").write_text("{{ nobody_gives_this }}\n")
    (project / "configs/fleet.toml").write_text(f'extends = "router"\nboards = {json.dumps(BOARDS)}\n')
    return project


def argv(project: Path, *words: str | Path, tree: Path | None = None) -> list[str]:
    given = [] if tree is None else ["--imagebuilder", str(tree)]
    common = ["--project", str(project), "--cache", str(project.parent / "c"), *given]
    return [sys.executable, "-m", "imagebuilder", *map(str, words), *common]


@pytest.fixture
def run(fleet: Path, small_tree: Path, tmp_path: Path) -> Run:
    """Runs `build`, with the small tree unless another is given."""

    def run(
        *words: str | Path, tree: Path | None = small_tree, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv(fleet, "build", *words, tree=tree),
            cwd=tmp_path,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


def break_one(project: Path) -> str:
    """Break the board c; what its config was before."""
    path = project / "configs/fleet.toml"
    before = path.read_text()
    path.write_text(before + BROKEN)
    return before


def results(project: Path) -> list[str]:
    return sorted(path.parent.name for path in project.glob("out/fleet/*/result.json"))


def left_behind(project: Path) -> list[str]:
    return [path.name for path in project.glob("out/fleet/.*")]


def states(document: Any) -> dict[str, str]:
    return {each["board"]: each["state"] for each in document}


def test_one_broken_board_of_eight_leaves_seven_results(run: Run, fleet: Path) -> None:
    break_one(fleet)
    ended = run("fleet", "-j", "3")
    assert ended.returncode == 2, ended.stderr
    assert results(fleet) == [board for board in BOARDS if board != "c"]
    table = [line.split() for line in ended.stdout.splitlines()[-8:]]
    assert {row[0]: row[1] for row in table} == {**dict.fromkeys(BOARDS, "built"), "c": "failed"}
    lines = ended.stderr.splitlines()
    assert lines[-2] == "error: 1 of 8 failed: c"
    assert any(line.startswith("c: error: ") and "nobody_gives_this" in line for line in lines)
    for line in lines[:-2]:
        assert line.split(": ")[0] in BOARDS, line
    for board in BOARDS:
        if board != "c":
            assert any(line.startswith(f"{board}: build: ") for line in lines)
    assert left_behind(fleet) == []


def test_the_same_images_come_out_as_one_after_the_other(run: Run, fleet: Path) -> None:
    once = {}
    for words in (("-j", "2"), ()):
        ended = run("fleet", "--board", "a", "--board", "b", "--json", "--rebuild", *words)
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout)
        assert states(found) == {"a": "built", "b": "built"}
        once[words] = [[image["sha256"] for image in each["images"]] for each in found]
    assert once["-j", "2"] == once[()]


def test_only_failed(run: Run, fleet: Path) -> None:
    before = break_one(fleet)
    assert run("fleet", "-j", "2", "--fail-fast").returncode == 2
    built = set(results(fleet))
    assert "c" not in built
    (fleet / "configs/fleet.toml").write_text(before)
    ended = run("fleet", "-j", "2", "--only-failed", "--json")
    assert ended.returncode == 0, ended.stderr
    assert set(states(json.loads(ended.stdout))) == set(BOARDS) - built
    ended = run("fleet", "-j", "2", "--only-failed", "--json")
    assert (ended.returncode, json.loads(ended.stdout)) == (0, [])
    assert "nothing to do" in ended.stderr
    # one board alone is written down too, once there is such a file
    break_one(fleet)
    assert run("fleet", "--board", "c").returncode == 2
    (fleet / "configs/fleet.toml").write_text(before)
    ended = run("fleet", "--only-failed", "--json")
    assert states(json.loads(ended.stdout)) == {"c": "up to date"}  # the config is what it was again


def test_a_board_alone_leaves_no_file_beside_its_result(run: Run, fleet: Path) -> None:
    assert run("fleet", "--board", "a").returncode == 0
    assert not (fleet / "out" / NAME).exists()


def test_summary_and_junit(run: Run, fleet: Path, tmp_path: Path) -> None:
    break_one(fleet)
    (tmp_path / "step.md").write_text("of an earlier command\n")
    words = ("fleet", "--board", "a", "--board", "c", "-j", "2", "--junit", "deep/j.xml")
    ended = run(*words, "--summary", "step.md", GITHUB_STEP_SUMMARY=str(tmp_path / "step.md"))
    assert ended.returncode == 2
    text = (tmp_path / "step.md").read_text()
    assert text.startswith("of an earlier command\n### Firmware: 1 built, 1 failed\n")
    assert "nobody\\_gives\\_this" in text
    assert "<summary>c failed in the step stage</summary>" in text
    run(*words, "--summary", "step.md")
    assert (tmp_path / "step.md").read_text().startswith("### Firmware: "), "any other file is written anew"
    suites = ElementTree.parse(tmp_path / "deep/j.xml").getroot()
    assert [each.get("name") for each in suites] == ["fleet/a", "fleet/c"]
    (failed,) = suites.findall(".//failure")
    assert "nobody_gives_this" in (failed.get("message") or "")


def archived(tree: Path, place: Path) -> Path:
    with tarfile.open(place, "w:gz") as tar:
        tar.add(tree, "openwrt-imagebuilder")
    return place


def test_one_of_them_unpacks_the_tree_and_asks_its_make(run: Run, small_tree: Path, tmp_path: Path) -> None:
    """With an empty cache: `make info` and each index's parsing, counted by what is told of them."""
    archive = archived(small_tree, tmp_path / "tree.tar.gz")
    ended = run("fleet", "-j", "4", "--verbose", tree=archive)
    assert ended.returncode == 0, ended.stderr
    asked = [line for line in ended.stderr.splitlines() if ": $ " in line and " info " in line]
    assert len(asked) == 1, asked
    trees = [path for path in (tmp_path / "c/trees").iterdir() if not path.name.startswith(".")]
    assert len(trees) == 1
    assert "was unpacked by another process" not in ended.stderr


HANGS = 'case "$PACKAGES" in *tcpdump*) sleep 300 & touch "$TMPDIR/make-runs"; wait;; esac\n'


def started(fleet: Path, small_tree: Path, tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """A build of all boards, when make of the board c hangs."""
    config = fleet / "configs/fleet.toml"
    config.write_text(config.read_text() + '[board.c.packages]\nadd = ["tcpdump-mini"]\n')
    (small_tree / "behaviour").write_text(HANGS)
    program = subprocess.Popen(
        [*HEEDING, *argv(fleet, "build", "fleet", *words, tree=small_tree)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 120
    while not list(fleet.glob("out/fleet/.work-*/tmp/make-runs")):
        assert time.monotonic() < until, "make does not run"
        assert program.poll() is None
        time.sleep(0.05)
    return program


def below(process: int) -> list[int]:
    """The processes below one."""
    found: list[int] = []
    for place in Path(f"/proc/{process}/task").glob("*/children"):
        for word in place.read_text().split():
            found += [int(word), *below(int(word))]
    return found


def children_of_fleet(program: subprocess.Popen[str]) -> list[int]:
    """The processes that build."""
    (maker,) = map(int, Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split())
    return [int(word) for word in Path(f"/proc/{maker}/task/{maker}/children").read_text().split()]


def hanging_child(program: subprocess.Popen[str]) -> int:
    """The process that builds the board whose make hangs."""
    until = time.monotonic() + 120
    while True:
        for child in children_of_fleet(program):
            words = [Path(f"/proc/{each}/cmdline").read_bytes() for each in below(child) if lives(each)]
            if b"sleep\x00300\x00" in words:
                return child
        assert time.monotonic() < until
        time.sleep(0.05)


def lives(process: int) -> bool:
    return Path(f"/proc/{process}/cmdline").exists()


def gone(processes: list[int]) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if not any(map(lives, processes)):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("how", ["a terminal's Ctrl-C", "SIGINT", "SIGTERM"])
def test_an_interruption_ends_all_of_them(fleet: Path, small_tree: Path, tmp_path: Path, how: str) -> None:
    number, code = (signal.SIGTERM, 143) if how == "SIGTERM" else (signal.SIGINT, 130)
    program = started(fleet, small_tree, tmp_path, "-j", "2", "--json")
    everything = below(program.pid)
    if how.startswith("a terminal"):
        os.killpg(program.pid, number)
    else:
        program.send_signal(number)
    said, told = program.communicate(timeout=90)
    assert program.returncode == code, told
    found = states(json.loads(said)["found"])
    assert found["c"] == "interrupted"
    assert {"built", "interrupted", "not run"} >= set(found.values())
    assert results(fleet) == [board for board, state in found.items() if state == "built"]
    assert left_behind(fleet) == []
    assert gone(everything)
    (small_tree / "behaviour").unlink()
    again = subprocess.run(
        argv(fleet, "build", "fleet", "--only-failed", "--json", "-j", "2", tree=small_tree),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert {board: "built" for board, state in found.items() if state != "built"} == states(
        json.loads(again.stdout)
    )


def test_one_that_is_killed_costs_no_other(fleet: Path, small_tree: Path, tmp_path: Path) -> None:
    program = started(fleet, small_tree, tmp_path, "-j", "2", "--json")
    child = hanging_child(program)
    with_it = below(child)
    os.kill(child, signal.SIGKILL)
    said, told = program.communicate(timeout=120)
    assert program.returncode == 1, told
    document = json.loads(said)
    assert states(document["found"]) == {**dict.fromkeys(BOARDS, "built"), "c": "failed"}
    (failed,) = [each for each in document["found"] if each["state"] == "failed"]
    assert "was killed by signal 9 (SIGKILL)" in failed["error"]
    assert failed["exit_code"] == 1
    assert "c: error: the process that worked on it was killed" in told
    assert gone(with_it), "make and its programs end with it"
    assert left_behind(fleet) == []


def test_where_this_program_is_killed_all_ends(fleet: Path, small_tree: Path, tmp_path: Path) -> None:
    program = started(fleet, small_tree, tmp_path, "-j", "2")
    everything = below(program.pid)
    program.kill()
    program.communicate(timeout=60)
    assert gone(everything)
    until = time.monotonic() + 30  # one that had begun just then is not among these
    while left_behind(fleet) and time.monotonic() < until:
        time.sleep(0.05)
    assert left_behind(fleet) == [], "they were ended gently"
    assert "c" not in results(fleet)


def test_what_cannot_be_meant(run: Run) -> None:
    for words in (("-j", "0"), ("-j", "many"), ("-j", "-1"), ("-j", "513")):
        ended = run("fleet", *words)
        assert ended.returncode == 2
        assert "auto" in ended.stderr
