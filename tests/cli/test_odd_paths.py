"""Whatever a path of the command line leads to, the answer is an error of the user's that names it.

The commands and their paths are read off the command line itself, so that a new one is tried too.
"""

from __future__ import annotations

import inspect
import io
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pydantic_core
import pytest
import typer
from typer.models import ArgumentInfo, ParameterInfo

from imagebuilder.cli import main
from imagebuilder.cli.app import app
from imagebuilder.cli.guard import USER_FAULT
from tests.support.result_maker import MadeResult

BOARD = "tplink-tl-wr740n-v4"
_GIGABYTES = 10 << 30
# these install programs of this machine, or run pytest or QEMU
_NOT_HERE = ("demo", "doctor", "test")
Words = tuple[str, ...]
Call = Callable[[list[str]], tuple[int, str]]


def _fifo(place: Path) -> Path:
    os.mkfifo(place)
    return place


def _socket(place: Path) -> Path:
    before = Path.cwd()
    os.chdir(place.parent)  # its path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(place.name)
    finally:
        os.chdir(before)
    return place


def _link(target: str) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        place.symlink_to(target)
        return place

    return make


def _sparse(place: Path) -> Path:
    with place.open("wb") as stream:
        stream.truncate(_GIGABYTES)
    return place


def _folder(place: Path) -> Path:
    place.mkdir()
    (place / "inner").mkdir()
    return place


def _loop(place: Path) -> Path:
    place.symlink_to(place.name)
    return place


def _text(place: Path) -> Path:
    place.write_bytes(b"\xff\xfe what is that?\n")
    return place


ODD: dict[str, Callable[[Path], Path]] = {
    "fifo": _fifo,
    "socket": _socket,
    "zeros": _link("/dev/zero"),
    "random": _link("/dev/urandom"),
    "full": _link("/dev/full"),
    "sparse": _sparse,
    "folder": _folder,
    "loop": _loop,
    "nowhere": _link("nowhere-at-all"),
    "garbage": _text,
    "a long name": lambda place: place.with_name("n" * 300 + place.suffix),
    "a long path": lambda place: Path(f"{place.parent}/{'folder/' * 600}{place.name}"),
    "below a file": lambda place: _text(place.with_suffix(".file")) / place.name,
    "no UTF-8": lambda place: place.with_name(os.fsdecode(b"\xff\xfe") + place.suffix),
}


@dataclass(frozen=True)
class _Parameter:
    """One that a command declares. option: as it is written, "" for an argument."""

    name: str
    option: str
    is_path: bool
    required: bool


def _parameter(each: inspect.Parameter) -> _Parameter:
    kind, info = get_args(each.annotation)
    words = [info.default, *(info.param_decls or ())]  # typer keeps the first word as the default
    written = next((word for word in words if str(word).startswith("--")), f"--{each.name}")
    option = "" if isinstance(info, ArgumentInfo) else written.replace("_", "-")
    is_path = Path in (kind, *get_args(kind)) or any(
        word in (info.metavar or "") for word in ("PATH", "|IMAGE")
    )
    return _Parameter(each.name, option, is_path, each.default is inspect.Parameter.empty)


def _commands(group: typer.Typer, above: tuple[str, ...] = ()) -> Iterator[tuple[Words, list[_Parameter]]]:
    """The words of each command, and what it declares."""
    found = [(each.name, each.callback) for each in group.registered_commands]
    if group.registered_callback is not None and above:
        found.append(("", group.registered_callback.callback))
    for name, callback in found:
        assert callback is not None
        word = callback.__name__ if name is None else name
        signature = inspect.signature(callback)
        declared = [each for each in signature.parameters.values() if len(get_args(each.annotation)) == 2]
        if word not in _NOT_HERE:
            yield (
                (*above, *filter(None, [word])),
                [
                    _parameter(each)
                    for each in declared
                    if isinstance(get_args(each.annotation)[1], ParameterInfo)
                ],
            )
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from _commands(inner.typer_instance, (*above, str(inner.name)))


