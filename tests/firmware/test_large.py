"""Disks of gigabytes: mostly zeros, so that reading them takes little memory and space."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.firmware.extract import extract
from imagebuilder.firmware.formats import compressed
from imagebuilder.firmware.formats.formats import FORMATS
from imagebuilder.firmware.formats.padding import run_length
from imagebuilder.firmware.reader import MOST_UNPACKED, Reading, Spool, View
from imagebuilder.firmware.verify import verify
from imagebuilder.model.firmware import Part
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

MIB = 1 << 20
MOST_MEMORY = 100 * MIB


def unpacked(data: bytes, most: int = MOST_UNPACKED) -> Part:
    return Reading(FORMATS, most_unpacked=most).inside(View(data, what="disk"), "disk")


def test_a_disk_with_a_root_partition_of_more_than_a_gib_is_good(tmp_path: Path) -> None:
    image = tmp_path / "x-combined.img.gz"
    image.write_bytes(images.large_disk(1100))
    tracemalloc.start()
    try:
        checks = verify(image, images.board("x86-64"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [check.what for check in checks if not check.ok] == ["name of the device"]  # a PC has none
    assert "root filesystem on the disk" in {check.what for check in checks}
    assert peak < MOST_MEMORY


def test_a_large_disk_that_is_cut_or_goes_on_is_refused() -> None:
    whole = images.large_disk(64)
    assert unpacked(whole, MIB).problems == ()
    assert "incomplete" in unpacked(whole[:-9], MIB).problems[0].found
    assert "lies in the file" in unpacked(images.large_disk(64, -MIB), MIB).problems[0].what
    assert "unpacks to more than" in unpacked(images.large_disk(64, MIB), MIB).problems[0].found


def test_a_root_file_system_of_its_own_is_padded_to_its_partition() -> None:
    root = images.x86_root()
    for behind in (3, 64):
        packed = make.gz_before_zeros(root, behind * MIB)
        part = unpacked(packed, MIB)
        assert part.problems == ()
        assert part.unpacked_size == len(root) + behind * MIB
        assert [child.kind for child in part.children] == ["squashfs", "padding"]


def test_what_is_no_disk_or_lies_in_something_is_bounded_as_before() -> None:
    for bomb in (make.gz_before_zeros(b"x", 64 * MIB), make.gz(images.large_disk(64))):
        assert any("unpacks to more than" in problem.found for problem in unpacked(bomb, MIB).problems)


def test_a_table_that_states_terabytes_does_not_fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "MOST_UNPACKED", MIB)
    disk = make.mbr([(0x83, 64, (1 << 32) - 1)], 64 * 512)
    found = unpacked(make.gz(bytes(disk) + b"\xff" * (80 * MIB)), MIB).problems[0].found
    assert "bytes that are no zeros" in found


def test_a_large_disk_is_taken_apart_with_its_holes(tmp_path: Path) -> None:
    image = tmp_path / "x-combined.img.gz"
    image.write_bytes(images.large_disk(300))
    extract(image, tmp_path / "into")
    (disk,) = (tmp_path / "into/parts").glob("*.mbr-disk")
    assert disk.stat().st_size == 300 * MIB + 640 * 512
    assert disk.stat().st_blocks * 512 < 8 * MIB
    assert (tmp_path / "into/rootfs/bin/busybox").is_file()


@given(
    st.lists(st.one_of(st.binary(max_size=300), st.integers(1, 3 * (1 << 16)).map(bytes)), max_size=12),
    st.sampled_from([0, 1, 1000, 1 << 20]),
)
def test_what_is_spooled_comes_back(pieces: list[bytes], in_memory: int) -> None:
    filled = Spool(in_memory=in_memory)
    for piece in pieces:
        filled.add(piece)
    everything = b"".join(pieces)
    assert filled.size == len(everything)
    if not everything:
        return
    view = filled.view("it")
    assert view.take(0, view.size) == everything
    assert b"".join(view.chunks()) == everything
    for at in range(0, len(everything), 1 + len(everything) // 50):
        known = view.zeros_at(at)
        assert everything[at : at + known] == bytes(known)
        rest = view.part(at)
        assert run_length(rest) == expected_run(everything[at:])
        assert rest.filled_with(0) == (everything[at:] == bytes(len(everything) - at))


def expected_run(data: bytes) -> int:
    return len(data) - len(data.lstrip(data[:1])) if data[:1] in (b"\0", b"\xff") else 0


def test_large_files_go_where_tmpdir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = tempfile.TemporaryFile

    def noted(**settings: object) -> object:
        made.append(str(settings["dir"]))
        return real(**settings)  # type: ignore[call-overload]

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for value in (str(tmp_path), None):
        if value is None:
            monkeypatch.delenv("TMPDIR", raising=False)
        else:
            monkeypatch.setenv("TMPDIR", value)
        Spool(in_memory=0).add(b"x")
    assert made == [str(tmp_path), "/var/tmp"]
