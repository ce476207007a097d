"""What people see: how much a command says, what help looks like where it is kept, what a shell completes."""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.called import typed
from imagebuilder.cli import screen
from imagebuilder.cli.app import app
from imagebuilder.cli.progress import shown_command
from tests.cli.test_command_line import commands

PROJECT = Path(__file__).resolve().parents[2]


def run(*argv: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program, in an environment without settings about colours."""
    about = ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "NO_COLOR", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if name not in about}
    return subprocess.run(
        [sys.executable, "-m", "imagebuilder", *map(str, argv)],
        env={**kept, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def options_of(command: Callable[..., None]) -> set[str]:
    declared = (get_args(one.annotation)[1:] for one in inspect.signature(command).parameters.values())
    found = (getattr(option, "default", None) for options in declared for option in options)
    return {word for word in found if isinstance(word, str)}


def test_every_command_can_say_less_and_more() -> None:
    """But for `test`, whose words are pytest's: it passes both on."""
    lacking = [each.__name__ for each in commands(app) if not options_of(each) >= {"--quiet", "--verbose"}]
    assert lacking == ["test"]


@pytest.mark.parametrize("word", ["--quiet", "--verbose"])
@pytest.mark.parametrize("argv", [("formats",), ("configs",), ("show", "base"), ("schema", "board")])
def test_what_has_nothing_to_add_prints_the_same(argv: tuple[str, ...], word: str) -> None:
    plain, told = run(*argv), run(*argv, word)
    assert (told.returncode, told.stdout, told.stderr) == (0, plain.stdout, plain.stderr)
    assert plain.stdout


def test_quiet_gives_no_advice(project: Path) -> None:
    argv = ("init", "--board", "qemu-x86-64", "--ssh-key", "", "--project", project)
    assert "next: " in run(*argv, "one").stdout
    assert run(*argv, "two", "--quiet").stdout == f"wrote {project}/configs/two.toml\n"
    assert "what has no board file yet" in run("boards", "search", "wr740n").stdout
    assert "what has no board file yet" not in run("boards", "search", "wr740n", "-q").stdout


def test_options_before_the_command_are_not_passed_over() -> None:
    ended = run("boards", "--quiet", "search", "wr740n")
    assert ended.returncode == 2
    assert "options belong behind the command" in ended.stderr


@pytest.mark.parametrize(
    "argv", [("--help",), ("build", "--help"), ("boards", "--help"), ("why",), ("bild",)]
)
def test_a_workflow_gets_no_escape_codes(argv: tuple[str, ...]) -> None:
    ended = run(*argv, GITHUB_ACTIONS="true")
    assert "Usage" in ended.stdout + ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr
    coloured = run(*argv, GITHUB_ACTIONS="true", FORCE_COLOR="1")
    assert "\x1b" in coloured.stdout + coloured.stderr


def test_a_command_line_shows_no_program() -> None:
    source = "import sys\nprint(sys.argv)\n"
    assert (
        shown_command(("python3", "-S", "-c", source, "a b")) == "python3 -S -c [a program of 2 lines] 'a b'"
    )
    assert shown_command(("sh", "-c", 'exec "$@"', "sh", "true")) == "sh -c [a program of 1 line] sh true"
    assert shown_command(("pip", "-c", "constraints.txt")) == "pip -c constraints.txt"
    assert shown_command(("make", "image", "PACKAGES=a -b")) == "make image 'PACKAGES=a -b'"


def test_a_page_is_for_phones_too_and_for_dark_rooms(small_tree: Path) -> None:
    page = run("diff", small_tree / "sysupgrade.bin", small_tree / "factory.bin", "--html").stdout
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "@media (prefers-color-scheme: dark)" in page
    style = page[page.index("<style>") : page.index("</style>")]
    # colours have names, of which dark and light have all
    schemes = re.findall(r":root\s*\{([^}]*)\}", style)
    assert "#" not in re.sub(r":root\s*\{[^}]*\}", "", style)
    light, dark = (set(re.findall(r"(--[\w-]+):\s*#", scheme)) for scheme in schemes)
    assert light == dark
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) <= light
    assert "http://" not in page
    assert "https://" not in page


