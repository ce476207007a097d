"""opkg feeds of a verified tree: their signed indexes, and packages checked against them.

A feed's folder holds `Packages`, the same as `Packages.gz`, and `Packages.sig`: usign's, over the plain one,
by a key in the tree's `keys/`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from imagebuilder.host.cache import OfflineError
from imagebuilder.host.download import Downloads, Wanted, together
from imagebuilder.host.transfer_part import DownloadError, NotThereError
from imagebuilder.model.package import MAX_INDEX_BYTES, Package
from imagebuilder.server.mirror import Mirror
from imagebuilder.server.obtain_sums import CACHED, MAX_SIGNATURE_BYTES
from imagebuilder.trust.keys import Keys
from imagebuilder.trust.signature import NoSignatureError, TrustError, verify_usign
from imagebuilder.trust.signature_seen import accept_index

INDEX, PACKED, SIGNATURE = "Packages", "Packages.gz", "Packages.sig"
MAX_PACKAGE_BYTES = 1 << 30


class IndexFormatError(TrustError):
    """An index that cannot be unpacked."""


@dataclass(frozen=True)
class SignedIndex:
    """A feed's index whose signature holds. folder: of the feed, in the mirror; key: the number of the key
    that signed it; source: the mirror, or the cache."""

    folder: str
    data: bytes
    sha256: str
    key: str
    source: str


def signed_index(downloads: Downloads, mirrors: Sequence[Mirror], folder: str, keys: Keys) -> SignedIndex:
    """A feed's index, its signature verified, not older than any seen before; offline, the last one that was
    had.

    folder: in the mirrors ("" for their top). TrustError and its kinds (NoSignatureError, UnknownKeyError,
    WrongSignatureError, UsignLengthError, OlderIndexError), OfflineError, DownloadError.
    """
    name = _path(mirrors, folder, INDEX)
    if downloads.offline and not downloads.reachable([each.source(folder) for each in mirrors]):
        return _cached(downloads, folder, name, keys)
    data, signature, source = _asked(downloads, mirrors, folder)
    key = verify_usign(data, signature, keys, name)
    sha256 = hashlib.sha256(data).hexdigest()
    accept_index(name, sha256, downloads.cache, downloads.log)
    kept = {INDEX: downloads.cache.add(data), SIGNATURE: downloads.cache.add(signature)}
    downloads.cache.remember(name, kept)
    return SignedIndex(folder, data, sha256, key.number, source)


def wanted_file(mirrors: Sequence[Mirror], folder: str, package: Package) -> Wanted:
    """What to ask for a package of the feed in this folder of the mirrors."""
    path = _joined(folder, package.filename)
    sources = tuple(mirror.source(path) for mirror in mirrors)
    return Wanted(path, package.sha256.lower(), sources, package.size or MAX_PACKAGE_BYTES)


def _cached(downloads: Downloads, folder: str, name: str, keys: Keys) -> SignedIndex:
    kept = downloads.cache.recall(name, downloads.log) or {}
    found = [downloads.cache.read(kept[file], downloads.log) for file in (INDEX, SIGNATURE) if file in kept]
    data, signature = found if len(found) == 2 else (None, None)
    if data is None or signature is None:
        raise OfflineError([name, f"{name}.sig"])
    key = verify_usign(data, signature, keys, name)
    return SignedIndex(folder, data, hashlib.sha256(data).hexdigest(), key.number, CACHED)


def _asked(downloads: Downloads, mirrors: Sequence[Mirror], folder: str) -> tuple[bytes, bytes, str]:
    """The index and its signature from the first mirror that has both, and that mirror."""
    failures: list[DownloadError] = []
    unsigned: str | None = None
    for mirror in mirrors:
        if not downloads.reachable([mirror.source(folder)]):
            continue
        try:
            data = _index(downloads, mirror, folder)
        except DownloadError as error:
            failures.append(error)
            downloads.log.warn(error.message)
            continue
        try:
            source = mirror.source(_joined(folder, SIGNATURE))
            return data, downloads.read(source, MAX_SIGNATURE_BYTES).data, mirror.base
        except NotThereError as error:
            unsigned = error.message
            downloads.log.warn(error.message)
        except DownloadError as error:
            failures.append(error)
            downloads.log.warn(error.message)
    if unsigned is not None:
        raise NoSignatureError(f"the index of {folder or mirrors[0].base} has no signature: {unsigned}")
    raise together(_joined(folder, INDEX), failures)


def _index(downloads: Downloads, mirror: Mirror, folder: str) -> bytes:
    """The plain index: unpacked, or as it is where the feed has no packed one."""
    try:
        packed = downloads.read(mirror.source(_joined(folder, PACKED)), MAX_INDEX_BYTES)
    except NotThereError:
        return downloads.read(mirror.source(_joined(folder, INDEX)), MAX_INDEX_BYTES).data
    return unpacked_index(packed.data, packed.source.address)


def unpacked_index(packed: bytes, origin: str) -> bytes:
    """A gzip's content, at most MAX_INDEX_BYTES. IndexFormatError for anything else."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            data = stream.read(MAX_INDEX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise IndexFormatError(f"{origin} is damaged: {error}") from error
    if len(data) > MAX_INDEX_BYTES:
        raise IndexFormatError(f"{origin} is larger than {MAX_INDEX_BYTES >> 20} MiB when unpacked")
    return data


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _path(mirrors: Sequence[Mirror], folder: str, name: str) -> str:
    """What an index is remembered by: its path in the layout, for all mirrors of it; a feed elsewhere by its
    address."""
    return _joined(folder or mirrors[0].base, name)
