"""The kit guest's own uci, run by the kit's own busybox: values are kept byte for byte.

What it prints and writes was compared with the genuine uci of LEDE 17.01.7 (run under user emulation) over
several thousand random calls: what is expected here is what that one does.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuilder.packages.opkg.ipk_reader import read_ipk
from imagebuilder.rootfs.files import write_tree

pytestmark = pytest.mark.kit

SCRIPT = Path(__file__).resolve().parents[2] / "imagebuilder/kit/guest/uci/usr/share/uci/uci.awk"
START = """
config a 'x'
\toption p 'one'
\tlist l 'u'
\tlist l 'v w'

config a
\toption q "two"

config b
\toption r three # comment
"""
Uci = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def busybox(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busybox")
    (package,) = (kit / "packages").glob("busybox_*.ipk")
    write_tree(read_ipk(package).tree, folder)
    return folder / "bin/busybox"


@pytest.fixture
def uci(busybox: Path, tmp_path: Path) -> Uci:
    config, changes = tmp_path / "config", tmp_path / "changes"
    config.mkdir()
    changes.mkdir()

    def call(*argv: str, given: str = "") -> tuple[int, str]:
        whole = [str(busybox), "awk", "-f", str(SCRIPT), "--", "-c", str(config), "-t", str(changes), *argv]
        ended = subprocess.run(
            whole, capture_output=True, check=False, env={"LC_ALL": "C"}, input=given.encode()
        )
        return ended.returncode, (ended.stdout + ended.stderr).decode()

    (config / "t").write_text(START)
    return call


def test_reading(uci: Uci) -> None:
    assert uci("get", "t.x.p") == (0, "one\n")
    assert uci("get", "t.x") == (0, "a\n")
    assert uci("get", "t.@a[1].q") == (0, "two\n")
    assert uci("get", "t.@a[-1].q") == (0, "two\n")
    assert uci("get", "t.@b[0].r") == (0, "three\n")
    assert uci("-q", "get", "t.x.none")[0] == 1
    assert uci("-q", "get", "none.x.p")[0] == 1
    shown = "t.x=a\nt.x.p='one'\nt.x.l='u' 'v w'\nt.@a[1]=a\nt.@a[1].q='two'\nt.@b[0]=b\nt.@b[0].r='three'\n"
    assert uci("show", "t") == (0, shown)


def test_changes_are_seen_at_once_and_written_by_commit(uci: Uci, tmp_path: Path) -> None:
    before = (tmp_path / "config/t").read_text()
    assert uci("set", "t.x.p=two") == (0, "")
    assert uci("set", "t.new=kind") == (0, "")
    assert uci("add_list", "t.new.l=one") == (0, "")
    assert uci("add_list", "t.new.l=two") == (0, "")
    assert uci("del_list", "t.x.l=u") == (0, "")
    assert uci("delete", "t.@b[0]") == (0, "")
    assert uci("get", "t.x.p") == (0, "two\n")
    assert uci("get", "t.new.l") == (0, "one two\n")
    assert (tmp_path / "config/t").read_text() == before
    assert uci("commit", "t") == (0, "")
    written = (tmp_path / "config/t").read_text()
    assert "config kind 'new'\n\tlist l 'one'\n\tlist l 'two'\n" in written
    assert "\toption p 'two'\n" in written
    assert "\tlist l 'v w'\n" in written
    assert "'u'" not in written
    assert "three" not in written
    assert not any(path.stat().st_size for path in (tmp_path / "changes").iterdir())


def test_anonymous_sections(uci: Uci) -> None:
    code, name = uci("add", "t", "a")
    assert code == 0
    assert name.startswith("cfg")
    assert uci("set", "t.@a[-1].n=last") == (0, "")
    assert uci("commit") == (0, "")
    assert uci("get", "t.@a[2].n") == (0, "last\n")


WRITTEN_BY_HAND = r"""# comment
package p
config foo bar # trailing
	option a plain
	option b "dq \"x\" \n \\ $y 'z'"
	option c 'sq "x" \n'  # c
	option d un\ quoted\n#no
	option e 'con'"cat"enated
  list l one
	list l 'two
lines'
	option f a#b
	option g ''
	option a again

config foo
	option x "y\
z"
config foo 'bar'
	option later 1
config 'quoted-type' 'q'
config other; option ignored 1
config foo
	option y 2
"""
EXPORTED = r"""package p

config foo 'bar'
	option b 'dq "x" n \ $y '\''z'\'''
	option c 'sq "x" \n'
	option d 'un quotedn'
	option e 'concatenated'
	list l 'one'
	list l 'two
lines'
	option f 'a'
	option a 'again'
	option later '1'

config foo
	option x 'yz'

config quoted-type 'q'

config other

config foo
	option y '2'

