"""What is written for people holds: links and anchors lead somewhere, the command line takes the commands,
the program reads the files, and each line of the README's way to an own router is run in an empty folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import tomli

from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.project import open_project
from tests.cli.test_boards_add import IMAGE_MAKEFILE
from tests.cli.test_hints import UsageError, cli, parsed

PROJECT = Path(__file__).resolve().parents[1]
README = PROJECT / "README.md"
DOCUMENTS = (
    README,
    *(PROJECT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((PROJECT / "docs").glob("*.md")),
)
GENERATED = {"reference.md", "commands.md", "formats.md"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
NAMES = r"(?:python3 build\.py|owrt-python)"
by_name = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def without_blocks(path: Path) -> str:
    return BLOCK.sub("", path.read_text("utf-8"))


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors of a document's headings, as GitHub makes them; the page's generator makes the same of
    all that is linked."""
    found: dict[str, int] = {}
    names = []
    for heading in HEADING.findall(without_blocks(path)):
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = found[plain] = found.get(plain, -1) + 1
        names.append(f"{plain}-{count}" if count else plain)
    return frozenset(names)


def links(path: Path) -> list[str]:
    return LINK.findall(CODE.sub("", without_blocks(path)))


def wrong_links(path: Path) -> Iterator[str]:
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.is_relative_to(PROJECT) or not target.is_file():
            yield f"{link}: no such file"
        elif anchor and (anchor not in anchors(target) or "--" in anchor):
            yield f"{link}: no such heading, or one that other generators name otherwise"


@by_name
def test_links_and_anchors_lead_somewhere(path: Path) -> None:
    assert list(wrong_links(path)) == []


def test_a_link_that_leads_nowhere_would_be_found(tmp_path: Path) -> None:
    text = "# A `b.c` d\n[a](#a-bc-d) [b](#b) [c](docs/gone.md) `[d](e)` [f](https://example.org/x)\n"
    page = PROJECT / "docs/configs.md"
    (tmp_path / "page.md").write_text(text)
    assert links(tmp_path / "page.md") == ["#a-bc-d", "#b", "docs/gone.md", "https://example.org/x"]
    assert anchors(tmp_path / "page.md") == {"a-bc-d"}
    assert len(list(wrong_links(tmp_path / "page.md"))) == 3  # one is there, but not in the project
    assert links(page)


def test_each_guide_is_found_from_the_readme() -> None:
    named = {link.partition("#")[0] for link in links(README)}
    assert {f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md")} - named == set()


def test_the_readme_is_short() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 121 and not line.startswith("|")] == []
    assert lines[3].startswith("python3 build.py demo ")
    assert lines[4].startswith("python3 build.py test ")


def lines_of(path: Path, kind: str = "sh", below: str = "") -> list[str]:
    """The lines of a document's blocks of a kind, those below a heading."""
    text = path.read_text("utf-8")
    text = text.partition(f"## {below}\n")[2].partition("\n## ")[0] if below else text
    return [
        line
        for found, block in BLOCK.findall(text)
        if found == kind
        for line in block.splitlines()
        if line.strip() and not line.startswith("#")
    ]


def commands_of(path: Path) -> list[str]:
    """Every call of this program that a document shows: in blocks, and in the text between backticks."""
    shown = [line.removeprefix("$ ") for kind in ("sh", "", "text") for line in lines_of(path, kind)]
    shown += [" ".join(code.split()) for _, code in CODE.findall(without_blocks(path))]
    if path.name == "commands.md":
        shown = []  # usage lines, which are made of the commands
    calls = []
    for line in shown:
        for part in re.split(r" && | \| ", line.replace("\\|", "|")):
            match = re.match(rf"(?:[A-Z_]+=\S+ )?{NAMES} (?=[a-z-])(.+)", part.strip())
            if match:
                calls.append(match[1])
    return calls


def words_of(call: str) -> list[str]:
    """A call's words as a shell has them; the first of what is given to choose from, without `[…]` that can
    be left out, and what is behind it when it is prose."""
    words = [word for word in shlex.split(call, comments=True) if word != "…"]
    words = words[: words.index(">")] if ">" in words else words
    words = [word.strip("[]") for word in words]
    return [word.split("|")[0] if re.fullmatch(r"[a-z]+(\|[a-z]+)+", word) else word for word in words]


GROUPS = ("boards",)  # does something without a command of its own too
OF_TESTS = ("test",)  # passes on what it is given
MENTIONED = re.compile(r"[a-z]+( [a-z]+)?")  # a command's name, with nothing to it


