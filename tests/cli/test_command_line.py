"""The command line as its users meet it: exit codes, JSON, messages, and what importing it costs."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import pytest
import typer

from imagebuilder.cli import screen
from imagebuilder.cli.app import app
from imagebuilder.host.cache import Cache
from imagebuilder.host.handover import temporary_folder
from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import EMPTY, FileTree, file_of
from imagebuilder.workspace import open_workspace
from tests.support import firmware_images as images

PROJECT = Path(__file__).resolve().parents[2]
BOARD = "tplink-tl-wr740n-v4"

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(project: Path, tmp_path: Path) -> Cli:
    def call(*argv: str | Path, project: Path = project) -> subprocess.CompletedProcess[str]:
        extra = ["--project", str(project)] if argv[0] not in ("doctor", "clean") else []
        return subprocess.run(
            [sys.executable, "-m", "imagebuilder", *map(str, argv), *extra],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return call


def test_a_build_and_its_json(cli: Cli, small_tree: Path, tmp_path: Path) -> None:
    ended = cli("build", "router", "--board", BOARD, "--imagebuilder", small_tree, "--json", "--cache", "c")
    assert ended.returncode == 0, ended.stderr
    (built,) = json.loads(ended.stdout)
    assert built["folder"] == str(tmp_path / "project/out/router" / BOARD)
    assert {image["type"] for image in built["images"]} == {"sysupgrade", "factory"}
    assert "build: " in ended.stderr
    ended = cli("build", "router", "--board", BOARD, "--imagebuilder", small_tree, "--quiet", "--cache", "c")
    assert ended.stderr == ""
    assert "squashfs-sysupgrade.bin" in ended.stdout
    ended = cli(
        *("build", "router", "--board", BOARD, "--imagebuilder", small_tree),
        *("--verbose", "--rebuild", "--cache", "c"),
    )
    assert "PROFILE=tplink_tl-wr740n-v4" in ended.stderr
    assert "Building images..." in ended.stderr


def test_a_plan(cli: Cli, small_tree: Path, project: Path) -> None:
    text = 'extends = "router"\n[packages]\nadd = ["tcpdump-mini"]\nremove = ["rssileds"]\n'
    (project / "configs/mine.toml").write_text(text)
    argv = ("plan", "mine", "--board", BOARD, "--imagebuilder", small_tree, "--cache", "c")
    ended = cli(*argv)
    assert ended.returncode == 0, ended.stderr
    assert "make image PROFILE=tplink_tl-wr740n-v4 'PACKAGES=tcpdump-mini -rssileds'" in ended.stdout
    title, *lines = ended.stdout.splitlines()
    assert title == f"mine for {BOARD}: whether it fits is not known before it is built"
    assert lines[0].startswith("RAM        [KKK")
    assert "asked for  tcpdump-mini" in lines
    assert "left out   rssileds" in lines
    assert "packages.add in project/configs/mine.toml: 1" in lines
    assert not any("because of" in line or line != line.rstrip() for line in lines)
    listed = cli(*argv, "--packages").stdout.splitlines()
    (heading,) = (line for line in listed if line.startswith("package "))
    assert heading.split() == ["package", "version", "size", "from", "because", "of"]
    (added,) = (line for line in listed if line.startswith("tcpdump-mini "))
    assert added.endswith("packages.add in project/configs/mine.toml -> tcpdump-mini")
    assert "measured in the kit's guest" not in ended.stdout
    assert "measured in the kit's guest" in cli(*argv, "--verbose").stdout
    (plan,) = json.loads(cli(*argv, "--json").stdout)
    assert plan["profile"]["name"] == "tplink_tl-wr740n-v4"
    assert plan["wanted"] == ["tcpdump-mini", "base-files", "busybox", "kernel"]


def test_locks(cli: Cli, small_tree: Path, project: Path) -> None:
    common = ("router", "--board", BOARD, "--imagebuilder", small_tree, "--cache", "c")
    refused = cli("lock", *common, "--check")
    assert refused.returncode == 2
    assert f"{sys.executable} -m imagebuilder lock router" in refused.stderr
    ended = cli("lock", *common)
    assert ended.stdout == f"wrote {project}/locks/router.lock\n", ended.stderr
    assert cli("build", *common, "--locked").returncode == 0
    assert cli("lock", *common, "--check").stdout == f"{BOARD}: nothing would change\n"
    path = project / "configs/router.toml"
    path.write_text(path.read_text() + '\n[packages]\nadd = ["tcpdump-mini"]\n')
    assert cli("lock", *common, "--check").returncode == 2
    outdated = cli("outdated", *common, "--json")
    assert outdated.returncode == 0
    lines = ["make's PACKAGES: tcpdump-mini is new", "package tcpdump-mini is new, 4.99"]
    (found,) = json.loads(outdated.stdout)
    assert (found["board"], found["state"], found["changes"]) == (BOARD, "compared", lines)


def test_why_and_packages(cli: Cli, small_tree: Path) -> None:
    needs = ((Dependency("luci-base"),),)
    write_ipk(small_tree / "packages", Package("luci", "1", depends=needs), EMPTY, epoch=1)
    tree = FileTree({"/www/index.html": file_of(b"x")})
    facts = Package("luci-base", "2", provides=("web",), section="luci", description="The base of LuCI")
    write_ipk(small_tree / "packages", facts, tree, epoch=1)
    common = ("--board", BOARD, "--imagebuilder", small_tree, "--cache", "c")
    absent = cli("why", "router", "luci-base", *common)
    assert absent.returncode == 2
    assert "'luci-base' is not in the image of router" in absent.stderr
    found = json.loads(cli("packages", "search", "router", "BASE", "luci", *common, "--json").stdout)
    assert [(each["package"], each["version"], each["boards"]) for each in found] == [
        ("luci-base", "2", [BOARD])
    ]
    shown = json.loads(cli("packages", "show", "router", "web", *common, "--json").stdout)
    assert shown[0]["files"] == ["/www/index.html"]
    assert (shown[0]["in the plan"], shown[0]["from"]) == (False, "the tree")
    assert "no feed has 'nosuch'" in cli("packages", "show", "router", "nosuch", *common).stderr


def test_every_way_into_an_image(cli: Cli, small_tree: Path, project: Path) -> None:
    for name in ("one", "two"):
        depends = ((Dependency("library"),),)
        write_ipk(small_tree / "packages", Package(name, "1", depends=depends), EMPTY, epoch=1)
    write_ipk(small_tree / "packages", Package("library", "1"), EMPTY, epoch=1)
    (project / "configs/mine.toml").write_text('extends = "router"\n[packages]\nadd = ["one", "two"]\n')
    argv = ("why", "mine", "library", "--board", BOARD, "--imagebuilder", small_tree, "--cache", "c")
    chains = json.loads(cli(*argv, "--json").stdout)[BOARD]
    asked = f"packages.add in {project}/configs/mine.toml"
    assert chains == [[asked, "one", "library"], [asked, "two", "library"]]
    assert cli(*argv).stdout == (
        f"{BOARD}:\n  packages.add in project/configs/mine.toml -> one -> library\n"
        "  packages.add in project/configs/mine.toml -> two -> library\n"
    )


def test_the_shortest_ways_into_an_image(cli: Cli, small_tree: Path, project: Path) -> None:
    names = [f"n{number}" for number in range(5)]
    for name in names:
        write_ipk(
            small_tree / "packages", Package(name, "1", depends=((Dependency("lib"),),)), EMPTY, epoch=1
        )
    write_ipk(small_tree / "packages", Package("lib", "1"), EMPTY, epoch=1)
    text = f'extends = "router"\n[packages]\nadd = {json.dumps(["lib", *names])}\n'
    (project / "configs/mine.toml").write_text(text)
    argv = ("why", "mine", "lib", "--board", BOARD, "--imagebuilder", small_tree, "--cache", "c")
    assert len(json.loads(cli(*argv, "--json").stdout)[BOARD]) == 6
    head, first, *_, last = cli(*argv).stdout.splitlines()
    assert (head, first) == (f"{BOARD}:", "  packages.add in project/configs/mine.toml -> lib")
    assert last == "  and 3 others (--all)"
    assert len(cli(*argv, "--all").stdout.splitlines()) == 7


def test_a_board_with_too_little_ram(cli: Cli, small_tree: Path, project: Path) -> None:
    (project / "configs/mine.toml").write_text('extends = "router"\n[budget]\nram_free = "48M"\n')
    argv = ("mine", "--board", BOARD, "--imagebuilder", small_tree, "--cache", "c")
    for command in ("plan", "build"):
        ended = cli(command, *argv)
        assert ended.returncode == 2
        assert "of 32.0 MiB RAM about" in ended.stderr
        assert "budget.ram_free wants 48.0 MiB" in ended.stderr


def test_fetching(cli: Cli, small_tree: Path) -> None:
    ended = cli("fetch", "router", "--board", BOARD, "--imagebuilder", small_tree, "--cache", "c", "--json")
    facts = {"config": "router", "board": BOARD, "tree": "OpenWrt 23.05.5", "packages": 0, "bytes": 0}
    facts["state"] = "fetched"
    (found,) = json.loads(ended.stdout)
    assert found.pop("seconds") > 0
    assert "does not say how large the blocks" in found.pop("budgets")["notes"][0]
    assert found == facts


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("build", "ruter"), ["error: unknown config 'ruter'", "hint: did you mean 'router'?"]),
        (("build", "router", "--board", "wr740"), ["unknown board 'wr740'"]),
        (("build", "router", "--imagebuilder", "nowhere"), ["there is no ImageBuilder at nowhere"]),
        (("build", "router"), ["no ImageBuilder was given", "--imagebuilder PATH"]),
        (("show", "nothing"), ["unknown config 'nothing'"]),
        (
            ("boot", "no-such.img.gz"),
            ["error: there is no file 'no-such.img.gz', and no config of that name"],
        ),
        (("trial", "bin/none"), ["error: there is no file 'bin/none', and no config of that name"]),
        (("build",), ["no config is named", "hint: name one or several"]),
        (("bild", "x"), ["No such command"]),
    ],
)
def test_the_users_mistakes_end_with_2(cli: Cli, argv: tuple[str, ...], words: list[str]) -> None:
    ended = cli(*argv)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr


ORDERS = r"\033]0;renamed\007 \033[2J\302\233 words"


@pytest.mark.parametrize("options", [("--quiet",), ("--verbose",)])
def test_what_others_say_gives_a_terminal_no_orders(cli: Cli, small_tree: Path, options: tuple[str]) -> None:
    (small_tree / "behaviour").write_text(f"printf '{ORDERS}\\n'\n")
    (small_tree / "behaviour-fails").touch()
    argv = ("build", "router", "--board", BOARD, "--imagebuilder", small_tree, "--cache", "c")
    ended = cli(*argv, *options)
    assert ended.returncode == 2
    assert "?]0;renamed? ?[2J? words" in ended.stderr, ended.stderr
    assert not set(ended.stderr) & {"\x1b", "\x07", "\x9b"}


def test_a_table_gives_a_terminal_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    """Titles of devices come from a server's list, which is not signed."""
    screen.table(("title",), [("\x1b]0;renamed\x07 [bold] \u202eback",)])
    assert capsys.readouterr().out.split("\n")[1].strip() == "?]0;renamed? [bold] ?back"


