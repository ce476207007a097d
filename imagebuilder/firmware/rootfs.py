"""The contents of a squashfs, unpacked by squashfs-tools into a folder of our own that is gone afterwards.

What is unpacked was looked through before (squashfs_index): no name leads out of the folder, and only
regular files are asked for, so that links and devices are never made. OpenWrt's mksquashfs writes 12 bytes
of options for xz where Debian's squashfs-tools expect 8, which the latter take for an error; the copy that
they get says it has none.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.firmware.squashfs.index import Index, read_index
from imagebuilder.firmware.squashfs.squashfs import superblock
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.run import clean_environment, run
from imagebuilder.model.firmware import RootFile

UNPACK_SECONDS = 120.0
_QUEUE_MIB = "32"
_FLAGS_AT, _HAS_OPTIONS = 0x18, 0x0400
_SHOWN_LINES = 3
_MODE_READABLE = 0o600


class RootFs:
    """A root file system: its files, and their contents when asked for."""

    def __init__(self, view: View) -> None:
        """ImageFormatError for a squashfs that is damaged or has names that no folder may have."""
        self.view = view.first(superblock(view).bytes_used)
        self.index: Index = read_index(self.view)

    def _copy(self, place: Path) -> None:
        head = bytearray(self.view.take(0, 96))
        flags = int.from_bytes(head[_FLAGS_AT : _FLAGS_AT + 2], "little") & ~_HAS_OPTIONS
        head[_FLAGS_AT : _FLAGS_AT + 2] = flags.to_bytes(2, "little")
        with place.open("wb") as stream:
            stream.write(head)
            stream.write(self.view.raw[len(head) :])

    @contextmanager
    def unpacked(self, files: Iterable[RootFile]) -> Iterator[Path]:
        """A folder that holds these regular files below their paths, and is gone afterwards.

        Raises ImageFormatError where one of them cannot be read whole, HostError without squashfs-tools or
        space.
        """
        wanted = [file for file in files if file.kind == "file"]
        with tempfile.TemporaryDirectory(prefix="firmware-") as scratch, disk_errors_explained(Path(scratch)):
            image, names, root = (Path(scratch) / name for name in ("image", "names", "root"))
            root.mkdir()
            if wanted:
                self._copy(image)
                names.write_text("".join(f"{_pattern(file.path)}\n" for file in wanted), "utf-8")
                self._unsquash(image, names, root)
                image.unlink()
            for file in wanted:
                _check(root, file)
            yield root

    def _unsquash(self, image: Path, names: Path, root: Path) -> None:
        argv = ["unsquashfs", "-no-progress", "-no-xattrs", "-force", "-dest", str(root)]
        argv += ["-data-queue", _QUEUE_MIB, "-frag-queue", _QUEUE_MIB, "-ef", str(names), str(image)]
        ended = run(argv, env=clean_environment(), timeout=UNPACK_SECONDS, check=False)
        if ended.code != 0 or ended.stderr.strip():
            said = "; ".join(ended.stderr.replace(str(root), "").strip().splitlines()[:_SHOWN_LINES])
            reason = said or f"unsquashfs exited with {ended.code}"
            raise ImageFormatError(f"the root filesystem cannot be read to its last block: {reason}")

    def read(self, path: str) -> bytes:
        """A file's contents, links followed. UserError where there is no such file."""
        file = self.index.resolve(path)
        if file is None or file.kind != "file":
            near = ", ".join(
                sorted(other.path for other in self.index.files if other.path.startswith(path))[:5]
            )
            raise UserError(
                f"the image has no file {path}" if file is None else f"{path} in the image is a {file.kind}",
                hint=f"there is {near}" if near else "`ls` shows what is there",
            )
        with self.unpacked([file]) as root:
            return place_of(root, file).read_bytes()


def place_of(root: Path, file: RootFile) -> Path:
    """Where a file lies in a folder that it was unpacked into."""
    return root / file.path.lstrip("/")


def _pattern(path: str) -> str:
    """unsquashfs takes names for patterns of the shell."""
    return re.sub(r"([^A-Za-z0-9/._-])", r"\\\1", path)


def _check(root: Path, file: RootFile) -> None:
    place = place_of(root, file)
    if not place.is_file() or place.stat().st_size != file.size:
        raise ImageFormatError(
            f"the root filesystem cannot be read to its last block: {file.path} is not whole"
        )
    place.chmod(file.mode & 0o777 | _MODE_READABLE)
