"""Flat apps: a folder with main.py, or the like, and what it needs beside it, which nobody builds.

It goes onto the device as it lies there, into a folder of its own, so that its modules find one another and
their data as they did where they were written, and two apps may both have a config.py. What it requires
stands in requirements.txt, and in its main module's block `# /// script` (PEP 723).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from imagebuilder.config.overlay import NEVER_MEANT
from imagebuilder.host.files import MAX_FILE_BYTES
from imagebuilder.python.apps.apps import (
    NOT_SHIPPED_FILES,
    AppError,
    Bounds,
    flat_root,
    program_name,
    read_file,
    shipped_files,
)
from imagebuilder.python.apps.script import Script, script_of
from imagebuilder.python.requirements.requirements_file import StatedRequirements, read_requirements
from imagebuilder.rootfs.tree import Entry, file_at, file_of

REQUIREMENTS = "requirements.txt"
MAX_DATA_BYTES = 256 << 20  # of all files but sources
MAIN = ("__main__.py", "main.py", "app.py")
# what says something to people, or to programs that build and test, and nothing to the app
_NOT_FOR_DEVICES = (
    *(*NEVER_MEANT, *NOT_SHIPPED_FILES, "requirements*.txt", "pyproject.toml", "setup.cfg", "tox.ini"),
    *("README*", "CHANGELOG*", "LICENSE*", "COPYING*", "CONTRIBUTING*", "Makefile", "Dockerfile", "Pipfile*"),
)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FlatApp:
    """A flat app. file: that of the module that is run; main: its place, package: the one that it is in,
    "" for none; entries: what goes onto the device, both by places in the app's folder there. script: what
    the main module says of itself; stated: what requirements.txt says; left_out: names at the top that stay
    out."""

    file: Path
    main: str
    package: str
    entries: Mapping[str, Entry]
    script: Script
    stated: StatedRequirements
    left_out: tuple[str, ...]

    def taken(self, program: str) -> str:
        """What was taken of it, in words. program: its path."""
        modules = sum(path.endswith(".py") for path in self.entries)
        others = len(self.entries) - modules
        parts = [f"{program} runs {self.main}", _counted(modules, "module")]
        parts += [_counted(others, "other file")] if others else []
        if self.stated.requirements:
            files = ", ".join(dict.fromkeys(Path(each.file).name for each in self.stated.requirements))
            parts.append(f"{_counted(len(self.stated.requirements), 'requirement')} of {files}")
        if self.left_out:
            more = ", ..." if len(self.left_out) > _SHOWN else ""
            parts.append(f"left out: {', '.join(self.left_out[:_SHOWN])}{more}")
        return "; ".join(parts)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def read_flat(folder: Path, python: tuple[int, int]) -> FlatApp:
    """A flat app, for Python (major, minor). AppError, naming the file; SourceError and ScriptError for its
    main module; FaultsError with file and line for requirements.txt."""
    root, package = flat_root(folder)
    bounds = Bounds(folder)
    entries = dict(_entries(root, f"{package}/" if package else "", bounds))
    main = _main(folder, entries, package)
    inner = main.removeprefix(f"{package}/") if package else main
    file = root / inner
    script = script_of(entries[main].data or b"", file, python)
    places = [place for place in (folder / REQUIREMENTS, root / REQUIREMENTS) if place.exists()]
    stated = read_requirements(places[0]) if places else StatedRequirements()
    top = main.partition("/")[0] if main.endswith("/__main__.py") else ""
    return FlatApp(file, main, top, entries, script, stated, _left_out(folder, root, entries, package))


def _entries(root: Path, prefix: str, bounds: Bounds) -> Iterator[tuple[str, Entry]]:
    size = 0
    for item in shipped_files(root, bounds):
        file, name = root / item.path, item.path.rpartition("/")[2]
        top = "/" not in item.path
        if name.startswith(".") or _matches(name, _NOT_FOR_DEVICES if top else NEVER_MEANT):
            continue
        if not file.is_file():
            what = "is a link to a folder, or to nothing" if item.is_link else "is no plain file"
            raise AppError(f"{file} {what}", hint="put into the app's folder what it needs there")
        mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
        if name.endswith(".py"):
            yield prefix + item.path, file_of(read_file(file, bounds), mode)
            continue
        size += file.stat().st_size
        if size > min(MAX_DATA_BYTES, MAX_FILE_BYTES):
            raise AppError(
                f"{bounds.app}: more than {MAX_DATA_BYTES >> 20} MiB of files",
                hint="point python.apps at the app's own folder",
            )
        yield prefix + item.path, file_at(file.absolute(), mode)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _main(folder: Path, entries: Mapping[str, Entry], package: str) -> str:
    """The module that is run: one that is called so that everybody knows, or is called like the folder; the
    only one; or the __main__ of the only package."""
    modules = [PurePosixPath(path) for path in entries if path.endswith(".py")]
    if not modules:
        raise AppError(f"{folder}: there is no Python source in it", hint="python.apps names it")
    top = {place.name: str(place) for place in modules if str(place.parent) == (package or ".")}
    name = folder.resolve().name
    for known in (*MAIN, f"{name}.py", f"{program_name(name).replace('-', '_')}.py"):
        if known in top and not (package and known != "__main__.py"):
            return top[known]
    if not package:
        alone = [place for name, place in top.items() if name != "__init__.py"]
        if len(alone) == 1:
            return alone[0]
        packages = [
            str(place)
            for place in modules
            if place.name == "__main__.py" and len(place.parts) == 2 and place.parts[0].isidentifier()
        ]
        if not alone and len(packages) == 1:
            return packages[0]
    raise AppError(
        f"{folder}: there is no telling which of its modules is run",
        hint="call it main.py, a package's __main__.py; or state a program in pyproject.toml's"
        " [project.scripts]",
    )


def _left_out(folder: Path, root: Path, entries: Mapping[str, Entry], package: str) -> tuple[str, ...]:
    """Names at the top of the app of which nothing goes in, but for those that never go anywhere."""
    start = f"{package}/" if package else ""
    taken = {path.removeprefix(start).partition("/")[0] for path in entries}
    there = {each.name for each in root.iterdir()} | {each.name for each in folder.iterdir()}
    if root != folder:
        taken.add(root.name)
    unsaid = {*NEVER_MEANT, REQUIREMENTS, ".git"}
    return tuple(sorted(there - taken - unsaid))