def test_errors_as_json(cli: Cli, project: Path) -> None:
    (project / "configs/bad.toml").write_text("extends = 'base'\n\nrelaese = 'x'\n")
    ended = cli("show", "bad", "--json")
    assert ended.returncode == 2
    (fault,) = json.loads(ended.stdout)["faults"]
    assert (Path(fault["file"]).name, fault["line"], fault["key"]) == ("bad.toml", 3, "relaese")
    assert f"{project}/configs/bad.toml:3: relaese: unknown key (did you mean 'release'?)" in ended.stderr


def test_a_plan_that_does_not_fit_is_one_document_with_the_error(
    cli: Cli, small_tree: Path, project: Path
) -> None:
    (project / "configs/tight.toml").write_text('extends = "router"\n[budget]\nram_free = "600M"\n')
    argv = ("plan", "tight", "--board", BOARD, "--imagebuilder", small_tree, "--cache", "c")
    ended = cli(*argv, "--json")
    assert ended.returncode == 2
    said = json.loads(ended.stdout)
    assert "budget.ram_free wants 600.0 MiB" in said["error"]
    assert said["hint"]
    (plan,) = said["found"]
    assert plan["budgets"]["ram"]["verdict"] == "too little left"
    assert cli(*argv).stdout.count("make image PROFILE") == 1


