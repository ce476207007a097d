"""What one look at a tree shows, file by file: whether anything in it was changed since another look.

Nothing is read: names, kinds, modes, sizes, numbers and times of all that make could take from the tree. What
using a tree leaves in it does not count, nor the history of one that was cloned.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.host.tree_kinds import HISTORY
from imagebuilder.host.walk import Item, walk

USED = ("dl", "tmp", "bin", HISTORY)  # what using a tree leaves at its top, and a clone's history


@dataclass(frozen=True)
class TreeLook:
    """What one look at a tree has shown. state: a digest of what stat(2) says of all that counts: the same as
    long as nothing in the tree was changed, also where it was changed back; links: the paths of its symbolic
    links; changed_ns: when something of it was changed last, in nanoseconds since 1970."""

    state: str
    links: tuple[str, ...]
    changed_ns: int


def tree_items(tree: Path, *, readable_only: bool = True) -> Iterator[Item]:
    """All that is in a tree and counts. readable_only: into a folder that this user may not look into make
    cannot look either; otherwise OSError for such a one."""
    folder = tree.resolve()
    top = str(folder)

    def enter(path: str) -> bool:
        return path not in USED and (not readable_only or os.access(f"{top}/{path}", os.R_OK | os.X_OK))

    return (item for item in walk(folder, enter=enter) if item.path not in USED)


def look_at_tree(tree: Path) -> TreeLook:
    """Look at all that is in a tree. OSError for what cannot be looked at."""
    links, lines, changed = list[str](), [str(tree.resolve())], 0
    for item in tree_items(tree):
        status = item.status
        if item.is_link:
            links.append(item.path)
        modified, other = status.st_mtime_ns, status.st_ctime_ns
        changed = max(changed, modified, other)
        lines.append(f"{item.path}\0{status.st_mode} {status.st_size} {modified} {other} {status.st_ino}")
    whole = "\0\n".join(lines).encode("utf-8", "surrogateescape")
    return TreeLook(hashlib.sha256(whole).hexdigest(), tuple(links), changed)
