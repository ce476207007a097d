"""Tars and packed streams that ask for memory, and what becomes of them."""

from __future__ import annotations

import io
import lzma
import resource
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.host.tar import DAMAGED, MAX_HEADER_BYTES, first_member, tar_members, unxz, unzstd
from imagebuilder.log import Log
from imagebuilder.server.archive import ArchiveError, unpack

GIGABYTE = 1 << 30
KINDS = [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


class _Pieces(io.RawIOBase):
    """Pieces behind one another, made when they are read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._pieces, b"")
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        self.given += len(piece)
        return len(piece)


def bomb(kind: bytes) -> Iterator[bytes]:
    """A fact of a member that has a gigabyte."""
    yield header(kind, GIGABYTE)
    for _ in range(GIGABYTE >> 20):
        yield b"a" * (1 << 20)
    yield header(tarfile.REGTYPE, 0) + bytes(1024)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fact_of_a_gigabyte_is_not_read(kind: bytes) -> None:
    pieces = _Pieces(bomb(kind))
    with pytest.raises(tarfile.ReadError, match="more than 1048576"):
        list(tar_members(io.BufferedReader(pieces)))
    assert pieces.given < 4 << 20


def test_a_long_name_of_a_gigabyte_in_a_small_archive(tmp_path: Path) -> None:
    archive = tmp_path / "small.tar.zst"
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    with archive.open("wb") as stream:
        for piece in bomb(tarfile.GNUTYPE_LONGNAME):
            stream.write(packer.compress(piece))
        stream.write(packer.flush())
    assert archive.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArchiveError, match=r"small\.tar\.zst is damaged: a name or another fact"):
        unpack(archive, tmp_path, Log())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_facts_of_all_members_are_small_together() -> None:
    whole = io.BytesIO()
    for number in range(40):
        info = tarfile.TarInfo("x")
        facts = {f"key{number}": "v" * 100_000}
        whole.write(info.create_pax_global_header(facts))
        whole.write(info.tobuf())
    with pytest.raises(tarfile.ReadError, match="the facts of all members"):
        list(tar_members(io.BytesIO(whole.getvalue())))


def test_a_name_for_a_name_for_a_name() -> None:
    longname = header(tarfile.GNUTYPE_LONGNAME, 5) + b"name\0".ljust(512, b"\0")
    with pytest.raises(DAMAGED):
        list(tar_members(io.BytesIO(longname * 20_000)))


def test_members_are_not_kept() -> None:
    data = header(tarfile.REGTYPE, 0) * 50 + bytes(1024)
    assert [len(tar.members) for tar, _ in tar_members(io.BytesIO(data))] == [1] * 50  # type: ignore[attr-defined]


@given(st.binary(max_size=2048))
def test_any_bytes_are_members_or_an_error(data: bytes) -> None:
    try:
        assert all(member.size >= 0 for _, member in tar_members(io.BytesIO(data)))
        first_member(io.BytesIO(data))
    except DAMAGED:
        pass


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3), st.integers(0, 2))
def test_xz_streams_are_unpacked(parts: list[bytes], padding: int) -> None:
    packed = b"".join(lzma.compress(part) + bytes(4 * padding) for part in parts)
    assert unxz(io.BytesIO(packed)).read() == b"".join(parts)
    with pytest.raises((EOFError, lzma.LZMAError)):
        unxz(io.BytesIO(packed[: len(lzma.compress(parts[0])) - 1])).read()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_stream_or_an_error(data: bytes) -> None:
    for unpacked in (unxz, unzstd):
        with suppress(DAMAGED):
            unpacked(io.BytesIO(data)).read(1 << 20)


def test_a_window_of_a_gigabyte_is_refused() -> None:
    chain = [{"id": lzma.FILTER_LZMA2, "dict_size": GIGABYTE, "preset": 0}]
    packed = bytearray(lzma.compress(b"x" * 100, filters=chain[:0] or [{**chain[0], "dict_size": 256 << 20}]))
    with pytest.raises(lzma.LZMAError, match=r"[Mm]emory usage limit"):
        unxz(io.BytesIO(bytes(packed))).read()
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packer.compress(b"x") + packer.flush()
    with pytest.raises(zstandard.ZstdError):
        unzstd(io.BytesIO(data)).read(10)


def test_names_that_no_file_system_takes(tmp_path: Path) -> None:
    archive = tmp_path / "long.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo(f"tree/{'n' * 300}"))
    with pytest.raises(ArchiveError, match=r"long\.tar holds a name that no file system takes"):
        unpack(archive, tmp_path / "into", Log())


def test_what_unpacks_to_hundreds_of_times_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagebuilder.server.archive.ROOMY_BYTES", 1 << 20)
    archive = tmp_path / "bomb.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        info = tarfile.TarInfo("tree/zeros")
        info.size = 8 << 20
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(ArchiveError, match="unpacks to more than 100 times its"):
        unpack(archive, tmp_path, Log())
    assert not (tmp_path / "tree").exists()


def test_a_fact_may_be_as_large_as_it_says() -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("x")
        info.pax_headers = {"comment": "c" * (MAX_HEADER_BYTES - 1000)}
        tar.addfile(info)
    assert [member.name for _, member in tar_members(io.BytesIO(whole.getvalue()))] == ["x"]
