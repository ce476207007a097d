"""Debian's packages without apt: signed lists by gpgv, files by their SHA-256."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache
from imagebuilder.host.download import Downloads, Wanted
from imagebuilder.host.transfer_part import NotThereError, Source
from imagebuilder.kit.debian.archive import MAX_INDEX_BYTES, Deb, Suite, listed_index, unpacked_index
from imagebuilder.log import Log
from imagebuilder.trust.keys import Keys
from imagebuilder.trust.signature_gpg import verify_clearsigned

MAX_RELEASE_BYTES = 4 << 20


class DirectArchive:
    """Debian's archive over HTTP. Use it as a context manager."""

    def __init__(self, suites: Sequence[Suite], keys: Keys, cache: Cache, log: Log) -> None:
        self._suites, self._keys = suites, keys
        self._downloads = Downloads(cache, log)

    def __enter__(self) -> DirectArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._downloads.__exit__()

    def indexes(self) -> list[tuple[Suite, str, bytes]]:
        """Each suite with the text of its Release and its index, both verified.

        DebianError, SignatureError and DownloadError as host.download and trust.signature_gpg raise them.
        """
        return [self._index(suite) for suite in self._suites]

    def _index(self, suite: Suite) -> tuple[Suite, str, bytes]:
        address = f"{suite.address}/InRelease"
        message = self._downloads.read(Source(address), MAX_RELEASE_BYTES).data
        _, text = verify_clearsigned(message, self._keys, address)
        release = text.decode("utf-8", "replace")
        packed, plain = listed_index(release, suite)
        wanted = Wanted(
            f"{suite.name}'s package list",
            packed.sha256,
            (Source(f"{suite.address}/{packed.by_hash}"), Source(f"{suite.address}/{packed.path}")),
            MAX_INDEX_BYTES,
        )
        return suite, release, unpacked_index(self._downloads.get(wanted).read_bytes(), plain)

    def fetch(self, debs: Sequence[Deb]) -> Mapping[Deb, Path]:
        """The packages' files in the cache. DownloadError as host.download.get_all() has it."""
        wanted = [Wanted(deb.name, deb.sha256, (Source(deb.address),), deb.size) for deb in debs]
        return dict(zip(debs, self._downloads.get_all(wanted, "Debian's packages"), strict=True))


def is_missing(error: UserError) -> bool:
    """Whether the mirror answered that it has no such file."""
    return isinstance(error, NotThereError)
