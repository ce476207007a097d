"""OpenWrt's filespecs as text: which rules a filespec holds, by the generation of OpenWrt that reads it.

A filespec is text, one rule a line: `+|path` takes from the stage (the tree that a whole build was installed
into), `-|path` drops from the package, `=|path|modes` and `==|path|modes` set modes in the package. Three
generations of OpenWrt read it differently; generation C (23.05 on) is strict and makes a filespec a checked
statement about the stage. What the rules do to a tree is in rootfs/filespec.py. Source of the rules: the
makefiles and scripts of lang/python in openwrt/packages, lede-17.01 to master, observed rule by rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from imagebuilder.errors import UserError

MODE = re.compile(r"[0-7]{1,4}")
BLANK = re.compile(r"\s")
BLANKS = " \t\r\f\v"


class Generation(Enum):
    """Who reads the filespec: A is 17.01, B is 18.06 to 22.03, C is 23.05 and later."""

    A = "A"
    B = "B"
    C = "C"

    @property
    def operations(self) -> tuple[str, ...]:
        """What a rule can do."""
        return ("+", "-", "=", "==") if self.strict else ("+", "-", "=")

    @property
    def strict(self) -> bool:
        """Whether every line must be understood and must have an effect."""
        return self is Generation.C


class FilespecError(UserError):
    """A filespec that cannot be read or does not fit the tree. number: the line, counted from 1."""

    def __init__(self, origin: str, number: int, text: str, problem: str, *, hint: str) -> None:
        super().__init__(f"{origin}, rule {number} `{text}`: {problem}", hint=hint)
        self.origin = origin
        self.number = number
        self.text = text


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. number counts lines from 1; path is absolute on the target and may be a pattern.

    In A and B file_mode holds the one mode, for files and folders. broken_mode: A and B only, a mode that is
    no octal number and makes the mode change fail."""

    number: int
    op: str
    path: str
    file_mode: int | None = None
    dir_mode: int | None = None
    text: str = ""
    broken_mode: bool = False


def _mode_of(field: str, name: str) -> int | None:
    if not field:
        return None
    if not MODE.fullmatch(field):
        raise ValueError(f"the {name} {field!r} is not octal")
    return int(field, 8)


def _plain_path(path: str) -> str:
    """The path with single slashes; a trailing one is kept. ValueError for what names no place."""
    if not path.startswith("/"):
        raise ValueError(f"the path {path!r} is not absolute on the target")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not parts or "\0" in path:
        raise ValueError(f"the path {path!r} does not name a place below /")
    return "/" + "/".join(parts) + ("/" if path.endswith("/") else "")


def _strict_rule(number: int, text: str, fields: Sequence[str]) -> Rule:
    """A line of generation C. ValueError says what is wrong with it (rules 11, 12, 14, 16, 17, 23, 35)."""
    op, path, file_mode, dir_mode = ([field.strip() for field in fields] + ["", "", ""])[:4]
    if op not in Generation.C.operations:
        raise ValueError(f"{op!r} is not an operation; they are +, -, = and ==")
    if not path:
        raise ValueError("there is no path")
    if len(fields) > 4:
        raise ValueError("there are more than four fields: operation, path, file mode, folder mode")
    if BLANK.search(path):
        raise ValueError("a path with a blank in it cannot be named")
    rule = Rule(
        number,
        op,
        _plain_path(path),
        _mode_of(file_mode, "file mode"),
        _mode_of(dir_mode, "folder mode"),
        text,
    )
    if op in ("=", "==") and rule.file_mode is None and rule.dir_mode is None:
        raise ValueError("there is neither a file mode nor a folder mode to set")
    return rule


def _unescaped_fields(line: str) -> list[str]:
    """Generations A and B: fields of a line in which a backslash makes the next character plain (rule 18)."""
    fields = [""]
    characters = iter(line)
    for character in characters:
        if character == "|":
            fields.append("")
        else:
            fields[-1] += next(characters, "") if character == "\\" else character
    return fields


def _lenient_rule(number: int, text: str, fields: Sequence[str]) -> Rule:
    """A line of generations A and B; an unknown operation is kept, to be ignored (rules 11, 14, 16, 27)."""
    op = re.sub(r"\s", "", fields[0])
    if op not in Generation.B.operations:
        return Rule(number, op, "", text=text)
    path = fields[1] if len(fields) > 1 else ""
    if not path:
        raise ValueError("there is no path")
    if path.startswith(
        "/"
    ):  # any other names nothing: blanks belong to it, and it is glued to the folder's name
        path = _plain_path(path).rstrip("/")
    perm = "|".join(fields[2:])
    # `=` without a mode is a mode change that fails as well
    broken = not MODE.fullmatch(perm) and (bool(perm) or op == "=")
    mode = int(perm, 8) if MODE.fullmatch(perm) else None
    return Rule(number, op, path, mode, mode, text, broken_mode=broken)


def _rule(number: int, text: str, fields: Sequence[str], generation: Generation, origin: str) -> Rule:
    read = _strict_rule if generation.strict else _lenient_rule
    try:
        return read(number, text, fields)
    except ValueError as error:
        form = "op|path|file-mode|dir-mode" if generation.strict else "op|path|perm"
        raise FilespecError(origin, number, text, str(error), hint=f"a rule reads {form}") from None


def parse(
    text: str, *, generation: Generation = Generation.C, origin: str = "the filespec"
) -> tuple[Rule, ...]:
    """Read a filespec's text. origin: whose it is, for messages.

    Blank lines and lines that begin with # are left out. In A and B lines with an unknown operation are
    rules without effect, as they are there. Raises FilespecError.
    """
    if not generation.strict:
        text = re.sub(r"(?<!\\)((?:\\\\)*)\\\n", r"\1", text)  # an escaped end of line joins two (rule 18)
    rules = []
    for number, line in enumerate(text.split("\n"), start=1):
        shown = line.strip()
        if shown and not shown.startswith("#"):
            fields = line.split("|") if generation.strict else _unescaped_fields(line.lstrip(BLANKS))
            rules.append(_rule(number, shown, fields, generation, origin))
    return tuple(rules)


def from_triples(
    triples: Iterable[Sequence[str | None]],
    *,
    generation: Generation = Generation.C,
    origin: str = "the filespec",
) -> tuple[Rule, ...]:
    """Rules from lists of [operation, path, mode], and in C a fourth, the folder mode; None for a mode that
    is not given. Numbers count from 1. Raises FilespecError."""
    rules = []
    for number, triple in enumerate(triples, start=1):
        fields = [field or "" for field in triple]
        while len(fields) > 2 and not fields[-1]:
            fields.pop()
        rules.append(_rule(number, "|".join(fields), fields, generation, origin))
    return tuple(rules)
