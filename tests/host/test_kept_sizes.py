"""Sizes that are kept: reckoned once for a key, and again where what was kept is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.host.kept_sizes import kept_sizes

SIZES = {"python3-base": 12, "": 0}


def test_sizes_are_reckoned_once_for_a_key(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> dict[str, int]:
        made.append(name)
        return SIZES

    for key in (b"one", b"one", b"two"):
        assert kept_sizes(tmp_path, key, lambda key=key: make(str(key))) == SIZES  # type: ignore[misc]
    assert made == ["b'one'", "b'two'"]
    assert kept_sizes(None, b"one", lambda: make("none")) == SIZES
    assert len(made) == 3


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"form": "1"}', b'{"form": "1", "sizes": {"a": -1}}', b"[" * 100_000, b"\xff"],
)
def test_what_is_damaged_is_reckoned_anew(tmp_path: Path, damage: bytes) -> None:
    kept_sizes(tmp_path, b"key", lambda: {"wrong": 1})
    (place,) = (tmp_path / "indexes").iterdir()
    place.write_bytes(damage)
    assert kept_sizes(tmp_path, b"key", lambda: SIZES) == SIZES
    assert kept_sizes(tmp_path, b"key", dict) == SIZES
