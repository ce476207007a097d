"""Which folder is the user's project, and what of it lies over what comes with this program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagebuilder.ask import fit_config
from imagebuilder.config.config import load_config, replaced_files
from imagebuilder.config.library import Library
from imagebuilder.config.lock import lock_path
from imagebuilder.config.overlay import SecretError, Variable, find_secret, load_overlay, load_overlays
from imagebuilder.config.places import FoundProject, find_project, shipped_folder
from imagebuilder.config.project import open_project
from imagebuilder.config.request import requests
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.host.beneath import BeneathError
from imagebuilder.log import Log

BOARD = "tplink-tl-wr740n-v4"
OWN_BOARD = """\
name = "Mine"
soc = "x"
ram = "32M"
flash = "8M"
[[profile]]
releases = "23.05"
target = "ath79/tiny"
name = "mine"
arch = "mips_24kc"
[images]
sysupgrade = { format = "tplink-v1", required = true }
"""


def write(place: Path, text: str = "") -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def found(here: Path, home: Path) -> FoundProject:
    here.mkdir(parents=True, exist_ok=True)
    return find_project(here, home)


# --- which folder it is


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        ("configs/a.toml", "configs/"),
        ("boards/a.toml", "boards/"),
        ("overlays/a/overlay.toml", "overlays/"),
        ("overlays/a/files/x", "overlays/"),
        ("locks/a.lock", "locks/"),
        ("apps/a.py", "apps/"),
        ("apps/a/pyproject.toml", "apps/"),
        ("secrets.toml", "secrets.toml"),
        ("firmware.toml", "firmware.toml"),
    ],
)
def test_each_mark_is_seen_from_below(home: Path, mark: str, why: str) -> None:
    write(home / "mine" / mark)
    for below in ("", "apps/deep", "anything/else"):
        seen = found(home / "mine" / below, home)
        assert (seen.root, seen.why) == (home / "mine", f"has {why}")


def test_without_a_mark_it_is_the_current_folder(home: Path) -> None:
    seen = found(home / "empty", home)
    assert seen.root == home / "empty"
    assert seen.why.startswith("the current folder")


def test_the_current_folder_needs_no_more_than_a_folder_of_that_name(home: Path) -> None:
    write(home / "a/configs/x.toml")
    (home / "a/b/configs").mkdir(parents=True)
    assert found(home / "a/b", home).root == home / "a/b"
    assert found(home / "a/b/c", home).root == home / "a"  # which is empty, seen from below


def test_firmware_toml_marks_the_root(home: Path) -> None:
    """Also where a folder that is nearer looks like a project: an app may have a folder `configs`."""
    write(home / "mine/firmware.toml")
    write(home / "mine/apps/meter/configs/x.toml")
    assert found(home / "mine/apps/meter/src", home).root == home / "mine"
    assert found(home / "mine/apps/meter", home).root == home / "mine"
    write(home / "mine/apps/meter/firmware.toml")
    assert found(home / "mine/apps/meter/src", home).root == home / "mine/apps/meter"


@pytest.mark.parametrize("folders", ["apps/web/package.json", "configs/site.yml", "boards/x/y", "locks/lock"])
def test_somebody_elses_folders_of_such_names_say_nothing(home: Path, folders: str) -> None:
    write(home / "other" / folders)
    assert found(home / "other/firmware", home).root == home / "other/firmware"


def test_nothing_is_looked_for_above_a_git_tree(home: Path) -> None:
    write(home / "configs-of-all/configs/x.toml")
    repository = home / "configs-of-all/repository"
    (repository / ".git").mkdir(parents=True)
    assert found(repository / "deep", home).root == repository / "deep"
    assert found(repository, home).root == repository
    write(home / "configs-of-all/firmware.toml")
    assert found(repository / "deep", home).root == repository / "deep"
    write(repository / "boards/x.toml")
    assert found(repository / "deep", home).root == repository
    worktree = home / "configs-of-all/worktree"
    write(worktree / ".git", "gitdir: elsewhere")
    assert found(worktree / "deep", home).root == worktree / "deep"


def test_nothing_is_looked_for_above_the_home_folder(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "configs/x.toml")
    write(tmp_path / "firmware.toml")
    assert found(home / "x", home).root == home / "x"
    assert found(home, home).root == home
    assert found(tmp_path / "elsewhere", home).root == tmp_path


def test_the_home_folder_is_one_only_where_firmware_toml_says_so(home: Path) -> None:
    write(home / "apps/a.py")
    write(home / "secrets.toml")
    seen = found(home / "x/y", home)
    assert seen.root == home / "x/y"
    assert seen.passed_over == (
        f"{home} has secrets.toml, and is not taken for the project: firmware.toml has to say so there",
    )
    assert found(home, home).root == home  # somebody stands in it
    write(home / "firmware.toml")
    assert found(home / "x/y", home).root == home


def test_a_folder_that_everybody_may_write_to_is_not_taken(home: Path) -> None:
    """As /tmp is: secrets.toml in it could be anybody's, and name a program."""
    shared = home / "shared"
    write(shared / "secrets.toml", 'KEY = { command = ["touch", "ran"] }')
    shared.chmod(0o1777)
    seen = found(shared / "x", home)
    assert seen.root == shared / "x"
    assert seen.passed_over == (
        f"{shared} has secrets.toml, and is not taken for the project: everybody may write to {shared}",
    )
    write(shared / "firmware.toml")
    seen = found(shared / "x", home)
    assert (seen.root, len(seen.refused)) == (shared / "x", 1)
    assert found(shared, home).root == shared
    shared.chmod(0o755)
    (shared / "firmware.toml").chmod(0o666)
    assert found(shared / "x", home).root == shared / "x"
    (shared / "firmware.toml").chmod(0o644)
    assert found(shared / "x", home).root == shared


