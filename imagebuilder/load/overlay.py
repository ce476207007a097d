"""An overlay's declaration."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.load.faults import validate
from imagebuilder.load.library import Library
from imagebuilder.load.toml import read_toml
from imagebuilder.model.overlay import Overlay


def load_overlay(library: Library, name: str) -> tuple[Overlay, Path]:
    """An overlay and its folder. UserError for an unknown one, FaultsError for a wrong declaration."""
    folder = library.overlay_folder(name)
    file = read_toml(folder / "overlay.toml")
    return validate(Overlay, file, {"name": name, **file.values}), folder
