"""One command for many boards: what fails costs no other, everybody is told of, and a tree is read once."""

from __future__ import annotations

import gc
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder import ask, build, decide
from imagebuilder.cli import main
from imagebuilder.config.library import Library
from imagebuilder.config.lock import read_lock
from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import UserError
from imagebuilder.fleet.attempt import attempted
from imagebuilder.fleet.job import JobFailure
from imagebuilder.host.fs import sha256_of
from imagebuilder.keep import Current
from imagebuilder.log import Log
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.server import archive, obtain
from tests.conftest import make_small_tree
from tests.support.heeding import HEEDING

MODEL = "tplink-tl-wr740n-v4"
BOARDS = ("one", "two", "three")
BROKEN = """
[board.two]
[[board.two.overlay]]
name = "broken"
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def boards(project: Path) -> tuple[str, ...]:
    """Boards of the small tree's device under names of their own, one of a target that it is not for, and an
    overlay whose template names what nobody gives."""
    for name in BOARDS:
        shutil.copy(project / f"boards/{MODEL}.toml", project / f"boards/{name}.toml")
    broken = project / "overlays/broken"
    (broken / "files/etc").mkdir(parents=True)
    (broken / "overlay.toml").write_text('description = "broken"\n')
    (broken / "files/etc/what.j2").write_text("{{ nobody_gives_this }}\n")
    (project / "configs/fleet.toml").write_text(f'extends = "router"\nboards = {json.dumps(BOARDS)}\n')
    return BOARDS


@pytest.fixture
def call(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Calls the command line; exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str | Path) -> tuple[int, str, str]:
        whole = ["build.py", *map(str, argv), "--project", str(project), "--cache", "c"]
        monkeypatch.setattr(sys, "argv", whole)
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def break_two(project: Path) -> None:
    path = project / "configs/fleet.toml"
    path.write_text(path.read_text() + BROKEN)


def states(entries: list[dict[str, object]]) -> dict[str, object]:
    return {f"{each['config']}/{each['board']}": each["state"] for each in entries}


@pytest.mark.usefixtures("boards")
def test_one_that_fails_does_not_stop_the_rest(
    call: Call, project: Path, small_tree: Path, tmp_path: Path
) -> None:
    break_two(project)
    named = [word for board in (*BOARDS, "glinet-gl-ar150") for word in ("--board", board)]
    code, said, told = call("build", "fleet", *named, "--imagebuilder", small_tree)
    assert code == 2
    made = sorted(path.name for path in (tmp_path / "project/out/fleet").iterdir() if path.is_dir())
    assert made == ["one", "three"]
    table = [line.split() for line in said.splitlines()[-5:]]
    assert [line[:2] for line in table] == [
        ["board", "state"],
        *(["one", "built"], ["two", "failed"], ["three", "built"], ["glinet-gl-ar150", "failed"]),
    ]
    assert "nobody_gives_this" in " ".join(table[2])
    for line in told.splitlines()[:-2]:
        assert line.split(": ")[0] in (*BOARDS, "glinet-gl-ar150"), line
    assert "two: error: " in told
    assert "three: build: " in told
    assert "three: 3 of 4\n" in told
    last, hint = told.splitlines()[-2:]
    assert last == "error: 2 of 4 failed: two, glinet-gl-ar150"
    assert hint.startswith("hint: ")


@pytest.mark.usefixtures("boards")
def test_json_is_one_document_with_the_state_of_every_board(
    call: Call, project: Path, small_tree: Path, tmp_path: Path
) -> None:
    good = call("build", "fleet", "--imagebuilder", small_tree, "--json")
    assert good[0] == 0, good[2]
    entries = json.loads(good[1])
    assert states(entries) == {f"fleet/{board}": "built" for board in BOARDS}
    assert entries[1]["folder"] == str(tmp_path / "project/out/fleet/two")
    assert {image["type"] for image in entries[1]["images"]} == {"sysupgrade", "factory"}
    break_two(project)
    code, said, told = call("build", "fleet", "--imagebuilder", small_tree, "--json")
    document = json.loads(said)
    assert (code, document["error"]) == (2, "1 of 3 failed: two")
    assert states(document["found"]) == {
        "fleet/one": "up to date",
        "fleet/two": "failed",
        "fleet/three": "up to date",
    }
    failed = document["found"][1]
    assert "nobody_gives_this" in failed["error"]
    assert failed["exit_code"] == 2
    assert "two: error: " in told
    # the result of the earlier build stays, as it does where one board is built
    assert (tmp_path / "project/out/fleet/two/result.json").is_file()


@pytest.mark.usefixtures("boards")
def test_fail_fast(call: Call, project: Path, small_tree: Path, tmp_path: Path) -> None:
    break_two(project)
    code, said, _ = call("build", "fleet", "--imagebuilder", small_tree, "--json", "--fail-fast")
    document = json.loads(said)
    assert (code, document["error"]) == (2, "1 of 3 failed: two; 1 not run, because of --fail-fast")
    assert list(states(document["found"]).values()) == ["built", "failed", "not run"]
    assert not (tmp_path / "project/out/fleet/three").exists()


@pytest.mark.usefixtures("boards")
def test_what_is_wrong_in_files_is_told_before_the_first_image_takes_its_time(
    call: Call, project: Path, small_tree: Path
) -> None:
    """The last config has a fault, and a board is misspelt: the first line says so, and the rest is made."""
    (project / "configs/faulty.toml").write_text('extends = "router"\nboards = ["one"]\ntpyo = 1\n')
    argv = ("plan", "fleet", "faulty", "--board", "one", "--board", "thre", "--imagebuilder", small_tree)
    code, said, told = call(*argv, "--json")
    assert code == 2
    lines = told.splitlines()
    assert lines[0] == "fleet/thre: error: unknown board 'thre'"
    assert any(line.startswith("faulty/one: error: ") and "tpyo" in line for line in lines[:6])
    assert states(json.loads(said)["found"]) == {
        "fleet/one": "planned",
        "fleet/thre": "failed",
        "faulty/one": "failed",
        "faulty/thre": "failed",
    }
    code, said, _ = call("plan", "fleet", "faulty", "--imagebuilder", small_tree, "--json")
    assert states(json.loads(said)["found"]) == {
        **{f"fleet/{board}": "planned" for board in BOARDS},
        "faulty/": "failed",
    }
    code, said, _ = call("build", *argv[1:], "--json", "--fail-fast")
    assert set(states(json.loads(said)["found"]).values()) == {"failed", "not run"}


@pytest.mark.usefixtures("boards")
def test_a_fault_of_ours_costs_one_board_and_ends_with_1(
    call: Call, project: Path, small_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(request: Request, log: Log) -> Current:
        if request.board == "one":
            raise ZeroDivisionError("a bug")
        return bring_up_to_date(request, log)

    bring_up_to_date = build.bring_up_to_date
    monkeypatch.setattr(build, "bring_up_to_date", work)
    break_two(project)
    code, said, told = call("build", "fleet", "--imagebuilder", small_tree, "--json")
    document = json.loads(said)
    assert code == 1
    assert [each["state"] for each in document["found"]] == ["failed", "failed", "built"]
    assert [each.get("exit_code") for each in document["found"]] == [1, 2, None]
    assert document["found"][0]["error"] == "ZeroDivisionError: a bug"
    assert "one: Traceback" in told
    assert "one: hint: this is a fault of the builder" in told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.usefixtures("boards")
def test_what_was_finished_before_an_interruption_stays(
    project: Path, small_tree: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    config = project / "configs/fleet.toml"
    config.write_text(config.read_text() + '[board.two.packages]\nadd = ["tcpdump-mini"]\n')
    (small_tree / "behaviour").write_text(
        'case "$PACKAGES" in *tcpdump*) sleep 300 & touch "$TMPDIR/make-runs"; wait;; esac\n'
    )
    argv = [sys.executable, "-m", "imagebuilder", "build", "fleet", "--imagebuilder", str(small_tree)]
    argv += ["--project", str(project), "--cache", "c", "--json"]
    program = subprocess.Popen(
        [*HEEDING, *argv],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not list(tmp_path.glob("project/out/fleet/.work-*/tmp/make-runs")):
        assert time.monotonic() < until, "make does not run"
        time.sleep(0.05)
    program.send_signal(number)
    said, told = program.communicate(timeout=60)
    assert program.returncode == code, told
    document = json.loads(said)
    assert [each["state"] for each in document["found"]] == ["built", "interrupted", "not run"]
    word = "interrupted" if code == 130 else "terminated"
    assert document["error"] == f"{word}: 1 of 3 built, 2 not run"
    assert [path.name for path in (tmp_path / "project/out/fleet").iterdir()] == ["one"]
    assert (tmp_path / "project/out/fleet/one/result.json").is_file()


def packed(tree: Path, place: Path) -> Path:
    with tarfile.open(place, "w") as tar:
        tar.add(tree, "openwrt-imagebuilder")
    return place


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often an archive was unpacked, what a tree says was asked, and its packages were read."""
    counted: Counter[str] = Counter()

    def counting(what: str, owner: object, name: str) -> None:
        whole = getattr(owner, name)

        def call(*arguments: object, **named: object) -> object:
            counted[what] += 1
            return whole(*arguments, **named)

        monkeypatch.setattr(owner, name, call)

    counting("unpacked", archive, "unpack")
    counting("asked", decide, "read_tree")
    counting("packages", Opkg, "open")
    counting("looked for", obtain, "_verified")
    return counted


