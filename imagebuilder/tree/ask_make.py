"""What a tree's own make says: `make info`, and where it keeps things, in one call; kept in the cache.

The variables are asked for in a goal of ours, whose recipe make expands when all makefiles were read, so
that what comes out is what the tree's own goals work with. Nothing of the tree is guessed by its layout:
kernel and libc lie beside the kernel's .config from 21.02 on, and a fork may nest its folders as it likes.

Before that the tree is looked at, whether it came whole to where it is: what a zip archive, or a git
repository that was filled through a web page, loses of it are the execute bits of its programs and its
symbolic links.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zlib import crc32

from imagebuilder.errors import UserError
from imagebuilder.host.elf import ELF_MAGIC
from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.handover import alone, write_whole
from imagebuilder.host.run import clean_environment, run
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log

INFO_SECONDS = 120.0
TOP = "CURDIR"
# as rules.mk, include/kernel.mk, include/version.mk and the ImageBuilder's Makefile call them, 17.01 to 25.12
VARIABLES = (
    *(TOP, "KERNEL_BUILD_DIR", "LINUX_DIR", "TARGET_DIR", "PACKAGE_DIR", "BIN_DIR"),
    *("VERSION_NUMBER", "LINUX_VERSION"),
)
_READ = "MAKEFILE_LIST"
_GOAL = "imagebuilder-variables"
_MARK = "imagebuilder-variable "
# $(info …) writes by itself: the shell is not asked
_NAMES = " ".join((*VARIABLES, _READ))
_EVAL = f"{_GOAL}: ; @: $(foreach name,{_NAMES},$(info {_MARK}$(name)=$(strip $($(name)))))"
_FORM = 3  # of what is kept; another number asks all trees anew
_KEPT = "indexes"  # the cache's folder for small things that can be had again (host.cache)
# what `make info` reads besides makefiles: its scripts, and what they read
_ALSO_READ = (".targetinfo", ".packageinfo", ".config", "version", "version.date", "Makefile")
_SCRIPTS = "scripts"
PROFILE_LINE = re.compile(r"^(\S+):$", re.MULTILINE)  # of what `make info` prints


@dataclass(frozen=True)
class MakeAnswer:
    """info: what `make info` printed; complaints: its standard error. variables: by VARIABLES' names, those
    that are set."""

    info: str
    complaints: str
    variables: Mapping[str, str]

    def place(self, name: str) -> str:
        """The folder that a variable names, relative to the tree; "" if it is not set or lies elsewhere."""
        return _below(self.variables.get(TOP, ""), self.variables.get(name, ""))


def _below(top: str, name: str) -> str:
    """A path relative to the folder `top`; "" if it is that folder, or does not lie below it."""
    path = PurePosixPath(top, name)
    inside = path.is_relative_to(top) and ".." not in path.parts and str(path) != top
    return str(path.relative_to(top)) if inside else ""


def ask_make(folder: Path, opened: Callable[[], PrivateView], cache: Path, log: Log) -> MakeAnswer:
    """Ask the tree in `folder`, in the view that `opened` gives, or take what it said last time if nothing
    that it read changed.

    ProgramError if make fails, IncompleteTreeError if it cannot work; neither is kept, nor an answer without
    profiles: make may succeed although a program of the host was not there, which the next time it may be.
    """
    kept = cache / _KEPT / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()}.make"
    answer = _kept_answer(kept, folder)
    if answer is not None:
        return answer

    def waiting() -> None:
        log.progress("waiting for another process that is asking the tree's make")

    with disk_errors_explained(cache), alone(kept.parent, waiting):
        return _kept_answer(kept, folder) or _asked(folder, opened, cache, kept, log)


def _asked(folder: Path, opened: Callable[[], PrivateView], cache: Path, kept: Path, log: Log) -> MakeAnswer:
    check_whole(folder)
    view = opened()
    done = run(
        view.command(["make", "--no-print-directory", f"--eval={_EVAL}", "info", _GOAL]),
        env=clean_environment(HOME="/nonexistent"),
        timeout=INFO_SECONDS,
        log=log,
        watch=view.watch("make info"),
    )
    answer, read = parse_answer(done.stdout, done.stderr)
    if PROFILE_LINE.search(answer.info) is None:
        return answer
    state = _state(folder, _read_files(read, answer.variables.get(TOP, "")))
    facts = {"form": _FORM, "state": state, "answer": [answer.info, answer.complaints, answer.variables]}
    with disk_errors_explained(cache):
        write_whole(kept, json.dumps(facts).encode())
    return answer


def parse_answer(stdout: str, stderr: str) -> tuple[MakeAnswer, tuple[str, ...]]:
    """What make printed, taken apart; and the makefiles that it read."""
    lines, found = [], {}
    for line in stdout.splitlines():
        if line.startswith(_MARK):
            name, _, value = line.removeprefix(_MARK).partition("=")
            if value:
                found[name] = value
        else:
            lines.append(line)
    read = tuple(found.pop(_READ, "").split())
    return MakeAnswer("\n".join(lines), stderr, found), read


def _read_files(makefiles: Iterable[str], top: str) -> list[str]:
    """What the answer depends on, relative to the tree; what lies outside of it is the host's."""
    names = {*_ALSO_READ, *filter(None, (_below(top, makefile) for makefile in makefiles))}
    # a file that is new changes its folder
    return sorted({*names, *(str(PurePosixPath(name).parent) for name in names)})


def _state(folder: Path, names: Iterable[str]) -> dict[str, list[int] | None]:
    """Size, time and kind of files of the tree, and of its scripts; of folders the names in them, which tell
    of a new file: their times change whenever make runs."""
    scripts = (path for path in (folder / _SCRIPTS).glob("*") if path.is_file())
    found: dict[str, list[int] | None] = {}
    for name in sorted({*names, _SCRIPTS, *(str(path.relative_to(folder)) for path in scripts)}):
        place = folder / name
        try:
            status = place.stat()
            if place.is_dir():
                names_in = "\0".join(sorted(each.name for each in place.iterdir()))
                found[name] = [crc32(os.fsencode(names_in)), 0, status.st_mode]
            else:
                found[name] = [status.st_size, status.st_mtime_ns, status.st_mode]
        except OSError:
            found[name] = None
    return found


def _kept_answer(place: Path, folder: Path) -> MakeAnswer | None:
    """What was kept for a tree, if nothing of what it depends on changed; None for anything else."""
    try:
        facts = json.loads(place.read_bytes())
        state = facts["state"]
        if facts["form"] != _FORM or not isinstance(state, dict) or _state(folder, state) != state:
            return None
        info, complaints, variables = facts["answer"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    texts = (info, complaints, *variables, *variables.values()) if isinstance(variables, dict) else (None,)
    if not all(isinstance(text, str) for text in texts):
        return None
    os.utime(place)  # last used now
    return MakeAnswer(info, complaints, variables)


_PROGRAMS = Path("staging_dir/host/bin")
# the loaders that OpenWrt's wrappers start these programs with (scripts/bundle-libraries.sh)
_LOADERS = ("staging_dir/host/lib", "staging_dir/host/bin/bundled/lib")
# scripts that every series has there and calls by themselves; others are sourced, and need no execute bit
_CALLED_SCRIPTS = tuple(
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
    yield from (folder / name for name in _CALLED_SCRIPTS if (folder / name).is_file())


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
