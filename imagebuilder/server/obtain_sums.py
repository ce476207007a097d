"""The signed list of a target's files, from a mirror or from the cache, and single files that it vouches
for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from imagebuilder.config.releases import (
    VERSIONS_FILE,
    ReleaseList,
    ReleaseListError,
    parse_versions,
    shipped_releases,
)
from imagebuilder.host.cache import OfflineError
from imagebuilder.host.download import Downloads, Wanted, WrongContentError, together
from imagebuilder.host.transfer_part import DownloadError, NotThereError
from imagebuilder.model.release import SNAPSHOT
from imagebuilder.server.archive import ArchiveError
from imagebuilder.server.devices import (
    OVERVIEW_FILE,
    PROFILES_FILE,
    DeviceListError,
    ListedDevice,
    TargetDevices,
    parse_overview,
    parse_profiles,
)
from imagebuilder.server.mirror import Mirror, TargetPlace, release_folder
from imagebuilder.trust.keys import Keys
from imagebuilder.trust.signature import NoSignatureError, TrustError
from imagebuilder.trust.signature_seen import accept_index, refuse_older
from imagebuilder.trust.signature_sums import GPG, SUMS, USIGN, SumsError, Trust, parse_sums, verify_sums

MAX_SUMS_BYTES = 16 << 20
MAX_SIGNATURE_BYTES = 64 << 10
MAX_LIST_BYTES = 64 << 20
MAX_ARCHIVE_BYTES = 4 << 30
CACHED = "the cache"

Parsed = TypeVar("Parsed")
Result = TypeVar("Result")


class SwappedFileError(TrustError):
    """A file that is not the one that the signed checksums, or the config's `trust`, are about."""


@dataclass(frozen=True)
class SignedSums:
    """A target's checksums, by file name, and why they are trusted. source: the mirror, or the cache; files:
    the list and its signatures, as they are there."""

    place: TargetPlace
    sums: dict[str, str]
    trust: Trust
    source: str
    files: dict[str, bytes]

    def archive(self) -> tuple[str, str]:
        """Name and SHA-256 of the ImageBuilder's archive. SumsError if none is listed."""
        names = self.place.archive_names()
        for name in names:
            if name in self.sums:
                return name, self.sums[name]
        raise SumsError(
            f"{SUMS} of {self.place.folder} lists no ImageBuilder ({names[0]}), although its signature holds",
            hint="did the mirror give another release's list? Or does this target have no ImageBuilder?",
        )


def with_signed_sums(
    downloads: Downloads,
    mirrors: Sequence[Mirror],
    place: TargetPlace,
    keys: Keys,
    use: Callable[[SignedSums], Result],
) -> Result:
    """What `use` makes of the checksums of a target's files, their signature verified, at most as old as any
    seen before.

    A numbered release does not change: once used they are taken from the cache, and verified again. A
    snapshot is asked for each time. Checksums are kept, and count as seen, once `use` has ended well. Where a
    file is refused by the cache's, the mirrors are asked for theirs: they may have been put right since.

    TrustError and its kinds, OfflineError, DownloadError; what `use` raises.
    """
    cached = _cached(downloads, place, keys)
    if cached is not None and (downloads.offline or place.release != SNAPSHOT):
        try:
            return use(cached)
        except (SwappedFileError, NotThereError, ArchiveError):
            fresh = _corrected(downloads, mirrors, cached, keys)
            if fresh is None:
                raise
    else:
        fresh = _signed(downloads, mirrors, place, keys)
    result = use(fresh)
    name = f"{place.folder}/{SUMS}"
    sha256 = hashlib.sha256(fresh.files[SUMS]).hexdigest()
    accept_index(name, sha256, downloads.cache, downloads.log, signed=fresh.trust.signed)
    kept = {file: downloads.cache.add(data) for file, data in fresh.files.items()}
    downloads.cache.remember(name, kept)
    return result


