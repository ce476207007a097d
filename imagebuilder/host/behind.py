"""What symbolic links in a folder lead to outside of it: files and folders that its user reads as if they lay
in it, and that change without it.

A link that leads out counts by what is there, a folder with all below it and with what links in there lead
to, each folder once. Links that stay inside count by where in the folder they come to, since the way can lead
through links outside. Bounded: a link can name any place of this machine.

What make made in an ImageBuilder, a root file system, lies in its build_dir/TARGET/root-BOARD and
root.orig-BOARD. Links in there are for the device (/var leads to its /tmp) and count for nothing: make begins
with removing these folders. Source: package_install and prepare_rootfs of the ImageBuilder's Makefile.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.host.beneath import BeneathError
from imagebuilder.host.walk import walk

MOST_BEHIND = 50_000  # files, folders and links in folders that links of one folder lead to
_OF_DEVICES = re.compile(r"build_dir/[^/]+/root(\.orig)?-[^/]*/")


@dataclass(frozen=True)
class Behind:
    """Something behind a link. link: its path as it is reached from the folder. place: where it really is,
    absolute; without a status, what it is one with: `.` or `./path` in the folder itself, `=link` for a
    folder that is told of already, "" for what is not there. status: of a file or folder."""

    link: str
    place: str
    status: os.stat_result | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.status is not None and stat.S_ISREG(self.status.st_mode)


def behind(top: Path, links: Iterable[str]) -> Iterator[Behind]:
    """What links below the folder top lead to, each by its path from there. BeneathError for a folder that
    top lies in and for more than MOST_BEHIND; OSError for what cannot be read."""
    home = os.path.realpath(top)
    waiting = deque((link, f"{home}/{link}") for link in links if not _OF_DEVICES.match(link))
    told: dict[str, str] = {}
    count = 0
    while waiting:
        link, path = waiting.popleft()
        place = os.path.realpath(path)
        if _is_inside(place, home):
            yield Behind(link, f".{place[len(home) :]}")
            continue
        status = _status(place)
        if status is None or place in told:
            yield Behind(link, "" if status is None else f"={told[place]}")
            continue
        yield Behind(link, place, status)
        if not stat.S_ISDIR(status.st_mode):
            continue
        if _is_inside(home, place):
            raise BeneathError(f"{path} leads to {place}, a folder that it lies in itself")
        told[place] = link
        for item in walk(Path(place)):
            count += 1
            if count > MOST_BEHIND:
                raise BeneathError(f"links in {top} lead to more than {MOST_BEHIND} files and folders")
            if item.is_link:
                waiting.append((f"{link}/{item.path}", f"{place}/{item.path}"))
            else:
                yield Behind(f"{link}/{item.path}", f"{place}/{item.path}", item.status)


def _is_inside(place: str, folder: str) -> bool:
    return place == folder or place.startswith(f"{folder.rstrip('/')}/")


def _status(place: str) -> os.stat_result | None:
    """None for what is not there; of a link after all, which goes round in a circle, too."""
    try:
        status = os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if stat.S_ISLNK(status.st_mode) else status
