"""OpenWrt's filespecs as text: which rules a filespec holds.

A filespec is text, one rule a line: `+|path` takes from the stage (the tree that a whole build was installed
into), `-|path` drops from the package, `=|path|modes` and `==|path|modes` set modes in the package. It is
read as OpenWrt reads it from 23.05 on: strictly, so that a filespec is a checked statement about the stage;
older releases let much pass. What the rules do to a tree is in rootfs/filespec.py. Source of the rules: the
makefiles and scripts of lang/python in openwrt/packages, observed rule by rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imagebuilder.errors import UserError

MODE = re.compile(r"[0-7]{1,4}")
BLANK = re.compile(r"\s")
OPERATIONS = ("+", "-", "=", "==")


class FilespecError(UserError):
    """A filespec that cannot be read or does not fit the tree. number: the line, counted from 1."""

    def __init__(self, origin: str, number: int, text: str, problem: str, *, hint: str) -> None:
        super().__init__(f"{origin}, rule {number} `{text}`: {problem}", hint=hint)
        self.origin = origin
        self.number = number
        self.text = text


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. number counts lines from 1; path is absolute on the target and may be a pattern."""

    number: int
    op: str
    path: str
    file_mode: int | None = None
    dir_mode: int | None = None
    text: str = ""


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


def _read_rule(number: int, text: str, fields: Sequence[str]) -> Rule:
    """A line. ValueError says what is wrong with it (rules 11, 12, 14, 16, 17, 23, 35)."""
    op, path, file_mode, dir_mode = ([field.strip() for field in fields] + ["", "", ""])[:4]
    if op not in OPERATIONS:
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


def _rule(number: int, text: str, fields: Sequence[str], origin: str) -> Rule:
    try:
        return _read_rule(number, text, fields)
    except ValueError as error:
        hint = "a rule reads op|path|file-mode|dir-mode"
        raise FilespecError(origin, number, text, str(error), hint=hint) from None


def parse(text: str, *, origin: str = "the filespec") -> tuple[Rule, ...]:
    """Read a filespec's text. origin: whose it is, for messages.

    Blank lines and lines that begin with # are left out. Raises FilespecError.
    """
    rules = []
    for number, line in enumerate(text.split("\n"), start=1):
        shown = line.strip()
        if shown and not shown.startswith("#"):
            rules.append(_rule(number, shown, line.split("|"), origin))
    return tuple(rules)


def from_triples(
    triples: Iterable[Sequence[str | None]], *, origin: str = "the filespec"
) -> tuple[Rule, ...]:
    """Rules from lists of [operation, path, file mode, folder mode]; None for a mode that is not given, and
    the last may be left out. Numbers count from 1. Raises FilespecError."""
    rules = []
    for number, triple in enumerate(triples, start=1):
        fields = [field or "" for field in triple]
        while len(fields) > 2 and not fields[-1]:
            fields.pop()
        rules.append(_rule(number, "|".join(fields), fields, origin))
    return tuple(rules)
