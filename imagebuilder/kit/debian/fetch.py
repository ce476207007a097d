"""The packages that a kit is made of: chosen from Debian's signed lists, fetched into the cache.

Two ways lead there, apt with a root of our own (apt.py), and plain HTTP where this machine has no apt: signed
lists by gpgv, files by their SHA-256. Which packages they are is decided here for both, so that both give the
same kit. Here are the mirror's address too, and the keys that a release is verified with.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache, cache_disk_errors
from imagebuilder.host.download import Downloads, Wanted
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import CLEAN_PATH, run
from imagebuilder.host.transfer_part import DownloadError, NotThereError, Source
from imagebuilder.kit.debian.apt import AptArchive, AptFailedError, is_missing
from imagebuilder.kit.debian.archive import (
    MAX_INDEX_BYTES,
    Deb,
    DebianError,
    Mirrors,
    Suite,
    kernel_of,
    listed_index,
    newest,
    packages_in,
    suites_of,
    unpacked_index,
    valid_until,
)
from imagebuilder.log import Log
from imagebuilder.model.edition import Edition
from imagebuilder.trust.keys import GpgKey, Keys, parse_gpg_key
from imagebuilder.trust.signature import TrustError, verify_clearsigned

MIRROR_VARIABLE = "OPENWRT_IMAGEBUILDER_DEBIAN"
DEFAULT_MIRRORS = Mirrors("http://deb.debian.org/debian", "http://deb.debian.org/debian-security")
KEYS = Path(__file__).with_name("keys")
APT_SECONDS = 30.0
_SECURITY = "-security"


def has_apt() -> bool:
    """Whether this machine has apt."""
    return all(shutil.which(name, path=CLEAN_PATH) for name in ("apt-get", "apt-config"))


def find_mirrors(environment: Mapping[str, str] = os.environ) -> Mirrors:
    """Debian's mirrors: what OPENWRT_IMAGEBUILDER_DEBIAN says (http://SERVER/debian; the security archive is
    beside it, `-security` behind its name), else those that this machine's apt is set up with, else Debian's
    own. DebianError for a value that is no http(s) address."""
    given = environment.get(MIRROR_VARIABLE)
    if not given:
        return _mirrors_of_apt() if has_apt() else DEFAULT_MIRRORS
    address = given.rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc or not parts.path or " " in address:
        raise DebianError(
            f"{MIRROR_VARIABLE} is {given[:100]!r}, which is no address of a Debian mirror",
            hint=f"for example {MIRROR_VARIABLE}={DEFAULT_MIRRORS.main}",
        )
    return Mirrors(address, address + _SECURITY)


def _mirrors_of_apt() -> Mirrors:
    """Those that this machine's apt names. Its other settings are not looked at, and on a system that is not
    Debian it names none."""
    asked = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages")
    named = run(asked, timeout=APT_SECONDS, check=False).stdout
    main = next(_named(named, "debian"), DEFAULT_MIRRORS.main)
    return Mirrors(main, next(_named(named, f"debian{_SECURITY}"), DEFAULT_MIRRORS.security))


def _named(indextargets: str, archive: str) -> Iterator[str]:
    """The addresses of archives that are called so, as Debian asks its mirrors to call them."""
    for line in indextargets.splitlines():
        address, _, component = line.partition(" ")
        address = address.rstrip("/")
        is_web = address.startswith(("http://", "https://"))
        if is_web and component == "main" and address.endswith(f"/{archive}") and "@" not in address:
            yield address


def release_keys(edition: Edition) -> Keys:
    """The shipped keys that sign this edition's Debian: the archive's, the security archive's, the
    release's."""
    files = sorted(KEYS.glob(f"{edition.codename}-*.asc"))
    keys = (parse_gpg_key(file.read_bytes(), file.name) for file in files)
    return Keys(gpg=tuple(GpgKey(key.packets, key.fingerprints, f"Debian, {key.name}") for key in keys))


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

        DebianError, SignatureError and DownloadError as host.download and trust.signature raise them.
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


KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
ARCHIVED = "http://archive.debian.org/debian"  # where Debian keeps releases that are over

Archive = AptArchive | DirectArchive


def fetch(edition: Edition, names: Sequence[str], cache: Cache, log: Log) -> Mapping[Deb, Path]:
    """The newest of the named packages and the kernel's, to their verified files, in the order of names.

    Raises DebianError, with where to point instead, where Debian's release cannot be had or lacks a package.
    """
    mirrors = find_mirrors()
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
    suites, keys = suites_of(edition, mirrors), release_keys(edition)
    if not has_apt():
        with DirectArchive(suites, keys, cache, log) as archive:
            yield archive
        return
    with (
        temporary_folder("apt", cache.partial()) as folder,
        temporary_folder("apt") as plain,
    ):
        keyring = plain / "keyring.gpg"
        yield AptArchive(suites, keys, cache, log, folder=folder, keyring=keyring)


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
    variable = MIRROR_VARIABLE
    if is_missing(error) or isinstance(error, NotThereError):
        return (
            f"{mirrors.main} does not have it: where Debian has moved the release to its archive, say"
            f" {variable}={ARCHIVED}, else another mirror"
        )
    if isinstance(error, DownloadError | AptFailedError):
        return (
            "is the network there, or http_proxy set where one is needed?"
            f" {variable}=http://SERVER/debian names another mirror"
        )
    return error.hint or f"{variable}=http://SERVER/debian names another mirror"
