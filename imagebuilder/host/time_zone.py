"""The rules of time zones, as this machine's tzdata has them: what a device without that data goes by.

Source: tzfile(5), RFC 9636 (TZif: version 2 and later end with the rule, between two line ends), tzset(3).
"""

from __future__ import annotations

import re
import zoneinfo
from pathlib import Path

from imagebuilder.errors import HostError

_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_MAGIC = b"TZif"
_MOST = 1 << 20  # bytes; the largest of tzdata has some thousands


def posix_rule(zone: str) -> str | None:
    """The rule of a zone (`Europe/Lisbon`) as POSIX writes it (`WET0WEST,M3.5.0/1,M10.5.0`); None where there
    is no such zone. HostError where this machine has no data of zones."""
    folders = [Path(place) for place in zoneinfo.TZPATH if Path(place, "UTC").is_file()]
    if not folders:
        raise HostError(
            f"this machine has no data of time zones ({' or '.join(zoneinfo.TZPATH)})",
            hint="install tzdata, or give the overlay base a `timezone` as POSIX writes it and no `zonename`",
        )
    if not _NAME.fullmatch(zone):
        return None
    found = (rule for folder in folders if (rule := _rule_in(folder / zone)) is not None)
    return next(found, None)


def _rule_in(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        data = stream.read(_MOST)
    if not data.startswith(_MAGIC) or not data.endswith(b"\n"):
        return None
    return data[:-1].rpartition(b"\n")[2].decode("ascii", "replace") or None
