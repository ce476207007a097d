"""What was downloaded, kept by its SHA-256 below the user's cache folder; safe for several processes at once.

`blobs/ab/abcd…` a file by its SHA-256; `names/` which blobs are the files of one signed set; `partial/` what
is being fetched; `trees/` unpacked ImageBuilders; `indexes/` of trees' own packages (packages.index_cache);
`builds/` finished results (host.kept_builds); `locks/`. A name in blobs/, trees/, indexes/ or builds/ shows a
whole thing or nothing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from imagebuilder.called import typed
from imagebuilder.errors import HostError, UserError
from imagebuilder.host.fs import disk_errors_explained, make_folder, sha256_of
from imagebuilder.host.handover import clear, names, remove_abandoned, remove_whole, write_whole
from imagebuilder.host.own_folders import ready_cache
from imagebuilder.host.stamps import BUILDS
from imagebuilder.host.walk import walk
from imagebuilder.log import Log

DEFAULT_LIMIT_GIB = 16
LIMIT_VARIABLE = "OPENWRT_IMAGEBUILDER_CACHE_GIB"
SPARE_SECONDS = 3600.0
POLL_SECONDS = 0.05

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: str) -> bool:
    """Whether it is a SHA-256 in lower-case hex."""
    return _SHA256.fullmatch(text) is not None


def user_limit() -> int:
    """Bytes that downloaded files may take together: what OPENWRT_IMAGEBUILDER_CACHE_GIB says in GiB, or 16.

    HostError for what is no such number.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_GIB)
    try:
        gibibytes = float(text)
    except ValueError:
        gibibytes = -1.0
    if not (math.isfinite(gibibytes) and gibibytes >= 0):
        raise HostError(
            f"{LIMIT_VARIABLE} is {text[:100]!r}, which is no number of GiB",
            hint="for example 8 or 0.5: how much the downloads that are kept may take",
        )
    return int(gibibytes * (1 << 30))


class OfflineError(UserError):
    """Offline, and not everything is in the cache. missing: the names of what is not."""

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        listed = "".join(f"\n  {name}" for name in missing)
        super().__init__(
            f"offline, and the cache lacks {len(missing)} of what is needed:{listed}",
            hint=f"{typed('fetch CONFIG')}, with a network, fills the cache",
        )


@contextmanager
def cache_disk_errors(folder: Path) -> Iterator[None]:
    """A full disk, or a file that may grow no further, as an error that the user can act on."""
    try:
        with disk_errors_explained(folder):
            yield
    except HostError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"{typed('clean --fetched')} makes room, --cache DIR chooses another place"
            raise HostError(error.message, hint=hint) from error
        raise


@dataclass(frozen=True)
class Cleaned:
    """What was removed: so many downloads, trees, indexes and results, of so many bytes together; left: bytes
    that stay."""

    downloads: int
    trees: int
    indexes: int
    builds: int
    size: int
    left: int

    @property
    def entries(self) -> int:
        """How many were removed in all."""
        return self.downloads + self.trees + self.indexes + self.builds


