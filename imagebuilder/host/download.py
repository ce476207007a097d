"""Files by their SHA-256, from the cache or from the first place that has them; offline, from the cache
alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache, OfflineError, cache_disk_errors
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.transfer import Patience, Transfers
from imagebuilder.host.transfer_part import (
    DownloadError,
    InterruptedTransfersError,
    Meter,
    NotThereError,
    PartialFile,
    Source,
)
from imagebuilder.log import Event, Log, Progress

PARALLEL = 4
SMALL_FILE_BYTES = 64 << 20
PROGRESS_SECONDS = 0.25
MIB = 1 << 20


class WrongContentError(DownloadError):
    """A file whose SHA-256 is not the one it must have."""


@dataclass(frozen=True)
class Wanted:
    """A file: its name for people, its SHA-256 in hex, the places it may be in, and the most bytes it may
    have."""

    name: str
    sha256: str
    sources: tuple[Source, ...]
    max_bytes: int


@dataclass(frozen=True)
class Fetched:
    """A small file as it came, not checked yet, and where it came from."""

    data: bytes
    source: Source


class Downloads:
    """Brings files into a cache. offline: no network is used (places on this machine's disk are); given_up:
    as for Transfers.

    Use it as a context manager.
    """

    def __init__(
        self,
        cache: Cache,
        log: Log,
        *,
        offline: bool = False,
        patience: Patience | None = None,
        given_up: set[str] | None = None,
    ) -> None:
        self.cache = cache
        self.log = log
        self.offline = offline
        self._transfers = Transfers(patience, given_up)

    def __enter__(self) -> Downloads:
        return self

    def __exit__(self, *_: object) -> None:
        self._transfers.__exit__()

    def reachable(self, sources: Sequence[Source]) -> tuple[Source, ...]:
        """Those that may be asked: offline, those on this machine's disk."""
        return tuple(source for source in sources if not (self.offline and source.remote))

    def read(self, source: Source, max_bytes: int = SMALL_FILE_BYTES) -> Fetched:
        """A small file's bytes, from one place; nothing of it is kept. NotThereError, DownloadError,
        HostError; OfflineError where the place takes the network."""
        if not self.reachable([source]):
            raise OfflineError([source.address])
        with (
            cache_disk_errors(self.cache.folder),
            temporary_folder("read", self.cache.partial()) as folder,
        ):
            place = folder / "file"
            self._transfers.save(source, PartialFile(place, max_bytes), tell=self.log.warn)
            return Fetched(place.read_bytes(), source)

    def get(self, wanted: Wanted, *, anew: bool = False) -> Path:
        """One file, from the cache or the first place that has it; its content is compared. anew: not from
        the cache, to learn what the places have.

        WrongContentError where the places give other content only (nothing of it is kept), OfflineError,
        DownloadError with what each place said, HostError for a full disk.
        """
        path = self._get(wanted, self.log, anew=anew)
        self.cache.evict(self.log)
        return path

    def get_all(self, wanted: Sequence[Wanted], what: str = "files") -> list[Path]:
        """Many files, PARALLEL at a time, in the order asked for; what: a word for them. Errors as get() has,
        for all files that failed; OfflineError names all that is missing."""
        self._check_offline(wanted)
        once = {each.sha256: each for each in wanted}
        tally = _Tally(self.log, what, len(once))
        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            futures = {sha: pool.submit(tally.counted, self._get, each) for sha, each in once.items()}
            try:
                for future in futures.values():
                    if future.exception() is not None:
                        break
            except BaseException:
                self._transfers.give_up()
                raise
            finally:
                for future in futures.values():
                    future.cancel()
        _raise_failures(list(futures.values()))
        self.cache.evict(self.log)
        return [futures[each.sha256].result() for each in wanted]

    def _check_offline(self, wanted: Sequence[Wanted]) -> None:
        """OfflineError that names everything which is neither in the cache nor on this machine's disk."""
        if not self.offline:
            return
        missing = [each.name for each in wanted if not self._at_hand(each)]
        if missing:
            raise OfflineError(missing)

    def _at_hand(self, wanted: Wanted) -> bool:
        local = (Path(source.address) for source in self.reachable(wanted.sources))
        return self.cache.blob(wanted.sha256).exists() or any(path.is_file() for path in local)

    def _get(self, wanted: Wanted, log: Log, *, anew: bool = False) -> Path:
        found = None if anew else self.cache.find(wanted.sha256, log)
        if found is not None:
            return found
        sources = self.reachable(wanted.sources)
        if not sources:
            raise OfflineError([wanted.name])
        with self.cache.lock(f"blob {wanted.sha256}", f"fetching {wanted.name}", log):
            found = None if anew else self.cache.find(wanted.sha256, log)
            if found is not None:
                return found
            with cache_disk_errors(self.cache.folder):
                return self._from_first(wanted, sources, log)

    def _from_first(self, wanted: Wanted, sources: Sequence[Source], log: Log) -> Path:
        failures: list[DownloadError] = []
        for number, source in enumerate(sources):
            try:
                return self._from(wanted, source, log)
            except InterruptedTransfersError:
                raise
            except DownloadError as error:
                failures.append(error)
                if number + 1 < len(sources):
                    log.warn(f"{error.message}; asking the next mirror")
        raise together(wanted.name, failures)

    def _from(self, wanted: Wanted, source: Source, log: Log) -> Path:
        place = self.cache.partial() / wanted.sha256
        part = PartialFile(place, wanted.max_bytes, _meter(wanted.name, log))
        if place.is_file() and sha256_of(place) == wanted.sha256:  # killed between its last byte and its name
            part.finish()
            return self.cache.adopt(place, wanted.sha256)
        for _ in range(2):
            continued = self._transfers.save(source, part, checked=True, tell=log.warn)
            found = sha256_of(place)
            if found == wanted.sha256:
                part.finish()
                return self.cache.adopt(place, wanted.sha256)
            part.forget()
            if not continued:
                break
            log.warn(f"{source.address}: its parts do not fit together; fetching the whole file anew")
        raise WrongContentError(
            f"{source.address} is not the file it should be: its SHA-256 is {found}, not {wanted.sha256}",
            hint="it was damaged or exchanged; try again, or give another mirror",
        )


def together(name: str, failures: Sequence[DownloadError]) -> DownloadError:
    """One error for what several places said of one file; wrong content is the worst of it."""
    if len(failures) == 1:
        return failures[0]
    kinds: tuple[type[DownloadError], ...] = (WrongContentError, DownloadError)
    if all(isinstance(each, NotThereError) for each in failures):
        kinds = (NotThereError,)
    kind = next(kind for kind in kinds if any(isinstance(each, kind) for each in failures))
    said = "".join(f"\n  {each.message}" for each in failures)
    return kind(f"no mirror gives {name}:{said}", hint=failures[0].hint)


def _raise_failures(futures: Sequence[Future[Path]]) -> None:
    """One error for all files that failed; anything that is no UserError as it is."""
    failed = [error for each in futures if not each.cancelled() and (error := each.exception()) is not None]
    for error in failed:
        if not isinstance(error, UserError):
            raise error
    users = [error for error in failed if isinstance(error, UserError)]
    if len(users) == 1:
        raise users[0]
    if users:
        said = "\n".join(dict.fromkeys(error.message for error in users))
        raise DownloadError(said, hint=users[0].hint)


def _meter(name: str, log: Log) -> Meter:
    """Progress of one file: its name and rate, with bytes done and in all, a few times a second."""
    began = last = time.monotonic()
    first: int | None = None

    def show(done: int, total: int | None) -> None:
        nonlocal last, first
        first = done if first is None else first
        now = time.monotonic()
        if now - last < PROGRESS_SECONDS and done != total:
            return
        last = now
        rate = (done - first) / max(now - began, 1e-3) / MIB
        log.progress(f"fetching {name}, {rate:.1f} MiB/s", done, total)

    return show


class _Tally:
    """Progress of many files at once: how many are there, and the rate of all together."""

    def __init__(self, log: Log, what: str, total: int) -> None:
        self._log, self._what, self._total = log, what, total
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._done = self._bytes = 0

    def counted(self, get: Callable[[Wanted, Log], Path], wanted: Wanted) -> Path:
        """One file, its own progress left out of the log: only warnings and notes pass."""
        path = get(wanted, Log([self._pass_on]))
        with self._lock:
            self._done += 1
            self._bytes += path.stat().st_size
            rate = self._bytes / max(time.monotonic() - self._began, 1e-3) / MIB
            self._log.progress(f"fetching {self._what}, {rate:.1f} MiB/s", self._done, self._total)
        return path

    def _pass_on(self, event: Event) -> None:
        if not isinstance(event, Progress):
            with self._lock:
                self._log.emit(event)