@pytest.mark.usefixtures("boards")
def test_one_tree_is_unpacked_and_read_once_for_all_boards(
    call: Call, project: Path, small_tree: Path, tmp_path: Path, read: Counter[str]
) -> None:
    code, _, told = call("build", "fleet", "--imagebuilder", packed(small_tree, tmp_path / "tree.tar"))
    assert code == 0, told
    assert read == {"unpacked": 1, "asked": 1, "packages": 1}
    make_small_tree(tmp_path / "other-tree", 9600)
    for name, tree in (("first", "tree.tar"), ("second", "other-tree")):
        text = f'extends = "fleet"\nboards = {json.dumps(BOARDS)}\nimagebuilder = "{tmp_path / tree}"\n'
        (project / f"configs/{name}.toml").write_text(text)
    read.clear()
    code, said, told = call("build", "first", "second", "--json")
    assert code == 0, told
    assert read == {"asked": 2, "packages": 2}
    entries = json.loads(said)
    images = {each["config"]: [image["sha256"] for image in each["images"]] for each in entries}
    assert images["first"] != images["second"]
    code, _, told = call("lock", "first", "second")
    assert code == 0, told
    read.clear()
    code, said, told = call("build", "first", "second", "--locked", "--json")
    assert code == 0, told
    assert read == {"asked": 2, "packages": 2}
    assert [each["images"] for each in json.loads(said)] == [each["images"] for each in entries]


