"""The devices of a tree's image makefiles: `define Device/NAME`, with what it takes from others.

The order is that of OpenWrt's include/image.mk, all releases: Device/Init, then Device/Default, then the
device's own definition, which may take in any other (`$(Device/PARENT)`, `$(call Device/PARENT,…)`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from imagebuilder.host.fs import text_of
from imagebuilder.tree.makefile_text import (
    MAX_DEPTH,
    UNKNOWN,
    Define,
    Truth,
    chosen,
    compare,
    expand,
    split_arguments,
    statements,
)
from imagebuilder.tree.tree import settings_of

MAX_LINES = 5000  # of one device, what it takes in included
MAX_FILES = 100
MAX_EVALUATIONS, MAX_ARGUMENTS = 1000, 20  # of macros that define others
MAX_LOOKUPS = 20_000  # for one statement or one device: a text may refer to the same thing very often

_ASSIGNMENT = re.compile(r"\s*([^\s:=+?#]+?)\s*(::?=|\+=|\?=|=)\s*(.*)$")
_DEFINES = re.compile(r"\s*define\s")
_INCLUDE = re.compile(r"\s*-?s?include\s+(.+)$")
_EVALUATED = re.compile(r"\s*\$\(eval \$\(call ([^\s,()$]+,.*)\)\)\s*$")
_TAKES_IN = re.compile(r"\s*\$\((?:call\s+)?Device/([^\s,()$]+)\s*(?:,(.*))?\)\s*$")

Values = dict[str, tuple[str, bool]]  # name: text, and whether its references are still to be replaced


@dataclass(frozen=True)
class DeviceDefinition:
    """What is known of a device's variables; those that depend on something unknown are not there.

    recipes: for each image (`sysupgrade.bin`) the recipe, kernel: the kernel's; UNKNOWN where something in
    them is. builds: what the tree defines its steps to be (`Build/NAME`), by name.
    """

    values: Mapping[str, str]
    recipes: Mapping[str, str]
    kernel: str = ""
    builds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def words(self, name: str) -> list[str]:
        """The words of a variable; none where it is not known."""
        return self.values.get(name, "").split()


@dataclass
class ImageMakefiles:
    """What stands in the makefiles of target/linux/TARGET/image. Make one with read_image_makefiles()."""

    settings: Mapping[str, str]
    definitions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    _values: Values = field(default_factory=dict)
    _lookups: int = 0
    _evaluations: int = 0

    def read(self, text: str, include: Callable[[str], None]) -> None:
        """Take in a makefile's text; include() is called with each name that it includes."""
        for item, truth in chosen(list(statements(text)), self._holds):
            self._lookups = 0
            if isinstance(item, Define):
                if truth:
                    self.definitions[item.name] = item.body
                else:
                    self.definitions.pop(item.name, None)
            elif (match := _INCLUDE.match(item)) and truth:
                for name in expand(match[1], self.value_of).split():
                    if UNKNOWN not in name:
                        include(name)
            elif (match := _EVALUATED.match(item)) and truth:
                self._evaluate(split_arguments(match[1]), include)
            elif match := _ASSIGNMENT.match(item):
                if match[1] == "TARGET_DEVICES":
                    self.devices += [name for name in match[3].split() if name not in self.devices]
                _assign(self._values, match[1], match[2], match[3] if truth else UNKNOWN, self.value_of)

    def _evaluate(self, call: list[str], include: Callable[[str], None]) -> None:
        """`$(eval $(call NAME,arguments…))` of a macro that defines others: legacy recipes are written so."""
        name, *arguments = call
        body = self.definitions.get(name, ())
        self._evaluations += 1
        if self._evaluations > MAX_EVALUATIONS or not any(_DEFINES.match(line) for line in body):
            return
        text = "\n".join(body)
        for number in range(MAX_ARGUMENTS, 0, -1):
            value = arguments[number - 1] if number <= len(arguments) else ""
            if f"$({number})" not in text:
                continue
            text = re.sub(rf"(?<!\$)\$\({number}\)", value.replace("\\", r"\\"), text)
        self.read(text.replace("$$", "$"), include)

    def text_of(self, name: str) -> str | None:
        """A variable that is set outside of devices, with its references; None where nobody sets it."""
        return self._values[name][0] if name in self._values else None

    def device(self, name: str) -> DeviceDefinition | None:
        """A device's variables; None where it is not defined."""
        if f"Device/{name}" not in self.definitions:
            return None
        self._lookups = 0
        reader = _DeviceReader(self, name)
        for definition in ("Init", "Default", name):
            reader.take_in(definition, [name], True)
        return reader.result()

    def value_of(self, name: str, depth: int = 0) -> str:
        """A variable that is set outside of devices, its references replaced; UNKNOWN if nobody knows."""
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            return UNKNOWN
        if name in self._values:
            text, open_references = self._values[name]
            if not open_references:
                return text
            if depth > MAX_DEPTH:
                return UNKNOWN
            return expand(text, lambda other: self.value_of(other, depth + 1))
        if name in self.settings:
            return self.settings[name]
        return "" if name.startswith("CONFIG_") else UNKNOWN

    def _holds(self, kind: str, operands: str) -> Truth:
        return compare(kind, operands, self.value_of)


