"""A file of requirements, requirements.txt, as pip reads one: comments, lines that go on, `-r` and `-c`.

Paths in a file count from its folder. What pip can be told there besides, and would not be honoured here, is
refused with file and line. Nothing is fetched. Source: pip's documentation, "Requirements File Format".
"""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.config.requirement import WrittenRequirement, is_plain, parse_requirement_line
from imagebuilder.errors import Fault, FaultsError
from imagebuilder.host.files import PlainFileError, read_plain

MAX_FILE_BYTES = 1 << 20
MAX_FILES = 100  # that name one another
MAX_REQUIREMENTS = 5000
_BOMS = (
    *((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")),
    *((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")),
)
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_INDEX = "which package index is asked is said by pip's own configuration (pip.conf, PIP_INDEX_URL)"
# pip's options of a file, and what to do without them
_REFUSED = {
    **dict.fromkeys(("-i", "--index-url", "--pypi-url", "--extra-index-url", "--no-index"), _INDEX),
    **dict.fromkeys(("-f", "--find-links", "--trusted-host"), _INDEX),
    **dict.fromkeys(
        ("-e", "--editable"), "an image has nothing to edit: write the path or address without it"
    ),
    "--pre": "name the version: foo>=1.0rc1",
    "--require-hashes": "hashes are checked where they stand; leave this line out",
}
# what is done anyhow
_AS_IT_IS = frozenset({"--prefer-binary"})
_NESTED = {"-r": "requirements", "--requirement": "requirements", "-c": "constraints"}
_NESTED["--constraint"] = "constraints"


@dataclass(frozen=True, slots=True)
class Stated:
    """A requirement, and where it stands. folder: what its paths count from; file, line: for messages; pure:
    whether it is wanted without native code."""

    written: WrittenRequirement
    folder: Path
    file: str
    line: int | None = None
    pure: bool = False

    def key(self, project: Path) -> str:
        """How locks call it: as it is written, and with the folder that its path counts from where that is
        not the project's."""
        address, folder = self.written.address, self.folder.absolute()
        relative = address is not None and address.kind == "path" and not address.place.startswith(("/", "~"))
        if not relative or folder == project.absolute():
            return self.written.text
        near = folder.is_relative_to(project.absolute())
        return f"{self.written.text} in {folder.relative_to(project.absolute()) if near else folder}"

    def fault(self, message: str, hint: str | None = None) -> FaultsError:
        """What is wrong with it, told with its place."""
        return FaultsError([Fault(self.file, self.line, "", message, hint)])


@dataclass(frozen=True, slots=True)
class StatedRequirements:
    """What files of requirements say. constraints: versions of what goes in anyhow; read: the files, by the
    paths that they were named by."""

    requirements: tuple[Stated, ...] = ()
    constraints: tuple[Stated, ...] = ()
    read: tuple[Path, ...] = ()


NOTHING_STATED = StatedRequirements()


@dataclass(slots=True)
class _Reading:
    """Reads one file and all that it names. seen: each file once as what it is."""

    requirements: list[Stated] = field(default_factory=list)
    constraints: list[Stated] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    seen: set[tuple[Path, bool]] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)

    def read(self, file: Path, *, constraint: bool, asker: tuple[Path, int] | None) -> None:
        asked_by, line = (str(asker[0]), asker[1]) if asker else (str(file), None)
        if (file.resolve(), constraint) in self.seen:
            return
        self.seen.add((file.resolve(), constraint))
        self.files.append(file)
        if len(self.seen) > MAX_FILES:
            raise FaultsError([Fault(asked_by, line, "", f"more than {MAX_FILES} files of requirements")])
        try:
            text = _decoded(read_plain(file, MAX_FILE_BYTES))
        except PlainFileError as error:
            self.faults.append(Fault(asked_by, line, "", error.message, "name a file of requirements"))
            return
        except (UnicodeError, LookupError) as error:
            hint = "write it as UTF-8, or say `# coding: NAME` in its first line"
            self.faults.append(Fault(str(file), 1, "", f"is no text that can be read: {error}", hint))
            return
        for number, logical in _lines(text):
            self.take(file, number, logical, constraint=constraint)

    def take(self, file: Path, number: int, line: str, *, constraint: bool) -> None:
        if not is_plain(line):
            self.faults.append(Fault(str(file), number, "", "it has characters that no text has"))
            return
        if line.startswith("-"):
            self.option(file, number, line, constraint=constraint)
            return
        try:
            written = parse_requirement_line(line)
            if constraint and (written.extras or written.address is not None):
                raise ValueError("a constraint is a name with versions, without extras and addresses")
        except ValueError as error:
            self.faults.append(Fault(str(file), number, "", str(error)))
            return
        found = self.constraints if constraint else self.requirements
        found.append(Stated(written, file.parent, str(file), number))
        if len(found) > MAX_REQUIREMENTS:
            raise FaultsError([Fault(str(file), number, "", f"more than {MAX_REQUIREMENTS} requirements")])

    def option(self, file: Path, number: int, line: str, *, constraint: bool) -> None:
        """A line that is one of pip's options."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            self.faults.append(Fault(str(file), number, "", f"the option cannot be read: {error}"))
            return
        name, equals, value = words[0].partition("=")
        if not name.startswith("--") and len(name) > 2:  # -rfile
            name, value = words[0][:2], words[0][2:].removeprefix("=")
            equals = "="
        rest = words[1:]
        if not equals and rest:
            value, rest = rest[0], rest[1:]
        if name in _AS_IT_IS and not value and not rest:
            return
        kind = _NESTED.get(name)
        if kind is None or rest:
            hint = _REFUSED.get(name, "leave it out")
            message = f"pip's option {name} is not honoured here"
            if kind is not None:
                message = f"{name} is followed by one file, and here are more words"
            self.faults.append(Fault(str(file), number, "", message, hint))
        elif not value or "://" in value:
            message = f"{name} names a file of this machine"
            self.faults.append(Fault(str(file), number, "", message, "fetch it, and name the copy"))
        else:
            place, inner = file.parent / value, constraint or kind == "constraints"
            self.read(place, constraint=inner, asker=(file, number))


def read_requirements(file: Path) -> StatedRequirements:
    """What a file of requirements says, with the files that it names.

    FaultsError with all that is wrong, each with file and line: what is no requirement, options that would
    not be honoured, files that are not there, or too large, or too many.
    """
    reading = _Reading()
    reading.read(file, constraint=False, asker=None)
    if reading.faults:
        raise FaultsError(reading.faults)
    return StatedRequirements(tuple(reading.requirements), tuple(reading.constraints), tuple(reading.files))


def _decoded(data: bytes) -> str:
    """As pip decodes: by the mark at its beginning, by what one of the first two lines says, else UTF-8."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data.decode(name).removeprefix("\ufeff")
    for line in data.split(b"\n")[:2]:
        coding = _CODING.match(line)
        if coding is not None:
            name = coding[1].decode("ascii", "replace")
            return data.decode(name)
    return data.decode("utf-8")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, with those that go on behind a backslash, each by its first number."""
    begun, first = "", 0
    for number, line in enumerate([*re.split(r"\r\n|\r|\n", text), ""], 1):
        comment = re.match(r"\s*#", line) is not None
        first = first or number
        if line.endswith("\\") and not comment:
            begun += line[:-1]
            continue
        whole = _COMMENT.sub("", begun + (" " + line if comment and begun else line)).strip()
        if whole:
            yield first, whole
        begun, first = "", 0