COMMANDS = dict(_commands(app))
PATHS = [
    pytest.param(words, parameter, id=f"{' '.join(words)}: {parameter.name}")
    for words, parameters in COMMANDS.items()
    for parameter in parameters
    if parameter.is_path
]


def test_paths_of_the_command_line_are_known() -> None:
    paths = {words: [each.name for each in them if each.is_path] for words, them in COMMANDS.items()}
    names = {(" ".join(words), name) for words, them in paths.items() for name in them}
    assert {("build", "config"), ("build", "output"), ("boards add", "keys"), ("boards", "project")} <= names
    assert {("init", "ssh_key"), ("plan", "imagebuilder"), ("extract", "folder"), ("diff", "after")} <= names
    assert {("packages search", "mirror"), ("clean", "cache")} <= names
    assert len(names) > 60


# what may well be there: a folder for a folder, and any name of a new one
_HARMLESS = {
    "output": ("folder", "no UTF-8"),
    "cache": ("folder", "no UTF-8"),
    "folder": ("no UTF-8",),
    "mirror": ("folder",),
    "keys": ("folder",),
    "state": ("folder", "no UTF-8"),
    "project": ("folder",),
    "site": ("folder", "no UTF-8", "nowhere"),  # a link's folder is made
    "summary": ("no UTF-8", "nowhere", "garbage", "sparse"),
    "junit": ("no UTF-8", "nowhere", "garbage", "sparse"),
    "page": ("no UTF-8", "nowhere", "garbage", "sparse"),
    "log": ("no UTF-8", "nowhere", "garbage", "sparse"),
}


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls the command line as a process of its own would; the exit code, and all that it says."""
    monkeypatch.chdir(tmp_path)

    def run(argv: list[str]) -> tuple[int, str]:
        said = io.BytesIO()
        monkeypatch.setattr(sys, "argv", ["build.py", *argv])
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, "utf-8"))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(said, "utf-8", errors="backslashreplace"))
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stdout.flush()
        sys.stderr.flush()
        return int(ended.value.code or 0), said.getvalue().decode("utf-8", "backslashreplace")

    return run


@pytest.fixture
def port_taken() -> Iterator[int]:
    """A port at which nobody else can listen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


@pytest.mark.parametrize(("words", "odd"), PATHS)
def test_an_odd_path_is_an_error_that_names_it(
    words: Words, odd: _Parameter, project: Path, small_tree: Path, call: Call, *, port_taken: int
) -> None:
    tmp_path = project.parent
    image = small_tree / "sysupgrade.bin"
    (tmp_path / "empty").mkdir()
    usual = {
        "config": "router",
        "imagebuilder": small_tree,
        "project": project,
        "cache": tmp_path / "cache",
        "output": tmp_path / "out",
        "board": BOARD,
        "image": image,
        "before": image,
        "after": image,
        "folder": tmp_path / "taken",
        "path": "/",
        "package": "busybox",
        "words": "busybox",
        "profile": "tplink_tl-wr740n-v4",
        "ram": "32M",
        "flash": "4M",
        "name": "router" if words == ("show",) else "new",
        "mirror": tmp_path / "empty",
        "release": "23.05.5",
        "out": tmp_path / "results",
        "site": tmp_path / "www",
        "scheduler": "none://where",  # refused at once, after what is odd
        "state": tmp_path / "state",
        "variants": "none",
    }
    MadeResult().write(tmp_path / "results")
    wanted = {"imagebuilder", "project", "cache", "output", odd.name}
    if "config" in {each.name for each in COMMANDS[words]} or words[0] in ("init", "interpreters"):
        wanted |= {"board", "config"}
    if words == ("boards", "search"):
        wanted |= {"release", "mirror"}
    if words == ("boards", "add"):
        wanted |= {"name", "ram", "flash"}
        if odd.name in ("keys", "mirror"):
            wanted = wanted - {"imagebuilder"} | {"release", "mirror"}
    if words == ("compare",):
        wanted |= {"variants"}
    if words == ("verify",):
        wanted |= {"board"}
    more: list[str] = []
    if words == ("serve",) and odd.name == "site":
        wanted = {"site"}
    elif words == ("serve",):
        wanted |= {"state"}
        more = ["--builder", "--port", str(port_taken)]  # else what is harmless would be served for ever
    if words == ("outdated",):
        assert call(_argv(("lock",), usual, wanted))[0] == 0
    for kind, make in ODD.items():
        place = make(tmp_path / f"odd-{kind.replace(' ', '-')}.toml")
        code, said = call([*_argv(words, {**usual, odd.name: place}, wanted), *more])
        told = f"{kind}: {code}: {said[-3000:]}"
        assert "Traceback" not in said, told
        assert "fault of the builder" not in said, told
        assert code in (0, USER_FAULT), told
        harmless = ("folder", "no UTF-8") if words == ("new",) else _HARMLESS.get(odd.name, ())
        harmless = () if words == ("serve",) and odd.name == "site" else harmless
        if words == ("clean",) or (*words, odd.name) == ("matrix", "config"):
            continue  # to the first nothing is odd, the second leaves it to the build of its own job to tell
        if kind not in harmless:
            assert code == USER_FAULT, told
            assert _end_of(place) in said.replace("\n", ""), told


