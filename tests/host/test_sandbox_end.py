"""What is in the sandbox ends with the process that asked for it, whenever that is killed; and programs that
are killed themselves."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.host.run import run
from imagebuilder.host.sandbox import open_view
from imagebuilder.log import Log

PROJECT = Path(__file__).resolve().parents[2]
# bubblewrap's place is taken by what has begun a process and has not told it yet that its end is ours too
BUILDER = """
import signal, subprocess, sys
from pathlib import Path
from imagebuilder.host import bubblewrap, sandbox
from imagebuilder.host.sandbox import open_view
from imagebuilder.log import Log

tree, work, number, kind = sys.argv[1:]
if kind == "copy":
    sandbox._NAMESPACES = (("false",),) * 2
lingers = f'case "$*" in *linger*) sleep {number} & wait;; esac'
bubblewrap.argv = lambda *_, **__: ["sh", "-c", lingers, "bwrap"]
view = open_view(Path(tree), Path(work), Log())
assert view.kind == kind
subprocess.Popen(view.command(["linger"]), start_new_session=True)
signal.pause()
"""


def tree_and_work(folder: Path) -> tuple[Path, Path]:
    for name in ("tree", "work"):
        (folder / name).mkdir()
    (folder / "tree/Makefile").touch()
    return folder / "tree", folder / "work"


def runs(words: list[str]) -> bool:
    """Whether a process with this command line lives."""
    wanted = "\0".join([*words, ""]).encode()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if place.read_bytes() == wanted:
                return True
        except OSError:  # it has ended
            continue
    return False


def seen(words: list[str], *, wanted: bool) -> bool:
    """Whether it lives, or does not, within some seconds."""
    until = time.monotonic() + 30
    while runs(words) != wanted and time.monotonic() < until:
        time.sleep(0.05)
    return runs(words) == wanted


@pytest.mark.parametrize("kind", ["overlay", "copy"])
def test_nothing_outlives_a_process_killed_while_the_sandbox_is_made(tmp_path: Path, kind: str) -> None:
    if kind == "copy" and os.geteuid() != 0:
        pytest.skip("only root has a process namespace around bubblewrap without a user namespace")
    number = f"987.{secrets.randbelow(10**9):09}"
    words = [sys.executable, "-c", BUILDER, *map(str, tree_and_work(tmp_path)), number, kind]
    with subprocess.Popen(words, cwd=PROJECT) as builder:
        try:
            assert seen(["sleep", number], wanted=True)
        finally:
            os.kill(builder.pid, signal.SIGKILL)
    assert seen(["sleep", number], wanted=False)


def test_a_program_does_not_begin_where_the_process_that_asked_for_it_is_gone(tmp_path: Path) -> None:
    view = open_view(*tree_and_work(tmp_path), Log())
    assert view.kind == "overlay"
    assert run(view.command(["true"])).code == 0
    in_between = ["sh", "-c", '"$@"; exit $?', "sh", *view.command(["touch", "begun"])]
    assert run(in_between, check=False).code != 0
    assert not (view.changed / "begun").exists()


def test_a_program_that_is_killed_before_it_begins_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "setsid", lambda: os.kill(os.getpid(), signal.SIGKILL)
    )  # sh's child calls it first
    with pytest.raises(HostError, match="true was killed before it began"):
        run(["true"])
    monkeypatch.undo()
    assert run(["true"]).code == 0
