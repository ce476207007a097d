"""Python in a root file system: whether each file of bytecode is for an interpreter that is there, and which
sources the device would compile at each start. Nothing is run.

Which interpreter reads a file is told by its place: PEP 3147 for `__pycache__` and its tags, the library's
folder for the rest. Python 3 passes bytecode by that lies beside its source; Python 2 reads it there.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from imagebuilder.model.trial import TrialCheck, TrialLevel
from imagebuilder.python.bytecode.bytecode import APPS_FOLDER, Why, head_of, magic_of, uncompiled
from imagebuilder.python.bytecode.versions import known_versions
from imagebuilder.rootfs.files import opened
from imagebuilder.rootfs.tree import Entry, FileTree, file_of
from imagebuilder.trial.judged import Question, counted, finding
from imagebuilder.trial.paths import real_path

# Python/import.c of CPython 2.7.18: what its bytecode begins with; the header is that and the source's time
_PYTHON_2 = {"2.7": 62211}
_PYTHON_2_HEADER = 8
_MAGIC_END = b"\r\n"
_SHORTEST_HEADER = 12
_PROGRAM = re.compile(r"/usr/bin/python(\d\.\d+)")
_LIBRARY = re.compile(r"/usr/lib/python(\d\.\d+)/")
_ZIP = re.compile(r"/usr/lib/python(\d)(\d+)\.zip")
_CACHED = re.compile(r"(?P<folder>.*/)__pycache__/(?P<name>.+?)\.(?P<tag>[^./]+)(?:\.opt-[^./]+)?\.pyc")
_MOST_MEMBERS = 20_000
_HEAD_BYTES = 64
# what zipfile and zlib raise for what is no zip file, or damaged, or encrypted, or packed in another way
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError),
    struct.error,
)
BYTECODE = Question(
    "bytecode", "bytecode is the interpreter's", "the magic number of the Python that reads it, in each file"
)
SOURCES = Question(
    "compiled-sources",
    "no Python source is compiled at start",
    "bytecode for each module of the library and apps",
)


def pythons_of(tree: FileTree) -> tuple[str, ...]:
    """The versions of CPython whose interpreter is in a root file system, ("2.7", "3.11"), oldest first."""
    named = (_PROGRAM.fullmatch(path) for path in tree.children("/usr/bin"))
    found = {match[1] for match in named if match is not None and _is_file(tree, match[0])}
    return tuple(sorted(found, key=_number))


def _number(python: str) -> tuple[int, ...]:
    return tuple(map(int, python.split(".")))


def _is_file(tree: FileTree, path: str) -> bool:
    place = real_path(tree, path)
    return place is not None and tree[place].kind == "file"


def magic_numbers(tree: FileTree, pythons: tuple[str, ...]) -> dict[str, int]:
    """The magic number of each Python's bytecode; of a version that nothing is known of, the one that most
    files of its own library have, and none where there is no such file."""
    known = _PYTHON_2 | {python: facts.magic_number for python, facts in known_versions().items()}
    found = {python: known[python] for python in pythons if python in known}
    for python in set(pythons) - set(found):
        paths = (path for path in tree.below(f"/usr/lib/python{python}") if path.endswith(".pyc"))
        common = Counter(magic_of(tree[path]) for path in paths if tree[path].kind == "file").most_common(1)
        found.update((python, number) for number, _ in common)
    return found


def _called(number: int) -> str:
    """A magic number, for people."""
    known = _PYTHON_2 | {python: facts.magic_number for python, facts in known_versions().items()}
    name = next((python for python, each in known.items() if each == number), None)
    return f"magic number {number}" + (f" (Python {name})" if name is not None else "")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Which Python reads a file of bytecode, "" where it may be any; and what it means that it cannot."""

    python: str
    level: TrialLevel


def _reader(path: str, tree: FileTree, pythons: tuple[str, ...]) -> _Reader | None:
    """Who reads a file of bytecode; None for nobody."""
    cached = _CACHED.fullmatch(path)
    if cached is not None:
        source = f"{cached['folder']}{cached['name']}.py"
        tagged = [each for each in pythons if cached["tag"] == f"cpython-{each.replace('.', '')}"]
        # the source is there: the device compiles it instead, each time
        return _Reader(tagged[0], "warning") if tagged and source in tree else None
    library = _LIBRARY.match(path)
    python = library[1] if library is not None else ""
    if library is not None and python not in pythons:
        return None
    if path[:-1] in tree:
        return _Reader(python, "warning") if python.startswith("2.") else None
    apps = path.startswith(f"{APPS_FOLDER}/")
    return _Reader(python, "error" if python or apps else "warning")


