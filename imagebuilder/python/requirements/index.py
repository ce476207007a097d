"""Package indexes: what requirements resolve to, and the files, kept in the cache by their SHA-256; wheels
that are built of sources, and which of these would have to be compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import parse_sdist_filename, parse_wheel_filename

from imagebuilder.config.app import PinnedRequirement
from imagebuilder.errors import UserError
from imagebuilder.host import bubblewrap
from imagebuilder.host.cache import Cache, OfflineError, cache_disk_errors
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.limits import Watch
from imagebuilder.host.sandbox import shut_in
from imagebuilder.host.walk import Item, walk
from imagebuilder.log import Log
from imagebuilder.python.build.host_build import Bench, BuildOptions, HostBuildError, build_wheel
from imagebuilder.python.build.host_build_source import is_left_out, lay_source
from imagebuilder.python.requirements.index_pip import (
    PythonIndexError,
    for_target,
    index_settings,
    local_places,
    pip,
)
from imagebuilder.python.wheels.target import WheelTarget, native_hint
from imagebuilder.python.wheels.wheels import Wheel, read_wheel

BUILD_EPOCH = 1_577_836_800  # 2020: a wheel's files must not be older than 1980, and all else does not matter
# what a program needs to reach a server by its name, and to verify it
_NETWORK = (
    *("/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts", "/etc/host.conf", "/etc/ssl", "/etc/pki"),
    *("/etc/ca-certificates", "/run/systemd/resolve"),
)
NATIVE_ENDINGS = (".c", ".cc", ".cpp", ".cxx", ".pyx", ".rs", ".f90", ".f")
MAX_PROJECT_BYTES = 256 << 20
_NOT_BUILT = ("test", "doc", "example", "bench")  # folders whose C code is not the package's own


@dataclass(frozen=True)
class PackageIndex:
    """The package indexes of the user's pip configuration, and the cache of what came from them. offline:
    nothing is asked."""

    cache: Cache
    log: Log
    offline: bool = False

    def resolve(
        self,
        requirements: Sequence[str],
        target: WheelTarget,
        *,
        constraints: Sequence[str] = (),
        wheels: Path | None = None,
    ) -> list[Wheel]:
        """Wheels for all these requirements and what they depend on, on the target. constraints: versions
        that some must have; wheels: a folder with more wheels to choose from. The wheels are in the cache
        from then on.

        NoMatchError where something has no wheel, PythonIndexError for requirements that do not go together,
        UnreachableIndexError, OfflineError.
        """
        self._online(requirements)
        with temporary_folder("scratch") as folder:
            (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", "utf-8")
            (folder / "constraints.txt").write_text("\n".join(constraints) + "\n", "utf-8")
            # not `install --dry-run`, which would hold wheels' Requires-Python against our own Python
            arguments = ["download", "--dest", "files", "-r", "requirements.txt", "-c", "constraints.txt"]
            arguments += [] if wheels is None else ["--find-links", str(wheels)]
            self.log.progress("asking the package index")
            pip(
                [*arguments, *for_target(target)],
                f"resolving {', '.join(requirements)}",
                cwd=folder,
                log=self.log,
                markers=target.markers(),
            )
            return [self._kept(file) for file in sorted((folder / "files").iterdir())]

    def _kept(self, file: Path) -> Wheel:
        """A wheel, checked, that the cache has from now on."""
        wheel = read_wheel(file)
        sha256 = self.cache.add(file.read_bytes())
        return replace(wheel, path=self.named(file.name, sha256))

    def fetch(self, pins: Sequence[PinnedRequirement], target: WheelTarget) -> dict[str, Path]:
        """The files of pinned requirements by their SHA-256, from the cache or, all that is missing together,
        from the index. OfflineError names what the cache lacks; PythonIndexError where the index has other
        content."""
        found = {pin.sha256: self.cache.find(pin.sha256, self.log) for pin in pins}
        missing = [pin for pin in pins if found[pin.sha256] is None]
        if missing:
            self._online([pin.filename for pin in missing])
            self._download([pin for pin in missing if pin.is_wheel], for_target(target))
            for pin in missing:
                if not pin.is_wheel:
                    self._sdist(f"{pin.name}=={pin.version}", target, pin.sha256)
        self.cache.evict(self.log)
        paths = {pin.sha256: self.cache.blob(pin.sha256) for pin in pins}
        wrong = [pin.filename for pin in pins if not paths[pin.sha256].is_file()]
        if wrong:
            raise PythonIndexError(
                f"the package index has other files than those that are locked: {', '.join(wrong)}",
                hint="lock anew, and look at what has changed",
            )
        return paths

    def source(self, requirement: str, target: WheelTarget) -> PinnedRequirement:
        """The newest source distribution that satisfies a requirement; its file is in the cache.

        pip reads its name and version by running its setup, in the sandbox. NoMatchError where there is none.
        """
        self._online([requirement])
        return self._sdist(requirement, target)

    def built(self, pin: PinnedRequirement, target: WheelTarget) -> Path:
        """The wheel of a pinned source distribution, which must be in the cache. Errors of wheel_of()."""
        return self.wheel_of(self.named(pin.filename, pin.sha256), f"{pin.name} {pin.sha256}", target)

    def wheel_of(self, source: Path, key: str, target: WheelTarget) -> Path:
        """The wheel that is built of a project's folder or an sdist; in the cache from then on, at a path
        with the wheel's own name. key: what tells this source from all others, its name first.

        NativeSourceError for what does not build, or to no pure wheel, and has native code; HostBuildError.
        """
        name = f"wheel of {key}"
        known = self.cache.recall(name, self.log) or {}
        for wheel, sha256 in known.items():
            if self.cache.find(sha256, self.log) is not None:
                return self.named(wheel, sha256)
        what = key.partition(" ")[0]
        with self.cache.lock(name, f"building {what}", self.log), temporary_folder("scratch") as folder:
            self.log.progress(f"building {what}")
            built = self._built(lay_source(source, folder), what, folder / "bench", target)
            sha256 = self.cache.add(built.read_bytes())
            self.cache.remember(name, {built.name: sha256})
            return self.named(built.name, sha256)

    def _built(self, laid: Path, name: str, scratch: Path, target: WheelTarget) -> Path:
        native = native_files(laid)
        scratch.mkdir()
        bench = Bench(self.cache.folder, scratch, BUILD_EPOCH, self.offline)
        try:
            built = build_wheel(laid, BuildOptions(), bench, self.log)
        except HostBuildError as error:
            if native:
                raise NativeSourceError(name, native, native_hint(name, target)) from error
            raise
        if not all(tag.platform == "any" for tag in parse_wheel_filename(built.name)[3]):
            raise NativeSourceError(name, native, native_hint(name, target))
        return built

    def named(self, filename: str, sha256: str) -> Path:
        """A file of the cache under its own name, which tells a wheel's tags."""
        place = self.cache.folder / "wheels" / sha256 / filename
        with cache_disk_errors(self.cache.folder):
            place.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # always to the same file
                place.symlink_to(self.cache.blob(sha256).absolute())
        return place

    def _online(self, wanted: Iterable[str]) -> None:
        if self.offline:
            raise OfflineError(sorted(wanted))

    def _download(self, pins: Sequence[PinnedRequirement], options: Sequence[str]) -> None:
        if not pins:
            return
        with temporary_folder("scratch") as folder:
            lines = (f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}" for pin in pins)
            (folder / "pins.txt").write_text("\n".join(lines) + "\n", "utf-8")
            arguments = ["download", "--quiet", "--no-deps", "--require-hashes", "--dest", "files"]
            self.log.progress(f"fetching {len(pins)} wheels")
            pip(
                [*arguments, "-r", "pins.txt", *options],
                f"fetching {', '.join(pin.filename for pin in pins)}",
                cwd=folder,
                log=self.log,
            )
            for path in (folder / "files").iterdir():
                self.cache.add(path.read_bytes())

    def _sdist(self, requirement: str, target: WheelTarget, sha256: str = "") -> PinnedRequirement:
        """Fetch a source distribution; the one with this SHA-256, if it is given."""
        settings = index_settings(self.log)
        readable = [*local_places(settings), *(path for path in map(Path, _NETWORK) if path.exists())]
        with temporary_folder("scratch") as folder:
            tree, work = folder / "tree", folder / "work"
            check = f" --hash=sha256:{sha256}" if sha256 else ""
            for each in (tree, *(work / name for name in ("home", "tmp"))):
                each.mkdir(parents=True)
            (tree / "one.txt").write_text(f"{requirement}{check}\n", "utf-8")
            prefix = shut_in(tree, work, readable=[*bubblewrap.own_python(), *readable], network=True)
            home = {"HOME": str(bubblewrap.WORK / "home"), "TMPDIR": str(bubblewrap.WORK / "tmp")}
            arguments = ["download", "--quiet", "--no-deps", "--no-binary", Requirement(requirement).name]
            arguments += ["--no-cache-dir", "--python-version", target.python, "--dest", "files"]
            self.log.progress(f"fetching the source of {requirement}")
            pip(
                [*arguments, "-r", "one.txt"],
                f"fetching the source of {requirement}",
                cwd=tree,
                log=self.log,
                environment={**settings, **home},
                prefix=prefix,
                watch=Watch(f"fetching the source of {requirement}", folder),
            )
            (file,) = (tree / "files").iterdir()
            name, version = parse_sdist_filename(file.name)
            sha256 = self.cache.add(file.read_bytes())
            return PinnedRequirement(name=name, version=str(version), filename=file.name, sha256=sha256)