def _end_of(place: Path) -> str:
    """The end of its name, as messages have it."""
    return place.stem.encode("utf-8", "backslashreplace").decode()[-20:]


def _argv(words: Words, values: Mapping[str, str | Path], wanted: set[str]) -> list[str]:
    """The call with these options, and with all that must be given."""
    argv = list(words)
    for each in COMMANDS[words]:
        if each.required or each.name in wanted:
            argv += [each.option] if each.option else []
            argv.append(os.fspath(values[each.name]))
    return argv


@pytest.mark.parametrize("odd", ["output", "imagebuilder"])
def test_make_is_not_shut_into_folders_that_are_no_utf8(
    project: Path, small_tree: Path, call: Call, odd: str
) -> None:
    """It is the name that is told, and not a sandbox that would be at fault."""
    place = project.parent / os.fsdecode(b"r\xe9serve")
    if odd == "imagebuilder":
        shutil.copytree(small_tree, place, symlinks=True)
    places = {"output": project.parent / "out", "imagebuilder": small_tree, odd: place}
    argv = ["build", "router", "--board", BOARD, "--project", str(project)]
    code, said = call([*argv, *(f"--{name}={where}" for name, where in places.items())])
    assert code == USER_FAULT, said
    assert "it is not UTF-8" in said
    assert "give it another one" in said
    assert "sandbox" not in said


def test_a_cache_and_programs_in_folders_that_are_no_utf8(
    project: Path, small_tree: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written down of it can be read again, also by programs that take JSON at its word."""
    monkeypatch.setattr("imagebuilder.host.stamps.SETTLED_NS", 0)  # the tree was there before
    cache, out = project.parent / os.fsdecode(b"r\xe9serve"), project.parent / "out"
    argv = ["build", "router", "--board", BOARD, "--project", str(project)]
    argv += ["--imagebuilder", str(small_tree), "--cache", str(cache), "--output", str(out)]
    programs = project.parent / os.fsdecode(b"pr\xe9sents")
    programs.mkdir()
    (programs / "mpy-cross").write_text("#!/bin/sh\n")  # one that the host has, and nobody calls here
    (programs / "mpy-cross").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for _ in ("built", "decided anew, and found to be there"):
        code, said = call(argv)
        assert (code, "Traceback" in said) == (0, False), said
    place = out / "router" / BOARD
    pydantic_core.from_json((place / "result.json").read_bytes())
    record = pydantic_core.from_json((place / "inputs.json").read_bytes())
    assert record["direct"] is None
    assert "is not UTF-8" in record["indirect"]
    assert "sents/mpy-cross" in record["made_of"]["host"]["mpy-cross"]
