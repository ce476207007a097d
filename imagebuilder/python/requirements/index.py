"""Package indexes: what requirements resolve to, and the files, kept in the cache by their SHA-256; wheels
that are built of sources, and which of these would have to be compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import parse_sdist_filename

from imagebuilder.config.app import PinnedRequirement
from imagebuilder.host import bubblewrap
from imagebuilder.host.cache import Cache, OfflineError, cache_disk_errors
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.limits import Watch
from imagebuilder.host.sandbox import shut_in
from imagebuilder.log import Log
from imagebuilder.python.build.native_source import ProjectError, project_items
from imagebuilder.python.requirements.index_build import Built, SourceBuilds, no_compiler
from imagebuilder.python.requirements.index_pip import (
    NoMatchError,
    PythonIndexError,
    for_target,
    index_settings,
    local_places,
    pip,
)
from imagebuilder.python.wheels.target import WheelTarget
from imagebuilder.python.wheels.wheels import Wheel, read_wheel

if TYPE_CHECKING:
    from imagebuilder.python.build.zig import Toolchain

# what a program needs to reach a server by its name, and to verify it
_NETWORK = (
    *("/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts", "/etc/host.conf", "/etc/ssl", "/etc/pki"),
    *("/etc/ca-certificates", "/run/systemd/resolve"),
)
MAX_PROJECT_BYTES = 256 << 20


@dataclass(frozen=True)
class PackageIndex:
    """The package indexes of the user's pip configuration, and the cache of what came from them. offline:
    nothing is asked; compiler: the one for the target, NoCompilerError where there is none."""

    cache: Cache
    log: Log
    offline: bool = False
    compiler: Callable[[], Toolchain] = no_compiler

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

    def pure_wheel(self, requirement: str, target: WheelTarget) -> Wheel | None:
        """The newest wheel without native code that satisfies a requirement, in the cache from then on; None
        where the index has none. UnreachableIndexError, OfflineError."""
        self._online([requirement])
        with temporary_folder("scratch") as folder:
            arguments = ["download", "--quiet", "--no-deps", "--dest", "files", requirement]
            self.log.progress(f"asking the package index for {requirement} without native code")
            try:
                pip(
                    [*arguments, *for_target(target, pure=True)],
                    f"looking for {requirement}",
                    cwd=folder,
                    log=self.log,
                )
            except NoMatchError:
                return None
            (file,) = (folder / "files").iterdir()
            return self._kept(file)

    def source(self, requirement: str, target: WheelTarget) -> PinnedRequirement:
        """The newest source distribution that satisfies a requirement; its file is in the cache.

        Nothing of it is run, unless it has no PKG-INFO: then pip runs its setup, in the sandbox. NoMatchError
        where there is none.
        """
        self._online([requirement])
        return self._sdist(requirement, target)

    def built(self, pin: PinnedRequirement, target: WheelTarget) -> Path:
        """The wheel of a pinned source distribution, which must be in the cache, built as the pin says.
        Errors of wheel_of()."""
        return self.built_anyhow(pin, target, pin.built).path

    def built_anyhow(self, pin: PinnedRequirement, target: WheelTarget, how: str) -> Built:
        """As built(), but as `how` says, and if it is "" as it can be."""
        source = self.named(pin.filename, pin.sha256)
        return self.builds.wheel(source, f"{pin.name} {pin.sha256}", target, how)

    def wheel_of(self, source: Path, key: str, target: WheelTarget) -> Path:
        """The wheel that is built of a project's folder or an sdist; in the cache from then on, at a path
        with the wheel's own name. key: what tells this source from all others, its name first.

        Errors of SourceBuilds.wheel().
        """
        return self.builds.wheel(source, key, target).path

    @property
    def builds(self) -> SourceBuilds:
        """What builds wheels of sources."""
        return SourceBuilds(self.cache, self.log, self.offline, self.compiler, self.named)

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

    def network_places(self) -> list[Path]:
        """What a program in the sandbox has to see to speak to servers."""
        return [path for path in map(Path, _NETWORK) if path.exists()]

    def _sdist(self, requirement: str, target: WheelTarget, sha256: str = "") -> PinnedRequirement:
        """Fetch a source distribution; the one with this SHA-256, if it is given."""
        settings = index_settings(self.log)
        readable = [*local_places(settings), *self.network_places()]
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
                sources=True,
                watch=Watch(f"fetching the source of {requirement}", folder),
            )
            (file,) = (tree / "files").iterdir()
            name, version = parse_sdist_filename(file.name)
            sha256 = self.cache.add(file.read_bytes())
            return PinnedRequirement(name=name, version=str(version), filename=file.name, sha256=sha256)


def project_digest(folder: Path) -> str:
    """SHA-256 over a project's files and links, with their paths. ProjectError beyond MAX_PROJECT_BYTES."""
    whole, total = hashlib.sha256(), 0
    for item in project_items(folder):
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
