"""Work in a child that the kernel bounds: its result, or which bound it ran into."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path

import pytest

from imagebuilder.host.confined import BoundsError, confined


def test_what_the_work_gives() -> None:
    assert confined(lambda: b"", 10) == b""
    assert confined(lambda: b"x" * 1_000_000, 1_000_000) == b"x" * 1_000_000


def test_too_much_memory() -> None:
    with pytest.raises(BoundsError, match="more than 16 MiB of memory"):
        confined(lambda: bytes(1 << 30), 10, memory=16 << 20)


def test_too_much_time() -> None:
    with pytest.raises(BoundsError, match="more than 1 s of processor time"):
        confined(lambda: bytes(sum(itertools.count())), 10, seconds=1)


def test_too_much_of_a_result() -> None:
    with pytest.raises(BoundsError, match="gives more than 1 MiB"):
        confined(lambda: bytes(8 << 20), 1 << 20)


def test_no_child_and_no_descriptor_is_left() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for work in (lambda: b"1", lambda: bytes(2), lambda: bytes(1 << 40)):
        with suppress(BoundsError):
            confined(work, 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_child_does_nothing_of_what_comes_behind(tmp_path: Path) -> None:
    try:
        with pytest.raises(BoundsError):
            confined(lambda: bytes(1 << 40), 1)
    finally:
        with (tmp_path / "ended").open("a") as stream:
            stream.write("once\n")
    assert (tmp_path / "ended").read_text() == "once\n"
