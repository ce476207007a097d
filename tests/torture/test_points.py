"""What is counted, and that the process ends there: the other tests are worth what this one is."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.torture.points import Point, read_points

PROGRAM = """
import ctypes, os, shutil, sys, tempfile
from pathlib import Path
from tests.torture.points import Points

folder, record, at = sys.argv[1:]
handle = os.open(record, os.O_WRONLY | os.O_CREAT)
Points([folder], handle, int(at)).watch()
below = Path(folder)
(below / "text").write_text("one two ")
(below / "text").replace(below / "new")
inner = os.open(folder, os.O_RDONLY)
os.mkdir("deep", dir_fd=inner)
(below / "other").symlink_to("new")
os.link("new", "deep/linked", src_dir_fd=inner, dst_dir_fd=inner)
os.unlink("other", dir_fd=inner)
shutil.copyfile(below / "new", below / "copy")
handle, name = tempfile.mkstemp(dir=folder, prefix="made-")
with os.fdopen(handle, "wb", 0) as stream:
    stream.write(b"raw")
os.unlink(name)
names = -100, os.fsencode(below / "new"), -100, os.fsencode(below / "copy"), ctypes.c_uint(2)
library = ctypes.CDLL(None, use_errno=True)
assert library.syscall(ctypes.c_long(316), *names) == 0
assert not hasattr(library, "renameat2") or library.renameat2(*names) == 0
shutil.rmtree(below / "deep")
(below / "new").read_text()
Path(folder + "-outside").write_text("x")
"""
CALLS = [
    ("open", "text"),
    ("write", "text"),
    ("rename", "new"),
    ("mkdir", "deep"),
    ("symlink", "other"),
    ("link", "deep/linked"),
    ("remove", "other"),
    ("open", "copy"),
    ("sendfile", "copy"),
    ("open", "made-"),
    ("write", "made-"),
    ("remove", "made-"),
    ("renameat2", "copy"),
    ("renameat2", "copy"),
    ("remove", "deep/linked"),
    ("rmdir", "deep"),
]


def played(folder: Path, at: int) -> tuple[int, list[Point]]:
    """The program run in a folder, to be killed at a point; how it ended, and its points."""
    (folder / "below").mkdir()
    words = [sys.executable, "-c", PROGRAM, str(folder / "below"), str(folder / "record"), str(at)]
    code = subprocess.run(words, cwd=PROJECT, check=False).returncode
    return code, read_points(folder / "record")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="has the number of a system call")
def test_every_call_that_changes_something_is_a_point(tmp_path: Path) -> None:
    code, points = played(tmp_path, 0)
    assert code == 0
    found = [(point.call, point.path.removeprefix(f"{tmp_path}/below/")) for point in points]
    plain = [(call, "made-" if path.startswith("made-") else path) for call, path in found]
    plain.remove(("sendfile", "copy"))  # the second one says that there is no more
    assert plain == CALLS


@pytest.mark.parametrize(
    ("at", "there"),
    [
        (1, {}),
        (2, {"text": "one "}),
        (3, {"text": "one two "}),
        (4, {"new": "one two "}),
    ],
)
def test_it_ends_before_that_call_or_within_that_write(
    tmp_path: Path, at: int, there: dict[str, str]
) -> None:
    code, points = played(tmp_path, at)
    assert code == -signal.SIGKILL
    assert len(points) == at
    assert {path.name: path.read_text() for path in (tmp_path / "below").iterdir()} == there