@pytest.mark.parametrize(
    ("name", "call"), [(path.name, call) for path in DOCUMENTS for call in commands_of(path)]
)
def test_a_command_can_be_given(name: str, call: str) -> None:
    words = words_of(call)
    if MENTIONED.fullmatch(" ".join(words)) or words[0] in OF_TESTS:
        words = [words[0], "--help"]
    try:
        if words[0] in GROUPS and words[1].startswith("--"):
            cli().commands[words[0]].make_context(words[0], words[1:])
        else:
            parsed(words)
    except UsageError as error:
        pytest.fail(f"{name}: {call}: {error}")
    except SystemExit as ended:  # --help
        assert not ended.code
    except BaseException as ended:
        if type(ended).__name__ != "Exit":
            raise


def test_there_are_commands_to_look_at() -> None:
    assert sum(len(commands_of(path)) for path in DOCUMENTS) > 60
    for wrong in ("biuld x", "plan x --fits"):
        with pytest.raises(UsageError):
            parsed(words_of(wrong))


def files_of(path: Path) -> list[str]:
    return [block for kind, block in BLOCK.findall(path.read_text("utf-8")) if kind == "toml"]


ELSEWHERE = {"python-packages.md"}  # tests/python/test_recipe.py reads these


@pytest.mark.parametrize(
    ("name", "text"),
    [(path.name, text) for path in DOCUMENTS if path.name not in ELSEWHERE for text in files_of(path)],
)
def test_a_file_that_is_shown_is_read(name: str, text: str, tmp_path: Path) -> None:
    """As a config, as firmware.toml, or as secrets; its keys and values are checked, not what they name."""
    shown = tomli.loads(text)
    if name == "secrets.md":
        assert all(isinstance(value, str) or "command" in value for value in shown.values())
        return
    if "output" in shown:
        (tmp_path / "firmware.toml").write_text(text)
        assert open_project(tmp_path)[0].root == tmp_path
        return
    (tmp_path / "configs").mkdir()
    (tmp_path / "boards").mkdir()
    (tmp_path / "files").mkdir()
    board = (PROJECT / "boards/tplink-tl-wr740n-v4.toml").read_text()
    (tmp_path / "boards/my-router.toml").write_text(board)
    more = "" if "boards" in shown else 'boards = ["my-router"]\n'
    (tmp_path / "configs/shown.toml").write_text(more + text)
    config = load_config(Library(tmp_path), "shown").config
    assert config.boards


FIVE_MINUTES = "Five minutes to your own router"


@pytest.fixture
def home(tmp_path: Path, small_tree: Path) -> Path:
    """A home with the README's ImageBuilder in it, played by the small tree, and the program on the PATH."""
    for path, text in (
        (small_tree / "Makefile", (small_tree / "Makefile").read_text()),
        (small_tree / "target/linux/ath79/image/Makefile", IMAGE_MAKEFILE),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("tplink_tl-wr740n-v4", "tl-wr1043nd-v2"))
    kernel = small_tree / "build_dir/target-x/linux-ath79_tiny/tl-wr1043nd-v2-kernel.bin"
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(b"kernel" * 100_000)
    place = tmp_path / "home"
    (place / "bin").mkdir(parents=True)
    (place / "ib").symlink_to(small_tree)
    program = f'#!/bin/sh\nexec {sys.executable} -P -X owrt-python-called=owrt-python -m imagebuilder "$@"\n'
    (place / "bin/owrt-python").write_text(program)
    (place / "bin/owrt-python").chmod(0o755)
    return place


def test_the_way_to_an_own_router(home: Path, tmp_path: Path) -> None:
    """Each line of the README, one after the other, from an empty folder."""
    lines = lines_of(README, below=FIVE_MINUTES)
    assert [line.split()[1] for line in lines] == ["new", "boards", "init", "plan", "build", "verify"]
    empty = tmp_path / "empty"
    empty.mkdir()
    ended = subprocess.run(
        ["bash", "-e", "-x", "-c", "\n".join(lines)],
        cwd=empty,
        env={
            "PATH": f"{home}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
            "PYTHONPATH": str(PROJECT),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "XDG_DATA_HOME": str(tmp_path / "data"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert [path.name for path in empty.iterdir()] == ["my-routers"]
    made = {path.name for path in (empty / "my-routers/out/kitchen/my-router").iterdir()}
    assert {"manifest", "result.json", "sha256sums", "build.log"} < made
