"""From a board and a release to a verified ImageBuilder's tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from imagebuilder.config.board import Board, Profile
from imagebuilder.config.releases import ReleaseList, profile_for_release, resolve_release, shipped_releases
from imagebuilder.host.cache import Cache, cache_disk_errors, is_sha256
from imagebuilder.host.download import Downloads
from imagebuilder.host.handover import appear, temporary_folder
from imagebuilder.host.once import Once
from imagebuilder.host.transfer import Patience
from imagebuilder.host.transfer_part import NotThereError
from imagebuilder.log import Log
from imagebuilder.model.release import SNAPSHOT
from imagebuilder.server.archive import ArchiveError, unpacked_tree
from imagebuilder.server.mirror import Mirror, TargetPlace, parse_mirror
from imagebuilder.server.obtain_sums import (
    CACHED,
    MAX_ARCHIVE_BYTES,
    SignedSums,
    SwappedFileError,
    known_releases,
    listed_file,
    with_signed_sums,
)
from imagebuilder.trust.keys import Keys, keys_in, shipped_keys
from imagebuilder.trust.signature import TrustError
from imagebuilder.trust.signature_sums import Trust

PIN = "sha256:"
_ARCHIVE_ADDRESS = re.compile(
    r"(?P<base>https?://.+?)/(?:releases/(?P<release>[^/]+)|snapshots)"
    r"/targets/(?P<target>[a-z0-9_]+/[a-z0-9_-]+)/(?P<name>[^/?#]+\.tar\.(?:zst|xz))"
)


@dataclass(frozen=True)
class Obtained:
    """A tree, and where it is from. folder: of the cache, never to be written to. release: as resolved;
    profile: the board's in it, None where no board was asked about. archive, sha256: the ImageBuilder's file.
    source: the mirror that vouched for it (Mirror.told), or the cache; without credentials."""

    folder: Path
    release: str
    profile: Profile | None
    archive: str
    sha256: str
    trust: Trust
    source: str


def obtain_tree(
    board: Board,
    release: str,
    mirrors: Sequence[Mirror],
    cache: Cache,
    *,
    offline: bool = False,
    trust: str | None = None,
    user_keys: Path | None = None,
    log: Log,
    patience: Patience | None = None,
    once: Once | None = None,
) -> Obtained:
    """The tree of the ImageBuilder that makes a board's images in a release, verified, from mirrors or the
    cache.

    release: `24.10.4`, `24.10`, `latest` or `snapshot`. mirrors: asked in their order. trust: `sha256:…` of
    the archive, in place of a signature. user_keys: a folder of keys that are trusted besides OpenWrt's own.
    once: what was asked for other boards already, and need not be asked again.
    ReleaseError, TrustError and its kinds, DownloadError, OfflineError, ArchiveError, HostError; nothing of
    what is not verified is kept then.
    """
    pinned = parse_pin(trust) if trust is not None else None
    keys, once = trusted_keys(user_keys), once or Once()
    asked = tuple(mirrors)

    def opened(log: Log) -> Downloads:
        return Downloads(cache, log, offline=offline, patience=patience, given_up=once.given_up)

    def releases(log: Log) -> ReleaseList:
        with opened(log) as downloads:
            return releases_for(release, downloads, mirrors)

    def verified(log: Log) -> Obtained:
        with opened(log) as downloads:
            return _verified(downloads, mirrors, place, keys, pinned)

    known = once.get("releases", (release, asked), releases, log)
    version = resolve_release(release, known, log)
    profile = profile_for_release(board, version, known)
    over = known.end_of_life(version)
    if over is not None:
        log.warn(over)
    place = TargetPlace(version, profile.target)
    found = once.get("tree of a target", (place, asked, trust, user_keys), verified, log)
    return replace(found, profile=profile)


def obtain_archive(
    address: str,
    cache: Cache,
    *,
    offline: bool = False,
    trust: str | None = None,
    user_keys: Path | None = None,
    log: Log,
    patience: Patience | None = None,
) -> Obtained:
    """The tree of an ImageBuilder's archive at an address in the download server's layout, verified as in
    obtain_tree(), by the checksums that lie beside it.

    TrustError for an address of no such layout, and as obtain_tree().
    """
    base, place, name = archive_place(address)
    pinned = parse_pin(trust) if trust is not None else None
    with Downloads(cache, log, offline=offline, patience=patience) as downloads:
        found = _verified(downloads, (parse_mirror(base),), place, trusted_keys(user_keys), pinned)
    if found.archive != name:
        raise SwappedFileError(
            f"the checksums beside {name} name another ImageBuilder, {found.archive}",
            hint="is the address whole?",
        )
    return found


def archive_place(address: str) -> tuple[str, TargetPlace, str]:
    """The mirror, the target's place in it, and the file's name, of an archive's address. TrustError for one
    that is not in the download server's layout: nothing would say whether it is genuine."""
    found = _ARCHIVE_ADDRESS.fullmatch(address)
    if found is None:
        raise TrustError(
            "an ImageBuilder's address ends in releases/VERSION/targets/TARGET/SUBTARGET/NAME.tar.zst (or"
            " snapshots/targets/…), where its signed checksums lie beside it",
            hint="download another one yourself, look whether you trust it, and give its path",
        )
    return found["base"], TargetPlace(found["release"] or SNAPSHOT, found["target"]), found["name"]


