"""MicroPython's bytecode: which files an interpreter reads, told by their heads.

Sources: docs/reference/mpyfiles.rst and py/persistentcode.c of micropython/micropython. A file begins with M,
the version of its format, flags, and how many bits a small integer needs; another version, or more bits than
the interpreter's, is `ValueError: incompatible .mpy file` when the module is imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LIBRARY = "/usr/lib/micropython"  # on the search path of every OpenWrt release's MicroPython
HEAD_BYTES = 4
_MARKS = {b"M": "MicroPython", b"C": "CircuitPython"}
_RELEASE = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?![\d.])")
_BANNER = re.compile(rb"MicroPython (v\d{1,4}\.\d{1,4}(?:\.\d{1,4})?)[-\w.]* on \d")
# the first release that has a format; between two of them nothing changed
_FORMATS = (((1, 5, 1), 0), ((1, 9, 0), 2), ((1, 9, 3), 3), ((1, 11, 0), 4), ((1, 12, 0), 5), ((1, 19, 0), 6))
_UNKNOWN_SINCE = (2, 0, 0)


class MpyError(ValueError):
    """A file that does not begin as MicroPython's bytecode does."""


@dataclass(frozen=True, slots=True)
class MpyHead:
    """version: of the format; flags: what the code was compiled for; small_int: bits that a small integer has
    to have."""

    version: int
    flags: int
    small_int: int


def read_head(data: bytes) -> MpyHead:
    """The head of a .mpy file. MpyError, in words, for anything else."""
    if len(data) < HEAD_BYTES:
        raise MpyError(f"its {len(data)} bytes hold no code")
    mark = _MARKS.get(data[:1])
    if mark is None:
        raise MpyError("it does not begin as a .mpy file does")
    if mark != "MicroPython":
        raise MpyError(f"bytecode of {mark}, which MicroPython does not read")
    return MpyHead(*data[1:HEAD_BYTES])


def format_of(release: str) -> int | None:
    """The version of the .mpy files that a release of MicroPython reads: 5 for `1.12` or `v1.18-3-gabc`. None
    for what is no release, or one that nothing is known of."""
    match = _RELEASE.match(release)
    if match is None:
        return None
    number = (int(match[1]), int(match[2]), int(match[3] or 0))
    if number >= _UNKNOWN_SINCE:
        return None
    return next((version for first, version in reversed(_FORMATS) if number >= first), None)


def release_of(program: bytes) -> str:
    """The release that an interpreter's banner names, `v1.8.6`; "" where it names none, as in builds from
    within another repository, whose tag stands there."""
    match = _BANNER.search(program)
    return match[1].decode() if match else ""