def _corrected(
    downloads: Downloads, mirrors: Sequence[Mirror], refused: SignedSums, keys: Keys
) -> SignedSums | None:
    """Other checksums than the refused ones, which mirrors have now; None where they have the same, or where
    there is none to ask."""
    try:
        fresh = _signed(downloads, mirrors, refused.place, keys)
    except (DownloadError, OfflineError):
        return None
    if fresh.files[SUMS] == refused.files[SUMS]:
        return None
    folder = refused.place.folder
    downloads.log.note(f"{folder}: by the checksums in the cache a file is wrong; {fresh.source} has others")
    return fresh


def _signed(downloads: Downloads, mirrors: Sequence[Mirror], place: TargetPlace, keys: Keys) -> SignedSums:
    """The checksums that mirrors have, verified."""
    try:
        files, source = _asked(downloads, mirrors, place)
    except OfflineError:
        names = (SUMS, f"{USIGN} or {GPG}", place.archive_names()[0])
        raise OfflineError([f"{place.folder}/{name}" for name in names]) from None
    trust = verify_sums(files, keys, place.release, downloads.log)
    signed = SignedSums(place, parse_sums(files[SUMS]), trust, source, files)
    signed.archive()
    sha256 = hashlib.sha256(files[SUMS]).hexdigest()
    refuse_older(f"{place.folder}/{SUMS}", sha256, downloads.cache, downloads.log, signed=trust.signed)
    return signed


def listed_file(
    downloads: Downloads,
    mirrors: Sequence[Mirror],
    path: str,
    sha256: str,
    max_bytes: int,
    *,
    anew: bool = False,
) -> Path:
    """The file at a path of the layout, with a trusted SHA-256. anew: as in Downloads.get().

    SwappedFileError where mirrors give another, OfflineError, DownloadError.
    """
    try:
        wanted = Wanted(path, sha256, tuple(each.source(path) for each in mirrors), max_bytes)
        return downloads.get(wanted, anew=anew)
    except WrongContentError as error:
        raise SwappedFileError(
            f"{path} is not the file that is vouched for, and nothing of it was kept:\n{error.message}",
            hint="it was damaged or exchanged on the way; try again, or another mirror",
        ) from error


def known_releases(downloads: Downloads, mirrors: Sequence[Mirror]) -> ReleaseList:
    """The shipped list together with a mirror's own (.versions.json), or with the last one that was had."""
    listed = mirrors_releases(downloads, mirrors)
    return shipped_releases().merged(listed) if listed is not None else shipped_releases()


def mirrors_releases(
    downloads: Downloads, mirrors: Sequence[Mirror], *, must_answer: bool = False
) -> ReleaseList | None:
    """A mirror's own list alone, or the last one that was had; None for neither.

    must_answer: DownloadError, in place of the last one, where mirrors were asked and none gives a list.
    """
    return _unsigned(downloads, mirrors, VERSIONS_FILE, parse_versions, must_answer=must_answer)


def target_devices(
    downloads: Downloads, mirrors: Sequence[Mirror], place: TargetPlace, keys: Keys
) -> TargetDevices:
    """A target's profiles.json, verified as the archive is. SumsError for releases that have none (before
    21.02), DeviceListError, and as with_signed_sums()."""

    def devices(signed: SignedSums) -> TargetDevices:
        if PROFILES_FILE not in signed.sums:
            raise SumsError(f"{place.folder} has no {PROFILES_FILE}: OpenWrt writes them from 21.02 on")
        path = f"{place.folder}/{PROFILES_FILE}"
        file = listed_file(downloads, mirrors, path, signed.sums[PROFILES_FILE], MAX_LIST_BYTES)
        return parse_profiles(file.read_bytes(), path)

    return with_signed_sums(downloads, mirrors, place, keys, devices)


def release_devices(
    downloads: Downloads, mirrors: Sequence[Mirror], release: str
) -> tuple[ListedDevice, ...]:
    """All devices of a release, for a search: from `.overview.json`, which is not signed. DownloadError,
    OfflineError where it is neither on a mirror nor was had before; DeviceListError."""
    path = f"{release_folder(release)}/{OVERVIEW_FILE}"
    listed = _unsigned(downloads, mirrors, path, parse_overview)
    if listed is None:
        if downloads.offline:
            raise OfflineError([path])
        raise DownloadError(f"no mirror gives {path}", hint="is it a full copy of the download server?")
    return listed