def _verified(
    downloads: Downloads, mirrors: Sequence[Mirror], place: TargetPlace, keys: Keys, pinned: str | None
) -> Obtained:
    """The tree of a target's ImageBuilder, by its signed checksums or by the SHA-256 that the user gives."""
    if pinned is None:
        found = _signed(downloads, mirrors, place, keys)
    else:
        found = _pinned(downloads, mirrors, place, pinned)
    downloads.cache.evict(downloads.log)
    downloads.log.note(f"{found.archive}: {found.trust.text}")
    return found


def trusted_keys(folder: Path | None) -> Keys:
    """The shipped keys, and before them those in a user's folder: a user's newer copy of a key that has
    expired is the one that counts."""
    return shipped_keys() if folder is None else keys_in(folder) + shipped_keys()


def releases_for(release: str, downloads: Downloads, mirrors: Sequence[Mirror]) -> ReleaseList:
    """The list that a release is looked up in: mirrors are asked only where the shipped one does not settle
    it."""
    shipped = shipped_releases()
    settled = release == SNAPSHOT or release in shipped.versions
    return shipped if settled else known_releases(downloads, mirrors)


def parse_pin(trust: str) -> str:
    """The SHA-256 in `sha256:…`. TrustError for anything else."""
    sha256 = trust.removeprefix(PIN).lower()
    if not trust.startswith(PIN) or not is_sha256(sha256):
        raise TrustError(
            f"trust = '{trust[:100]}' is none",
            hint=f'it is "{PIN}" and the 64 digits of the archive\'s SHA-256',
        )
    return sha256


def _signed(downloads: Downloads, mirrors: Sequence[Mirror], place: TargetPlace, keys: Keys) -> Obtained:
    """The tree of the archive that the signed checksums name."""

    def tree_of(sums: SignedSums) -> Obtained:
        name, sha256 = sums.archive()
        tree = downloads.cache.use_tree(sha256)
        if tree is None:
            blob = listed_file(downloads, mirrors, f"{place.folder}/{name}", sha256, MAX_ARCHIVE_BYTES)
            tree = _unpacked(downloads, blob, name, sha256)
        return Obtained(tree, place.release, None, name, sha256, sums.trust, sums.source)

    return with_signed_sums(downloads, mirrors, place, keys, tree_of)


def _pinned(downloads: Downloads, mirrors: Sequence[Mirror], place: TargetPlace, sha256: str) -> Obtained:
    """The tree of the archive that the user vouches for. Its name is remembered with it: a pin that was left
    behind in a config does not bring another release's tree."""
    trust = Trust("pinned", sha256, f"its SHA-256 is the one that `trust` gives: {sha256}")
    missing: list[str] = []
    kept = [
        name
        for name in place.archive_names()
        if downloads.cache.recall(f"{place.folder}/{name}", downloads.log) == {name: sha256}
    ]
    for name in kept or place.archive_names():
        path, known = f"{place.folder}/{name}", bool(kept)
        tree = downloads.cache.use_tree(sha256) if known else None
        if tree is not None:
            return Obtained(tree, place.release, None, name, sha256, trust, CACHED)
        try:
            blob = listed_file(downloads, mirrors, path, sha256, MAX_ARCHIVE_BYTES, anew=not known)
        except NotThereError as error:
            missing.append(error.message)
            continue
        except SwappedFileError as error:
            error.hint = "is `trust` of the config meant for this release and target?"
            raise
        folder = _unpacked(downloads, blob, name, sha256)
        downloads.cache.remember(path, {name: sha256})
        source = " or ".join(mirror.told for mirror in mirrors)
        return Obtained(folder, place.release, None, name, sha256, trust, source)
    raise NotThereError("\n".join(missing), hint="does this release have an ImageBuilder for this target?")


def _unpacked(downloads: Downloads, blob: Path, name: str, sha256: str) -> Path:
    """Unpack an archive once for all processes. What one that was killed had begun is removed first, and an
    archive that is refused too."""
    cache, log = downloads.cache, downloads.log
    with cache.lock(f"tree {sha256}", f"unpacking {name}", log):
        tree = cache.use_tree(sha256)
        if tree is not None:
            return tree
        with (
            cache_disk_errors(cache.folder),
            temporary_folder("unpack", cache.folder / "unpacking") as staging,
        ):
            try:
                link = staging / name  # a blob has no ending, and the unpacker goes by it
                link.symlink_to(blob.resolve())
                fresh = unpacked_tree(link, staging, log)
                place = cache.tree(sha256)
                place.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    appear(fresh, place)
            except ArchiveError:
                blob.unlink(missing_ok=True)
                raise
        return cache.use_tree(sha256) or place
