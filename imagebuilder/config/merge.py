"""Merging what several files say: later files win, and lists are added to and taken from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagebuilder.config.toml import dotted

Origins = dict[str, tuple[str, ...]]

# pairs of lists of which the last word on a name counts
_PAIRS = (("packages", "add", "remove"), ("services", "disabled", "enabled"))
# lists of tables that are told apart by their names
_NAMED = (("overlay",), ("feed",), ("python", "package"))
_GROWING = (("filespec",), ("python", "apps"), ("python", "requirements"))  # lists that are added to


def merge(into: dict[str, Any], values: Mapping[str, Any], origin: str, origins: Origins) -> None:
    """Merge one file's values (already valid) into what earlier files said, and note who said what.

    Tables merge key by key and values replace. `packages` and `services` are pairs of lists: a name that a
    later file puts into one leaves the other. Overlays, feeds and recipes are told apart by name: one that is
    named again keeps its place and gets the later values, and `remove = true` takes it out. Apps,
    requirements and filespecs are added to those of earlier files.
    """
    _merge_table(into, values, origin, (), origins)


def _merge_table(
    into: dict[str, Any], values: Mapping[str, Any], origin: str, path: tuple[str, ...], origins: Origins
) -> None:
    for key, value in values.items():
        place = (*path, key)
        pair = next((pair for pair in _PAIRS if place == pair[:1]), None)
        if pair is not None:
            _merge_pair(into.setdefault(key, {pair[1]: [], pair[2]: []}), value, origin, pair, origins)
        elif place in _NAMED:
            _merge_named(into.setdefault(key, []), value, origin, place, origins)
        elif place in _GROWING:
            into[key] = [*into.get(key, []), *(each for each in value if each not in into.get(key, []))]
            origins[dotted(place)] = (*origins.get(dotted(place), ()), origin)
        elif isinstance(value, Mapping):
            _merge_table(into.setdefault(key, {}), value, origin, place, origins)
        else:
            into[key] = value
            origins[dotted(place)] = (origin,)


def _merge_pair(
    into: dict[str, list[str]],
    values: Mapping[str, list[str]],
    origin: str,
    pair: tuple[str, str, str],
    origins: Origins,
) -> None:
    table, *keys = pair
    for key, other in (keys, reversed(keys)):
        names = values.get(key, [])
        if not names:
            continue
        into[key] += [name for name in names if name not in into[key]]
        into[other] = [name for name in into[other] if name not in names or name in values.get(other, [])]
        place = f"{table}.{key}"
        origins[place] = (*origins.get(place, ()), origin)


def _merge_named(
    into: list[dict[str, Any]],
    uses: list[Mapping[str, Any]],
    origin: str,
    table: tuple[str, ...],
    origins: Origins,
) -> None:
    for use in uses:
        name = use["name"]
        place = dotted((*table, name))
        present = next((each for each in into if each["name"] == name), None)
        if present is not None and use.get("remove"):
            into.remove(present)
            for key in [key for key in origins if key == place or key.startswith(f"{place}.")]:
                del origins[key]
            continue
        if present is None:
            present = {"name": name}
            into.append(present)
            origins[place] = (origin,)
        for key, value in use.items():
            if isinstance(value, Mapping):
                present[key] = {**present.get(key, {}), **value}
                origins |= {dotted((*table, name, each)): (origin,) for each in value}
            elif key not in ("name", "remove"):
                present[key] = value
                origins[dotted((*table, name, key))] = (origin,)