def _cached(downloads: Downloads, place: TargetPlace, keys: Keys) -> SignedSums | None:
    """The checksums as last verified, verified anew with the keys of today; None where that fails online."""
    kept = downloads.cache.recall(f"{place.folder}/{SUMS}", downloads.log)
    if kept is None or SUMS not in kept:
        return None
    files = {name: downloads.cache.read(sha256, downloads.log) for name, sha256 in kept.items()}
    whole = {name: data for name, data in files.items() if data is not None}
    if SUMS not in whole:
        return None
    try:
        trust = verify_sums(whole, keys, place.release, downloads.log)
        return SignedSums(place, parse_sums(whole[SUMS]), trust, CACHED, whole)
    except TrustError as error:
        if downloads.offline:
            raise
        downloads.log.note(f"what the cache has of {place.folder} is not trusted any more: {error.message}")
        return None


def _asked(
    downloads: Downloads, mirrors: Sequence[Mirror], place: TargetPlace
) -> tuple[dict[str, bytes], str]:
    """`sha256sums` and its signatures from the first mirror that has it and one of them, and that mirror.

    What is wrong with a signature is no reason to ask the next mirror: that is for people to know.
    """
    failures: list[DownloadError] = []
    unsigned: NoSignatureError | None = None
    asked = 0
    for mirror in mirrors:
        if not downloads.reachable([mirror.source(place.folder)]):
            continue
        asked += 1
        try:
            files = {SUMS: _read(downloads, mirror, place, SUMS, MAX_SUMS_BYTES)}
            for name in (USIGN, GPG):
                try:
                    files[name] = _read(downloads, mirror, place, name, MAX_SIGNATURE_BYTES)
                except NotThereError:
                    continue
        except DownloadError as error:
            failures.append(error)
            downloads.log.warn(error.message)
            continue
        if len(files) > 1:
            return files, mirror.told
        unsigned = NoSignatureError(
            f"{mirror.base} has no signature of {place.folder}/{SUMS}: neither {USIGN} nor {GPG}",
            hint='try another mirror; or pin the archive: trust = "sha256:…"',
        )
        downloads.log.warn(unsigned.message)
    if unsigned is not None:
        raise unsigned
    if not asked:
        raise OfflineError([f"{place.folder}/{SUMS}"])
    raise together(f"{place.folder}/{SUMS}", failures)


def _read(downloads: Downloads, mirror: Mirror, place: TargetPlace, name: str, max_bytes: int) -> bytes:
    return downloads.read(mirror.source(f"{place.folder}/{name}"), max_bytes).data


def _unsigned(
    downloads: Downloads,
    mirrors: Sequence[Mirror],
    path: str,
    parse: Callable[[bytes, str], Parsed],
    *,
    must_answer: bool = False,
) -> Parsed | None:
    """A list that nothing vouches for, from the first mirror that has one that can be read, else the last one
    that was had, which is told; None for neither. must_answer: as in mirrors_releases()."""
    failures: list[DownloadError] = []
    for mirror in mirrors:
        if not downloads.reachable([mirror.source(path)]):
            continue
        try:
            data = downloads.read(mirror.source(path), MAX_LIST_BYTES).data
            listed = parse(data, f"{mirror.base}/{path}")
        except (DownloadError, ReleaseListError, DeviceListError) as error:
            failures.append(error if isinstance(error, DownloadError) else DownloadError(error.message))
            continue
        downloads.cache.remember(path, {path: downloads.cache.add(data)})
        _warn(downloads, failures)
        return listed
    if must_answer and failures:
        raise together(path, failures)
    _warn(downloads, failures)
    kept = downloads.cache.recall(path, downloads.log)
    data_kept = downloads.cache.read(kept[path], downloads.log) if kept and path in kept else None
    if data_kept is None:
        return None
    why = "no mirror gives" if failures else "no mirror was asked for"
    downloads.log.note(f"{why} {path}: what was fetched before is used")
    return parse(data_kept, f"the {path} that was fetched before")


def _warn(downloads: Downloads, failures: Sequence[DownloadError]) -> None:
    for failure in failures:
        downloads.log.warn(failure.message)