@pytest.mark.usefixtures("boards")
def test_the_tree_of_a_release_too(
    call: Call, project: Path, small_tree: Path, tmp_path: Path, read: Counter[str]
) -> None:
    folder = tmp_path / "mirror/releases/23.05.5/targets/ath79/tiny"
    folder.mkdir(parents=True)
    name = "openwrt-imagebuilder-23.05.5-ath79-tiny.Linux-x86_64"
    with tarfile.open(folder / f"{name}.tar.xz", "w:xz") as tar:
        tar.add(small_tree, name)
    pin = f'trust = "sha256:{sha256_of(folder / f"{name}.tar.xz")}"\n'
    config = project / "configs/fleet.toml"
    config.write_text(f'{config.read_text()}release = "23.05.5"\n{pin}')
    code, said, told = call("fetch", "fleet", "--mirror", tmp_path / "mirror", "--json")
    assert code == 0, told
    assert list(states(json.loads(said)).values()) == ["fetched"] * 3
    assert read == {"looked for": 1, "unpacked": 1, "asked": 1, "packages": 1}


@pytest.mark.usefixtures("boards")
def test_what_was_locked_before_an_interruption_is_written(
    call: Call, project: Path, small_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_image = ask.lock_image

    def work(request: Request, log: Log) -> LockedBoard:
        if request.board == "two":
            raise KeyboardInterrupt
        return lock_image(request, log)

    monkeypatch.setattr(ask, "lock_image", work)
    code, said, told = call("lock", "fleet", "--imagebuilder", small_tree)
    assert code == 130
    assert told.endswith(
        "interrupted: 1 of 3 locked, 2 not run\n"
        "hint: what was finished stays; the same command can simply be run again\n"
    )
    rows = [line.split() for line in said.splitlines()[-3:]]
    assert rows[0][:2] == ["one", "locked"]
    assert rows[1:] == [["two", "interrupted"], ["three", "not", "run"]]
    lock = read_lock(Library(project), "fleet")
    assert lock is not None
    assert list(lock.board) == ["one"]


@pytest.mark.usefixtures("boards")
def test_a_tree_that_cannot_be_had_is_looked_for_once(
    call: Call, project: Path, small_tree: Path, tmp_path: Path, read: Counter[str]
) -> None:
    """It fails all boards of its config, each with a message of its own, and no other config."""
    (tmp_path / "empty").mkdir()
    text = f'extends = "fleet"\nboards = {json.dumps(BOARDS)}\n'
    (project / "configs/nowhere.toml").write_text(text + 'release = "23.05.5"\n')
    (project / "configs/here.toml").write_text(text + f'imagebuilder = "{small_tree}"\n')
    code, said, told = call("plan", "nowhere", "here", "--mirror", tmp_path / "empty", "--json")
    assert code == 2
    assert read["looked for"] == 1
    found = json.loads(said)["found"]
    assert states(found) == {
        **{f"nowhere/{board}": "failed" for board in BOARDS},
        **{f"here/{board}": "planned" for board in BOARDS},
    }
    for each in found[:3]:
        assert "empty" in each["error"]
        assert f"nowhere/{each['board']}: error: " in told


@pytest.mark.usefixtures("boards")
def test_locks_of_what_could_be_locked(call: Call, project: Path, small_tree: Path) -> None:
    (project / "configs/mine.toml").write_text('extends = "router"\nboards = ["one"]\n')
    config = project / "configs/fleet.toml"
    config.write_text(config.read_text() + '[board.two.packages]\nadd = ["nothing-like-that"]\n')
    common = ("--imagebuilder", small_tree)
    code, said, told = call("lock", "fleet", "mine", *common)
    assert code == 2
    assert f"wrote {project}/locks/fleet.lock\nwrote {project}/locks/mine.lock\n" in said
    assert "error: 1 of 4 failed: fleet/two" in told
    code, said, _ = call("build", "fleet", "mine", "--locked", *common, "--json")
    assert code == 2
    assert list(states(json.loads(said)["found"]).values()) == ["built", "failed", "built", "built"]
    code, said, _ = call("lock", "fleet", *common, "--check", "--json")
    assert code == 2
    assert list(states(json.loads(said)["found"]).values()) == ["compared", "failed", "compared"]
    code, said, told = call("outdated", "mine", "fleet", "--board", "one", *common)
    assert code == 0, told
    assert said.startswith("mine/one: nothing would change\nfleet/one: nothing would change\n")


@pytest.mark.usefixtures("boards")
def test_a_lock_that_cannot_be_written_fails_the_boards_of_its_config(
    call: Call, project: Path, small_tree: Path
) -> None:
    (project / "configs/mine.toml").write_text('extends = "router"\nboards = ["one"]\n')
    (project / "locks").mkdir()
    former = 'config = "fleet"\n[board.elsewhere]\n'
    (project / "locks/fleet.lock").write_text(former)
    code, said, _ = call("lock", "fleet", "mine", "--imagebuilder", small_tree, "--json")
    assert code == 2
    found = json.loads(said)["found"]
    assert [each["state"] for each in found] == ["failed", "failed", "failed", "locked"]
    assert {"is a lock of the form 1" in each["error"] for each in found[:3]} == {True}
    assert (project / "locks/fleet.lock").read_text() == former
    assert (project / "locks/mine.lock").is_file()


@pytest.mark.usefixtures("boards")
def test_a_command_for_a_secret_runs_once(
    call: Call, project: Path, small_tree: Path, tmp_path: Path
) -> None:
    """It may ask somebody for a password."""
    overlay = 'name = "wifi-client"\nvariables = { ssid = "x", key = { secret = "MANY_KEY" } }\n'
    config = project / "configs/fleet.toml"
    config.write_text(f"{config.read_text()}[[overlay]]\n{overlay}")
    asks = f"echo asked >> {tmp_path}/asked; echo correct-horse"
    (project / "secrets.toml").write_text(f'MANY_KEY = {{ command = ["sh", "-c", "{asks}"] }}\n')
    code, said, told = call("build", "fleet", "--imagebuilder", small_tree, "--json")
    assert code == 0, told
    assert "correct-horse" not in said + told
    assert (tmp_path / "asked").read_text() == "asked\n", told
    (project / "secrets.toml").unlink()
    code, said, _ = call("build", "fleet", "--imagebuilder", small_tree, "--json")
    assert code == 2
    assert ["MANY_KEY" in each["error"] for each in json.loads(said)["found"]] == [True] * 3


@pytest.mark.usefixtures("boards")
def test_images_that_are_built_twice_each(call: Call, small_tree: Path) -> None:
    argv = ("build", "fleet", "--imagebuilder", small_tree, "--check-reproducible", "--json")
    code, said, told = call(*argv, "--board", "one", "--board", "three")
    assert code == 0, told
    assert list(states(json.loads(said)).values()) == ["built", "built"]
    (small_tree / "behaviour").write_text("test -n '$PACKAGES' && date +%N >> sysupgrade.bin\n")
    code, said, _ = call(*argv, "--board", "one", "--board", "three", "--fail-fast")
    assert code == 2
    assert list(states(json.loads(said)["found"]).values()) == ["failed", "not run"]


def test_which_images_are_asked_for(project: Path, boards: tuple[str, ...], tmp_path: Path) -> None:
    def asked(*configs: str, board: tuple[str, ...] = (), everything: bool = False) -> list[tuple[str, str]]:
        found = requests(project, configs, board=board, everything=everything)
        return [(each.config_name(), each.board) for each in found]

    (project / "configs/mine.toml").write_text('extends = "router"\nboards = ["two"]\n')
    assert asked("mine", "fleet") == [("mine", "two"), *(("fleet", board) for board in boards)]
    twice = asked("fleet", "mine", "fleet", board=("one", "two", "one"))
    assert twice == [(config, board) for config in ("fleet", "mine") for board in ("one", "two")]
    assert asked("fleet", str(project / "configs/fleet.toml"), board=("one",)) == [("fleet", "one")]
    everything = asked(everything=True)
    assert {("mine", "two"), ("fleet", "three"), ("demo", "qemu-x86-64")} <= set(everything)
    assert not {config for config, _ in everything} & {"base"}
    (tmp_path / "fleet.toml").write_text("")
    with pytest.raises(UserError, match="two configs of one name"):
        asked("fleet", str(tmp_path / "fleet.toml"))
    with pytest.raises(UserError, match="unknown config 'flete'"):
        asked("fleet", "flete")
    with pytest.raises(UserError, match="no config is named"):
        asked()


@pytest.mark.usefixtures("boards")
def test_a_board_alone_is_told_as_ever(call: Call, project: Path, small_tree: Path) -> None:
    code, said, told = call("build", "fleet", "--board", "one", "--imagebuilder", small_tree)
    assert code == 0, told
    assert told.startswith("tree: ")
    assert "state" not in said
    break_two(project)
    argv = ("build", "fleet", "--board", "two", "--imagebuilder", small_tree)
    code, said, told = call(*argv)
    assert (code, said) == (2, "")
    assert "\nerror: " in told
    assert "'nobody_gives_this' is undefined\nhint: " in told
    document = json.loads(call(*argv, "--json")[1])
    assert "'nobody_gives_this' is undefined" in document["error"]
    assert [each["state"] for each in document["found"]] == ["failed"]


def test_an_error_that_is_kept_holds_nothing_of_the_work() -> None:
    class Large:
        pass

    held: list[weakref.ref[Large]] = []

    def work() -> None:
        large = Large()
        held.append(weakref.ref(large))
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise UserError("it failed", hint="mend it") from error

    failed = attempted(work)
    gc.collect()
    assert isinstance(failed, JobFailure)
    assert (failed.message, failed.hint, failed.ours) == ("it failed", "mend it", False)
    assert held[0]() is None


def test_what_cannot_be_meant(call: Call) -> None:
    assert "no config is named" in call("plan")[2]
    code, _, told = call("plan", "router", "--all", "--board", MODEL)
    assert (code, "--all and --board" in told) == (2, True)
