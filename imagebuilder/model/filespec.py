"""Filespecs: OpenWrt's rules for the files of a package; a config's `[[filespec]]`, with rules for a package
or an overlay, and the record of what they did.

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
from functools import reduce
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from imagebuilder.errors import UserError
from imagebuilder.model.base import Many, Model, Word

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


def _check_rules(rules: tuple[str, ...]) -> tuple[str, ...]:
    try:
        rules_of(with_python(rules, "3"), "rules")
    except FilespecError as error:
        raise ValueError(f"{error.message.removeprefix('rules, ')} ({error.hint})") from None
    return rules


RuleLines = Annotated[Many[str], AfterValidator(_check_rules)]


def rules_of(lines: Iterable[str], origin: str) -> tuple[Rule, ...]:
    """The rules in a config's lines, in the form of OpenWrt 23.05 and later, whatever the tree: the strict
    one, in which a rule that finds nothing is an error. origin: whose they are, for messages. Raises
    FilespecError."""
    return parse("\n".join(lines), origin=origin)


def with_python(lines: Iterable[str], python: str) -> tuple[str, ...]:
    """Rules for one Python, "3.11": {python} stands for its version, {site_packages} for the folder that
    OpenWrt's makefiles call PYTHON3_PKG_DIR."""
    places = {"{python}": python, "{site_packages}": site_packages(python)}
    return tuple(reduce(lambda text, name: text.replace(name, places[name]), places, line) for line in lines)


def site_packages(python: str) -> str:
    """Where packages of a Python, "3.11", are on the device."""
    return f"/usr/lib/python{python}/site-packages"


class FilespecUse(Model):
    """Rules for the files of one package from the tree or a feed, which is repacked, or of one overlay."""

    package: Word | None = Field(
        default=None,
        description="The package whose files the rules are for, one that goes into the image: `busybox`."
        " Left out: they are for an overlay.",
    )
    overlay: Word | None = Field(
        default=None,
        description="The overlay whose files the rules are for: `wifi-client`. Left out: they are for a"
        " package.",
    )
    rules: RuleLines = Field(
        default=(),
        description="The rules, run from top to bottom: `-|path` drops, `=|path|file-mode|folder-mode` sets"
        " modes with all below, `==|…` without, `+|path` takes back what an earlier rule dropped; `{python}`"
        " and `{site_packages}` stand for the device's. A rule that finds nothing is an error. Left out: an"
        " error too.",
    )

    @model_validator(mode="after")
    def _is_for_one(self) -> FilespecUse:
        if (self.package is None) == (self.overlay is None):
            raise ValueError("a filespec names one package = … or one overlay = …")
        if not rules_of(with_python(self.rules, "3"), "rules"):
            raise ValueError(f"the filespec of {self.owner} has no rules")
        return self

    @property
    def owner(self) -> str:
        """Whose files, for messages."""
        return f"the package {self.package}" if self.package else f"the overlay '{self.overlay}'"


class RuleDone(Model):
    """What one rule did. paths: what it took, dropped or gave a mode, sorted; size: bytes of the files among
    them, unpacked; warnings: what was done, but hardly was meant."""

    rule: str
    paths: Many[str]
    size: Annotated[int, Field(ge=0)]
    warnings: Many[str] = ()


class FilespecRecord(Model):
    """What a filespec did. owner: "package NAME" or "overlay NAME"; before, after: bytes of all its files,
    unpacked; links: those that lead nowhere since a rule dropped what they led to, as "link -> target"."""

    owner: str
    rules: Many[RuleDone]
    before: int
    after: int
    links: Many[str] = ()

    @property
    def saved(self) -> int:
        """Bytes, unpacked."""
        return self.before - self.after


def package_rules(uses: Sequence[FilespecUse]) -> dict[str, tuple[str, ...]]:
    """The rules for each package, those of several filespecs one after another."""
    return _collected((use.package, use.rules) for use in uses)


def overlay_rules(uses: Sequence[FilespecUse]) -> dict[str, tuple[str, ...]]:
    """The rules for each overlay, those of several filespecs one after another."""
    return _collected((use.overlay, use.rules) for use in uses)


def _collected(rules: Iterable[tuple[str | None, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, lines in rules:
        if name is not None:
            found[name] = (*found.get(name, ()), *lines)
    return found
