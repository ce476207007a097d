"""The packages that a kit is made of: chosen from Debian's signed lists, fetched into the cache.

Two ways lead there, apt with a root of our own, and plain HTTP where this machine has no apt. Which packages
they are is decided here for both, so that both give the same kit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache, cache_disk_errors
from imagebuilder.host.transfer_part import DownloadError
from imagebuilder.kit.debian import apt, direct, sources
from imagebuilder.kit.debian.archive import (
    Deb,
    DebianError,
    Mirrors,
    Suite,
    kernel_of,
    newest,
    packages_in,
    suites_of,
    valid_until,
)
from imagebuilder.log import Log
from imagebuilder.model.edition import Edition
from imagebuilder.trust.signature import TrustError

KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
ARCHIVED = "http://archive.debian.org/debian"  # where Debian keeps releases that are over

Archive = apt.AptArchive | direct.DirectArchive


def fetch(edition: Edition, names: Sequence[str], cache: Cache, log: Log) -> Mapping[Deb, Path]:
    """The newest of the named packages and the kernel's, to their verified files, in the order of names.

    Raises DebianError, with where to point instead, where Debian's release cannot be had or lacks a package.
    """
    mirrors = sources.find_mirrors()
    with (
        _explained(edition, mirrors),
        cache_disk_errors(cache.folder),
        _archive(edition, mirrors, cache, log) as archive,
    ):
        log.progress(f"reading the package lists of Debian {edition.debian} at {mirrors.main}")
        lists = archive.indexes()
        for suite, release, _ in lists:
            _warn_if_old(suite, release, log)
        debs = _chosen([(suite, index) for suite, _, index in lists], names)
        return archive.fetch(debs)


@contextmanager
def _archive(edition: Edition, mirrors: Mirrors, cache: Cache, log: Log) -> Iterator[Archive]:
    suites, keys = suites_of(edition, mirrors), sources.release_keys(edition)
    if not sources.has_apt():
        with direct.DirectArchive(suites, keys, cache, log) as archive:
            yield archive
        return
    with (
        tempfile.TemporaryDirectory(prefix="apt-", dir=cache.partial()) as folder,
        tempfile.TemporaryDirectory(prefix="apt-keyring-") as plain,
    ):
        keyring = Path(plain) / "keyring.gpg"
        yield apt.AptArchive(suites, keys, cache, log, folder=Path(folder), keyring=keyring)


def _chosen(lists: Sequence[tuple[Suite, bytes]], names: Sequence[str]) -> list[Deb]:
    """The newest package of each name, and of the kernel that the metapackage depends on."""

    def offered(wanted: Sequence[str]) -> dict[str, tuple[Deb, Mapping[str, str]]]:
        best = newest(one for suite, index in lists for one in packages_in(index, wanted, suite.mirror))
        missing = [name for name in wanted if name not in best]
        if missing:
            raise DebianError(f"Debian's lists offer no {', '.join(missing)}")
        return best

    found = offered([*names, KERNEL_METAPACKAGE])
    _, metapackage = found.pop(KERNEL_METAPACKAGE)
    found |= offered([kernel_of(metapackage)])
    return [found[name][0] for name in sorted(found)]


def _warn_if_old(suite: Suite, release: str, log: Log) -> None:
    """A mirror that lags behind is signed all the same; the kit is then made of what it has."""
    until = valid_until(release)
    if until is not None and until < datetime.now(UTC):
        log.warn(f"the list of {suite.name} was valid until {until:%Y-%m-%d}: {suite.mirror} lags behind")


@contextmanager
def _explained(edition: Edition, mirrors: Mirrors) -> Iterator[None]:
    """What the network, a mirror and a signature can do, as one error that says where to point."""
    try:
        yield
    except (DebianError, DownloadError, TrustError) as error:
        what = f"the kit's Debian {edition.debian} ({edition.codename}) packages cannot be had"
        raise DebianError(f"{what}: {error.message}", hint=_hint(error, mirrors)) from error


def _hint(error: UserError, mirrors: Mirrors) -> str:
    variable = sources.MIRROR_VARIABLE
    if apt.is_missing(error) or direct.is_missing(error):
        return (
            f"{mirrors.main} does not have it: where Debian has moved the release to its archive, say"
            f" {variable}={ARCHIVED}, else another mirror"
        )
    if isinstance(error, DownloadError | apt.AptFailedError):
        return (
            "is the network there, or http_proxy set where one is needed?"
            f" {variable}=http://SERVER/debian names another mirror"
        )
    return error.hint or f"{variable}=http://SERVER/debian names another mirror"
