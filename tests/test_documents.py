"""What is written for people holds: links and anchors lead somewhere, the command line takes the commands,
the program reads the files, and each line of the README's way to an own router is run in an empty folder."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import tomli
import zstandard

from imagebuilder.config.config import load_config
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import ConfigFile
from imagebuilder.config.model_project import ProjectFile
from imagebuilder.config.project import open_project
from imagebuilder.config.releases import shipped_releases
from tests.cli.test_boards_add import IMAGE_MAKEFILE
from tests.cli.test_hints import UsageError, cli, parsed
from tests.conftest import make_small_tree
from tests.support.download_server import TARGET, Server, Site

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
    return [call for line in shown for call in calls_in(line)]


def calls_in(line: str) -> list[str]:
    """The calls of this program in a line for a shell, without its name."""
    parts = re.split(r" && | \| ", line.replace("\\|", "|"))
    found = (re.match(rf"(?:[A-Z_]+=\S+ )?{NAMES} (?=[a-z-])(.+)", part.strip()) for part in parts)
    return [match[1] for match in found if match]


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
    if shown.keys() & (ProjectFile.model_fields.keys() - ConfigFile.model_fields.keys()):
        (tmp_path / "firmware.toml").write_text(text)
        library, found = open_project(tmp_path)
        assert found.root == tmp_path
        assert library.settings() != ProjectFile()
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
ROUTER = "tl-wr1043nd-v2"
DEVICES = {"supported_devices": ["tplink,tl-wr740n-v4", "tl-wr741nd-v4"]}  # of the small tree's images


def play_readmes_tree(tree: Path) -> None:
    """Have a small tree make images of the README's router."""
    for path, text in (
        (tree / "Makefile", (tree / "Makefile").read_text()),
        (tree / "target/linux/ath79/image/Makefile", IMAGE_MAKEFILE),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("tplink_tl-wr740n-v4", ROUTER))
    kernel = tree / f"build_dir/target-x/linux-ath79_tiny/{ROUTER}-kernel.bin"
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(b"kernel" * 100_000)


@pytest.fixture
def home(tmp_path: Path, small_tree: Path) -> Path:
    """A home with the README's ImageBuilder in it, played by the small tree, and the program on the PATH."""
    play_readmes_tree(small_tree)
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
    made = run_lines(lines, home, tmp_path)
    assert {"manifest", "result.json", "sha256sums", "build.log"} < made


def test_the_way_with_a_release(
    home: Path, tmp_path: Path, server: Server, site: Site, own_keys: Path
) -> None:
    """`--release 24.10` in place of `--imagebuilder ~/ib`, as the README says, from a server of our own."""
    assert "`--release 24.10` in place of `--imagebuilder ~/ib`" in README.read_text()
    newest = next(name for name in shipped_releases().versions if name.startswith("24.10."))
    (home / "ib").unlink()
    tree = tmp_path / "release"
    make_small_tree(tree, release=newest)
    play_readmes_tree(tree)
    told = {"target": TARGET, "version_number": newest, "arch_packages": "mips_24kc"}
    profiles = {ROUTER: {"titles": [{"title": "A router"}], "images": [{"type": "sysupgrade"}], **DEVICES}}
    listed = json.dumps({**told, "profiles": profiles}).encode()
    name, _ = site.add_target(newest, **{"profiles.json": listed})
    with tarfile.open(tmp_path / "archive.tar", "w") as tar:
        tar.add(tree, name.removesuffix(".tar.zst"))
    packed = zstandard.ZstdCompressor(level=1).compress((tmp_path / "archive.tar").read_bytes())
    (site.folder(newest) / name).write_bytes(packed)
    site.sign(newest)
    devices = [{"id": ROUTER, "target": TARGET, **profiles[ROUTER]}]
    (site.root / f"releases/{newest}/.overview.json").write_text(json.dumps({"profiles": devices}))
    first, *others = lines_of(README, below=FIVE_MINUTES)
    mirror = f'printf \'[mirror]\\nurls = ["{server.url}"]\\nkeys = "{own_keys}"\\n\' >> firmware.toml'
    lines = [first, mirror, *(line.replace("--imagebuilder ~/ib", "--release 24.10") for line in others)]
    lines[-1] += " || test $? = 3"  # the server's list does not say which formats the images have
    run_lines(lines, home, tmp_path)
    result = json.loads((tmp_path / "empty/my-routers/out/kitchen/my-router/result.json").read_text())
    assert result["tree"]["version"] == newest


def run_lines(lines: list[str], home: Path, tmp_path: Path) -> set[str]:
    """Run lines of the README in an empty folder; the names of what lies beside the images at the end."""
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
    return {path.name for path in (empty / "my-routers/out/kitchen/my-router").iterdir()}
