"""Entry points of a wheel: `name = module:attribute [extras]` below `[group]` (PyPA's entry points
specification).

Not by installer.utils.parse_entrypoints: what is no object it only asserts, which Python's -O leaves out, it
takes a name twice or with a percent sign for a broken file, and checks no program's name.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import UserError

PROGRAM_GROUPS = ("console_scripts", "gui_scripts")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_MODULE = re.compile(_DOTTED)
_OBJECT = re.compile(rf"({_DOTTED})\s*:\s*({_DOTTED})\s*(?:\[[^\]]*\])?")


class EntryPointError(UserError):
    """Entry points that cannot become programs."""


@dataclass(frozen=True, slots=True, order=True)
class EntryPoint:
    """A program's name, and what it calls: an attribute, perhaps with dots, of a module."""

    program: str
    module: str
    attribute: str


class _Parser(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr  # names of programs have capitals


def parse_entry_point(origin: Path, program: str, text: str) -> EntryPoint:
    """`module:attribute` as a program. EntryPointError for a name that is no file name, and for anything
    else."""
    called = _OBJECT.fullmatch(text.strip())
    if _NAME.fullmatch(program) is None or called is None:
        raise EntryPointError(
            f"{origin}: {program[:100]!r} = {text[:100]!r} is no program",
            hint="a program is a plain file name, and calls module:function",
        )
    return EntryPoint(program, called[1], called[2])


def _parsed(origin: Path, data: bytes) -> _Parser:
    parser = _Parser(delimiters=("=",), strict=False, interpolation=None)
    try:
        parser.read_string(data.decode("utf-8"))
    except (UnicodeDecodeError, configparser.Error) as error:
        problem = " ".join(str(error).split())[:300]
        raise EntryPointError(f"{origin}: its entry_points.txt cannot be read: {problem}") from error
    return parser


def named_modules(origin: Path, data: bytes) -> frozenset[tuple[str, str]]:
    """Groups and the modules that entry points of theirs name, programs among them. EntryPointError for what
    cannot be read; what is no module has no place in the answer."""
    parser = _parsed(origin, data)
    return frozenset(
        (group, module[0])
        for group in parser.sections()
        for _, text in parser.items(group)
        if (module := _MODULE.match(text.strip())) is not None
    )


def read_entry_points(origin: Path, data: bytes) -> tuple[EntryPoint, ...]:
    """The programs of an entry_points.txt, sorted. EntryPointError for text that is none, and for names that
    are no file names or objects that are no module:attribute. Entry points of other groups are left alone."""
    parser = _parsed(origin, data)
    found = []
    for group in PROGRAM_GROUPS:
        if not parser.has_section(group):
            continue
        for program, text in parser.items(group):
            found.append(parse_entry_point(origin, program, text))
    return tuple(sorted(found))
