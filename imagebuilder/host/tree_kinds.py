"""The kinds of files and folders that a tree has: of whom, and with which mode. A view of a tree is tried
with one of each kind, since an overlay may work on most of a tree and not on the rest.

To write to a file or folder of the tree, the overlay first copies it to where changes are kept, with its
owner, group and mode. In a user namespace that goes wrong for whoever has no number there: the kernel says
EOVERFLOW (fs/overlayfs/copy_up.c, since Linux 5.8), "Value too large for defined data type". An ordinary
user's namespace knows that user and one group.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.host.walk import walk

HISTORY = ".git"  # at the top of a tree that was cloned: no build takes anything from it
_SHOWN = 3

# Each argument is `d` or `f` and a path. What is done with folders: create, rename, remove in them. With
# files: write to them, rename and remove them, after which the overlay must hide what lies below. What fails
# names the path. Not `:` for `true`: a shell ends where a special builtin cannot be redirected, and with
# another code.
PROBE = """
for each; do
    place="./${each#?}"
    case "$each" in
    d*) true > "$place/.probe-1" && mv "$place/.probe-1" "$place/.probe-2" && rm "$place/.probe-2" ;;
    f*) true >> "$place" && mv "$place" "$place.probe" && rm "$place.probe" ;;
    esac || exit 1
done
"""


@dataclass(frozen=True)
class TreeKinds:
    """examples: for each kind the smallest file, or a folder, as PROBE takes them. foreign: of those, one
    that is another user's or group's, in words; "" if there is none. unreadable: what this user cannot
    read, relative to the tree."""

    examples: tuple[str, ...]
    foreign: str
    unreadable: tuple[str, ...]


def tree_kinds(tree: Path) -> TreeKinds:
    """Look through a tree, all but its `.git`; links are not followed. OSError where not even its own folder
    can be read."""
    smallest: dict[tuple[str, int, int, int], tuple[int, str]] = {}
    closed: set[str] = {HISTORY}
    unreadable: list[str] = []

    def note(kind: str, size: int, path: str, status: os.stat_result) -> None:
        key = (kind, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        smallest[key] = min(smallest.get(key, (size, path)), (size, path))

    note("d", 0, "", tree.stat())
    for item in walk(tree.resolve(), enter=lambda path: path not in closed):
        if item.path == HISTORY or not (item.is_folder or item.is_file):
            continue
        if not item.is_readable:
            unreadable.append(item.path)
            closed.add(item.path)
        kind, size = ("d", len(item.path)) if item.is_folder else ("f", item.status.st_size)
        note(kind, size, item.path, item.status)
    examples = [f"{key[0]}{path}" for key, (_, path) in sorted(smallest.items())]
    own = os.geteuid(), os.getegid()
    foreign = (
        f"{path or 'its folder'} belongs to user {user} and group {group}"
        for (_, user, group, _), (_, path) in sorted(smallest.items())
        if (user, group) != own
    )
    return TreeKinds(tuple(examples), next(foreign, ""), tuple(sorted(unreadable)))


def knows_every_user(maps: Path = Path("/proc/self")) -> bool:
    """Whether this process's user namespace has a number for every user and group: it is the machine's first,
    or like it."""
    every = [["0", "0", "4294967295"]]
    texts = [(maps / name).read_text("utf-8") for name in ("uid_map", "gid_map")]
    return all([line.split() for line in text.splitlines()] == every for text in texts)


def top_names(tree: Path) -> list[str]:
    """What lies in a tree's folder, all but its `.git`."""
    return [name for name in sorted(place.name for place in tree.iterdir()) if name != HISTORY]


def some_of(paths: Iterable[str]) -> str:
    """A few paths for a message, and how many more there are."""
    names = list(paths)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
