"""Requirements by their address: a wheel, an sdist or a project's folder on this machine, a file to be
downloaded, a commit of a git repository. What is taken is written down with its SHA-256."""

from __future__ import annotations

import json
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename

from imagebuilder.config.app import PinnedRequirement
from imagebuilder.config.overlay import Variable, find_secret
from imagebuilder.config.requirement import ARCHIVES, Address, variables_of
from imagebuilder.host.cache import OfflineError
from imagebuilder.host.files import PlainFileError, read_plain
from imagebuilder.host.fs import expand_home
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.transfer_part import DownloadError, Source
from imagebuilder.log import Log
from imagebuilder.python.build.host_build import BuildOptions
from imagebuilder.python.requirements.git import check_out, is_commit
from imagebuilder.python.requirements.index import PackageIndex, project_digest
from imagebuilder.python.requirements.index_build import PURE, Built
from imagebuilder.python.requirements.requirements_file import Stated
from imagebuilder.python.wheels.target import WheelTarget
from imagebuilder.python.wheels.wheels import Wheel, read_wheel

MAX_ARCHIVE_BYTES = 512 << 20
_UNUSUAL = re.compile(r"[^A-Za-z0-9._+!-]")
# by which setuptools-scm, hatch-vcs and pbr are told a version
_VERSIONS = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION")
_ANEW = "resolve anew: lock, or build without --locked"


@dataclass(frozen=True, slots=True)
class Direct:
    """A requirement by its address, and what it is. key: how locks call it; pin: without what it requires."""

    stated: Stated
    key: str
    wheel: Wheel
    pin: PinnedRequirement


@dataclass(frozen=True, slots=True)
class DirectSources:
    """Where such requirements come from. project: its folder, from which what is written down counts, and
    whose secrets fill `${NAME}`."""

    index: PackageIndex
    target: WheelTarget
    project: Path

    def get(self, stated: Stated, locked: PinnedRequirement | None = None) -> Direct:
        """The wheel of a requirement, built where it is a source, which is in the cache from then on. locked:
        what it has to be.

        FaultsError, with the place of the requirement, for what is not there, is another one than its name,
        hash or lock says; OfflineError, GitError, SecretError, DownloadError, and what building raises.
        """
        address = stated.written.address
        if address is None:
            raise LookupError(f"{stated.written.text} names no address")
        how = locked.built if locked is not None else PURE if stated.pure else ""
        if address.kind == "git":
            wheel, pin = self._git(stated, address, how, locked)
        elif address.kind == "download":
            wheel, pin = self._archive(stated, address, how, self._downloaded(stated, address, locked))
        else:
            wheel, pin = self._path(stated, address, how, locked)
        self._check(stated, wheel, pin, locked)
        return Direct(stated, stated.key(self.project), wheel, pin)

    def _check(
        self, stated: Stated, wheel: Wheel, pin: PinnedRequirement, locked: PinnedRequirement | None
    ) -> None:
        written = stated.written
        if written.name and wheel.name != written.name:
            raise stated.fault(f"'{written.text}' is the distribution {wheel.name}", f"call it {wheel.name}")
        if locked is not None and (pin.name, pin.sha256) != (locked.name, locked.sha256):
            raise stated.fault(f"'{written.text}' is not what is locked: its content has changed", _ANEW)

    def _path(
        self, stated: Stated, address: Address, how: str, locked: PinnedRequirement | None
    ) -> tuple[Wheel, PinnedRequirement]:
        place = stated.folder / expand_home(address.place)
        source = _shown_path(place, self.project)
        if place.is_dir():
            if stated.written.hashes:
                raise stated.fault(f"{place} is a folder, and --hash is for files", "leave the hash out")
            digest = project_digest(place)
            made = self._built(place, _label(place.resolve().name), digest, address.folder, how=how)
            return _project(made, digest, _with_folder(source, address.folder))
        if not place.name.lower().endswith(ARCHIVES):
            there = "is no wheel, sdist or folder" if place.exists() else "is not there"
            raise stated.fault(f"{place} {there}", f"paths count from {stated.folder}")
        known = self.index.cache.find(locked.sha256, self.index.log) if locked is not None else None
        try:
            data = read_plain(place if known is None or place.is_file() else known, MAX_ARCHIVE_BYTES)
        except PlainFileError as error:
            raise stated.fault(error.message, f"paths count from {stated.folder}") from error
        return self._archive(stated, address, how, (place.name, data, source))

    def _downloaded(
        self, stated: Stated, address: Address, locked: PinnedRequirement | None
    ) -> tuple[str, bytes, str]:
        """A file's name, content, and where it is from: what is locked from the cache."""
        # what speaks to servers is loaded only where one is spoken to: it takes a fifth of a second
        from imagebuilder.host.download import Downloads  # noqa: PLC0415

        name = urllib.parse.unquote(PurePosixPath(urllib.parse.urlsplit(address.place).path).name)
        wanted = {locked.sha256} if locked is not None else set(stated.written.hashes)
        question = f"requirement {address.shown}"
        if self.index.offline:
            wanted |= set((self.index.cache.recall(question, self.index.log) or {}).values())
        for sha256 in wanted:
            known = self.index.cache.find(sha256, self.index.log)
            if known is not None:
                return name, read_plain(known, MAX_ARCHIVE_BYTES), address.shown
        if self.index.offline:
            raise OfflineError([stated.written.text])
        self.index.log.progress(f"fetching {address.shown}")
        source = _source(self._filled(address.place))
        try:
            with Downloads(self.index.cache, Log()) as downloads:  # nobody sees its address
                data = downloads.read(source, MAX_ARCHIVE_BYTES).data
        except DownloadError as error:
            message = error.message.replace(source.address, address.shown)
            raise stated.fault(message, "is the address right?") from None
        self.index.cache.remember(question, {name: self.index.cache.add(data)})
        return name, data, address.shown

    def _archive(
        self, stated: Stated, address: Address, how: str, found: tuple[str, bytes, str]
    ) -> tuple[Wheel, PinnedRequirement]:
        """A wheel's or an sdist's file. found: as of _downloaded()."""
        filename, data, source = found
        sha256 = self.index.cache.add(data)
        hashes = stated.written.hashes
        if hashes and sha256 not in hashes:
            raise stated.fault(
                f"{filename} has the SHA-256 {sha256}, and --hash says {' or '.join(sorted(hashes))}",
                "it is another file than the one that was meant: look at what has changed",
            )
        name = _label(filename)
        file = self.index.named(name, sha256)
        if name.lower().endswith(".whl"):
            wheel = read_wheel(file)
            pin = PinnedRequirement(
                name=wheel.name, version=str(wheel.version), filename=name, sha256=sha256, source=source
            )
            return wheel, pin
        made = self._built(file, stated.written.name or _stem(name), sha256, address.folder, how=how)
        wheel = read_wheel(made.path)
        pin = PinnedRequirement(
            name=wheel.name,
            version=str(wheel.version),
            filename=name,
            sha256=sha256,
            built=made.how,
            source=_with_folder(source, address.folder),
        )
        return wheel, pin

    def _git(
        self, stated: Stated, address: Address, how: str, locked: PinnedRequirement | None
    ) -> tuple[Wheel, PinnedRequirement]:
        log, label = self.index.log, _label(PurePosixPath(address.place).name.removesuffix(".git"))
        revision = _commit_of(locked) if locked is not None else address.revision
        known = self._known_commit(address, revision) if is_commit(revision) or self.index.offline else None
        made: Built | None = None
        if known is not None:
            revision, digest, version = known
            made = self.index.builds.known(_key(label, digest, address.folder, version), how)
        if made is None:
            if self.index.offline:
                raise OfflineError([stated.written.text])
            with temporary_folder("scratch") as scratch:
                log.progress(f"fetching {address.shown}")
                there = check_out(
                    self._filled(address.place),
                    revision,
                    scratch,
                    log,
                    readable=self.index.network_places(),
                )
                digest = project_digest(there.folder)
                self._remember_commit(address, revision, (there.commit, digest, there.version))
                revision = there.commit
                made = self._built(
                    there.folder, label, digest, address.folder, how=how, version=there.version
                )
        return _project(made, digest, _with_folder(f"git+{address.shown}@{revision}", address.folder))

    def _known_commit(self, address: Address, revision: str) -> tuple[str, str, str] | None:
        """A commit, the digest of its files, and the version of its tags, as they were the last time."""
        cache, log = self.index.cache, self.index.log
        kept = cache.recall(_question(address, revision), log) or {}
        data = cache.read(kept["commit.json"], log) if "commit.json" in kept else None
        if data is None:
            return None
        commit, digest, version = json.loads(data)
        return commit, digest, version

    def _remember_commit(self, address: Address, revision: str, found: tuple[str, str, str]) -> None:
        sha256 = self.index.cache.add(json.dumps(found).encode())
        for each in {revision, found[0]}:
            self.index.cache.remember(_question(address, each), {"commit.json": sha256})

    def _built(
        self, source: Path, label: str, digest: str, folder: str, *, how: str, version: str = ""
    ) -> Built:
        """version: for builds that would ask git for it."""
        told = dict.fromkeys(_VERSIONS, version) if version else {}
        options = BuildOptions(folder=folder, variables=told)
        key = _key(label, digest, folder, version)
        return self.index.builds.wheel(source, key, self.target, how, options=options)

    def _filled(self, place: str) -> str:
        """An address with its secrets, percent-encoded as they must be there. SecretError."""
        for name in variables_of(place):
            secret = find_secret(self.project, name, Variable())
            place = place.replace(f"${{{name}}}", urllib.parse.quote(secret, safe="%"))
        return place