"""


def test_a_file_in_every_notation(uci: Uci, tmp_path: Path) -> None:
    (tmp_path / "config/p").write_text(WRITTEN_BY_HAND)
    assert uci("export", "p") == (0, EXPORTED)
    assert uci("set", "p.q.n=1") == (0, "")
    assert uci("commit", "p") == (0, "")
    expected = EXPORTED.removeprefix("package p\n").replace(" 'q'\n", " 'q'\n\toption n '1'\n")
    assert (tmp_path / "config/p").read_text() == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("config\n", "invalid command) at line 1"),
        ("foo bar\n", "invalid command) at line 1"),
        ("\noption a b\n", "option/list command found before the first section) at line 2"),
        ("config a 'x\n\n", "EOF with unterminated ') at line 2"),
        ('config a\noption x "y\n', 'EOF with unterminated ") at line 2'),
        ("config a b c\n", "too many arguments) at line 1"),
        ("config a b-c\n", "invalid character in name field) at line 1"),
        ("config 'a b'\n", "invalid character in type field) at line 1"),
        ("config a\noption '' x\n", "insufficient arguments) at line 2"),
    ],
)
def test_a_file_that_is_wrong_is_left_alone(uci: Uci, tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "config/p").write_text(text)
    assert uci("show", "p") == (1, f"uci: Parse error ({reason}\n")
    assert uci("set", "p.b=a")[0] == 1
    assert (tmp_path / "config/p").read_text() == text
    assert uci("get", "t.x.p") == (0, "one\n")


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (["get", "none.x"], (1, "uci: Entry not found\n")),
        (["get", "t.none"], (1, "uci: Entry not found\n")),
        (["-q", "get", "t.x.none"], (1, "")),
        (["get", "t.@a[7].q"], (1, "uci: Entry not found\n")),
        (["get", "t.@a[x].q"], (1, "uci: Invalid argument\n")),
        (["get", "t.b-c"], (1, "uci: Invalid argument\n")),
        (["get", "t.x.b-c"], (1, "uci: Parse error\n")),
        (["get", "a/b.x"], (1, "uci: Entry not found\n")),
        (["set", "none.x=a"], (1, "uci: Entry not found\n")),
        (["set", "t.none.k=v"], (1, "uci: Invalid argument\n")),
        (["set", "t.x"], (1, "uci: Invalid argument\n")),
        (["add_list", "t.none.k=v"], (1, "uci: Invalid argument\n")),
        (["add", "none", "a"], (3, "uci: Entry not found\n")),
        (["delete", "t.x.none"], (1, "uci: Entry not found\n")),
        (["rename", "t.x.none=k"], (1, "uci: Entry not found\n")),
        (["get", "t"], (0, "")),
        (["get", "t.@[-1].r"], (0, "three\n")),
        (["get", "t.x.l"], (0, "u 'v w'\n")),
        (["show", "t.x.l"], (0, "t.x.l='u' 'v w'\n")),
        (["show", "t.@b[0]"], (0, "t.cfg05b607=b\nt.cfg05b607.r='three'\n")),
        (["del_list", "t.x.p=none"], (0, "")),
        (["set", "t.x.none="], (0, "")),
        (["commit", "t"], (0, "")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_answers_and_exit_codes(uci: Uci, call: list[str], answer: tuple[int, str]) -> None:
    assert uci(*call) == answer
    assert uci("changes") == (0, "")


def test_usage(uci: Uci) -> None:
    calls: list[list[str]] = [[], ["frob"], ["get"], ["add", "t"], ["set", "t.x=a", "t.y=a"], ["--help"]]
    for call in calls:
        code, printed = uci(*call)
        assert (code, printed.partition(":")[0]) == (255, "Usage")


def test_changes_rename_revert_and_delete(uci: Uci, tmp_path: Path) -> None:
    before = (tmp_path / "config/t").read_text()
    assert uci("add", "t", "iface") == (0, "cfg07a57d\n")
    for call in (
        ["set", "t.@iface[-1].k=a\nb"],
        ["add_list", "t.x.p=it's"],
        ["del_list", "t.x.l=u"],
        ["rename", "t.x=y"],
        ["set", "t.y.l="],
        ["delete", "t.@b[0]"],
        ["set", "t.n=a"],
        ["set", "t.n="],
    ):
        assert uci(*call) == (0, ""), call
    shown = [
        "t.y=a",
        "t.y.p='one' 'it'\\''s'",
        *("t.@a[1]=a", "t.@a[1].q='two'"),
        *("t.@iface[0]=iface", "t.@iface[0].k='a", "b'"),
    ]
    assert uci("show", "t")[1].splitlines() == shown
    changes = [
        *("t.cfg07a57d='iface'", "t.cfg07a57d.k='a", "b'"),
        *("t.x.p+='it'\\''s'", "t.x.l-='u'", "t.x='y'", "-t.y.l", "-t.cfg05b607", "t.n='a'", "-t.n"),
    ]
    assert uci("changes")[1].splitlines() == changes
    assert uci("revert", "t.cfg07a57d") == (0, "")
    assert "iface" not in uci("show", "t")[1]
    assert (tmp_path / "config/t").read_text() == before
    assert uci("revert", "t") == (0, "")
    assert uci("changes") == (0, "")
    assert uci("get", "t.x.p") == (0, "one\n")


def test_batch(uci: Uci, tmp_path: Path) -> None:
    lines = [
        *("set t.b=foo", "set t.b.v='two", "lines' # comment"),
        *("get t.none", "frob", "add t a", "get t.b.v", "commit t"),
    ]
    answer = "cfg08b606\ntwo\nlines\nuci: Entry not found\nuci: Unknown command\n"
    assert uci("batch", given="\n".join(lines) + "\n") == (0, answer)
    assert "config foo 'b'\n\toption v 'two\nlines'\n" in (tmp_path / "config/t").read_text()


def test_numbers_are_texts(uci: Uci) -> None:
    """awk takes what looks like a number for one, and 1 for 1.0."""
    for call in (
        ["set", "t.1=1"],
        ["set", "t.1.1=1.0"],
        ["add_list", "t.1.l=1"],
        ["add_list", "t.1.l=1.0"],
        ["add_list", "t.1.l=0x1"],
        ["del_list", "t.1.l=1.0"],
    ):
        assert uci(*call) == (0, "")
    assert uci("show", "t.1") == (0, "t.1=1\nt.1.1='1.0'\nt.1.l='1' '0x1'\n")
    assert uci("get", "t.01")[0] == 1


def test_commit_keeps_the_mode_and_leaves_nothing_behind(uci: Uci, tmp_path: Path) -> None:
    (tmp_path / "config/t").chmod(0o600)
    assert uci("set", "t.x.p=secret") == (0, "")
    assert (tmp_path / "changes/t").exists()
    assert uci("commit") == (0, "")
    assert (tmp_path / "config/t").stat().st_mode & 0o7777 == 0o600
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["t"]
    assert list((tmp_path / "changes").iterdir()) == []


LONG = {"quotes": "'" * 20_000, "lines": "a\n" * 2_000, "letters": "x" * 60_000, "escapes": '\\"' * 20_000}


@pytest.mark.parametrize("value", LONG.values(), ids=LONG)
def test_long_values(uci: Uci, value: str) -> None:
    assert uci("set", f"t.x.v={value}.") == (0, "")
    assert uci("commit", "t") == (0, "")
    assert uci("get", "t.x.v") == (0, f"{value}.\n")


CONFIG_FUNCTIONS = r"""
uci() { awk -f "$SCRIPT" -- -c "$FOLDER/config" -t "$FOLDER/changes" "$@"; }
. "$FUNCTIONS"
config_load none || echo none
config_load t
config_get value x p; echo "$value"
config_get value x none 'a "default" $(touch executed)'; echo "$value"
config_get value x nasty; echo "$value"
config_get_bool value x on 0; echo "$value"
config_get_bool value x none 1; echo "$value"
seen() { config_get value "$1" q; echo "seen $# $2 [$value]"; }
config_foreach seen a "two words"
item() { echo "item [$1]"; }
config_list_foreach x l item
config_list_foreach x none item
"""


def test_init_scripts_read_settings(uci: Uci, busybox: Path, tmp_path: Path) -> None:
    nasty = 'it\'s "q" $(touch executed) `touch executed` \\'
    assert uci("set", f"t.x.nasty={nasty}") == (0, "")
    assert uci("set", "t.x.on=yes") == (0, "")
    assert uci("commit", "t") == (0, "")
    functions = SCRIPT.parents[4] / "base-files/lib/functions.sh"
    ended = subprocess.run(
        [str(busybox), "sh", "-c", CONFIG_FUNCTIONS],
        cwd=tmp_path,
        env={"SCRIPT": str(SCRIPT), "FOLDER": str(tmp_path), "FUNCTIONS": str(functions)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines() == [
        *("none", "one", 'a "default" $(touch executed)', nasty, "1", "1"),
        *("seen 2 two words []", "seen 2 two words [two]", "item [u]", "item [v w]"),
    ]
    assert ended.stderr == ""
    assert not (tmp_path / "executed").exists()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=80)
    | st.text("'\"\\$`\n\r\t #=.@[]-", min_size=1, max_size=30)
)
def test_any_value_is_kept(uci: Uci, value: str) -> None:
    assert uci("set", f"t.x.v={value}") == (0, "")
    assert uci("get", "t.x.v") == (0, f"{value}\n")
    assert uci("commit", "t") == (0, "")
    assert uci("get", "t.x.v") == (0, f"{value}\n")
    assert uci("get", "t.x.p") == (0, "one\n")


def test_control_characters_are_refused_as_by_the_genuine_one(uci: Uci) -> None:
    for value in ("\x01", "a\x0bb", "\x1b[0m"):
        assert uci("-q", "set", f"t.x.v={value}")[0] == 1
    assert uci("set", "t.x.v=\x7f") == (0, "")
