"""TOML files: every fault at once, each with file, line and key; merging; boards that load."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.config.board import Board
from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.lock import read_lock
from imagebuilder.config.overlay import find_secret, load_overlay
from imagebuilder.config.toml import dotted, parse_toml
from imagebuilder.errors import FaultsError, UserError

AddConfig = Callable[[str, str], str]


def faults_of(library: Library, name: str) -> list[tuple[str, int | None, str, str, str | None]]:
    with pytest.raises(FaultsError) as caught:
        load_config(library, name)
    return [
        (Path(fault.file).name, fault.line, fault.key, fault.message, fault.hint)
        for fault in caught.value.faults
    ]


def test_every_fault_of_a_file_comes_at_once(library: Library, add_config: AddConfig) -> None:
    add_config(
        "bad",
        'extends = "base"\n'
        'boards = ["tplink-tl-wr740", 5]\n'
        'relaese = "x"\n'
        "[python]\n"
        'variant = "lite"\n'
        "[packages]\n"
        'add = "tcpdump"\n'
        "[[overlay]]\n"
        'nam = "x"\n'
        '[board."linksys-wrt1200ac"]\n'
        'packages.ad = ["x"]\n',
    )
    faults = faults_of(library, "bad")
    places = [(line, key) for _, line, key, _, _ in faults]
    assert places == [
        (2, "boards[0]"),
        (2, "boards[1]"),
        (3, "relaese"),
        (5, "python.variant"),
        (7, "packages.add"),
        (8, "overlay[0].name"),
        (9, "overlay[0].nam"),
        (10, "board.linksys-wrt1200ac"),
        (11, "board.linksys-wrt1200ac.packages.ad"),
    ]
    by_key = {key: (message, hint) for _, _, key, message, hint in faults}
    assert by_key["boards[0]"] == ("unknown board 'tplink-tl-wr740'", "did you mean 'tplink-tl-wr740n-v5'?")
    assert by_key["boards[1]"][0] == "expected text, found a whole number"
    assert by_key["relaese"] == ("unknown key", "did you mean 'release'?")
    assert "'base'" in by_key["python.variant"][0]
    assert "'lite'" in by_key["python.variant"][0]
    assert by_key["packages.add"][0] == "expected a list, found text"
    assert by_key["overlay[0].name"][0] == "is missing"
    assert by_key["board.linksys-wrt1200ac.packages.ad"] == ("unknown key", "did you mean 'add'?")


def test_faults_of_all_extended_files_come_together(library: Library, add_config: AddConfig) -> None:
    add_config("parent", "oops = 1\n")
    add_config("child", 'extends = "parent"\nalso = 2\n')
    assert [(file, key) for file, _, key, _, _ in faults_of(library, "child")] == [
        ("child.toml", "also"),
        ("parent.toml", "oops"),
    ]


def test_a_syntax_error_names_its_line(library: Library, add_config: AddConfig) -> None:
    add_config("bad", 'extends = "base"\nboards = [\n')
    ((file, line, _, message, _),) = faults_of(library, "bad")
    assert file == "bad.toml"
    assert line in (2, 3)
    assert "no valid TOML" in message


def test_a_cycle_is_shown(library: Library, add_config: AddConfig) -> None:
    add_config("one", 'extends = "two"\n')
    add_config("two", '\nextends = ["three"]\n')
    add_config("three", 'extends = "one"\n')
    assert faults_of(library, "one") == [
        ("three.toml", 1, "extends", "extends itself: one → two → three → one", None)
    ]


def test_an_unknown_parent_names_the_nearest(library: Library, add_config: AddConfig) -> None:
    add_config("child", 'extends = "ruter"\n')
    assert faults_of(library, "child") == [
        ("child.toml", 1, "extends", "unknown config 'ruter'", "did you mean 'router'?")
    ]


def test_a_wrong_parent_hides_no_other_fault(library: Library, add_config: AddConfig) -> None:
    """Nor does one that is no TOML, and the right ones beside it are looked at too."""
    add_config("broken", "x = [\n")
    add_config("parent", "oops = 1\n")
    add_config(
        "child",
        'extends = ["ruter", "broken", "parent",\n "demp"]\nboards = ["qemu-x86-46"]\n'
        '[packages]\nadd = "one"\n[[overlay]]\nname = "bse"\n',
    )
    assert [(file, line, key) for file, line, key, _, _ in faults_of(library, "child")] == [
        ("broken.toml", 2, ""),
        ("child.toml", 1, "extends[0]"),
        ("child.toml", 2, "extends[3]"),
        ("child.toml", 3, "boards[0]"),
        ("child.toml", 5, "packages.add"),
        ("child.toml", 7, "overlay[0].name"),
        ("parent.toml", 1, "oops"),
    ]


def test_differences_for_a_board_that_the_config_is_not_for(library: Library, add_config: AddConfig) -> None:
    """They would count for nothing. A parent may know more boards than its child, and one that --board names
    is a board of the config's."""
    add_config("mine", 'boards = ["qemu-x86-64"]\n\n[board.glinet-gl-ar150]\nrelease = "24.10"\n')
    ((file, line, key, message, hint),) = faults_of(library, "mine")
    assert (file, line, key) == ("mine.toml", 3, "board.glinet-gl-ar150")
    assert "not for the board 'glinet-gl-ar150'" in message
    assert hint is not None
    assert "qemu-x86-64" in hint
    assert load_config(library, "mine", "glinet-gl-ar150").config.release == "24.10"
    add_config("child", 'extends = "mine"\nboards = ["qemu-x86-64"]\n')
    assert load_config(library, "child").config.boards == ("qemu-x86-64",)
    add_config("open", '[board.glinet-gl-ar150]\nrelease = "24.10"\n')
    assert load_config(library, "open").config.boards == ()


