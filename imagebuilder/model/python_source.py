"""The text of a Python source: its bytes as CPython decodes them, and as UTF-8 for what reads nothing else.

A source is UTF-8 unless one of its first two lines says otherwise (PEP 263); the mark of UTF-8 may stand
before it. MicroPython knows neither, and on a device other encodings are in a package of their own
(python3-codecs).
"""

from __future__ import annotations

import codecs
import re

from imagebuilder.errors import UserError

_CODING = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII)
_SAYS_NOTHING = re.compile(r"^[ \t\f]*(?:#.*)?$")
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
# of texts that are no programs; decoding the latter takes a time that grows with the square of the length
_NO_SOURCE = frozenset({"idna", "punycode"})
_UTF_8 = frozenset({"utf-8", "utf-8-sig"})
_HINT = "save the file as UTF-8, or name its encoding in the first line: # -*- coding: latin-1 -*-"


class EncodingError(UserError):
    """A source whose bytes are no text. line: counted from 1; problem: what is wrong, without a place."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}", hint=_HINT)
        self.line = line
        self.problem = problem


def source_text(data: bytes) -> str:
    """A source's text, without the mark of UTF-8 before it. EncodingError where CPython would not read it
    either, for a zero byte, and for encodings that are none of text."""
    return _decoded(data)[0]


def source_as_utf8(data: bytes) -> bytes:
    """A source as UTF-8 without a mark, its lines the same: where it says another encoding, that name is
    replaced by utf-8. EncodingError as source_text()."""
    text, coding = _decoded(data)
    if coding is not None:
        text = f"{text[: coding[0]]}utf-8{text[coding[1] :]}"
    elif not data.startswith(codecs.BOM_UTF8):
        return data
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a pair, as UTF-7 can say one
        line = text.count("\n", 0, error.start) + 1
        raise EncodingError(line, "it has a character that no text has") from error


def _decoded(data: bytes) -> tuple[str, tuple[int, int] | None]:
    """The text, and from where to where in it the name of another encoding than UTF-8 stands."""
    if data.startswith(_WIDE):
        raise EncodingError(1, "it is UTF-16 or UTF-32, which Python does not read")
    if b"\0" in data:
        raise EncodingError(_line_at(data, data.index(b"\0")), "it has a zero byte")
    marked = data.startswith(codecs.BOM_UTF8)
    bare = data.removeprefix(codecs.BOM_UTF8)
    line, _, name = _coding(bare.decode("latin-1"))
    known = _known(line, name) if name else "utf-8"
    if marked and known not in _UTF_8:
        raise EncodingError(line, f"it says {name}, and begins with the mark of UTF-8")
    try:
        text = bare.decode(known)
    except UnicodeDecodeError as error:
        byte = bare[error.start]
        what = f"and the byte 0x{byte:02x} is none of it"
        says = f"it says {name}, {what}" if name else f"it says no encoding, so that it is UTF-8, {what}"
        raise EncodingError(_line_at(bare, error.start), says) from error
    except (LookupError, UnicodeError) as error:
        raise EncodingError(line, f"{name} is no encoding of text") from error
    if known in _UTF_8:
        return text, None
    _, start, again = _coding(text)
    if again != name:
        raise EncodingError(line, f"{name} is no encoding of a text that names it so")
    return text, (start, start + len(name))


def _coding(text: str) -> tuple[int, int, str]:
    """The line that names an encoding, where in the text the name begins, and the name; "" where no line
    does."""
    at = 0
    for number, raw in enumerate(text.split("\n", 2)[:2], 1):
        line = raw.removesuffix("\r")
        found = _CODING.match(line)
        if found is not None:
            return number, at + found.start(1), found[1]
        if _SAYS_NOTHING.match(line) is None:
            break
        at += len(raw) + 1
    return 1, 0, ""


def _known(line: int, name: str) -> str:
    try:
        known = codecs.lookup(name).name
    except (LookupError, UnicodeError) as error:
        raise EncodingError(line, f"Python knows no encoding {name[:100]}") from error
    if known in _NO_SOURCE:
        raise EncodingError(line, f"{name} is no encoding of sources")
    return known


def _line_at(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1
