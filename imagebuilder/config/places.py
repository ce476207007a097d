"""Which folder is the user's project, and where its results and its cache are. Loaded in a moment: what a
command is about is told before anything else is.

It is the current folder, unless one above it shows that it is one: by `firmware.toml`, which marks the root
of a project and wins, or else by boards, configs, overlays, apps, locks or secrets. Such folders have common
names, and secrets.toml can name programs to be run, so that more is asked of a folder above than of the one
that somebody stands in:

- nothing is looked for above a folder with firmware.toml, above the root of a git working tree, or above the
  home folder; the home folder and `/` themselves need a firmware.toml
- something must lie in its folders that this program reads: `apps/` of a web server's is none
- it must be this user's, root's or that of who has the current folder, and not everybody may write to it:
  in /tmp, what is above could be anybody's (git looks who has a folder too, since CVE-2022-24765)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imagebuilder
from imagebuilder.errors import UserError
from imagebuilder.host.fs import expand_home, user_cache

PROJECT_FILE = "firmware.toml"
SECRETS = "secrets.toml"
FAILED_LOG = ".failed.log"  # what the name of a failed build's log ends with, beside the result's folder
INPUTS = "inputs.json"  # of a result: what it was made of
OUTPUT = "out"  # where results go, unless somebody says something else

# what shows that a folder is a project, and what must lie in it where that folder is above
_MARKS = (
    ("configs", ("*.toml",)),
    ("boards", ("*.toml",)),
    ("overlays", ("*/overlay.toml", "*/files")),
    ("locks", ("*.lock",)),
    ("apps", ("*.py", "*.whl", "*/pyproject.toml", "*/setup.py", "*/setup.cfg")),
)


@dataclass(frozen=True)
class FoundProject:
    """A project's folder. why: what shows that it is one, in words. passed_over: folders above that look like
    one and are not taken, each with the reason; refused: those with firmware.toml."""

    root: Path
    why: str
    passed_over: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def text(self) -> str:
        """A line on it."""
        return f"{self.root} ({self.why})"


def located(given: Path | None) -> FoundProject:
    """The project that --project names, or the one that the current folder is in. UserError where that is
    gone."""
    if given is not None:
        return FoundProject(given.absolute(), "named by --project")
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise UserError("the current folder is gone", hint="change to another one") from None
    return find_project(here, Path(os.path.realpath(expand_home("~"))))


def results_folder(root: Path, said: str | None) -> Path:
    """The absolute path of a project's folder for results. said: what firmware.toml says of it."""
    return (root / expand_home(said or OUTPUT)).absolute()


def cache_folder(root: Path, said: str | None) -> Path:
    """The folder of a project's cache. said: as for results_folder(). HostError for a user without a home."""
    return user_cache() if said is None else (root / expand_home(said)).absolute()


@cache
def shipped_folder() -> Path:
    """Where the boards, configs, overlays, apps and schemas lie that come with this program: inside the
    package where it was installed from a wheel, else beside it, in the checkout that it runs from."""
    package = Path(imagebuilder.__file__).resolve().parent
    return package / "shipped" if (package / "shipped").is_dir() else package.parent


def find_project(here: Path, home: Path) -> FoundProject:
    """The project that a folder is in. here, home: absolute paths without links."""
    if os.path.lexists(here / PROJECT_FILE):
        return FoundProject(here, f"has {PROJECT_FILE}")
    refused: dict[Path, str] = {}
    above = list(_above(here, home))
    for folder in above:
        if os.path.lexists(folder / PROJECT_FILE):
            reason = _not_taken(folder, here, PROJECT_FILE)
            if reason is None:
                return FoundProject(folder, f"has {PROJECT_FILE}", refused=tuple(refused.values()))
            refused[folder] = f"{folder} has {PROJECT_FILE}, and is not taken for the project: {reason}"
    said = tuple(refused.values())
    mark = next((name for name, _ in _MARKS if os.path.isdir(here / name)), None)  # noqa: PTH112
    if mark is not None or os.path.isfile(here / SECRETS):  # noqa: PTH113 - these raise nothing
        return FoundProject(here, f"has {SECRETS if mark is None else f'{mark}/'}", refused=said)
    passed: list[str] = []
    for folder, seen in _marked(each for each in above if each not in refused):
        common = folder in (home, folder.parent)
        reason = f"{PROJECT_FILE} has to say so there" if common else _not_taken(folder, here, seen)
        if reason is None:
            return FoundProject(folder, f"has {seen}", tuple(passed), said)
        passed.append(f"{folder} has {seen}, and is not taken for the project: {reason}")
    nothing = "the current folder: nothing in it or above it marks another"
    return FoundProject(here, nothing, tuple(passed), said)


def _above(here: Path, home: Path) -> Iterator[Path]:
    """The folders above in which a project is looked for, the nearest first."""
    folder = here
    while not (folder == home or os.path.lexists(folder / ".git") or folder == folder.parent):
        folder = folder.parent
        yield folder


def _marked(folders: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The folders above that look like a project, each with what shows it."""
    for folder in folders:
        if os.path.isfile(folder / SECRETS):  # noqa: PTH113 - raises nothing where we may not look
            yield folder, SECRETS
            continue
        with suppress(OSError):  # somebody else's, that we may not look into
            seen = (name for name, inner in _MARKS if any(any((folder / name).glob(each)) for each in inner))
            name = next(seen, None)
            if name is not None:
                yield folder, f"{name}/"


def _not_taken(folder: Path, here: Path, mark: str) -> str | None:
    """Why a folder above is not a project of this user's; None where it is."""
    mine = {0, os.geteuid(), here.stat().st_uid}
    for place in (folder, folder / mark):
        status = place.lstat()
        if status.st_uid not in mine:
            return f"{place} belongs to somebody else (user {status.st_uid})"
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & stat.S_IWOTH:
            return f"everybody may write to {place}"
    return None