def test_what_is_taken_out_and_was_never_there(library: Library, add_config: AddConfig) -> None:
    """A feed or a recipe of a name that no file gives, and rules for such an overlay, are faults; an overlay
    that exists is just not there."""
    add_config("parent", '[[feed]]\nname = "office"\nurl = "feeds/office"\n')
    add_config(
        "child",
        'extends = "parent"\n[[feed]]\nname = "offce"\nremove = true\n[[overlay]]\nname = "sensor"\n'
        'remove = true\n[[filespec]]\noverlay = "senor"\nrules = ["-|/etc/x"]\n'
        '[[python.package]]\nname = "python3-x"\nremove = true\n',
    )
    found = [(line, key, message) for _, line, key, message, _ in faults_of(library, "child")]
    assert found == [
        (3, "feed[0].name", "there is no feed 'offce' to take out"),
        (9, "filespec[0].overlay", "the config has no overlay 'senor'"),
        (12, "python.package[0].name", "there is no package 'python3-x' to take out"),
    ]
    add_config("good", 'extends = "parent"\n[[overlay]]\nname = "sensor"\nremove = true\n')
    assert load_config(library, "good").config.overlay == ()


def test_unknown_names_come_with_the_nearest(library: Library) -> None:
    with pytest.raises(UserError, match="unknown config 'dmo'") as config:
        load_config(library, "dmo")
    assert config.value.hint == "did you mean 'demo'?"
    with pytest.raises(UserError, match="unknown board 'wr74n'") as board:
        library.board("wr74n")
    assert "tplink-tl-wr740n-v4" in (board.value.hint or "")


def test_later_files_win_and_lists_grow(library: Library, add_config: AddConfig) -> None:
    add_config(
        "parent",
        'extends = "base"\nrelease = "23.05.5"\n[packages]\nadd = ["a", "b"]\nremove = ["c", "d"]\n'
        '[services]\ndisabled = ["x"]\n[board.qemu-x86-64]\npackages.add = ["from-parent-board"]\n',
    )
    add_config(
        "child",
        'extends = "parent"\nrelease = "24.10.4"\n[packages]\nadd = ["c"]\nremove = ["b"]\n'
        '[services]\ndisabled = ["y"]\n'
        '[board.qemu-x86-64]\npackages.remove = ["a"]\npython.variant = "base"\n',
    )
    general = load_config(library, "child")
    assert general.config.release == "24.10.4"
    assert general.config.packages.add == ("a", "c")
    assert general.config.packages.remove == ("d", "b")
    assert general.config.services.disabled == ("x", "y")
    assert general.config.python.variant == "none"
    files = [Path(name).name for name in general.origins["packages.add"]]
    assert files == ["parent.toml", "child.toml"]
    assert [Path(name).name for name in general.origins["release"]] == ["child.toml"]
    for_board = load_config(library, "child", "qemu-x86-64").config
    assert for_board.packages.add == ("c", "from-parent-board")
    assert for_board.packages.remove == ("d", "b", "a")
    assert for_board.python.variant == "base"


