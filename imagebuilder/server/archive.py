"""Unpacking an ImageBuilder's archive, trusting nothing in it; and the tree that a user gives as a folder or
as such an archive."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from imagebuilder.errors import UserError
from imagebuilder.host.files import opened_plain
from imagebuilder.host.fs import CHUNK_BYTES, disk_errors_explained, expand_home, is_inside, sha256_of
from imagebuilder.host.handover import appear, temporary_folder
from imagebuilder.host.tar import DAMAGED, tar_members, unxz, unzstd
from imagebuilder.log import Log
from imagebuilder.model.tree import TreeError

ENDINGS = (".tar.xz", ".tar.zst", ".tar.gz", ".tar")
MAX_FILES = 400_000
MAX_BYTES = 8 << 30
MAX_NAME_BYTES = 4096
ROOMY_BYTES = 1 << 30  # up to which it does not matter how well an archive is packed
MAX_RATIO = 100  # genuine ones unpack to some 4 to 8 times their size
PROGRESS_FILES = 2000


class ArchiveError(UserError):
    """An archive that is damaged, or that would write outside of its folder."""


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive that unpack() reads."""
    return path.name.endswith(ENDINGS)


def unpacked_tree(archive: Path, cache: Path, log: Log) -> Path:
    """The tree that an archive holds, unpacked into the cache once for each content (SHA-256).

    ArchiveError for an archive that is damaged or unsafe; nothing of it is left then.
    """
    sha256 = sha256_of(archive)
    place = cache / "trees" / sha256
    if place.exists():
        return place
    from imagebuilder.host.cache import Cache  # noqa: PLC0415 - seldom wanted

    with (
        Cache(cache).lock(f"given tree {sha256}", f"unpacking {archive.name}", log),
        disk_errors_explained(place.parent),
        temporary_folder("unpack", place.parent) as fresh,
    ):
        if place.exists():
            return place
        unpack(archive, fresh, log)
        try:
            appear(_only_folder(archive, fresh), place)
        except FileExistsError:  # by another machine, where their file system knows no locks
            log.note(f"{archive.name} was unpacked by another process meanwhile")
    return place


def unpack(archive: Path, folder: Path, log: Log) -> None:
    """Unpack a tar archive (.xz, .zst, .gz or plain) into an existing folder. ArchiveError as above."""
    files = size = 0
    packed = archive.stat().st_size
    try:
        with _open(archive) as stream:
            for tar, member in tar_members(stream):
                files, size = files + 1, size + max(member.size, 0)
                check_member(archive.name, member)
                if files > MAX_FILES or size > MAX_BYTES:
                    raise ArchiveError(
                        f"{archive.name} holds more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB"
                    )
                if size > ROOMY_BYTES and size > MAX_RATIO * packed:
                    raise ArchiveError(
                        f"{archive.name} unpacks to more than {MAX_RATIO} times its {packed} bytes",
                        hint="no ImageBuilder does: do not use it",
                    )
                if files % PROGRESS_FILES == 0:
                    log.progress(f"unpacking {archive.name}: {files} files", files)
                extract_member(tar, member, folder)
    except DAMAGED as error:
        raise ArchiveError(f"{archive} is damaged: {error}", hint="download it again") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError(
            f"{archive} is unsafe: it holds {error.filename} twice, as a folder and not"
        ) from error
    except OSError as error:
        raise _unwritable(error, str(archive)) from error
    if files == 0:
        raise ArchiveError(f"{archive} is empty", hint="download it again")