def test_a_fault_of_ours_is_one_document_too(tmp_path: Path) -> None:
    program = (
        "import imagebuilder.config.library as library\n"
        "def broken(self): raise ZeroDivisionError('a bug')\n"
        "library.Library.board_names = broken\n"
        "library.Library.boards = broken\n"
        "import sys; sys.argv[1:] = ['boards', '--json']\n"
        "from imagebuilder.cli import main; main()\n"
    )
    argv = [sys.executable, "-c", program]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["error"] == "ZeroDivisionError: a bug"


def test_a_fault_of_ours_ends_with_1(cli: Cli, tmp_path: Path) -> None:
    program = (
        "import imagebuilder.config.library as library\n"
        "def broken(self): raise ZeroDivisionError('a bug')\n"
        "library.Library.board_names = broken\n"
        "import sys; sys.argv[1:] = ['boards']\n"
        "from imagebuilder.cli import main; main()\n"
    )
    argv = [sys.executable, "-c", program]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "ZeroDivisionError: a bug" in ended.stderr
    assert "fault of the builder" in ended.stderr


def test_boards_configs_and_show(cli: Cli) -> None:
    listed = cli("boards")
    assert "TP-Link TL-WR740N/ND v4" in listed.stdout
    boards = json.loads(cli("boards", "--json").stdout)
    assert {board["id"] for board in boards} >= {"qemu-x86-64", BOARD, "linksys-wrt1200ac"}
    assert {config["name"] for config in json.loads(cli("configs", "--json").stdout)} >= {"demo", "router"}
    assert "python-light" in cli("configs").stdout
    sheet = cli("show", BOARD).stdout
    assert "kernel_and_rootfs 3669504 bytes" in sheet
    shown = json.loads(cli("show", "python-light", "--json").stdout)
    assert shown["config"]["python"]["variant"] == "light"
    assert [Path(file).name for file in shown["origins"]["python.variant"]] == ["python-light.toml"]
    assert "python.variant" in cli("show", "python-light").stdout