@dataclass(frozen=True)
class _Entry:
    """Something to remove. kind: the folder of the cache that it is in."""

    kind: str
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Cache:
    """The cache below one folder. limit: bytes that downloaded files may take together, by default
    user_limit(); clock: seconds since 1970, what the order of use is told by."""

    folder: Path
    limit: int = field(default_factory=user_limit)
    clock: Callable[[], float] = time.time

    def blob(self, sha256: str) -> Path:
        """Where the file with this SHA-256 is, or would be. ValueError for what is no SHA-256."""
        if not is_sha256(sha256):
            raise ValueError(f"no SHA-256: {sha256[:80]!r}")
        return self.folder / "blobs" / sha256[:2] / sha256

    def tree(self, sha256: str) -> Path:
        """Where an archive with this SHA-256 is, or would be, unpacked."""
        return self.folder / "trees" / self.blob(sha256).name

    def find(self, sha256: str, log: Log) -> Path | None:
        """The file with this SHA-256, its content compared, or None. A damaged one is removed, with a
        warning."""
        path = self.blob(sha256)
        try:
            if sha256_of(path) == sha256:
                self._touch(path)
                return path
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.EIO:
                raise HostError(f"cannot read the cache: {path}: {error.strerror}") from error
        log.warn(f"a file in the cache was damaged and is removed: {path}")
        path.unlink(missing_ok=True)
        return None

    def read(self, sha256: str, log: Log) -> bytes | None:
        """The bytes with this SHA-256, or None. For small files."""
        found = self.find(sha256, log)
        return None if found is None else found.read_bytes()

    def add(self, data: bytes) -> str:
        """Keep some bytes; their SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        with cache_disk_errors(self.folder):
            write_whole(self.blob(sha256), data, self.partial())
            self._touch(self.blob(sha256))
        return sha256

    def adopt(self, file: Path, sha256: str) -> Path:
        """Move a file, whose content the caller has compared, to its place. It must be in partial()."""
        place = self.blob(sha256)
        with cache_disk_errors(self.folder):
            make_folder(place.parent)
            file.replace(place)
            self._touch(place)
        return place

    def partial(self) -> Path:
        """The folder for what is being fetched, on the same file system as the rest."""
        return self._made("partial")

    def use_tree(self, sha256: str) -> Path | None:
        """The unpacked tree of an archive, marked as just used; None if there is none."""
        tree = self.tree(sha256)
        if not tree.is_dir():
            return None
        with cache_disk_errors(self.folder):
            mark = self._tree_mark(tree)
            mark.touch()
            self._touch(mark)
        return tree

    @contextmanager
    def lock(self, key: str, doing: str, log: Log) -> Iterator[None]:
        """Only one process, and one thread of it, is in here for a key; one that ends, also by kill -9, lets
        go.

        doing: what the other one is doing, for a note while this one waits.
        """
        with cache_disk_errors(self.folder):
            name = hashlib.sha256(key.encode()).hexdigest()[:32]
            lock = FileLock(self._made("locks") / f"{name}.lock", poll_interval=POLL_SECONDS)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log.progress(f"waiting for another process that is {doing}")
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def remember(self, name: str, files: Mapping[str, str]) -> None:
        """Write down which blobs (by SHA-256) a named set of files consists of."""
        with cache_disk_errors(self.folder):
            text = json.dumps({"name": name, "files": dict(files)}, indent=1, sort_keys=True)
            self._made("names")
            write_whole(self._name_file(name), text.encode())

    def recall(self, name: str, log: Log) -> dict[str, str] | None:
        """What remember() wrote down, or None. A damaged record counts as none, with a warning: the files are
        fetched and checked again."""
        path = self._name_file(name)
        try:
            record = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, RecursionError):
            record = None
        files = record.get("files") if isinstance(record, dict) and record.get("name") == name else None
        if isinstance(files, dict) and all(isinstance(sha, str) and is_sha256(sha) for sha in files.values()):
            return {str(file): sha for file, sha in files.items()}
        log.warn(f"a record in the cache was damaged and is removed: {path}")
        path.unlink(missing_ok=True)
        return None

    def evict(self, log: Log) -> None:
        """Remove the downloaded files that were not used for longest, until they fit the limit. What was used
        within SPARE_SECONDS stays: another process may be about to read it."""
        cleaned = self._shrink(self._blobs(), self.limit, SPARE_SECONDS)
        if cleaned.entries:
            log.note(
                f"the cache was over its limit: {cleaned.entries} files, {cleaned.size >> 20} MiB removed"
            )

    def builds_size(self) -> int:
        """Bytes of all kept results."""
        return sum(entry.size for entry in self._builds())

    def shrink_builds(self, limit: int, log: Log) -> int:
        """Remove the results that were not used for longest, until the others fit a limit in bytes; how many
        were removed."""
        with cache_disk_errors(self.folder):
            cleaned = self._shrink(self._builds(), limit, 0.0)
        if cleaned.builds:
            log.note(f"the cache keeps fewer results: {cleaned.builds}, {cleaned.size >> 20} MiB removed")
        return cleaned.builds

    def clean(self, limit: int = 0) -> Cleaned:
        """Remove downloads, unpacked trees, indexes and kept results, the longest unused first, until at most
        `limit` bytes are left. No build that uses this cache should be running.

        What the builder remembers of feeds it has seen (trust.signature_seen) stays.
        """
        with cache_disk_errors(self.folder):
            if limit == 0:
                for name in ("partial", "unpacking", "names"):
                    clear(self.folder / name)
                for name in ("trees", BUILDS):
                    remove_abandoned(self.folder / name)
            return self._shrink(self._everything(), limit, 0.0)

    def size(self) -> int:
        """Bytes of all downloads, unpacked trees, indexes and kept results."""
        return sum(entry.size for entry in self._everything())

    def _everything(self) -> list[_Entry]:
        return [*self._blobs(), *self._trees(), *self._files("indexes"), *self._builds()]

    def _shrink(self, entries: list[_Entry], limit: int, spare_seconds: float) -> Cleaned:
        left, removed, freed = sum(entry.size for entry in entries), Counter[str](), 0
        newest_to_go = self.clock() - spare_seconds
        for entry in sorted(entries, key=lambda entry: entry.used):
            if (limit and left <= limit) or entry.used > newest_to_go:
                break
            if entry.kind == "trees":  # first: nobody looks for the mark of a tree that is not there
                self._tree_mark(entry.path).unlink(missing_ok=True)
            remove_whole(entry.path)
            removed[entry.kind] += 1
            left, freed = left - entry.size, freed + entry.size
        downloads, trees, indexes = removed["blobs"], removed["trees"], removed["indexes"]
        return Cleaned(downloads, trees, indexes, removed[BUILDS], freed, left)

    def _blobs(self) -> list[_Entry]:
        return [entry for name in names(self.folder / "blobs") for entry in self._files("blobs", name)]

    def _files(self, kind: str, name: str = "") -> list[_Entry]:
        found, folder = [], self.folder / kind / name
        for path in (folder / each for each in names(folder)):
            with suppress(FileNotFoundError):  # another process evicts too
                status = path.stat()
                found.append(_Entry(kind, path, status.st_size, status.st_mtime))
        return found

    def _trees(self) -> list[_Entry]:
        return self._folders("trees", self._tree_used)

    def _builds(self) -> list[_Entry]:
        return self._folders(BUILDS, lambda place: place.stat().st_mtime)

    def _folders(self, kind: str, used: Callable[[Path], float]) -> list[_Entry]:
        found = []
        for place in (self.folder / kind / name for name in names(self.folder / kind)):
            with suppress(FileNotFoundError):  # another process evicts too
                if is_sha256(place.name):
                    found.append(_Entry(kind, place, _size_of(place), used(place)))
        return found

    def _tree_used(self, tree: Path) -> float:
        mark = self._tree_mark(tree)
        return (mark if mark.exists() else tree).stat().st_mtime

    @staticmethod
    def _tree_mark(tree: Path) -> Path:
        return tree.with_name(f".{tree.name}.used")

    def _name_file(self, name: str) -> Path:
        return self.folder / "names" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    def _made(self, name: str) -> Path:
        path = self.folder / name
        with cache_disk_errors(self.folder):
            if not self.folder.is_dir():
                ready_cache(self.folder)
            path.mkdir(exist_ok=True)
        return path

    def _touch(self, path: Path) -> None:
        with suppress(FileNotFoundError, PermissionError):  # gone meanwhile, or a cache that is only read
            os.utime(path, (self.clock(), self.clock()))


def _size_of(folder: Path) -> int:
    return sum(item.status.st_size for item in walk(folder.resolve()) if not item.is_folder)
