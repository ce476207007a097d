"""Sizes as users write them: `4M`, `3904K`, `1.5G` or bytes."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)([KMGkmg]?)")


def parse_size(value: object) -> int:
    """Bytes meant by `4M`, `3904k`, `0.5G` or a whole number of bytes.

    Raises ValueError for anything else, negative numbers and fractions of a byte included.
    """
    expected = "expected a size such as 4M, 3904K or a number of bytes"
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(expected)
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"{expected}, not a negative number")
        return value
    match = SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(expected)
    exact = float(match[1]) * _UNITS[match[2].upper()]
    if exact != int(exact):
        raise ValueError(f"{value} is not a whole number of bytes")
    return int(exact)


def format_size(size: int) -> str:
    """The shortest exact notation: 4194304 bytes is `4M`, 3997696 is `3904K`, 7 is `7`."""
    for unit in ("G", "M", "K"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def human_size(size: int) -> str:
    """A size to read: `3.8 MiB`, `512 KiB`, `7 bytes`."""
    if size < 1 << 10:
        return f"{size} bytes"
    if size < 1 << 20:
        return f"{size / (1 << 10):.1f} KiB"
    return f"{size / (1 << 20):.1f} MiB"
