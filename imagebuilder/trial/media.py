"""The files that a machine starts from: an image, what belongs beside it, and the disk that QEMU gets.

An image that is compressed, or ends before its last partition does, becomes a disk of its full length in a
file of our own, whose zeros take no space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.firmware.formats.formats import Read, read_image
from imagebuilder.firmware.inspection import open_root, view_of
from imagebuilder.firmware.reader import ImageFormatError, View, any_but_zeros, open_view
from imagebuilder.firmware.starting import Starting, starting
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.uefi import has_uefi
from imagebuilder.model.firmware import Part

ROOM_BYTES = 64 << 20  # behind a root file system alone, for what the machine writes
_SECTOR = 512
_PIECE = 1 << 20
# what a build calls its kernels and root file systems
_NAMES = re.compile(r"kernel|vmlinu|[Ii]mage$|rootfs|root\.")


class NoMediaError(UserError):
    """An image that needs another one to start, which is not beside it."""


@dataclass(frozen=True)
class Media:
    """What one machine starts from. disk: the file that becomes its disk, None for a kernel that has its root
    file system in itself. start: what of it is started; of a root file system alone, with the kernel that was
    found beside it."""

    image: Path
    start: Starting
    disk: Path | None
    read: Read

    @property
    def name(self) -> str:
        """The image's, for messages."""
        return self.image.name

    @property
    def kind(self) -> str:
        """The file system of an image that is one alone: `squashfs`, `ext4`."""
        return self.read.unwrapped.kind

    def modules(self) -> frozenset[str]:
        """The kernel's modules in the root file system, without .ko; none where it cannot be opened."""
        root = open_root(self.read)
        files = () if root is None else root.index.files
        paths = (file.path for file in files if file.path.startswith("/lib/modules/"))
        return frozenset(path.rpartition("/")[2].removesuffix(".ko") for path in paths)


def find_media(image: Path) -> Media:
    """What an image starts from, alone or with the kernel or root file system beside it, of which the nearest
    in name is meant. NoMediaError where that is not there, or is not one; ImageFormatError."""
    read = read_image(open_view(image))
    start = starting(read)
    if start.form == "disk":
        return Media(image, start, image, read)
    wanted = "kernel" if start.form == "root" else "root"
    found = [(path, other, told) for path, other, told in _beside(image) if told.form == wanted]
    best = max((_alike(image, path) for path, _, _ in found), default=0)
    nearest = [each for each in found if _alike(image, each[0]) == best]
    if not nearest and start.form == "kernel":
        return Media(image, start, None, read)
    if len(nearest) != 1:
        what = "root file system" if start.form == "root" else "kernel"
        names = ", ".join(sorted(path.name for path, _, _ in nearest))
        there = f"several could go with it: {names}" if nearest else "there is no kernel beside it"
        raise NoMediaError(
            f"{image.name} is a {what} alone, and {there}",
            hint="boot the disk of the build (combined), or put the one that goes with it beside it alone",
        )
    path, other, told = nearest[0]
    if start.form == "root":
        return Media(image, replace(start, kernel=told.kernel), image, read)
    return Media(image, replace(told, kernel=start.kernel), path, other)


def image_to_boot(images: Sequence[Path]) -> Path:
    """Of a build's images the one that is booted: a disk that starts by UEFI where this machine has that,
    else any disk, else a root file system, else a kernel. NoMediaError where none of them starts."""
    ranks: dict[int, Path] = {}
    for path in images:
        try:
            start = starting(read_image(open_view(path)))
        except ImageFormatError:  # vendors' formats, archives
            continue
        preferred = bool(start.efi) == has_uefi()
        rank = (0 if preferred else 1) if start.form == "disk" else 2 if start.form == "root" else 3
        ranks.setdefault(rank, path)
    if not ranks:
        names = ", ".join(path.name for path in images) or "there are none"
        raise NoMediaError(
            f"no machine of QEMU starts any of these images: {names}",
            hint="a disk does, or a kernel with its root file system",
        )
    return ranks[min(ranks)]


def _alike(one: Path, other: Path) -> int:
    pairs = zip(one.name, other.name, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _beside(image: Path) -> Iterator[tuple[Path, Read, Starting]]:
    """What else in the folder may be a kernel or a root file system, by its name and its contents."""
    for path in sorted(image.parent.iterdir()):
        plain = path.name.removesuffix(".gz")
        if path == image or not _NAMES.search(plain) or not path.is_file():
            continue
        try:
            read = read_image(open_view(path))
            yield path, read, starting(read)
        except UserError:  # no image, whatever its name says
            continue


def lay_disk(media: Media, scratch: Path) -> Path:
    """The disk as QEMU takes it: the image's own file where it is whole and not compressed, else a copy of
    its contents in the folder. HostError where there is no space.
    """
    if media.disk is None:
        raise ValueError("a kernel alone has no disk")
    part = media.read.unwrapped
    view = view_of(part)
    if media.start.form == "root":
        length = view.size + ROOM_BYTES
    else:
        length = max([view.size, *map(_end, part.children)])
    if media.read.image is part and length == view.size and length % _SECTOR == 0:
        return media.disk
    place = scratch / "disk"
    with disk_errors_explained(scratch), place.open("xb") as stream:
        for at, piece in _filled(view):
            stream.seek(at)
            stream.write(piece)
        stream.truncate(-(-length // _SECTOR) * _SECTOR)
    return place


def _end(partition: Part) -> int:
    """Where its table says that a partition ends, in bytes of the disk."""
    sectors = partition.value("sectors")
    return partition.offset + sectors * _SECTOR if isinstance(sectors, int) else 0


def _filled(view: View) -> Iterator[tuple[int, memoryview]]:
    """The pieces of a view that are not all zeros, and where they are."""
    at = 0
    while at < view.size:
        known = view.zeros_at(at)
        if known:
            at += known
            continue
        piece = view.part(at).first(_PIECE).raw
        if any_but_zeros(bytes(piece)):
            yield at, piece
        at += len(piece)
