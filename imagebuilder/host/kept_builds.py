"""Finished results, kept by their keys below the cache: `builds/KEY/`, whole or not there.

Files are copied in and out, sharing blocks where the file system can (copy_file()), never by hard links: what
somebody writes into a result must not reach the kept one. Whoever takes one compares its sums, and drops it
where it is damaged. What was not used for longest goes once all together take more than the limit.

A result that holds secrets is kept in a folder of mode 0700 with files of 0600, and only in a cache that is
this user's own.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.errors import HostError
from imagebuilder.host.cache import Cache, user_limit
from imagebuilder.host.fs import copy_file, disk_errors_explained, free_bytes
from imagebuilder.host.handover import remove_whole, replace_folder, temporary_folder, write_new
from imagebuilder.host.stamps import BUILDS, KEY_BYTES, KEY_FILE, read_key
from imagebuilder.log import Log

_FULL = (errno.ENOSPC, errno.EDQUOT)
SHARE = 4  # of what downloads may take, results get one part in so many


def _limit() -> int:
    return user_limit() // SHARE


@dataclass(frozen=True)
class KeptBuilds:
    """The results that a cache keeps. limit: bytes that all may take together."""

    cache: Path
    limit: int = field(default_factory=_limit)

    def place(self, key: str) -> Path:
        """Where the result with this key is, or would be."""
        return self.cache / BUILDS / key

    def keep(self, key: str, result: Path, log: Log, *, private: bool) -> None:
        """Keep a copy of all files in a result's folder, in place of what has that key. private: they hold
        secrets. Where there is no room, results that were not used for longest are given up; where there
        still is none, or the cache can only be read, it is not kept, with a warning. HostError where the
        cache cannot be written for another reason."""
        if private and self.cache.stat().st_uid != os.geteuid():
            log.note("the result holds secrets, and is not kept in a cache that is somebody else's")
            return
        try:
            with disk_errors_explained(self.cache):
                self._copy_in(key, result, log, private=private)
            Cache(self.cache).shrink_builds(self.limit, log)
        except HostError as error:
            if _number(error) not in (*_FULL, errno.EROFS):
                raise
            log.warn(f"the result is not kept in the cache: {error.message}")

    def _copy_in(self, key: str, result: Path, log: Log, *, private: bool) -> None:
        """OSError where there is no room, also after others were given up."""
        while True:
            try:
                with temporary_folder("new", self.cache / BUILDS) as work:
                    fresh = work / key
                    fresh.mkdir(0o700 if private else 0o755)
                    for file in sorted(result.iterdir()):
                        copy = fresh / file.name
                        if private:
                            copy.touch(0o600)
                        copy_file(file, copy)
                    replace_folder(fresh, self.place(key))
            except OSError as error:
                if error.errno not in _FULL or not self._make_room(result, log):
                    raise
            else:
                return

    def _make_room(self, result: Path, log: Log) -> bool:
        """Give up as many results as take the room of another; whether that can be of use."""
        needed = sum(file.stat().st_size for file in result.iterdir())
        cache = Cache(self.cache)
        taken = cache.builds_size()
        if taken + free_bytes(self.cache) < needed:
            return False
        return cache.shrink_builds(max(taken - needed, 0), log) > 0

    def take(self, key: str, into: Path) -> list[str] | None:
        """Copy the files of the result with this key into an empty folder; the names of all that is kept of
        it, with those that are no files and are not copied. None where there is none. Nothing is compared."""
        place = self.place(key)
        try:
            with os.scandir(place) as entries:
                names = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
            for name in (name for name, is_file in names.items() if is_file):
                copy_file(place / name, into / name)
            os.utime(place)  # last used now
        except FileNotFoundError:  # not there, or somebody else makes room just now
            for copy in into.iterdir():
                copy.unlink()
            return None
        except NotADirectoryError:
            return []
        return sorted(names)

    def drop(self, key: str) -> None:
        """Remove the result with this key."""
        remove_whole(self.place(key))


def _number(error: BaseException | None) -> int | None:
    """The number of the system's error that an error came from."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return None if error is None else error.errno


def digest_key(cache: Path) -> bytes:
    """The key of a cache's digests (host/stamps.py), made if there is none. HostError where it cannot be
    written."""
    with disk_errors_explained(cache):
        key = read_key(cache)
        if key is None:
            (cache / KEY_FILE).unlink(missing_ok=True)
            with suppress(FileExistsError):  # another was faster
                write_new(cache / KEY_FILE, secrets.token_bytes(KEY_BYTES), 0o600)
            key = read_key(cache)
    return key or b""
