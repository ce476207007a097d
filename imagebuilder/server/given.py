"""Where an ImageBuilder comes from."""

from __future__ import annotations

from pathlib import Path

from imagebuilder.host.fs import expand_home
from imagebuilder.log import Log
from imagebuilder.model.tree import TreeError
from imagebuilder.server.archive import ENDINGS, is_archive, unpacked_tree


def given_tree(given: str, cache: Path, log: Log) -> Path:
    """The tree that a user gave as a folder or an archive (which is unpacked into the cache).

    TreeError if it is neither; ArchiveError for a damaged or unsafe archive.
    """
    path = expand_home(given)
    if path.is_dir():
        folder = path.resolve()
    elif path.is_file() and is_archive(path):
        folder = unpacked_tree(path, cache, log)
    elif path.exists():
        raise TreeError(f"{given} is neither a folder nor an archive ({', '.join(ENDINGS)})")
    else:
        raise TreeError(f"there is no ImageBuilder at {given}")
    return folder