def test_doctor(cli: Cli) -> None:
    facts = json.loads(cli("doctor", "--json").stdout)
    assert {tool["name"] for tool in facts["tools"] if tool["lack"] is None} >= {"make", "bash"}
    assert "drives an ImageBuilder" in cli("doctor").stdout


def test_clean(cli: Cli, tmp_path: Path) -> None:
    where = ("--cache", "cache")
    for name in ("out/x", "cache/kits"):
        (tmp_path / name).mkdir(parents=True)
    assert cli("clean", *where).stdout == f"removed {tmp_path}/out\n"
    assert (tmp_path / "cache").exists()
    assert not (tmp_path / "out").exists()
    assert cli("clean", *where).stdout == "there was nothing to remove\n"
    (tmp_path / "out").mkdir()
    assert json.loads(cli("clean", "--all", *where, "--json").stdout) == {
        "removed": [str(tmp_path / "out"), "cache"],
        "in_use": [],
        "cache": "cache",
        "cleaned": None,
    }
    assert not (tmp_path / "cache").exists()


def test_clean_refuses_what_this_program_did_not_make(cli: Cli, tmp_path: Path) -> None:
    letters, notes = tmp_path / "letters", tmp_path / "letters/thesis/chapters.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("four years of work")
    (tmp_path / "file").touch()
    for argv in (
        ("--output", "letters"),
        ("--all", "--output", "none", "--cache", "letters"),
        ("--fetched", "--cache", "letters"),
        ("--fetched", "--keep", "1K", "--cache", "letters"),
        ("--output", "letters", "--all", "--cache", "none"),
    ):
        ended = cli("clean", *argv)
        assert ended.returncode == 2
        assert "letters is not a" in ended.stderr
        assert "it holds thesis; nothing is removed" in ended.stderr
        assert notes.exists()
    ended = cli("clean", "--output", "file")
    assert (ended.returncode, "file is not a folder of results" in ended.stderr) == (2, True)
    # what a build put there beside the user's own makes it no folder of this program's
    (letters / ".work-abcdefg1").mkdir()
    assert cli("clean", "--output", "letters").returncode == 2
    # a program for backups, or another one, wrote this
    (tmp_path / "letters/CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert cli("clean", "--all", "--output", "none", "--cache", "letters").returncode == 2
    assert notes.exists()


def test_clean_beside_a_running_build(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open_workspace(out, "config", "board") as workspace:
        (workspace.result / "file").write_text("first")
        workspace.hand_over()
    (out / "config/.work-abcdefg1/deep").mkdir(parents=True)
    with (
        open_workspace(out, "config", "board") as workspace,
        temporary_folder("asking", tmp_path / "cache") as asking,
    ):
        (workspace.result / "file").write_text("second")
        ended = cli("clean", "--all", "--cache", "cache", "--json")
        assert json.loads(ended.stdout)["in_use"] == [str(tmp_path / "out"), "cache"]
        assert [path.name for path in (out / "config").iterdir()] == [workspace.work.name]
        assert asking.is_dir()
        assert "but what is in use at this moment" in cli("clean").stdout
        workspace.hand_over()
    assert (out / "config/board/file").read_text() == "second"
    assert cli("clean").stdout == f"removed {tmp_path}/out\n"
    assert not out.exists()


def test_clean_knows_the_folders_of_earlier_versions(cli: Cli, tmp_path: Path) -> None:
    """They have no file that says whose they are."""
    board = tmp_path / "out/config/board"
    board.mkdir(parents=True)
    (board / "result.json").write_text(json.dumps({"config": "config", "board": "board"}))
    (board.parent / "other.failed.log").touch()
    (board.parent / ".board.lock").touch()
    (board.parent / ".work-abcdefg1").mkdir()
    for name in ("blobs/aa", "kits/k", "asking-abcdefg1", "partial/read-abcdefg1"):
        (tmp_path / "cache" / name).mkdir(parents=True)
    extra = board.parent / "notes.txt"
    extra.touch()
    assert cli("clean").returncode == 2
    extra.unlink()
    (board / "result.json").write_text(json.dumps({"config": "config", "board": "another"}))
    assert cli("clean").returncode == 2
    (board / "result.json").write_text(json.dumps({"config": "config", "board": "board"}))
    ended = cli("clean", "--all", "--cache", "cache", "--json")
    assert json.loads(ended.stdout)["removed"] == [str(tmp_path / "out"), "cache"]
    assert not {"out", "cache"} & {path.name for path in tmp_path.iterdir()}


def test_clean_what_was_fetched(cli: Cli, tmp_path: Path) -> None:
    cache, where = Cache(tmp_path / "cache"), ("--cache", "cache")
    (tmp_path / "out").mkdir()
    for number in range(4):
        cache.add(bytes([number]) * 1000)
    (cache.folder / "indexes").mkdir()
    (cache.folder / "indexes/x").write_bytes(b"x" * 500)
    (cache.tree("a" * 64)).mkdir(parents=True)
    (cache.folder / "kits").mkdir()
    result = cache.folder / "builds" / ("b" * 64)
    result.mkdir(parents=True)
    (result / "image").write_bytes(b"x" * 100)
    kept = cli("clean", "--fetched", "--keep", "2K", *where)
    assert kept.stdout.startswith("removed 3 downloads, 0 unpacked trees, 0 indexes, 0 kept results: 2.9 ")
    facts = json.loads(cli("clean", "--fetched", *where, "--json").stdout)
    counts = {"downloads": 1, "trees": 1, "indexes": 1, "builds": 1}
    assert facts["cleaned"] == {**counts, "size": 1600, "left": 0}
    assert not result.exists()
    assert (cache.folder / "kits").exists()
    assert (tmp_path / "out").exists()
    for argv, words in (
        (("--keep", "2G"), "--keep goes with --fetched"),
        (("--all", "--fetched", "--keep", "2G"), "--keep goes with --fetched"),
        (("--fetched", "--keep", "much"), "--keep 'much': expected a size"),
        (("--fetched", "folder"), "unexpected extra argument"),
    ):
        ended = cli("clean", *argv)
        assert ended.returncode == 2
        assert words in ended.stderr
        assert (tmp_path / "out").exists()


def test_help_imports_nothing_that_it_does_not_need() -> None:
    program = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "import atexit; atexit.register(lambda: print('LOADED', *sorted(sys.modules)))\n"
        "from imagebuilder.cli import main; main()\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    loaded = printed.rpartition("LOADED")[2].split()
    assert "typer" in loaded
    assert not {"pydantic", "sh", "jinja2", "tree_sitter", "imagebuilder.build"} & set(loaded)
    for command in ("build", "plan", "boards", "configs", "show", "doctor", "demo", "test", "clean"):
        assert command in printed


@pytest.mark.parametrize("argv", [("boards",), ("boards", "--json"), ("show", "base"), ("--help",)])
def test_nobody_reads_what_is_printed(argv: tuple[str, ...]) -> None:
    """`build.py boards | head` ends as programs do that SIGPIPE ends, and says nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        whole = [sys.executable, "-m", "imagebuilder", *argv]
        ended = subprocess.run(whole, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert ended.stderr == ""
    assert ended.returncode == (1 if argv == ("--help",) else 141)


def test_interrupted_while_it_loads() -> None:
    program = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'imagebuilder.cli.images': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from imagebuilder.cli import main; main()\n"
    )
    argv = [sys.executable, "-c", program, "boards"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


def commands(group: typer.Typer) -> Iterator[Callable[..., None]]:
    for command in group.registered_commands:
        assert command.callback is not None
        yield command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance)


def kind_of(of_type: Any) -> str:
    """What is written behind an option: left out or not, one of a few words or any; once or several times."""
    inner = [each for each in get_args(of_type) if each is not type(None)]
    if get_origin(of_type) is Literal:
        return "str"
    several = get_origin(of_type) is list
    return (
        kind_of(inner[0])
        if several or isinstance(of_type, UnionType)
        else str(getattr(of_type, "__name__", of_type))
    )


def test_an_option_means_one_thing_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for command in commands(app):
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            annotated = get_args(parameter.annotation)
            for option in annotated[1:]:
                # of Annotated's options typer keeps the first word as their default
                words = [getattr(option, "default", None), *(getattr(option, "param_decls", None) or ())]
                for word in (word for word in words if isinstance(word, str) and word.startswith("-")):
                    meanings.setdefault(word, set()).add(kind_of(annotated[0]))
    assert {"--cache", "--board", "--offline", "--json"} <= meanings.keys()
    assert {word: kinds for word, kinds in meanings.items() if len(kinds) > 1} == {}


def test_without_arguments_there_is_help() -> None:
    argv = [sys.executable, "-m", "imagebuilder"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Usage: " in ended.stdout + ended.stderr


def test_looking_into_an_image(cli: Cli, small_tree: Path, tmp_path: Path) -> None:
    image = small_tree / "sysupgrade.bin"

    def call(*argv: str | Path) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, "-m", "imagebuilder", *map(str, argv)]
        return subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True, check=False)

    shown = json.loads(call("inspect", image, "--json").stdout)
    assert shown["root"]["release"]["RELEASE"] == "23.05.5"
    assert "TP-Link header" in call("inspect", image).stdout
    good = call("verify", image, "--board", BOARD)
    assert good.returncode == 0, good.stdout
    assert "checks passed" in good.stdout
    other = call("verify", image, "--board", "glinet-gl-ar150")
    assert other.returncode == 2
    assert "do not flash" in other.stdout
    (tmp_path / "short.bin").write_bytes(image.read_bytes()[:-1])
    told = json.loads(call("verify", "short.bin", "--board", BOARD, "--json").stdout)
    assert (told["image"], told["board"], told["outcome"]) == ("short.bin", BOARD, "refused")
    assert any(not check["ok"] and check["level"] == "error" for check in told["checks"])
    (tmp_path / "combined-efi.img").write_bytes(images.efi_disk())
    disk = call("verify", "combined-efi.img", "--board", "x86-64")
    assert disk.returncode == 3
    assert "unsure   name of the device" in disk.stdout
    assert disk.stdout.splitlines()[-1].startswith("cannot be told: name of the device; the other")
    told = json.loads(call("verify", "combined-efi.img", "--board", "x86-64", "--json").stdout)
    assert told["outcome"] == "cannot be told"
    assert [check["what"] for check in told["checks"] if check["level"] == "unsure" and not check["ok"]] == [
        "name of the device"
    ]
    listed = {each["path"]: each for each in json.loads(call("ls", image, "--json").stdout)}
    assert listed["/bin/busybox"]["stored"] > 0
    assert "/sbin/init" in call("ls", image, "/sbin").stdout
    assert "23.05.5" in call("cat", image, "/etc/openwrt_release").stdout
    assert call("cat", image, "/etc/nothing").returncode == 2
    taken = call("extract", image, "apart")
    assert taken.returncode == 0, taken.stderr
    assert list((tmp_path / "apart").rglob("busybox"))
    factory = small_tree / "factory.bin"
    assert json.loads(call("diff", image, image, "--json").stdout)["same"] is True
    assert json.loads(call("diff", image, factory, "--json").stdout)["packages"] == []
    page = call("diff", image, factory, "--html").stdout
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    unknown = call("inspect", small_tree / "Makefile")
    assert unknown.returncode == 2
    assert "has no format that is known here" in unknown.stderr


@pytest.mark.parametrize(
    "argv", [("--help",), ("boards",), ("boards", "--json"), ("show", "none-such", "--json")]
)
def test_output_that_nobody_can_keep_is_an_error(argv: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "imagebuilder", *argv],
            cwd=PROJECT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "error: cannot write standard output: No space left on device" in ended.stderr