def _source(address: str) -> Source:
    """An address with its password beside it."""
    parts = urllib.parse.urlsplit(address)
    if parts.username is None:
        return Source(address)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    user, password = (urllib.parse.unquote(each or "") for each in (parts.username, parts.password))
    return Source(bare, (user, password))


def _key(label: str, digest: str, folder: str, version: str = "") -> str:
    return " ".join(filter(None, (label, "project", digest, folder, version)))


def _question(address: Address, revision: str) -> str:
    return f"git {address.shown} at {revision or 'HEAD'}"


def _project(made: Built, digest: str, source: str) -> tuple[Wheel, PinnedRequirement]:
    """What was built of a folder."""
    wheel = read_wheel(made.path)
    pin = PinnedRequirement(
        name=wheel.name,
        version=str(wheel.version),
        filename=str(wheel.name),
        sha256=digest,
        built=made.how,
        source=source,
    )
    return wheel, pin


def _commit_of(pin: PinnedRequirement) -> str:
    return pin.source.partition("#")[0].rpartition("@")[2]


def _with_folder(source: str, folder: str) -> str:
    return f"{source}#subdirectory={folder}" if folder else source


def _shown_path(place: Path, project: Path) -> str:
    """A path as a lock has it."""
    place = place.absolute()
    near = place.is_relative_to(project.absolute())
    return str(place.relative_to(project.absolute())) if near else str(place)


def _label(name: str) -> str:
    """A name for a file or a project that locks and messages can have."""
    return _UNUSUAL.sub("-", name).lstrip("._+!-") or "source"


def _stem(filename: str) -> str:
    try:
        return str(canonicalize_name(parse_sdist_filename(filename)[0]))
    except (InvalidSdistFilename, ValueError):
        return filename
