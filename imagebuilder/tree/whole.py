"""Whether a tree came whole to where it is: what a zip archive, or a git repository that was filled through a
web page, loses of it are the execute bits of its programs and its symbolic links."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.elf import ELF_MAGIC

_PROGRAMS = Path("staging_dir/host/bin")
# the loaders that OpenWrt's wrappers start these programs with (scripts/bundle-libraries.sh)
_LOADERS = ("staging_dir/host/lib", "staging_dir/host/bin/bundled/lib")
# scripts that every series has there and calls by themselves; others are sourced, and need no execute bit
_SCRIPTS = tuple(
    Path("scripts", name)
    for name in ("target-metadata.pl", "metadata.pl", "ipkg-make-index.sh", "opkg-key", "getver.sh")
)
_WITH_PROGRAMS = ("scripts", "staging_dir", "target", "build_dir")  # the last one: dtc
_HEADS = (ELF_MAGIC, b"#!")
_LONGEST_LINK = 200  # bytes: longer files are not looked at
SHOWN = 3


class IncompleteTreeError(UserError):
    """A tree that lost something on its way here."""


def check_whole(folder: Path) -> None:
    """IncompleteTreeError for a tree whose programs cannot be run, or whose links became files that hold the
    path."""
    stuck = [path for path in _programs(folder) if not path.stat().st_mode & 0o111 and _is_program(path)]
    if stuck:
        places = shlex.join(str(folder / name) for name in _WITH_PROGRAMS if (folder / name).is_dir())
        raise IncompleteTreeError(
            f"{len(stuck)} programs of {folder} have lost their execute bit: {_named(folder, stuck)}",
            hint="unpack the archive with tar, not through a zip file or a repository; or mend it:"
            f" find {places} -type f -exec chmod +x {{}} +",
        )
    links = [path for path in _programs(folder) if _is_lost_link(path)]
    if links:
        raise IncompleteTreeError(
            f"{len(links)} symbolic links of {folder} have become files: {_named(folder, links)}",
            hint="unpack the archive with tar, on a file system that has symbolic links",
        )


def _programs(folder: Path) -> Iterator[Path]:
    place = folder / _PROGRAMS
    if place.is_dir():
        yield from sorted(Path(entry.path) for entry in os.scandir(place) if _is_plain(entry))
    for loaders in _LOADERS:
        yield from sorted((folder / loaders).glob("ld-linux*"))
    yield from (folder / name for name in _SCRIPTS if (folder / name).is_file())


def _is_plain(entry: os.DirEntry[str]) -> bool:
    return stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)


def _is_program(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4).startswith(_HEADS)


def _is_lost_link(path: Path) -> bool:
    """Whether a file's whole content is the path of another one."""
    if not 0 < path.stat().st_size < _LONGEST_LINK:
        return False
    text = os.fsdecode(path.read_bytes())
    if any(character in text for character in "\0\n\r") or text.startswith("#!"):
        return False
    return (path.parent / text).is_file()


def _named(folder: Path, paths: list[Path]) -> str:
    more = len(paths) - SHOWN
    shown = ", ".join(str(path.relative_to(folder)) for path in paths[:SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