def test_a_name_that_one_file_adds_and_removes_is_in_both_lists(
    library: Library, add_config: AddConfig
) -> None:
    """make takes such a name away, and says so: nothing is lost here."""
    add_config(
        "one",
        'extends = "base"\n[packages]\nadd = ["a", "b"]\nremove = ["b", "c"]\n'
        '[services]\ndisabled = ["x", "y"]\nenabled = ["y"]\n',
    )
    config = load_config(library, "one").config
    assert (config.packages.add, config.packages.remove) == (("a", "b"), ("b", "c"))
    assert (config.services.disabled, config.services.enabled) == (("x", "y"), ("y",))


def test_variables_of_an_overlay_that_two_files_use_come_together(
    library: Library, add_config: AddConfig
) -> None:
    add_config(
        "parent",
        'extends = "base"\n[[overlay]]\nname = "base"\n'
        'variables = { hostname = "first", zonename = "Europe/Lisbon" }\n[[overlay]]\nname = "demo"\n',
    )
    add_config(
        "child",
        'extends = "parent"\n[[overlay]]\nname = "base"\nvariables = { hostname = "second" }\n'
        '[board.qemu-x86-64]\noverlay = [{ name = "base", variables = { banner = "hello" } }]\n',
    )
    loaded = load_config(library, "child", "qemu-x86-64")
    base, demo = loaded.config.overlay
    assert (base.name, demo.name) == ("base", "demo")
    assert base.variables == {"hostname": "second", "zonename": "Europe/Lisbon", "banner": "hello"}
    files = {
        name: [Path(file).name for file in loaded.origins[f"overlay.base.{name}"]] for name in base.variables
    }
    assert files == {"hostname": ["child.toml"], "zonename": ["parent.toml"], "banner": ["child.toml"]}


def test_apps_and_requirements_that_are_named_again_are_there_once(
    library: Library, add_config: AddConfig
) -> None:
    add_config(
        "parent", 'extends = "base"\n[python]\napps = ["apps/a.py"]\nrequirements = ["bottle", "six>=1"]\n'
    )
    add_config(
        "child",
        'extends = "parent"\n[python]\napps = ["apps/b.py", "apps/a.py"]\n'
        'requirements = ["six>=1", "idna", { name = "six>=1", pure = true }]\n',
    )
    python = load_config(library, "child").config.python
    assert [each.path for each in python.apps] == ["apps/a.py", "apps/b.py"]
    told = [(each.name, each.pure) for each in python.requirements]
    assert told == [("bottle", False), ("six>=1", False), ("idna", False), ("six>=1", True)]


def test_extends_takes_several_left_to_right(library: Library, add_config: AddConfig) -> None:
    add_config("left", 'release = "23.05.5"\n[python]\nvariant = "light"\n')
    add_config("right", 'release = "24.10.4"\n')
    add_config("child", 'extends = ["left", "right"]\n')
    config = load_config(library, "child").config
    assert (config.release, config.python.variant) == ("24.10.4", "light")


