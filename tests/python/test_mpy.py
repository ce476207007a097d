"""The heads of MicroPython's bytecode: the format's versions by release, and any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.python.micropython.mpy import MpyError, MpyHead, format_of, read_head, release_of

# docs/reference/mpyfiles.rst of micropython/micropython
RELEASES = {
    "1.5": None,
    "1.5.1": 0,
    "1.8.6-5a1d63fc14dae788f705403a43c2d8639b7dd9cd-1": 0,
    "v1.8.7": 0,
    "1.9": 2,
    "1.9.2-1f78e7a4": 2,
    "1.9.3": 3,
    "1.10": 3,
    "1.11-r1": 4,
    "1.12": 5,
    "1.18": 5,
    "1.19.1-4": 6,
    "v1.26.0": 6,
    "2.0": None,
    "2019.1": None,
    "1.12.0.1": None,
    "release-18.08": None,
    "": None,
}


@pytest.mark.parametrize("release", RELEASES)
def test_the_format_of_a_release(release: str) -> None:
    assert format_of(release) == RELEASES[release]


def test_a_head() -> None:
    assert read_head(b"M\x05\x02\x1fcode") == MpyHead(5, 2, 31)
    for data, words in {
        b"M\x05\x02": "3 bytes hold no code",
        b"C\x05\x02\x1f": "bytecode of CircuitPython",
        b"#!/u": "does not begin as a .mpy file does",
    }.items():
        with pytest.raises(MpyError, match=words):
            read_head(data)


def test_the_release_stands_in_the_banner_but_where_another_repository_has_its_tag_there() -> None:
    assert release_of(b"\0MicroPython v1.8.6 on 2017-12-19; linux version\0") == "v1.8.6"
    assert release_of(b"\0MicroPython v1.12-35-gfeed-dirty on 2020-01-01\0") == "v1.12"
    assert (
        release_of(b"\0MicroPython release-18.08-611-g93f2639a7-dirty on 2019-02-01; linux version\0") == ""
    )
    assert release_of(b"modules for MicroPython v1.8.6") == ""


@given(st.binary(max_size=64))
def test_any_bytes_are_a_head_or_one_error(data: bytes) -> None:
    release_of(data)
    try:
        head = read_head(data)
    except MpyError as error:
        assert str(error)
    else:
        assert data[:4] == b"M" + bytes([head.version, head.flags, head.small_int])


@given(st.text(max_size=20))
def test_any_text_is_a_release_or_none(text: str) -> None:
    assert format_of(text) in (None, 0, 2, 3, 4, 5, 6)


@given(st.tuples(*[st.integers(0, 40)] * 3), st.tuples(*[st.integers(0, 40)] * 3))
def test_later_releases_have_no_earlier_format(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    first, later = sorted((one, other))
    known = [format_of(".".join(map(str, each))) for each in (first, later)]
    assert None in known or known == sorted(known, key=lambda each: each or 0)
