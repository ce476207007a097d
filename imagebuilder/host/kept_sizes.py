"""Sizes that take long to reckon, kept in the cache by the digest of what they were reckoned from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import write_whole

_FORM = "1"  # another one makes all of them anew: after a change of how something is packed
_KEPT = "indexes"  # of the cache, where what was not used for longest goes


def kept_sizes(cache: Path | None, key: bytes, make: Callable[[], dict[str, int]]) -> dict[str, int]:
    """What `make` gives, or gave for the same key before; in bytes, by names. cache: None where nothing is
    kept; key: all that it depends on. What is damaged counts as not kept. HostError where the cache cannot be
    written."""
    if cache is None:
        return make()
    place = cache / _KEPT / f"{hashlib.sha256(_FORM.encode() + key).hexdigest()}.sizes"
    found = _read(place)
    if found is None:
        found = make()
        with disk_errors_explained(cache):
            write_whole(place, json.dumps({"form": _FORM, "sizes": found}).encode())
    else:
        os.utime(place)  # last used now
    return found


def _read(place: Path) -> dict[str, int] | None:
    try:
        said = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    sizes = said.get("sizes") if isinstance(said, dict) and said.get("form") == _FORM else None
    if isinstance(sizes, dict) and all(type(size) is int and size >= 0 for size in sizes.values()):
        return sizes
    return None