class _DeviceReader:
    """Collects one device's variables."""

    def __init__(self, makefiles: ImageMakefiles, name: str) -> None:
        self._makefiles = makefiles
        self._name = name
        self._values: Values = {}
        self._lines = 0
        self._lookups = 0
        self._within: list[str] = []

    def take_in(self, definition: str, arguments: list[str], truth: Truth) -> None:
        body = self._makefiles.definitions.get(f"Device/{definition}")
        if body is None or definition in self._within:
            return
        self._within.append(definition)
        for item, here in chosen(list(statements("\n".join(body))), self._holds):
            self._lines += 1
            if isinstance(item, Define) or self._lines > MAX_LINES:
                continue
            known = True if truth and here else None
            if match := _TAKES_IN.match(item):
                given = (
                    arguments
                    if match[2] is None
                    else [self._expanded(each, arguments) for each in split_arguments(match[2])]
                )
                self.take_in(match[1], given, known)
            elif match := _ASSIGNMENT.match(item):
                text = match[3] if known else UNKNOWN
                for number, argument in enumerate(arguments, 1):
                    text = re.sub(rf"\$+\({number}\)", lambda _, value=argument: value, text)
                name = self._expanded(match[1], arguments)
                _assign(self._values, name, match[2], text, partial(self._lookup, assigned=True))
        self._within.pop()

    def _holds(self, kind: str, operands: str) -> Truth:
        return compare(kind, operands, self._lookup)

    def _expanded(self, text: str, arguments: list[str]) -> str:
        return expand(text, self._lookup, arguments)

    def _lookup(self, name: str, depth: int = 0, *, assigned: bool = False) -> str:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS or depth > MAX_DEPTH:
            return UNKNOWN
        if name not in self._values:
            return self._makefiles.value_of(name)
        text, open_references = self._values[name]
        if not open_references:
            return text

        def lookup(other: str) -> str:
            return self._lookup(other, depth + 1, assigned=assigned)

        return expand(text, lookup, [self._name], assigned=assigned)

    def result(self) -> DeviceDefinition:
        if self._lines > MAX_LINES or self._lookups > MAX_LOOKUPS:
            return DeviceDefinition({}, {})
        values = {name: self._lookup(name).strip() for name in self._values}
        known = {name: value for name, value in values.items() if UNKNOWN not in value}
        images = known.get("IMAGES", "").split()
        # a file system may have a recipe of its own: Device/Build/image of include/image.mk
        recipes = {
            name: values.get(f"IMAGE/{name}/squashfs") or values.get(f"IMAGE/{name}") or UNKNOWN
            for name in images
        }
        builds = {
            name.removeprefix("Build/"): body
            for name, body in self._makefiles.definitions.items()
            if name.startswith("Build/")
        }
        return DeviceDefinition(known, recipes, values.get("KERNEL", ""), builds)


def _assign(values: Values, name: str, operator: str, text: str, lookup: Callable[[str], str]) -> None:
    """Make's assignments: `=` replaces references when the variable is used, the others at once, but for
    those that stay for later (makefile_text.expand)."""
    if operator == "?=" and name in values:
        return
    if operator in ("=", "?="):
        values[name] = (text, True)
        return
    if operator == "+=":
        before, open_references = values.get(name, (lookup(name), False))
        if open_references:
            values[name] = (f"{before} {text}", True)
            return
        text = f"{before} {expand(text, lookup, assigned=True)}".strip()
        values[name] = (UNKNOWN if UNKNOWN in text else text, "$" in text)
        return
    text = expand(text, lookup, assigned=True)
    values[name] = (text, "$" in text)


def read_image_makefiles(tree: Path, target: str) -> ImageMakefiles:
    """The makefiles of a target (`ar71xx/generic`) in a tree; empty where there are none."""
    board, _, subtarget = target.partition("/")
    folder = tree / "target/linux" / board / "image"
    settings = {f"CONFIG_{name}": value for name, value in settings_of(tree).items()}
    makefiles = ImageMakefiles({**settings, "BOARD": board, "SUBTARGET": subtarget, "IB": "1"})
    # Device/Init, and what steps are; their own includes bring no devices
    for general in (tree / "include/image-commands.mk", tree / "include/image.mk"):
        if general.is_file():
            makefiles.read(text_of(general), lambda _: None)

    def include(name: str) -> None:
        path = folder / name
        inside = path.is_file() and path.resolve().is_relative_to(tree.resolve())
        shown = str(path.relative_to(tree))
        if inside and shown not in makefiles.files and len(makefiles.files) < MAX_FILES:
            makefiles.files.append(shown)
            makefiles.read(text_of(path), include)

    include("Makefile")
    return makefiles
