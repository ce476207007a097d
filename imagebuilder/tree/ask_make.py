"""What a tree's own make says: `make info`, and where it keeps things, in one call; kept in the cache.

The variables are asked for in a goal of ours, whose recipe make expands when all makefiles were read, so
that what comes out is what the tree's own goals work with. Nothing of the tree is guessed by its layout:
kernel and libc lie beside the kernel's .config from 21.02 on, and a fork may nest its folders as it likes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imagebuilder.host.fs import disk_errors_explained, write_whole
from imagebuilder.host.run import clean_environment, run
from imagebuilder.host.sandbox import PrivateView
from imagebuilder.log import Log
from imagebuilder.tree.whole import check_whole

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
_FORM = 1  # of what is kept; another number asks all trees anew
_KEPT = "indexes"  # the cache's folder for small things that can be had again (host.cache)
# what `make info` reads besides makefiles: its scripts, and what they read
_ALSO_READ = (".targetinfo", ".packageinfo", ".config", "version", "version.date", "Makefile")
_SCRIPTS = "scripts"


@dataclass(frozen=True)
class Answer:
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


def ask_make(folder: Path, view: PrivateView, cache: Path, log: Log) -> Answer:
    """Ask the tree in `folder`, in its view, or take what it said last time if nothing that it read changed.

    ProgramError if make fails, IncompleteTreeError if it cannot work; neither is kept.
    """
    kept = cache / _KEPT / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()}.make"
    answer = _kept_answer(kept, folder)
    if answer is not None:
        return answer
    check_whole(folder)
    done = run(
        view.command(["make", "--no-print-directory", f"--eval={_EVAL}", "info", _GOAL]),
        env=clean_environment(HOME="/nonexistent"),
        timeout=INFO_SECONDS,
        log=log,
    )
    answer, read = parse_answer(done.stdout, done.stderr)
    state = _state(folder, _read_files(read, answer.variables.get(TOP, "")))
    facts = {"form": _FORM, "state": state, "answer": [answer.info, answer.complaints, answer.variables]}
    with disk_errors_explained(cache):
        write_whole(kept, json.dumps(facts).encode())
    return answer


def parse_answer(stdout: str, stderr: str) -> tuple[Answer, tuple[str, ...]]:
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
    return Answer("\n".join(lines), stderr, found), read


def _read_files(makefiles: Iterable[str], top: str) -> list[str]:
    """What the answer depends on, relative to the tree; what lies outside of it is the host's."""
    names = {*_ALSO_READ, *filter(None, (_below(top, makefile) for makefile in makefiles))}
    # a file that is new changes its folder
    return sorted({*names, *(str(PurePosixPath(name).parent) for name in names)})


def _state(folder: Path, names: Iterable[str]) -> dict[str, list[int] | None]:
    """Size, time and kind of files and folders of the tree, and of its scripts."""
    scripts = (path for path in (folder / _SCRIPTS).glob("*") if path.is_file())
    found: dict[str, list[int] | None] = {}
    for name in sorted({*names, _SCRIPTS, *(str(path.relative_to(folder)) for path in scripts)}):
        try:
            status = (folder / name).stat()
        except OSError:
            found[name] = None
        else:
            found[name] = [status.st_size, status.st_mtime_ns, status.st_mode]
    return found


def _kept_answer(place: Path, folder: Path) -> Answer | None:
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
    return Answer(info, complaints, variables)
