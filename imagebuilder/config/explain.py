"""A merged config with the file that each value came from, and no secret in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imagebuilder.config.config import LoadedConfig
from imagebuilder.config.library import Library
from imagebuilder.config.model_config import Config
from imagebuilder.config.overlay import load_overlays
from imagebuilder.config.toml import dotted


@dataclass(frozen=True)
class Explained:
    """One value of a merged config. files: what gave it, or all that added to it."""

    key: str
    value: Any
    files: tuple[str, ...]


def shown_config(library: Library, config: Config) -> Config:
    """The config with the values of secret variables blotted out."""
    shown = tuple(each.shown() for each in load_overlays(library, config))
    return config.model_copy(update={"overlay": shown})


def explain(library: Library, loaded: LoadedConfig) -> list[Explained]:
    """Every value that a file gave, in the order in which they were given first."""
    values = _flat(shown_config(library, loaded.config).model_dump(mode="json"))
    return [Explained(key, values[key], files) for key, files in loaded.origins.items() if key in values]


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys to values; overlays and feeds by their names, as the origins have them."""
    flat: dict[str, Any] = {}
    for table in ("overlay", "feed"):
        for use in values.pop(table):
            flat[dotted((table, use["name"]))] = "used"
            for name, value in (use | use.get("variables", {})).items():
                flat[dotted((table, use["name"], name))] = value
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= {dotted((key, name)): each for name, each in value.items()}
        else:
            flat[key] = value
    return flat