def test_a_folder_of_somebody_else_is_not_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "theirs/firmware.toml")
    (home / "theirs/mine").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    real = Path.stat

    class Status:
        st_uid = 54321

    def stat(path: Path, **options: bool) -> object:
        return (
            Status() if path == home / "theirs/mine" and options.get("follow_symlinks", True) else real(path)
        )

    theirs = type("Theirs", (), {"st_uid": 4321, "st_mode": 0o755})
    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(Path, "lstat", lambda _: theirs)
    seen = find_project(home / "theirs/mine", home)
    assert seen.root == home / "theirs/mine"
    assert seen.refused == (
        f"{home}/theirs has firmware.toml, and is not taken for the project: "
        f"{home}/theirs belongs to somebody else (user 4321)",
    )


def test_what_was_refused_is_said(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    write(shared / "firmware.toml")
    (shared / "x").mkdir()
    shared.chmod(0o777)
    words = [sys.executable, "-m", "imagebuilder", "configs"]
    ended = subprocess.run(words, cwd=shared / "x", capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert f"warning: {shared} has firmware.toml, and is not taken for the project: everybody" in ended.stderr


def test_a_project_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a/firmware.toml")
    (tmp_path / "a/b").mkdir()
    library, seen = open_project(tmp_path / "a/b")
    assert (library.root, seen.why) == (tmp_path / "a/b", "named by --project")
    with pytest.raises(UserError, match="nowhere is no folder"):
        open_project(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path / "a/b")
    assert open_project(None)[0].root == tmp_path / "a"
    assert open_project(Path())[0].root == tmp_path / "a/b"
    (tmp_path / "a/b").rmdir()
    with pytest.raises(UserError, match="the current folder is gone"):
        open_project(None)


# --- what lies over what


@pytest.fixture
def mine(tmp_path: Path) -> Library:
    """A project with one config."""
    write(tmp_path / "mine/configs/home.toml", f'extends = "base"\nboards = ["{BOARD}"]\n')
    return Library(tmp_path / "mine")


def test_own_boards_and_overlays_stand_beside_those_that_come_along(mine: Library) -> None:
    write(mine.root / "boards/my-board.toml", OWN_BOARD)
    write(mine.root / "overlays/my-overlay/overlay.toml", 'description = "x"')
    assert {"my-board", BOARD} <= set(mine.board_names())
    assert {"my-overlay", "base"} <= set(mine.overlay_names())
    assert {"home", "base", "demo"} <= set(mine.config_names())
    assert mine.board("my-board").name == "Mine"
    assert mine.board(BOARD).flash == 4 << 20
    assert load_overlay(mine, "my-overlay")[1] == mine.root / "overlays/my-overlay"
    assert load_overlay(mine, "base")[1] == shipped_folder() / "overlays/base"
    assert load_config(mine, "home", "my-board").config.boards == (BOARD,)
    assert replaced_files(mine, load_config(mine, "home")) == {}


def test_of_two_of_one_name_the_projects_wins(mine: Library) -> None:
    write(mine.root / f"boards/{BOARD}.toml", OWN_BOARD)
    write(mine.root / "overlays/base/overlay.toml", 'description = "mine"')
    write(mine.root / "configs/sensor.toml", 'description = "mine"\n[[overlay]]\nname = "base"\n')
    assert mine.board(BOARD).name == "Mine"
    assert [board.name for board in mine.boards() if board.id == BOARD] == ["Mine"]
    loaded = load_config(mine, "sensor")
    assert loaded.config.description == "mine"
    assert [each.overlay.description for each in load_overlays(mine, loaded.config)] == ["mine"]
    shipped = shipped_folder()
    assert replaced_files(mine, loaded) == {
        mine.root / "configs/sensor.toml": shipped / "configs/sensor.toml",
        mine.root / "overlays/base": shipped / "overlays/base",
    }
    assert mine.replaced(mine.board_path(BOARD)) == shipped / f"boards/{BOARD}.toml"


def test_a_config_can_add_to_the_one_that_it_replaces(mine: Library) -> None:
    write(mine.root / "configs/base.toml", 'extends = "base"\n[packages]\nadd = ["tcpdump-mini"]\n')
    write(mine.root / "configs/demo.toml", 'extends = "demo"\n')
    loaded = load_config(mine, "home")
    assert loaded.config.packages.add == ("tcpdump-mini",)
    assert [file.path for file in loaded.files] == [
        shipped_folder() / "configs/base.toml",
        mine.root / "configs/base.toml",
        mine.root / "configs/home.toml",
    ]
    demo = load_config(mine, "demo").config  # whose shipped one extends base: the project's
    assert (demo.release, demo.packages.add) == ("embedded", ("tcpdump-mini",))
    write(mine.root / "configs/a.toml", 'extends = "b"\n')
    write(mine.root / "configs/b.toml", 'extends = "a"\n')
    with pytest.raises(FaultsError, match="extends itself: a → b → a"):
        load_config(mine, "a")
    write(mine.root / "configs/c.toml", 'extends = "c"\n')
    with pytest.raises(FaultsError, match="extends itself: c → c"):
        load_config(mine, "c")


def test_an_overlay_of_the_projects_is_no_link(mine: Library, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/overlay.toml", "")
    (mine.root / "overlays").mkdir()
    (mine.root / "overlays/linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BeneathError, match="overlays/linked is a symbolic link"):
        load_overlay(mine, "linked")


def test_a_device_that_nothing_builds_for_may_have_a_board_of_ones_own(mine: Library) -> None:
    device = mine.unsupported()[0].id
    with pytest.raises(UserError, match="is not supported"):
        mine.board(device)
    write(mine.root / f"boards/{device}.toml", OWN_BOARD)
    write(mine.root / "configs/odd.toml", f'boards = ["{device}"]\n')
    assert mine.board(device).name == "Mine"
    assert load_config(mine, "odd").config.boards == (device,)
    assert device not in [each.id for each in mine.unsupported()]
    write(
        mine.root / "boards/unsupported.toml",
        '[[device]]\nid = "toaster"\nname = "T"\nsoc = "x"\nreason = "r"\n',
    )
    assert {"toaster", "telit-modules"} <= {each.id for each in mine.unsupported()}


def test_locks_secrets_results_and_paths_are_the_projects(
    mine: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lock_path(mine, "home") == mine.root / "locks/home.lock"
    (asked,) = requests(mine.root, "home", cache=tmp_path / "cache")
    assert asked.output == mine.root / "out"
    write(mine.root / "secrets.toml", 'KEY = "in the project"\n')
    assert find_secret(mine.root, "KEY", Variable()) == "in the project"
    with pytest.raises(SecretError, match="is nowhere"):
        find_secret(tmp_path, "KEY", Variable())
    write(
        mine.root / "configs/paths.toml",
        f'boards = ["{BOARD}"]\nimagebuilder = "ib"\n[mirror]\nurls = ["m", "https://x", "/m"]\nkeys = "k"\n',
    )
    (asked,) = requests(mine.root, "paths", cache=tmp_path)
    config = load_config(mine, "paths").config
    assert asked.tree_given(config) == str(mine.root / "ib")
    assert asked.mirror_places(config) == (str(mine.root / "m"), "https://x", "/m")
    assert asked.trusted_keys(config) == mine.root / "k"


def test_apps_of_configs_that_come_along_are_found(mine: Library) -> None:
    """Those of the project's configs are the project's, also where one of that name comes along."""
    (app,) = load_config(mine, "node-4mb").config.python.apps
    assert (app.path, app.user) == (str(shipped_folder() / "apps/node.py"), "nobody")
    write(mine.root / "configs/own.toml", '[python]\napps = ["apps/node.py"]\n')
    (own,) = load_config(mine, "own").config.python.apps
    assert own.path == "apps/node.py"
    write(mine.root / "apps/node.py")
    (app,) = load_config(mine, "node-4mb").config.python.apps
    assert app.path == str(mine.root / "apps/node.py")
    (app,) = load_config(Library(shipped_folder()), "node-4mb").config.python.apps
    assert app.path == "apps/node.py"  # of the checkout, run from the checkout


def test_configs_that_come_along_name_no_other_paths() -> None:
    """Only those of apps are known to be theirs."""
    library = Library(shipped_folder())
    for name in library.config_names():
        config = load_config(library, name).config
        assert (config.imagebuilder, config.feed, config.python.package) == (None, (), ()), name
        assert (config.mirror.urls, config.mirror.keys) == ((), None), name


# --- firmware.toml


def test_what_firmware_toml_says_is_common(mine: Library, tmp_path: Path) -> None:
    file = write(
        mine.root / "firmware.toml",
        'release = "24.10"\noutput = "results"\ncache = "~/c"\n[mirror]\nurls = ["mirror"]\nkeys = "keys"\n',
    )
    loaded = load_config(mine, "home")
    assert (loaded.config.release, loaded.config.mirror.keys) == ("24.10", "keys")
    assert loaded.origins["release"] == (str(file),)
    assert load_config(mine, "demo").config.release == "embedded"
    write(mine.root / "configs/other.toml", 'release = "23.05.5"\n[mirror]\nurls = []\n')
    other = load_config(mine, "other")
    assert (other.config.release, other.config.mirror.urls) == ("23.05.5", ())
    assert other.config.mirror.keys == "keys"
    (asked,) = requests(mine.root, "home")
    assert (asked.output, asked.cache) == (mine.root / "results", Path.home() / "c")
    (asked,) = requests(mine.root, "home", output=tmp_path / "o", cache=tmp_path / "c")
    assert (asked.output, asked.cache) == (tmp_path / "o", tmp_path / "c")
    assert (mine.mirrors(), mine.keys()) == ((str(mine.root / "mirror"),), mine.root / "keys")


def test_faults_of_firmware_toml_come_with_those_of_the_config(mine: Library) -> None:
    write(mine.root / "firmware.toml", 'relase = "24.10"\nrelease = "new"\ncache = ""\n')
    write(mine.root / "configs/home.toml", "pythn = 1\n")
    with pytest.raises(FaultsError) as caught:
        load_config(mine, "home")
    faults = {(Path(fault.file).name, fault.line, fault.key) for fault in caught.value.faults}
    assert faults == {
        ("firmware.toml", 1, "relase"),
        ("firmware.toml", 2, "release"),
        ("firmware.toml", 3, "cache"),
        ("home.toml", 1, "pythn"),
    }
    assert "did you mean 'release'?" in str(caught.value)
    write(mine.root / "firmware.toml", "release = \n")
    with pytest.raises(FaultsError, match=r"firmware\.toml:1: is no valid TOML"):
        load_config(mine, "home")
    with pytest.raises(FaultsError, match="is no valid TOML"):
        mine.output()


def test_show_says_what_is_used_and_why(mine: Library) -> None:
    write(mine.root / f"boards/{BOARD}.toml", OWN_BOARD)
    write(mine.root / "overlays/base/overlay.toml", "")
    write(mine.root / "configs/home.toml", 'extends = "base"\n[[overlay]]\nname = "base"\n')
    (mine.root / "docs").mkdir()

    def said(*words: str) -> str:
        command = [sys.executable, "-m", "imagebuilder", "show", *words]
        return subprocess.check_output(command, cwd=mine.root / "docs", text=True)

    shipped = shipped_folder()
    config, board = said("home"), said(BOARD)
    assert f"{mine.root} (has configs/)" in config
    assert f"{mine.root}/overlays/base, of {shipped}/overlays/base" in config
    assert f"{mine.root}/boards/{BOARD}.toml, in place of {shipped}/boards/{BOARD}.toml" in board
    assert f'"in_place_of": "{shipped}/boards/{BOARD}.toml"' in said(BOARD, "--json")
    assert f'"{mine.root}/overlays/base": "{shipped}/overlays/base"' in said("home", "--json")


def test_verbose_says_what_was_found(mine: Library) -> None:
    command = [sys.executable, "-m", "imagebuilder", "plan", "nothing", "--verbose"]
    ended = subprocess.run(command, cwd=mine.root, capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[:2] == [
        f"project: {mine.root} (has configs/)",
        "error: unknown config 'nothing'",
    ]


def test_names_of_the_project_are_completed(mine: Library, tmp_path: Path) -> None:
    """Also of the one that is named before them."""
    write(tmp_path / "other/configs/hotel.toml")
    for words, expected in (
        ("build ho", ["home"]),
        (f"build --project {tmp_path}/other ho", ["hotel"]),
        (f"build --project {tmp_path}/nowhere ho", []),
    ):
        environment = {
            "_OWRT_PYTHON_COMPLETE": "complete_bash",
            "COMP_WORDS": f"owrt-python {words}",
            "COMP_CWORD": str(len(words.split())),
        }
        argv = [sys.executable, "-m", "imagebuilder"]
        said = subprocess.check_output(argv, cwd=mine.root, text=True, env={**os.environ, **environment})
        assert said.split() == expected


def test_a_config_that_comes_along_is_not_changed(mine: Library) -> None:
    """--fit writes into a config's file."""
    (asked,) = requests(mine.root, "router", board=BOARD)
    with pytest.raises(UserError, match="comes with this program: .*router.toml is not") as error:
        fit_config(asked, Log())
    assert error.value.hint == (
        'write configs/router.toml with the line: extends = "router"; --fit changes that'
    )
