"""The text of sources in any encoding."""

from __future__ import annotations

import ast
import codecs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagebuilder.model.python_source import EncodingError, source_as_utf8, source_text

LATIN = "# -*- coding: latin-1 -*-\nNAME = 'Zähler'\n"


def test_a_source_in_its_own_encoding_becomes_utf_8_with_the_same_lines() -> None:
    assert source_text(LATIN.encode("latin-1")) == LATIN
    assert source_as_utf8(LATIN.encode("latin-1")) == LATIN.replace("latin-1", "utf-8").encode()
    second = "#!/usr/bin/python3\r\n# größe vim: set fileencoding=cp1252 :\r\nX = '€'\r\n"
    assert source_as_utf8(second.encode("cp1252")) == second.replace("cp1252", "utf-8").encode()
    wide = "# 日本\n# coding: shift_jis\nX = '日本'\n"
    assert source_as_utf8(wide.encode("shift_jis")) == wide.replace("shift_jis", "utf-8").encode()


def test_a_mark_is_taken_off_and_all_else_stays() -> None:
    plain = "x = 'ü'\n".encode()
    assert source_as_utf8(plain) is plain
    assert source_as_utf8(codecs.BOM_UTF8 + plain) == plain
    assert source_text(codecs.BOM_UTF8 + b"# coding: utf8\nx = 1\n") == "# coding: utf8\nx = 1\n"
    third = b"x = 1\n\n# coding: latin-1\n"  # not in the first two lines
    assert source_as_utf8(third) is third
    code = b"x = '''\n# coding: latin-1\n'''\n"  # nor behind code
    assert source_as_utf8(code) is code


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"x = 1\n\ny = '\xfc'\n", 3, "it says no encoding, so that it is UTF-8, and the byte 0xfc"),
        (b"# coding: ascii\n#\n#\n# \xfc\n", 4, "it says ascii, and the byte 0xfc is none of it"),
        (b"#!/bin/x\n# coding: klingon\n", 2, "Python knows no encoding klingon"),
        (b"# coding: rot13\nk = 1\n", 1, "rot13 is no encoding of text"),
        (b"# coding: punycode\nk = 1\n", 1, "punycode is no encoding of sources"),
        (codecs.BOM_UTF8 + b"# coding: latin-1\n", 1, "it says latin-1, and begins with the mark of UTF-8"),
        ("x = 1\n".encode("utf-16"), 1, "it is UTF-16 or UTF-32, which Python does not read"),
        (b"x = 1\ny = 2\0\n", 2, "it has a zero byte"),
    ],
)
def test_what_is_no_text_is_said_with_its_line(data: bytes, line: int, words: str) -> None:
    with pytest.raises(EncodingError) as error:
        source_text(data)
    assert (error.value.line, words in error.value.problem) == (line, True), error.value.problem
    assert "save the file as UTF-8" in (error.value.hint or "")


_NAMES = st.sampled_from(
    ["latin-1", "cp1252", "utf-8", "utf-7", "shift_jis", "rot13", "hex", "x-none", "koi8-r"]
)


@given(st.binary(max_size=200), _NAMES, st.booleans())
@example(b"+2AA-", "utf-7", False)
def test_any_bytes_are_read_as_python_reads_them_or_refused(data: bytes, name: str, named: bool) -> None:
    source = b"# coding: " + name.encode() + b"\n" + data if named else data
    try:
        as_utf8 = source_as_utf8(source)
    except EncodingError as error:
        assert 1 <= error.line <= source.count(b"\n") + 1
        return
    assert source_as_utf8(as_utf8) is as_utf8
    try:
        expected = ast.dump(ast.parse(source))
    except (SyntaxError, ValueError):
        return
    assert ast.dump(ast.parse(as_utf8)) == expected