def in_terminal(columns: int, *argv: str | Path, cwd: Path, coloured: bool = True) -> str:
    """What the program shows on a terminal of so many columns, without the codes of colours. coloured:
    whether there must be some."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    words = [sys.executable, "-m", "imagebuilder", *map(str, argv)]
    shown = bytearray()
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.DEVNULL,
        cwd=cwd,
        env={**environment, "TERM": "xterm"},
    ):
        os.close(follower)
        with contextlib.suppress(OSError):  # EIO: the program is gone
            while piece := os.read(leader, 1 << 16):
                shown += piece
    os.close(leader)
    assert b"\x1b[" in shown or not coloured
    return re.sub("\x1b\\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_a_plan_keeps_to_its_screen(columns: int, small_tree: Path, project: Path) -> None:
    argv = ("router", "--board", "tplink-tl-wr740n-v4", "--imagebuilder", small_tree, "--project", project)
    whole = in_terminal(columns, "plan", *argv, "--cache", "cache", cwd=project.parent)
    *others, make = whole.splitlines()
    assert make.startswith("make image PROFILE=")
    assert max(map(len, others)) <= min(columns, screen.PROSE_COLUMNS)
    assert others[0].startswith("router for tplink-tl-wr740n-v4: ")
    table = in_terminal(columns, "plan", *argv, "--cache", "cache", "--packages", cwd=project.parent)
    assert max(map(len, table.splitlines()[:-1])) <= columns
    if columns == 200:
        assert re.search("^busybox +.* -> busybox$", table, re.MULTILINE)


words = st.text("abcdefghij-/.", min_size=1, max_size=12)
cells = st.lists(words, max_size=8).map(" ".join)


@given(st.lists(st.tuples(words, cells, cells), min_size=1, max_size=6), st.integers(32, 160))
def test_a_table_keeps_its_words_and_its_width(rows: list[tuple[str, ...]], columns: int) -> None:
    headings = ("X", "Y", "Z")
    lines = [line for row in screen._table_rows([headings, *rows], columns) for line in row]
    assert max(map(len, lines)) <= columns
    shown = [word for word in " ".join(lines).split() if word.strip(":") not in headings]
    assert sorted(shown) == sorted(word for row in rows for cell in row for word in cell.split())
    whole = screen._table_rows([headings, *rows], None)
    assert [len(row) for row in whole] == [1] * (len(rows) + 1)
    assert [re.split("  +", row[0].strip())[0] for row in whole[1:]] == [row[0] for row in rows]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (
            34,
            "what        size\nlight    2.0 MiB\n    why: as the modules are that\n      its packages name\n"
            "all    814 bytes\n    why: no other\n",
        ),
        (
            60,
            "what        size  why\nlight    2.0 MiB  as the modules are that its packages name\n"
            "all    814 bytes  no other\n",
        ),
    ],
)
def test_a_table_of_figures(
    columns: int, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screen, "columns", lambda: columns)
    why = "as the modules are that its packages name"
    screen.table(("what", "size", "why"), [("light", "2.0 MiB", why), ("all", "814 bytes", "no other")])
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("argv", [("build",), ("boards", "add"), ("packages", "show"), ("boards",), ()])
def test_help_names_every_option_whole(argv: tuple[str, ...], tmp_path: Path) -> None:
    wide = set(re.findall(r"--[a-z-]+", in_terminal(200, *argv, "--help", cwd=tmp_path)))
    for columns in (60, 100):
        text = in_terminal(columns, *argv, "--help", cwd=tmp_path, coloured=False)
        assert set(re.findall(r"--[a-z-]+(?!…)", text)) == wide
        lines = [line for line in text.splitlines() if "Usage:" not in line]  # which names a path here
        assert max(map(len, lines)) <= columns


def test_a_complaint_is_folded_on_a_terminal_but_for_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    hint = f"hint: {typed('packages search demo an-x')}"
    text = f"error: a.toml:7: no feed has 'x' (is a feed missing?)\n{hint}"
    monkeypatch.setattr(screen, "columns", lambda of: 30)
    assert screen.complaint(text) == [
        "error: a.toml:7: no feed has",
        "  'x' (is a feed missing?)",
        hint,
    ]
    monkeypatch.setattr(screen, "columns", lambda of: None)
    assert screen.complaint(text) == text.split("\n")


def test_what_is_said_is_not_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    screen.say("uci set a:x:b")
    screen.say("uci set a:x:b", "bold")
    assert capsys.readouterr().out == "uci set a:x:b\n" * 2


def test_files_are_named_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"packages.add in {tmp_path}/configs/a.toml, {tmp_path}2/b.toml, /x{tmp_path}/c"
    assert screen.near(text) == f"packages.add in configs/a.toml, {tmp_path}2/b.toml, /x{tmp_path}/c"
    monkeypatch.chdir("/")
    assert screen.near(text) == text


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., str]:
    """The command as a program on the PATH; gives what a shell says in whose PATH it is."""
    name = run("completion", "bash").stdout.split()[-1]
    program = tmp_path / "bin" / name
    program.parent.mkdir()
    start = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from imagebuilder.cli import main; main()"
    program.write_text(f"#!{sys.executable}\n{start}\n")
    program.chmod(0o755)

    def say(shell: str, script: str, *words: str) -> str:
        environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        given = subprocess.run(
            [program, "completion", shell], env=environment, capture_output=True, text=True, check=True
        ).stdout
        (tmp_path / "completion").write_text(given)
        argv = [shell, *({"bash": ["--norc"], "zsh": ["-f"], "fish": ["-N"]}[shell]), "-c", script, shell]
        argv = argv[:-1] if shell == "fish" else argv
        ended = subprocess.run(
            [*argv, str(tmp_path / "completion"), name, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert ended.stderr == ""
        return ended.stdout

    return say


BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
set -- $(complete -p "$1")
while [ "$1" != -F ]; do shift; done
"$2" "${COMP_WORDS[0]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
functions[compdef]='defined=$1'
source "$1"; shift
words=("$@"); CURRENT=$#
functions[_arguments]='print -rl -- "$@"'
$defined
"""
FISH = "source $argv[1]; complete -C (string join -- ' ' $argv[2..])"


@pytest.mark.parametrize(("shell", "script"), [("bash", BASH), ("zsh", ZSH), ("fish", FISH)])
def test_a_shell_completes(installed: Callable[..., str], shell: str, script: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    assert "interpreters" in installed(shell, script, "inter")
    for argv in (("show", "qemu-x"), ("plan", "demo", "--board", "qemu-x"), ("boards", "check", "qemu-x")):
        found = installed(shell, script, *argv)
        assert "qemu-x86-64" in found
        assert "qemu-malta-be" not in found
    shown = installed(shell, script, "show", "de")
    assert "demo-3.13" in shown
    assert "--accept-unchecked" in installed(shell, script, "build", "demo", "--acc")


def test_what_no_shell_could_start_is_not_completed() -> None:
    ended = run("completion", "zsh", PATH="/usr/bin:/bin")
    assert ended.returncode == 2
    assert "is not on the PATH" in ended.stderr