def test_a_config_can_be_a_path(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "demo"\n')
    assert load_config(library, str(path)).config.name == "mine"


def test_every_shipped_config_and_board_loads(library: Library) -> None:
    boards = [library.board(name) for name in library.board_names()]
    assert {"qemu-x86-64", "tplink-tl-wr740n-v4", "linksys-wrt1200ac"} <= {board.id for board in boards}
    for name in library.config_names():
        for board in load_config(library, name).config.boards:
            assert load_config(library, name, board).config.name == name


def test_a_board_file_with_faults(library: Library, project: Path) -> None:
    (project / "boards/odd.toml").write_text(
        'name = "Odd"\nsoc = "?"\nram = "32MB"\nflash = "4M"\n\n[[profile]]\nreleases = "recent"\n'
        'target = "ath79"\nname = "x"\narch = "mips_24kc"\n[images]\nsysupgrade = { format = "tplink-v9" }\n'
    )
    with pytest.raises(FaultsError) as caught:
        library.board("odd")
    assert [(fault.line, fault.key) for fault in caught.value.faults] == [
        (3, "ram"),
        (7, "profile[0].releases"),
        (8, "profile[0].target"),
        (12, "images.sysupgrade.format"),
    ]


def test_the_profile_of_a_release(library: Library) -> None:
    board = library.board("tplink-tl-wr740n-v4")

    def targets(release: str) -> list[str]:
        return [profile.target for profile in board.profiles_for(release)]

    assert targets("17.01.7") == ["ar71xx/generic"]
    assert targets("19.07.10") == ["ath79/tiny", "ar71xx/tiny"]
    assert targets("23.05.5") == ["ath79/tiny"]
    assert targets("23.05.6") == []
    assert targets("24.10.1") == ["ath79/tiny"]
    assert targets("24.10.2") == []
    assert targets("25.12.0") == []


def test_lines_of_keys() -> None:
    file = parse_toml(
        b'a = 1\n"b.c" = 2\n[t]\nx.y = [\n  1,\n  { z = 2 },\n]\n[[r]]\nn = 1\n[[r]]\nn = 2\n[r.s]\nm = 3\n',
        Path("x.toml"),
    )
    lines = {
        ("a",): 1,
        ("b.c",): 2,
        ("t",): 3,
        ("t", "x", "y"): 4,
        ("t", "x", "y", 0): 5,
        ("t", "x", "y", 1, "z"): 6,
        ("r", 0, "n"): 9,
        ("r", 1): 10,
        ("r", 1, "s", "m"): 13,
        ("t", "missing"): 3,
        ("nowhere",): None,
    }
    assert {key: file.line_of(key) for key in lines} == lines
    assert dotted(("board", "a-b", "x y", 2)) == 'board.a-b."x y"[2]'


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_mark_and_the_line_ends_of_windows_change_no_value_and_no_line(
    library: Library, project: Path, add_config: AddConfig, ends: str
) -> None:
    """Of all that people write, by the functions that read it."""

    def write(place: str, text: str) -> None:
        (project / place).parent.mkdir(parents=True, exist_ok=True)
        (project / place).write_bytes(codecs.BOM_UTF8 + text.replace("\n", ends).encode())

    board = (project / "boards/qemu-x86-64.toml").read_text("utf-8")
    known = library.board("qemu-x86-64")
    write("boards/marked.toml", board)
    assert Library(project).board("marked").model_dump(exclude={"id"}) == known.model_dump(exclude={"id"})
    write("configs/marked.toml", 'extends = "base"\n[packages]\nadd = ["tcpdump"]\n')
    assert "tcpdump" in load_config(library, "marked").config.packages.add
    write("configs/wrong.toml", 'extends = "base"\n\n[packages]\nad = ["tcpdump"]\n')
    assert [(line, key) for _, line, key, _, _ in faults_of(library, "wrong")] == [(4, "packages.ad")]
    text = 'name = "mine"\ndescription = "x"\n[variables.KEY]\ntype = "string"\nsecret = true\n'
    write("overlays/mine/overlay.toml", text)
    write("overlays/mine/files/etc/x", "x\n")
    overlay, _ = load_overlay(library, "mine")
    write("secrets.toml", 'KEY = "value"\n')
    assert find_secret(project, "KEY", overlay.variables["KEY"]) == "value"
    write("locks/marked.lock", "\nnothing = 2\n")
    with pytest.raises(FaultsError, match=r"marked\.lock:2: nothing"):
        read_lock(library, "marked")


def test_toml_in_another_encoding_is_said() -> None:
    with pytest.raises(FaultsError, match=r"x\.toml:1: is UTF-16 text, and TOML is UTF-8"):
        parse_toml("a = 1\n".encode("utf-16"), Path("x.toml"))
    with pytest.raises(FaultsError, match=r"x\.toml:2: is not UTF-8 text"):
        parse_toml("a = 1\nb = 'ü'\n".encode("latin-1"), Path("x.toml"))


@given(st.binary(max_size=300) | st.text(alphabet="[]{}=\",.\n abc019#_-'", max_size=120).map(str.encode))
def test_any_bytes_are_toml_or_a_clear_error(raw: bytes) -> None:
    try:
        file = parse_toml(raw, Path("x.toml"))
    except FaultsError as error:
        assert error.faults[0].file == "x.toml"
        return
    for key in file.values:
        assert file.line_of((key,)) is not None


def test_boards_are_frozen(library: Library) -> None:
    board: Board = library.board("qemu-x86-64")
    with pytest.raises(ValueError, match="frozen"):
        board.name = "other"  # type: ignore[misc]
