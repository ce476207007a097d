"""A path that somebody gives is opened as a plain file of a bounded size, or it is one error that says what
is there instead."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from imagebuilder.host.files import PlainFileError, opened_plain, read_plain, read_plain_text


def test_a_plain_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_plain(file, 5) == b"12345"
    (tmp_path / "link").symlink_to(file)
    assert read_plain_text(tmp_path / "link") == "12345"
    with pytest.raises(PlainFileError, match="file is larger than 4 bytes"):
        read_plain(file, 4)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    found = {
        tmp_path: "is a folder, where a file is expected",
        tmp_path / "fifo": "is a pipe, where a file is expected",
        Path("/dev/zero"): "is a device, where a file is expected",
        Path("/dev/full"): "is a device, where a file is expected",
        tmp_path / "loop": "cannot be read: Too many levels of symbolic links",
        tmp_path / "none": "cannot be read: No such file or directory",
        tmp_path / ("n" * 300): "cannot be read: File name too long",
        tmp_path / ("folder/" * 600): "cannot be read: File name too long",
        tmp_path / "zero\0byte": "cannot be read: embedded null byte",
    }
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path, problem in found.items():
        with pytest.raises(PlainFileError) as failed:
            read_plain(path)
        assert failed.value.problem == problem
        assert failed.value.message.startswith(str(path))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(10 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PlainFileError, match="is larger than 64 MiB"):
        read_plain(tmp_path / "sparse")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000
    with opened_plain(tmp_path / "sparse") as opened:
        assert opened.read(3) == b"\0\0\0"


def test_a_file_that_says_nothing_of_its_size() -> None:
    with pytest.raises(PlainFileError, match="is larger than 100 bytes"):
        read_plain(Path("/proc/self/maps"), 100)


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(PlainFileError, match="is not UTF-8 text"):
        read_plain_text(tmp_path / "file")
    assert read_plain_text(tmp_path / "file", errors="replace") == "\ufffd"
