"""Paths in a tree, as the device follows them."""

from __future__ import annotations

from imagebuilder.rootfs.tree import FileTree

_MOST_LINKS = 40  # that are followed, as in Linux
_LONGEST_PATH = 4096  # PATH_MAX


def real_path(tree: FileTree, path: str) -> str | None:
    """Where a path leads in a tree, links followed; None for what is not there, for / itself, and for links
    in a circle."""
    waiting, place, links = path.split("/")[::-1], "", 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            place = place.rpartition("/")[0]
        elif part not in ("", "."):
            entry = tree.get(f"{place}/{part}")
            if entry is None:
                return None
            if entry.kind != "symlink":
                place = f"{place}/{part}"
                continue
            links += 1
            if links > _MOST_LINKS or len(entry.target) > _LONGEST_PATH:
                return None
            place = "" if entry.target.startswith("/") else place
            waiting += entry.target.split("/")[::-1]
    return place or None