def _faults(entry: Entry, reader: _Reader, magics: Mapping[str, int]) -> Iterator[tuple[str, TrialLevel]]:
    """What is wrong with a file of bytecode."""
    wanted = {reader.python} if reader.python else set(magics)
    numbers = {magics[each]: each for each in sorted(wanted, key=_number) if each in magics}
    head = head_of(entry)
    shortest = _PYTHON_2_HEADER if numbers and set(numbers) <= set(_PYTHON_2.values()) else _SHORTEST_HEADER
    if len(head) <= shortest:
        yield f"its {len(head)} bytes hold no code", reader.level
    elif numbers and (magic_of(entry) not in numbers or head[2:4] != _MAGIC_END):
        reads = " or ".join(f"Python {python} reads {number}" for number, python in numbers.items())
        yield f"{_called(magic_of(entry))}, where {reads}", reader.level


def _members(path: str, entry: Entry) -> Iterator[tuple[str, Entry]]:
    """The heads of the bytecode in a zip file. BadZipFile and others of zipfile's own for a damaged one."""
    with opened(entry) as stream, zipfile.ZipFile(stream) as zipped:
        members = zipped.infolist()
        if len(members) > _MOST_MEMBERS:
            raise ValueError(f"it has {len(members)} files")
        for member in members:
            if member.filename.endswith(".pyc"):
                with zipped.open(member) as part:
                    yield f"{path}/{member.filename}", file_of(part.read(_HEAD_BYTES))


def _zip_faults(
    path: str, entry: Entry, python: str, magics: Mapping[str, int]
) -> Iterator[tuple[str, str, TrialLevel]]:
    """What is wrong in a zip file that a Python looks into by itself (/usr/lib/python311.zip)."""
    reader = _Reader(python, "error")
    try:
        for member, head in _members(path, entry):
            yield from ((member, text, level) for text, level in _faults(head, reader, magics))
    except _ZIP_ERRORS as error:
        yield path, f"it cannot be read as a zip file: {error}", "error"


def _all_faults(
    tree: FileTree, pythons: tuple[str, ...], magics: Mapping[str, int]
) -> Iterator[tuple[str, str, TrialLevel]]:
    for path, entry in tree.items():
        zipped = _ZIP.fullmatch(path)
        if entry.kind != "file":
            continue
        if zipped is not None and f"{zipped[1]}.{zipped[2]}" in pythons:
            yield from _zip_faults(path, entry, f"{zipped[1]}.{zipped[2]}", magics)
        elif path.endswith(".pyc") and (reader := _reader(path, tree, pythons)) is not None:
            yield from ((path, text, level) for text, level in _faults(entry, reader, magics))


def bytecode_check(tree: FileTree, owners: Mapping[str, str]) -> TrialCheck | None:
    """Whether all bytecode that a Python of a root file system reads is its own; None without CPython.
    owners: the packages of files, by their paths."""
    pythons = pythons_of(tree)
    if not pythons:
        return None
    faults = _all_faults(tree, pythons, magic_numbers(tree, pythons))
    findings = [finding(path, owners, text, level) for path, text, level in faults]
    number = sum(1 for path, entry in tree.items() if entry.kind == "file" and path.endswith(".pyc"))
    read_by = f"Python {' and '.join(pythons)}"
    found = f"{counted(number, 'file')} for {read_by}" if number else f"none, for {read_by}"
    return BYTECODE.answered(found, findings)


_WHY: Mapping[Why, str] = {
    "none": "it has no bytecode: the device compiles it at each start",
    "hidden": "the device compiles it at each start: its bytecode lies beside it, where a source hides it",
    "program": "a program's own file, which never has bytecode",
}


def source_check(tree: FileTree, owners: Mapping[str, str]) -> TrialCheck | None:
    """Whether the device compiles no module at each start; None without CPython 3. Programs' own files are
    only named."""
    pythons = [each for each in pythons_of(tree) if not each.startswith("2.")]
    if not pythons:
        return None
    found = {each.path: each.why for python in pythons for each in uncompiled(tree, python)}
    findings = [
        finding(path, owners, _WHY[why], "note" if why == "program" else "warning")
        for path, why in found.items()
    ]
    return SOURCES.answered("none but programs' own files" if findings else "none", findings)