class NativeSourceError(UserError):
    """A source distribution with code that has to be compiled for the target. files: such files in it."""

    def __init__(self, name: str, files: Sequence[str], hint: str) -> None:
        shown = f" ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''})" if files else ""
        super().__init__(
            f"'{name}' is to be had as a source distribution only, and has code to compile for the "
            f"target{shown}",
            hint=hint,
        )
        self.files = tuple(files)


class ProjectError(UserError):
    """A project's folder that cannot be taken."""


def _items(folder: Path) -> Iterator[Item]:
    """The files and links of a project, and what else is no folder: all that its build gets."""
    top = folder.resolve()

    def counts(path: str) -> bool:
        name = path.rpartition("/")[2]
        return not (name.endswith(".egg-info") or is_left_out(f"{top}/{path}"))

    try:
        for item in walk(top, enter=counts, bounded=True):
            if not item.is_folder and (item.is_file or counts(item.path)):
                yield item
    except OSError as error:
        raise ProjectError(f"{folder}: {error.filename}: {error.strerror}", hint="is it readable?") from error


def native_files(folder: Path) -> tuple[str, ...]:
    """Files of a source that a C compiler or its like would have to see, those of tests and examples left
    out."""
    names = (item.path for item in _items(folder) if item.path.endswith(NATIVE_ENDINGS))
    return tuple(name for name in names if not name.startswith(_NOT_BUILT))


def project_digest(folder: Path) -> str:
    """SHA-256 over a project's files and links, with their paths. ProjectError beyond MAX_PROJECT_BYTES."""
    whole, total = hashlib.sha256(), 0
    for item in _items(folder):
        facts = [item.path]
        if item.is_link:
            place = folder / item.path
            facts += ["link", item.target(), sha256_of(place) if place.is_file() else ""]
        elif item.is_file:
            total += item.status.st_size
            facts += ["program" if item.status.st_mode & 0o100 else "file"]
        if total > MAX_PROJECT_BYTES:
            raise ProjectError(
                f"{folder}: more than {MAX_PROJECT_BYTES >> 20} MiB",
                hint="point python.apps at the app's own folder",
            )
        if item.is_file:
            facts += [item.sha256()]
        whole.update(repr(facts).encode())
    return whole.hexdigest()
