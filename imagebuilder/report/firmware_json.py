"""What was read, checked or compared of firmware images, as values that json.dumps takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from imagebuilder.model.firmware import Check, Difference, Inspection, Part

_BYTES = "data"  # of a part: the image itself, which no report repeats


def plain(found: Inspection | Difference | Check | Part) -> dict[str, Any]:
    """All fields by their names; tuples become lists, the bytes of parts are left out."""
    return {str(name): value for name, value in _plain(found).items()}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value) if field.name != _BYTES)
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value
