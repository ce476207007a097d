"""What a tree is, for a lock and for the key that its make gets: all that it consists of, in one digest.

Reading all of a tree takes seconds, so the digest is kept in the cache under another one: over the names,
modes, sizes, numbers and times of its files. Nobody but root can set the time of a status change back
(inode(7), st_ctime), so that no other content can pass as the one that was read.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from imagebuilder.host.fs import disk_errors_explained, text_of
from imagebuilder.host.handover import write_whole
from imagebuilder.host.tree_kinds import HISTORY
from imagebuilder.host.walk import Item, walk

USED = ("dl", "tmp", "bin", HISTORY)  # what using a tree leaves at its top, and a clone's history
_KEPT = "indexes"  # of the cache, where what was not used for longest goes
_DIGEST = re.compile(r"[0-9a-f]{64}")


def tree_identity(tree: Path, cache: Path | None = None, *, readable_only: bool = True) -> str:
    """The SHA-256, in hex, over the paths, kinds, programs' bits, link texts and contents of all that is in a
    tree; of files that this user cannot read, over their sizes and times instead. Other modes do not count:
    they are the umask's of whoever unpacked the tree.

    cache: where the digest of a tree that has not changed is found again; it is written for one that has.
    HostError where the cache cannot be written; OSError, where not readable_only, for what cannot be read.
    """
    folder = tree.resolve()
    if cache is None:
        return _whole(folder, readable_only=readable_only)
    place = cache / _KEPT / f"{_state(folder)}{'' if readable_only else '-all'}.tree"
    kept = text_of(place).strip()
    if _DIGEST.fullmatch(kept):
        os.utime(place)  # last used now
        return kept
    fresh = _whole(folder, readable_only=readable_only)
    with disk_errors_explained(cache):
        write_whole(place, f"{fresh}\n".encode())
    return fresh


def _items(folder: Path, *, readable_only: bool) -> Iterator[Item]:
    """All that is in a tree. Into a folder that this user may not look into make cannot look either."""

    def enter(path: str) -> bool:
        return path not in USED and (not readable_only or os.access(folder / path, os.R_OK | os.X_OK))

    return (item for item in walk(folder, enter=enter) if item.path not in USED)


def _state(folder: Path) -> str:
    whole = hashlib.sha256(os.fsencode(folder))
    for item in _items(folder, readable_only=True):
        status = item.status
        numbers = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        whole.update(repr((item.path, numbers)).encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _whole(folder: Path, *, readable_only: bool) -> str:
    whole = hashlib.sha256()
    for item in _items(folder, readable_only=readable_only):
        mode = item.status.st_mode
        content = _content(item, readable_only=readable_only)
        facts = repr((item.path, stat.S_IFMT(mode), item.is_file and mode & 0o111 != 0, content))
        whole.update(facts.encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _content(item: Item, *, readable_only: bool) -> str:
    if item.is_link:
        return item.target()
    if not item.is_file:
        return ""
    try:
        return item.sha256()
    except PermissionError:
        if not readable_only:
            raise
        return f"{item.status.st_size} {item.status.st_mtime_ns}"
