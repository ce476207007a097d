"""Taking an image apart: its parts and root file system into a folder, a listing, a single file."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.firmware.formats.formats import Read, read_image
from imagebuilder.firmware.inspection import open_root
from imagebuilder.firmware.reader import any_but_zeros, open_view
from imagebuilder.firmware.rootfs import RootFs, place_of
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import appear, remove_abandoned, temporary_folder
from imagebuilder.host.walk import remove_tree
from imagebuilder.model.firmware import Part, RootFile

_CHUNK = 1 << 20
PARTS, ROOT = "parts", "rootfs"
_UNSAFE = re.compile(r"[^A-Za-z0-9.+-]+")
_NOT_WRITTEN = ("padding", "end-marker", "partition", "ubi-volume", "tar-member")


def _root_of(path: Path) -> tuple[Read, RootFs]:
    read = read_image(open_view(path))
    root = open_root(read)
    if root is None:
        raise UserError(
            f"{path.name} has no squashfs: there are no files to list",
            hint=f"`inspect {path.name}` shows what it has",
        )
    return read, root


def list_files(path: Path, below: str = "/") -> tuple[RootFile, ...]:
    """The files of an image's root file system at and below a path, sorted.

    UserError where the image has no squashfs or no such path, ImageFormatError where it is damaged.
    """
    _, root = _root_of(path)
    start = "/" + below.strip("/")
    found = tuple(
        file for file in root.index.files if start in ("/", file.path) or file.path.startswith(f"{start}/")
    )
    if not found:
        raise UserError(f"the image {path.name} has nothing at {start}")
    return found


def read_file(path: Path, name: str) -> bytes:
    """The contents of a file of the root file system, links followed. Raises as list_files does."""
    return _root_of(path)[1].read(name)


def _parts(whole: Part) -> Iterator[Part]:
    """What is worth a file of its own: each stretch of bytes once, and the files of boot partitions."""
    seen: set[tuple[int, int, int]] = set()
    for part in whole.walk():
        if part.data is None or part is whole or part.kind in _NOT_WRITTEN:
            continue
        stretch = (id(part.data.obj), part.offset, part.size)
        if stretch not in seen:
            seen.add(stretch)
            yield part


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was written, relative to the folder, and what could not be kept as the image has it."""

    written: tuple[Path, ...]
    not_kept: tuple[str, ...]


def extract(path: Path, into: Path) -> Extracted:
    """Write an image's parts below `parts/` and its root file system below `rootfs/` of a folder that is new
    or empty. They appear whole, or nothing does.

    Nothing is written outside of the folder: names were checked, links are made after everything else. Files
    and folders have the image's modes, but for set-id bits, and for what their owner needs to read, write and
    remove them; devices and pipes are left out. UserError for a folder that holds something,
    ImageFormatError for a damaged image.
    """
    _require_empty(into)
    read = read_image(open_view(path))
    root = open_root(read)
    written: list[Path] = []
    with disk_errors_explained(into), _appearing(into) as new:
        (new / PARTS).mkdir()
        for number, part in enumerate(_parts(read.part)):
            name = _UNSAFE.sub("-", part.name).strip("-.")
            place = new / PARTS / f"{number:02}-{name}.{part.kind}"
            _write_sparse(place, part.data or memoryview(b""))
            written.append(place.relative_to(new))
        if root is not None:
            written += [place.relative_to(new) for place in _write_root(root, new / ROOT)]
    return Extracted(tuple(written), () if root is None else tuple(_not_kept(root.index.files)))


def extract_root(path: Path, into: Path) -> None:
    """Write an image's root file system alone into a folder, which must not be there yet, as extract() does.
    Raises as list_files() does."""
    _, root = _root_of(path)
    with disk_errors_explained(into):
        for _ in _write_root(root, into):
            pass


def _not_empty(into: Path) -> UserError:
    return UserError(f"{into} is not empty", hint="name a folder that does not exist yet")


def _require_empty(into: Path) -> None:
    """UserError for what is no empty folder. What an extraction that was killed left beside it or in it goes
    first: that one has not taken all from its temporary folder, and `parts` comes last."""
    if not os.path.lexists(into):
        return
    with disk_errors_explained(into):
        remove_abandoned(into.absolute().parent)
    if not into.is_dir():
        raise _not_empty(into)
    names = {path.name for path in into.iterdir()}
    with disk_errors_explained(into):
        remove_abandoned(into)
        left = {path.name for path in into.iterdir()}
        if left == {ROOT} and names != left:
            remove_tree(into / ROOT)
            left = set()
    if left:
        raise _not_empty(into)


@contextmanager
def _appearing(into: Path) -> Iterator[Path]:
    """A folder whose content is to be that of `into`: a folder that is not there yet appears whole. One that
    is there stays the very same, and is filled in two steps."""
    there = into.is_dir()
    with temporary_folder("new", into if there else into.absolute().parent) as work:
        (work / "taken").mkdir()
        yield work / "taken"
        if there:
            for name in (ROOT, PARTS):
                if (work / "taken" / name).is_dir():
                    (work / "taken" / name).rename(into / name)
        else:
            try:
                appear(work / "taken", into)
            except FileExistsError as error:
                raise _not_empty(into) from error


def _mode(file: RootFile) -> int:
    """The mode that a file or folder is given here."""
    return file.mode & 0o1777 | 0o700 if file.kind == "folder" else file.mode & 0o777 | 0o400


def _not_kept(files: tuple[RootFile, ...]) -> Iterator[str]:
    kept = [file for file in files if file.kind in ("file", "folder")]
    counts = {
        "devices, pipes and sockets are left out": sum(
            1 for file in files if file.kind not in ("file", "folder", "link")
        ),
        "set-id bits": sum(1 for file in kept if file.mode & 0o6000),
        "modes that shut their owner out": sum(
            1 for file in kept if _mode(file) & 0o777 != file.mode & 0o777
        ),
        "owners": sum(1 for file in files if file.owner != (os.geteuid(), os.getegid())),
    }
    return (f"{what} ({count})" for what, count in counts.items() if count)


def _write_sparse(place: Path, data: memoryview) -> None:
    """Write a part, zeros as holes: most of a disk is nothing else."""
    with place.open("wb") as stream:
        for at in range(0, len(data), _CHUNK):
            piece = bytes(data[at : at + _CHUNK])
            if any_but_zeros(piece):
                stream.seek(at)
                stream.write(piece)
        stream.truncate(len(data))


def _write_root(root: RootFs, into: Path) -> Iterator[Path]:
    into.mkdir()
    files = root.index.files
    for file in files:
        if file.kind == "folder":
            place_of(into, file).mkdir(exist_ok=True)
    with root.unpacked(files) as unpacked:
        for file in files:
            if file.kind == "file":
                place = place_of(into, file)
                shutil.copyfile(place_of(unpacked, file), place)
                place.chmod(_mode(file))
                yield place
    for file in files:
        if file.kind == "link":
            place = place_of(into, file)
            place.symlink_to(file.target)
            yield place
    for file in sorted(files, key=lambda one: one.path, reverse=True):
        if file.kind == "folder":  # last, since a folder without write permission takes no files
            place_of(into, file).chmod(_mode(file))
