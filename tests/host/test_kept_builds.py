"""Results that the cache keeps: for want of room none fails a build, and nothing strange gets out of one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.host import kept_builds
from imagebuilder.host.kept_builds import KeptBuilds
from imagebuilder.host.stamps import BUILDS
from imagebuilder.log import Event, Log, Note, Warned

KEYS = [letter * 64 for letter in "abcd"]
SIZE = 1000
LIMIT = 1 << 30


class Disk:
    """A file system with room for so many files of SIZE bytes, which a full one leaves begun."""

    def __init__(self, cache: Path, room: int, number: int = errno.ENOSPC) -> None:
        self._cache, self._room, self._number = cache, room, number

    def copy(self, file: Path, place: Path) -> None:
        taken = len([each for each in self._cache.rglob("*.bin") if each.stat().st_size == SIZE])
        if taken >= self._room:
            place.write_bytes(file.read_bytes()[: SIZE // 2])
            raise OSError(self._number, os.strerror(self._number), str(place))
        place.write_bytes(file.read_bytes())

    def free(self, _: Path) -> int:
        return 0


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def result(tmp_path: Path) -> Path:
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "an.bin").write_bytes(b"a" * SIZE)
    return folder


def _on(disk: Disk, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kept_builds, "copy_file", disk.copy)
    patch.setattr(kept_builds, "free_bytes", disk.free)


def _keep(cache: Path, result: Path, keys: list[str]) -> list[str]:
    """Keep a result under keys, each used later than the one before; what was said."""
    said: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Note | Warned):
            said.append(event.text)

    kept = KeptBuilds(cache, LIMIT)
    for number, key in enumerate(keys):
        kept.keep(key, result, Log().also(hear), private=False)
        if kept.place(key).exists():
            os.utime(kept.place(key), (number + 1, number + 1))
    return said


def _kept(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / BUILDS).iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_where_the_disk_is_full_what_was_not_used_for_longest_is_given_up(
    cache: Path, result: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _on(Disk(cache, 2, number), monkeypatch)
    said = _keep(cache, result, KEYS)
    assert _kept(cache) == KEYS[2:]
    assert [line for line in said if "keeps fewer results" in line]
    assert not [line for line in said if "not kept" in line]


def test_where_nothing_fits_nothing_is_kept_and_nothing_half(
    cache: Path, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _on(Disk(cache, 0), monkeypatch)
    (line,) = _keep(cache, result, KEYS[:1])
    assert line.startswith("the result is not kept in the cache: no space left below ")
    assert _kept(cache) == []


def test_what_cannot_fit_gives_up_nothing(cache: Path, result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is kept together takes less than what does not fit."""
    _on(Disk(cache, 1), monkeypatch)
    _keep(cache, result, KEYS[:1])
    (result / "more.bin").write_bytes(b"b" * SIZE)
    (line,) = _keep(cache, result, KEYS[1:2])
    assert "is not kept" in line
    assert _kept(cache) == KEYS[:1]


def test_a_cache_that_is_read_only_by_now_keeps_nothing(
    cache: Path, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _keep(cache, result, KEYS[:1])
    _on(Disk(cache, 0, errno.EROFS), monkeypatch)
    (line,) = _keep(cache, result, KEYS[1:2])
    assert "Read-only file system" in line
    assert _kept(cache) == KEYS[:1]


def test_what_else_is_wrong_is_an_error(cache: Path, result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _on(Disk(cache, 0, errno.EIO), monkeypatch)
    with pytest.raises(HostError, match="Input/output error"):
        _keep(cache, result, KEYS[:1])
    assert _kept(cache) == []
