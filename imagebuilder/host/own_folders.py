"""Folders that are this program's own, told by a file that it writes into them: `clean` empties no other.

The cache's is CACHEDIR.TAG, by which programs for backups tell caches as well (bford.info/cachedir). Versions
before this rule wrote none: a folder is taken for their work where nothing lies in it but what they made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import HostError, UserError
from imagebuilder.host.fs import disk_errors_explained, make_folder
from imagebuilder.host.handover import (
    clear,
    is_temporary,
    names,
    remove_abandoned,
    remove_if_abandoned,
    write_whole,
)

_SAID = "openwrt-python-imagebuilder made this folder, and its command `clean` removes all that is in it"


@dataclass(frozen=True)
class OwnFolder:
    """A kind of folder. made: whether something that lies in one is known to be of this program's making."""

    what: str
    file: str
    text: str
    made: Callable[[Path], bool]

    def stranger(self, folder: Path) -> Path | None:
        """What shows that the folder is not this program's; None where it is, or is empty or not there."""
        if not folder.is_dir():
            return folder if os.path.lexists(folder) and not folder.is_symlink() else None
        if self._is_marked(folder):
            return None
        return next((folder / name for name in names(folder) if not self._is_known(folder / name)), None)

    def _is_known(self, place: Path) -> bool:
        return is_temporary(place.name) or self.made(place)

    def _is_marked(self, folder: Path) -> bool:
        try:
            with (folder / self.file).open("rb") as stream:
                return stream.read(len(self.text)) == self.text.encode()
        except OSError:
            return False

    def mark(self, folder: Path) -> None:
        """Write the file into a folder. OSError."""
        if not self._is_marked(folder):
            write_whole(folder / self.file, self.text.encode())

    def check(self, folder: Path) -> None:
        """UserError where the folder is not this program's."""
        stranger = self.stranger(folder)
        if stranger is not None:
            holds = "" if stranger == folder else f": it holds {stranger.name}"
            raise UserError(
                f"{folder} is not {self.what} of this program's making{holds}; nothing is removed",
                hint="move that elsewhere and try again, or remove what is not needed yourself",
            )

    def remove(self, folder: Path) -> bool:
        """Remove a folder that check() let pass, but what living processes work in; whether it is gone.
        HostError."""
        place = Path(os.path.realpath(folder))
        with disk_errors_explained(place):
            if not clear(place, 2, keep=self.file):
                return False
            marked = self._is_marked(place)
            (place / self.file).unlink(missing_ok=True)
            try:
                place.rmdir()
            except OSError:  # a build has begun in it just now, or a file system is mounted there
                if marked:
                    self.mark(place)
                return False
            if folder.is_symlink():
                folder.unlink()
            return True


# all that any version has made in a cache
_IN_CACHE = frozenset(
    {
        *("blobs", "names", "partial", "trees", "unpacking", "indexes", "locks", "kits", "wheels"),
        *("build-requires", "lowest", "seen", "debian", "builds", "digests.key"),
    }
)
# temporary things of versions before handover.py had its rule
_EARLIER = ("asking-????????", "look-????????", "partial/read-????????", "partial/apt-????????")
CACHE = OwnFolder(
    "a cache",
    "CACHEDIR.TAG",
    f"Signature: 8a477f597d28d172789f06886806bc55\n# {_SAID} --all --cache\n",
    lambda place: place.name in _IN_CACHE or any(place.match(pattern) for pattern in _EARLIER),
)


def ready_cache(folder: Path) -> None:
    """Make the cache's folder, if it is not there, and remove from it what killed processes left. HostError
    where it cannot be written to."""
    hint = "choose another place with --cache PATH, or XDG_CACHE_HOME in the environment"
    try:
        make_folder(folder)
        if not os.access(folder, os.W_OK):
            raise HostError(f"cannot write {folder}", hint=hint)
        if CACHE.stranger(folder) is None:
            CACHE.mark(folder)
        for place in (folder, *(folder / name for name in sorted(_IN_CACHE))):
            remove_abandoned(place)
        for place in (place for pattern in _EARLIER for place in folder.glob(pattern)):
            remove_if_abandoned(place)
    except OSError as error:
        raise HostError(f"cannot write {error.filename or folder}: {error.strerror}", hint=hint) from error
