"""apk feeds of a verified tree: their signed indexes, and packages checked against them.

The twin of packages/opkg/obtain.py. A feed's folder holds `packages.adb`, signed by a key in the tree's
keys/. It has no SHA-256 of packages: they are looked for in the cache by their identity, and kept there only
after they were checked with their content (packages/apk/file.py).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imagebuilder.host.cache import OfflineError
from imagebuilder.host.download import PARALLEL, Downloads, together
from imagebuilder.host.transfer_part import DownloadError
from imagebuilder.model.package import MAX_INDEX_BYTES, Package
from imagebuilder.packages.apk.file import WrongPackageError, check_apk
from imagebuilder.packages.apk.tool import INDEX
from imagebuilder.packages.opkg.obtain import MAX_PACKAGE_BYTES, SignedIndex
from imagebuilder.server.mirror import Mirror
from imagebuilder.server.obtain_sums import CACHED
from imagebuilder.trust.signature_adb import ApkKey, verify_adb
from imagebuilder.trust.signature_seen import accept_index

_FILE = "package"  # in the cache's record of an identity


def signed_apk_index(
    downloads: Downloads, mirrors: Sequence[Mirror], folder: str, keys: Sequence[ApkKey]
) -> SignedIndex:
    """A feed's index, its signature verified, not older than any seen before; offline, the last one that was
    had.

    folder: in the mirrors ("" for their top). TrustError and its kinds (NoSignatureError, UnknownKeyError,
    WrongSignatureError, SignatureFormatError, OlderIndexError), OfflineError, DownloadError.
    """
    name = _joined(folder or mirrors[0].base, INDEX)
    source = CACHED
    if downloads.offline and not downloads.reachable([each.source(folder) for each in mirrors]):
        kept = downloads.cache.recall(name, downloads.log) or {}
        data = downloads.cache.read(kept[INDEX], downloads.log) if INDEX in kept else None
        if data is None:
            raise OfflineError([name])
    else:
        data, source = _asked(downloads, mirrors, folder)
    key = verify_adb(data, keys, name)
    sha256 = hashlib.sha256(data).hexdigest()
    if source != CACHED:
        accept_index(name, sha256, downloads.cache, downloads.log)
        downloads.cache.remember(name, {INDEX: downloads.cache.add(data)})
    return SignedIndex(folder, data, sha256, key.number, source)


def apk_files(
    downloads: Downloads, mirrors: Sequence[Mirror], folder: str, packages: Sequence[Package]
) -> list[Path]:
    """Packages of a feed, in the cache, in their order; fetched in parallel, each checked with its content.

    packages: from the feed's verified index. OfflineError names all that is missing; WrongPackageError where
    the mirrors give something else only (nothing of it is kept), DownloadError, HostError.
    """
    found = {each.identity: cached_apk(downloads, each) for each in packages}
    lacking = {each.identity: each for each in packages if found[each.identity] is None}
    if downloads.offline and not downloads.reachable([each.source(folder) for each in mirrors]) and lacking:
        raise OfflineError([_joined(folder, each.filename) for each in lacking.values()])

    def fetch(package: Package) -> Path:
        path = _fetched(downloads, mirrors, folder, package)
        downloads.log.progress(package.filename)
        return path

    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        found |= dict(zip(lacking, pool.map(fetch, lacking.values()), strict=True))
    downloads.cache.evict(downloads.log)
    return [path for each in packages if (path := found[each.identity]) is not None]


def cached_apk(downloads: Downloads, package: Package) -> Path | None:
    """The package's file in the cache, or None."""
    kept = downloads.cache.recall(_record(package), downloads.log) or {}
    return downloads.cache.find(kept[_FILE], downloads.log) if _FILE in kept else None


def _record(package: Package) -> str:
    """What the cache knows a package by. Its size too: packed in another way it has the same identity."""
    return f"apk {package.identity} {package.size}"


def _asked(downloads: Downloads, mirrors: Sequence[Mirror], folder: str) -> tuple[bytes, str]:
    """The index from the first mirror that has it, and that mirror."""
    failures: list[DownloadError] = []
    for mirror in mirrors:
        if not downloads.reachable([mirror.source(folder)]):
            continue
        try:
            return downloads.read(mirror.source(_joined(folder, INDEX)), MAX_INDEX_BYTES).data, mirror.base
        except DownloadError as error:
            failures.append(error)
            downloads.log.warn(error.message)
    raise together(_joined(folder, INDEX), failures)


def _fetched(downloads: Downloads, mirrors: Sequence[Mirror], folder: str, package: Package) -> Path:
    """The package, from the first mirror that has the right one, put into the cache."""
    name = _joined(folder, package.filename)
    failures: list[DownloadError] = []
    wrong: WrongPackageError | None = None
    for mirror in mirrors:
        source = mirror.source(name)
        if not downloads.reachable([source]):
            continue
        try:
            data = downloads.read(source, package.size or MAX_PACKAGE_BYTES).data
            check_apk(io.BytesIO(data), len(data), package, source.address)
        except DownloadError as error:
            failures.append(error)
        except WrongPackageError as error:
            wrong = error
            downloads.log.warn(error.message)
        else:
            sha256 = downloads.cache.add(data)
            downloads.cache.remember(_record(package), {_FILE: sha256})
            return downloads.cache.blob(sha256)
    if wrong is not None:
        raise wrong
    raise together(name, failures)


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
