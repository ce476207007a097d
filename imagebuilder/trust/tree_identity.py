"""What a tree is, for a lock and for the key that its make gets: all that it consists of, in one digest.

Reading all of a tree takes seconds, so the digest is kept in the cache under another one: over the names,
modes, sizes, numbers and times of its files. Nobody but root can set the time of a status change back
(inode(7), st_ctime), so that no other content can pass as the one that was read.

A link counts by its text: where a used tree has links to the host's programs (staging_dir/host/bin), a lock
is the same on every host. What links lead to outside of the tree has a digest of its own, for those who want
to know whether make would make the same here (behind_tree()).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from imagebuilder.host.behind import Behind, behind
from imagebuilder.host.beneath import BeneathError
from imagebuilder.host.fs import disk_errors_explained, text_of
from imagebuilder.host.handover import write_whole
from imagebuilder.host.tree_look import TreeLook, look_at_tree, tree_items
from imagebuilder.host.walk import Item

_KEPT = "indexes"  # of the cache, where what was not used for longest goes
MOST_BYTES = 1 << 30  # behind links, all files together
_OF_THE_KERNEL = ("/proc/", "/sys/", "/dev/")  # whose files say something else each time
_DIGEST = re.compile(r"[0-9a-f]{64}")


def tree_identity(
    tree: Path, cache: Path | None = None, *, readable_only: bool = True, look: TreeLook | None = None
) -> str:
    """The SHA-256, in hex, over the paths, kinds, programs' bits, link texts and contents of all that is in a
    tree; of files that this user cannot read, over their sizes and times instead. Other modes do not count:
    they are the umask's of whoever unpacked the tree.

    cache: where the digest of a tree that has not changed is found again; it is written for one that has.
    look: what look_at_tree() has just said of it, where somebody asked.
    HostError where the cache cannot be written; OSError, where not readable_only, for what cannot be read.
    """
    folder = tree.resolve()
    if cache is None:
        return _whole(folder, readable_only=readable_only)
    state = (look or look_at_tree(tree)).state
    place = cache / _KEPT / f"{state}{'' if readable_only else '-all'}.tree"
    kept = text_of(place).strip()
    if _DIGEST.fullmatch(kept):
        os.utime(place)  # last used now
        return kept
    fresh = _whole(folder, readable_only=readable_only)
    with disk_errors_explained(cache):
        write_whole(place, f"{fresh}\n".encode())
    return fresh


def behind_tree(tree: Path, look: TreeLook | None = None) -> str:
    """A digest of what links in a tree lead to outside of it (host/behind.py): kinds, programs' bits and
    contents. "" where no link leads out; where all of it cannot be looked at, or is more than MOST_BYTES,
    another one each time, so that nothing passes as the same. look: as for tree_identity()."""
    folder = tree.resolve()
    whole, any_out, size = hashlib.sha256(), False, 0
    try:
        for each in behind(folder, (look or look_at_tree(tree)).links):
            any_out = any_out or each.status is not None
            size += each.status.st_size if each.is_file and each.status is not None else 0
            if size > MOST_BYTES or (each.is_file and each.place.startswith(_OF_THE_KERNEL)):
                return os.urandom(32).hex()
            whole.update(repr((each.link, _behind(each))).encode("utf-8", "surrogateescape"))
    except (OSError, BeneathError):
        return os.urandom(32).hex()
    return whole.hexdigest() if any_out else ""


def _behind(each: Behind) -> str:
    if each.status is None:
        return each.place
    kind = f"{stat.S_IFMT(each.status.st_mode):o} {each.is_file and each.status.st_mode & 0o111 != 0}"
    if not each.is_file:
        return kind
    with open(each.place, "rb", opener=_opener) as stream:
        return f"{kind} {hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def changed_since(tree: Path, when_ns: int) -> list[str]:
    """The paths of what was changed in a tree at that time or later, in nanoseconds since 1970, the newest
    first; where something was removed, that of the folder."""
    items = tree_items(tree)
    times = [(max(item.status.st_mtime_ns, item.status.st_ctime_ns), item.path) for item in items]
    return [path for when, path in sorted(times, reverse=True) if when >= when_ns]


def _whole(folder: Path, *, readable_only: bool) -> str:
    whole = hashlib.sha256()
    for item in tree_items(folder, readable_only=readable_only):
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