def check_member(archive: str, member: tarfile.TarInfo, *, absolute_links: bool = False) -> None:
    """ArchiveError for a member that is no file, folder or link, or that leaves the archive's folder.

    absolute_links: symbolic links may name any place, as those of a root file system do; extract_member()
    follows none.
    """
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or len(os.fsencode(member.name)) > MAX_NAME_BYTES:
        raise ArchiveError(f"{archive} is unsafe: the path {member.name[:200]!r} leaves its folder")
    if len(os.fsencode(member.linkname)) > MAX_NAME_BYTES:
        raise ArchiveError(f"{archive} is unsafe: the link {member.name[:200]!r} is longer than any path")
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise ArchiveError(f"{archive} is unsafe: {member.name!r} is a device or pipe")
    if member.islnk() or (member.issym() and not absolute_links):
        base = name.parent if member.issym() else PurePosixPath(".")
        if _leaves(base, PurePosixPath(member.linkname)):
            raise ArchiveError(
                f"{archive} is unsafe: the link {member.name!r} leads outside, to {member.linkname!r}",
                hint="a tree that was used holds such links, OpenWrt's archives do not: give its folder",
            )


def _unwritable(error: OSError, archive: str) -> Exception:
    """What it means that a member cannot be written: the archive is to blame, or the error stands."""
    if error.errno != errno.ENAMETOOLONG:
        return error
    name = PurePosixPath(os.fsdecode(error.filename or "")).name
    return ArchiveError(f"{archive} holds a name that no file system takes: it begins {name[:60]!r}")


def _leaves(base: PurePosixPath, target: PurePosixPath) -> bool:
    """Whether a relative link in `base` leads above the archive's root."""
    if target.is_absolute():
        return True
    depth = len([part for part in base.parts if part != "."])
    for part in target.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member that check_member() let pass. A name may not pass through a link that an earlier
    member made: links that are each harmless can together lead outside (ArchiveError)."""
    place = folder
    for part in PurePosixPath(member.name).parts[:-1]:
        place /= part
        if place.is_symlink():
            raise ArchiveError(f"the archive is unsafe: {member.name!r} passes through a link")
    place /= PurePosixPath(member.name).name
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if member.issym():
        place.symlink_to(member.linkname)
        os.utime(place, (member.mtime, member.mtime), follow_symlinks=False)
    elif member.islnk():
        original = folder / member.linkname
        if not is_inside(folder, original) or not original.is_file():
            raise ArchiveError(f"the archive is unsafe: {member.name!r} is linked to no file of it")
        place.hardlink_to(original)
    else:
        content = tar.extractfile(member)
        if content is None:
            raise tarfile.ReadError(f"{member.name} has no content")
        with place.open("xb") as copy:
            shutil.copyfileobj(content, copy, CHUNK_BYTES)
        place.chmod(0o755 if member.mode & 0o100 else 0o644)
        os.utime(place, (member.mtime, member.mtime))


def _only_folder(archive: Path, unpacked: Path) -> Path:
    entries = list(unpacked.iterdir())
    if len(entries) != 1 or not entries[0].is_dir() or entries[0].is_symlink():
        raise ArchiveError(
            f"{archive.name} is no ImageBuilder: it should hold one folder, and holds {len(entries)} entries"
        )
    return entries[0]


@contextmanager
def _open(archive: Path) -> Iterator[IO[bytes]]:
    with opened_plain(archive, MAX_BYTES) as raw:
        if archive.name.endswith(".xz"):
            yield unxz(raw)
        elif archive.name.endswith(".zst"):
            yield unzstd(raw)
        elif archive.name.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(IO[bytes], stream)
        else:
            yield raw


def given_tree(given: str, cache: Path, log: Log) -> Path:
    """The tree that a user gave as a folder or an archive (which is unpacked into the cache).

    TreeError if it is neither; ArchiveError for a damaged or unsafe archive.
    """
    path = expand_home(given)
    if path.is_dir():
        folder = path.resolve()
    elif path.is_file() and is_archive(path):
        folder = unpacked_tree(path, cache, log)
    elif path.exists():
        raise TreeError(f"{given} is neither a folder nor an archive ({', '.join(ENDINGS)})")
    else:
        raise TreeError(f"there is no ImageBuilder at {given}")
    return folder
