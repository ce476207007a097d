"""What commands take of memory and time on inputs that were made to take much of both.

    python3 tests/benchmarks/adversarial.py [WORD …]

A line for each command and input (those that hold one of the words): peak memory of it or of a program that
it called, whichever is more (getrusage(2), MiB), seconds of the clock and of processor time, exit code and
the first line of its error. The bounds are 300 MB and 30 s.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import EMPTY
from tests.conftest import SMALL_MAKEFILE, SMALL_PACKAGES, small_images

PROJECT = Path(__file__).resolve().parents[2]
BOARD = "tplink-tl-wr740n-v4"
GIGABYTE = 1 << 30
_CONFIG = 'extends = "router"\n'


@dataclass(frozen=True)
class _Place:
    """The folder of one try: a project and a small tree lie in it."""

    folder: Path

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def config(self, text: str) -> list[str]:
        """The arguments for a config with this text."""
        (self.project / "configs/odd.toml").write_text(_CONFIG + text)
        return self.images("odd")

    def images(self, config: str, tree: Path | None = None) -> list[str]:
        """The arguments of commands that are about images."""
        where = ["--imagebuilder", str(tree or self.tree), "--project", str(self.project)]
        return [config, "--board", BOARD, *where, "--cache", str(self.folder / "cache")]


def _lay(folder: Path) -> _Place:
    place = _Place(folder)
    for name in ("boards", "configs", "overlays"):
        shutil.copytree(PROJECT / name, place.project / name, symlinks=True)
    for name in ("include", "packages"):
        (place.tree / name).mkdir(parents=True)
    (place.tree / "Makefile").write_text(SMALL_MAKEFILE)
    settings = {"TARGET_BOARD": "ath79", "TARGET_SUBTARGET": "tiny", "TARGET_ARCH_PACKAGES": "mips_24kc"}
    settings |= {"VERSION_DIST": "OpenWrt", "VERSION_NUMBER": "23.05.5"}
    (place.tree / ".config").write_text("".join(f'CONFIG_{name}="{of}"\n' for name, of in settings.items()))
    (place.tree / ".targetinfo").write_text("Target: ath79/tiny\n")
    (place.tree / "include/version.mk").write_text(
        "VERSION_NUMBER:=$(call qstrip,$(CONFIG_VERSION_NUMBER))\n"
    )
    (place.tree / "repositories.conf").write_text("src imagebuilder file:packages\n")
    for name, data in small_images().items():
        (place.tree / name).write_bytes(data)
    for name, version in SMALL_PACKAGES.items():
        write_ipk(place.tree / "packages", Package(name, version), EMPTY, epoch=1_700_000_000)
    return place


def _sparse(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.truncate(10 * GIGABYTE)
    return path


def _overlay(place: _Place, name: str, data: bytes | None) -> list[str]:
    """A config with an overlay that has one file; None: a sparse one of 10 GB."""
    folder = place.project / "overlays/odd"
    (folder / "files").mkdir(parents=True)
    (folder / "overlay.toml").write_text('description = "odd"\n')
    if data is None:
        _sparse(folder / "files" / name)
    else:
        (folder / "files" / name).write_bytes(data)
    return place.config('[[overlay]]\nname = "odd"\n')


def _header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("tree/x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def _gigabytes(kind: bytes, count: int) -> Iterator[bytes]:
    yield _header(kind, count * GIGABYTE)
    for _ in range(count << 10):
        yield b"a" * (1 << 20)
    yield _header(tarfile.REGTYPE, 0) + bytes(1024)


def _zst(path: Path, pieces: Iterable[bytes]) -> Path:
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    with path.open("wb") as stream:
        for piece in pieces:
            stream.write(packer.compress(piece))
        stream.write(packer.flush())
    return path


def _xz(path: Path, pieces: Iterable[bytes]) -> Path:
    """With a window of 256 MiB, which its reader has to keep."""
    packer = lzma.LZMACompressor(filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 256 << 20}])
    with path.open("wb") as stream:
        for piece in pieces:
            stream.write(packer.compress(piece))
        stream.write(packer.flush())
    return path


def _feed(place: _Place, pieces: Iterable[str], asked: str = "busybox") -> list[str]:
    """A config with a feed in a folder, whose index these texts are."""
    (place.folder / "feed").mkdir()
    with (place.folder / "feed/Packages").open("w") as stream:
        stream.writelines(pieces)
    feed = f'[[feed]]\nname = "odd"\nurl = "{place.folder}/feed"\n'
    return place.config(f'packages.add = ["{asked}"]\n{feed}')


def _paragraphs(count: int, more: Callable[[int], str] = lambda _: "") -> Iterator[str]:
    for number in range(count):
        yield (
            f"Package: p{number}\nVersion: 1\nArchitecture: all\n{more(number)}Filename: p{number}.ipk\n"
            f"Size: 9\nSHA256sum: {number:064x}\n\n"
        )


def _why(place: _Place, pieces: Iterable[str]) -> list[str]:
    return [*_feed(place, pieces, "p0"), "p0"]


def _behaviour(place: _Place, script: str) -> list[str]:
    (place.tree / "behaviour").write_text(script)
    return place.images("router")


def _gzip_bomb(path: Path) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(4 << 10):
            stream.write(bytes(1 << 20))
    return path


def _as_config(make: Callable[[Path], Path]) -> Callable[[_Place], list[str]]:
    return lambda place: place.images(str(make(place.folder / "odd.toml")))


def _as_tree(
    ending: str, pack: Callable[[Path, Iterable[bytes]], Path], kind: bytes, count: int = 1
) -> Callable[[_Place], list[str]]:
    return lambda place: place.images(
        "router", pack(place.folder / f"tree.tar{ending}", _gigabytes(kind, count))
    )


def _as_image(make: Callable[[Path], Path]) -> Callable[[_Place], list[str]]:
    return lambda place: [str(make(place.folder / "odd.bin"))]


def _zeros(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def _next(count: int) -> Callable[[int], str]:
    return lambda number: f"Depends: p{number + 1}\n" if number + 1 < count else ""


def _any(_: int) -> str:
    return "Provides: any\nDepends: any\n"


Try = tuple[str, str, Callable[[_Place], list[str]]]
_LOOPS = b"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
_LONG_NAME, _PAX, _FILE = tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.REGTYPE
_SHORT = "Package: p{0}\nVersion: 1\n\n"
_VERSION = f"Package: a\nVersion: {'1' * 10_000_000}\nArchitecture: all\n"
TRIES: tuple[Try, ...] = (
    ("plan", "the small tree, nothing odd", lambda place: place.images("router")),
    ("build", "the small tree, nothing odd", lambda place: place.images("router")),
    ("plan", "config is /dev/zero", _as_config(_zeros)),
    ("plan", "config of 10 GB, sparse", _as_config(_sparse)),
    ("plan", "overlay's file of 10 GB, sparse", lambda place: _overlay(place, "big", None)),
    ("build", "overlay's file of 10 GB, sparse", lambda place: _overlay(place, "big", None)),
    ("build", "template 'a' * 3000000000", lambda place: _overlay(place, "a.j2", b"{{ 'a' * 3000000000 }}")),
    ("build", "template, loops within loops", lambda place: _overlay(place, "a.j2", _LOOPS)),
    ("plan", "tree .tar.zst, name of 1 GiB", _as_tree(".zst", _zst, _LONG_NAME)),
    ("plan", "tree .tar.zst, pax of 1 GiB", _as_tree(".zst", _zst, _PAX)),
    ("plan", "tree .tar.xz, window of 256 MiB", _as_tree(".xz", _xz, _FILE)),
    ("plan", "tree .tar.zst, file of 7 GiB", _as_tree(".zst", _zst, _FILE, 7)),
    ("plan", "index, version of 10 MB", lambda place: _feed(place, [_VERSION], "a")),
    ("plan", "index, 10,000,000 lines", lambda place: _feed(place, ["\n \n"] * 5_000_000)),
    ("plan", "index, 1,000,000 packages", lambda place: _feed(place, map(_SHORT.format, range(1_000_000)))),
    ("plan", "index, 99,000 packages", lambda place: _feed(place, _paragraphs(99_000))),
    ("plan", "index, chain of 20,000", lambda place: _feed(place, _paragraphs(20_000, _next(20_000)), "p0")),
    ("why", "index, 20,000 that provide a name", lambda place: _why(place, _paragraphs(20_000, _any))),
    ("build", "make says a line of 300 MB", lambda place: _behaviour(place, "head -c 300000000 /dev/zero\n")),
    ("build", "make never stops talking", lambda place: _behaviour(place, "yes\n")),
    ("inspect", "10 GB, sparse", _as_image(_sparse)),
    ("inspect", "/dev/zero", _as_image(_zeros)),
    ("inspect", "gzip of 4 GiB of zeros", _as_image(_gzip_bomb)),
    ("ls", "gzip of 4 GiB of zeros", _as_image(_gzip_bomb)),
)


@dataclass(frozen=True)
class _Measured:
    """What a command took. peak: MiB; seconds: of the clock; cpu: of processor time; said: its error."""

    peak: int
    seconds: float
    cpu: float
    code: int
    said: str


def _measured(argv: list[str], folder: Path) -> _Measured:
    said = folder / "said"
    began = time.perf_counter()
    with said.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "imagebuilder", *argv],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "XDG_DATA_HOME": str(folder / "data")},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    lines = [line for line in said.read_text("utf-8", "replace").splitlines() if line.startswith("error: ")]
    return _Measured(
        usage.ru_maxrss >> 10,
        time.perf_counter() - began,
        usage.ru_utime + usage.ru_stime,
        process.returncode,
        (lines or [""])[0].removeprefix("error: ").replace(str(folder), "…"),
    )


def _try(number: int) -> _Measured:
    """One of TRIES. Its input is made by a process of its own: what a process had before it called another
    program counts as that one's (getrusage(2))."""
    with tempfile.TemporaryDirectory(prefix="adversarial-") as name:
        making = [sys.executable, __file__, _MAKE, str(number), name]
        made = subprocess.run(making, check=True, stdout=subprocess.PIPE).stdout
        return _measured(json.loads(made), Path(name))


_MAKE = "--make"


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == [_MAKE]:
        command, _, make = TRIES[int(words[1])]
        print(json.dumps([command, *make(_lay(Path(words[2])))]))
        return
    print(f"{'command':8} {'input':36} {'MiB':>5} {'s':>6} {'cpu s':>6} {'code':>4}  says")
    over = 0
    for number, (command, what, _) in enumerate(TRIES):
        if not words or any(word in f"{command} {what}" for word in words):
            took = _try(number)
            over += took.peak > 300_000_000 >> 20 or took.cpu > 30
            figures = f"{took.peak:5} {took.seconds:6.1f} {took.cpu:6.1f} {took.code:4}"
            print(f"{command:8} {what:36} {figures}  {took.said[:90]}", flush=True)
    print(f"{over} over 300 MB or 30 s of processor time")


if __name__ == "__main__":
    main()
