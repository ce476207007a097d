"""The user's project, opened: places.py says which folder it is."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.config.library import Library
from imagebuilder.config.places import FoundProject, located


def open_project(given: Path | None) -> tuple[Library, FoundProject]:
    """The project that --project names, or the one that the current folder is in. UserError for a folder that
    is none, and where the current one is gone."""
    found = located(given)
    return Library(found.root), found
