"""Finding boards: by flash and RAM, by words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.config.library import BoardFilter, Library, SizeBound, parse_bound
from imagebuilder.errors import UserError

LIBRARY = Library(Path(__file__).resolve().parents[2])
MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("text", "size", "admitted"),
    [
        (">=8M", 8 * MEBIBYTE, True),
        (">= 8M", 8 * MEBIBYTE - 1, False),
        (">8M", 8 * MEBIBYTE, False),
        ("<=8192K", 8 * MEBIBYTE, True),
        (" < 8M ", 8 * MEBIBYTE, False),
        ("=4m", 4 * MEBIBYTE, True),
        ("=4194304", 4 * MEBIBYTE + 1, False),
        (">=1G", "removable", True),
        (">1G", "removable", True),
        ("<=1G", "removable", False),
        ("=1G", "removable", False),
        (">=0", None, False),
    ],
)
def test_bounds(text: str, size: int | str | None, admitted: bool) -> None:
    assert parse_bound("--flash", text).admits(size) is admitted


@pytest.mark.parametrize("text", ["8M", "", ">=", ">=8MB", "=>8M", "!=8M", ">=8M,<=16M", ">= -8M", ">=٨M"])
def test_what_compares_nothing_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--ram") as error:
        parse_bound("--ram", text)
    assert "for example --ram '>=8M'" in (error.value.hint or "")


@given(st.text(max_size=20) | st.text(alphabet=">=<. 0123456789KMG", max_size=8))
def test_any_text_is_a_bound_or_a_clear_error(text: str) -> None:
    try:
        bound = parse_bound("--flash", text)
    except UserError as error:
        assert "--flash" in error.message
        return
    assert bound.admits(bound.size) is (bound.relation in (">=", "<=", "="))


def found(**wanted: object) -> set[str]:
    return {board.id for board in BoardFilter(**wanted).boards(LIBRARY.boards())}  # type: ignore[arg-type]


def test_boards_by_size_and_by_words() -> None:
    assert found() == set(LIBRARY.board_names())
    routers = found(flash=SizeBound("<=", 16 * MEBIBYTE))
    assert routers == {"tplink-tl-wr740n-v4", "tplink-tl-wr740n-v5", "glinet-gl-ar150"}
    roomy = found(flash=SizeBound(">=", 8 * MEBIBYTE), ram=SizeBound(">=", 64 * MEBIBYTE))
    assert roomy == set(LIBRARY.board_names()) - {"tplink-tl-wr740n-v4", "tplink-tl-wr740n-v5"}
    for words in (["TP-Link", "WR740N"], ["tplink"], ["tl wr 740n"], ["ar9331"]):
        assert found(words=tuple(words)) == {"tplink-tl-wr740n-v4", "tplink-tl-wr740n-v5"}
    assert found(words=("mir3g",)) == {"xiaomi-mi-router-3g"}  # a profile of its, once
    assert found(words=("raspberry", "400")) == {"raspberrypi-2", "raspberrypi-4b"}
    assert found(words=("ath79",)) == routers
    assert found(words=("nosuchdevice",)) == set()


def test_what_is_not_supported_is_found_by_words_and_never_by_size() -> None:
    devices = LIBRARY.unsupported()
    assert BoardFilter().unsupported(devices) == list(devices)
    assert [each.id for each in BoardFilter(words=("freerunner",)).unsupported(devices)] == [
        "openmoko-neo-freerunner"
    ]
    assert BoardFilter(ram=SizeBound(">=", 0)).unsupported(devices) == []
