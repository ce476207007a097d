"""What a wheel brings and no device needs stays out: tests, stubs, sources of native code, modules for other
systems. The rules are in data/trim.toml, each with its reason.

A rule proposes files; what the code says decides. Code that stays, in all wheels and apps of the image, keeps
every module that it imports or names (imports that never run on the target, or run for type checkers alone,
do not count), and data whose name or folder is among its strings. What a rule's `when` means:

- unused: for any distribution. One import or string keeps a module, whichever function it is in.
- guarded: the same, and some import of the module stands behind a condition that is false on Linux.
- own: of one distribution, whose sources were read: of its own imports those at the top of modules count
  alone, of others' all that are needed. Programs that start what is left out are left out with it.
- ever: whatever names them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Literal

from imagebuilder.config.app import TRIM_KINDS, TrimKind
from imagebuilder.model.base import Many, Model
from imagebuilder.model.result import TrimmedDistribution
from imagebuilder.python.apps.apps import AppScan
from imagebuilder.python.imports.imports import NEEDED, Import, Kind, with_parents
from imagebuilder.python.wheels.entry_points import PROGRAM_GROUPS, named_modules
from imagebuilder.python.wheels.tree import kept_info
from imagebuilder.python.wheels.wheels import Wheel

When = Literal["unused", "guarded", "own", "ever"]
_NOT_HERE: tuple[Kind, ...] = ("never", "typing")
_LIBRARY_FOLDERS = re.compile(r"[^/]+\.data/(?:purelib|platlib)/")
# code that looks for modules by names that it computes, or for files beside itself
_WALKS = re.compile(rb"\b(iter_modules|walk_packages|load_module|exec_module|spec_from_file_location)\b")
_READS_FILES = re.compile(rb"\b(__file__|__path__|resources|importlib_resources|get_data|pkg_resources)\b")
_QUOTES = re.compile(rb"[\"'\n]")
_NAME = re.compile(r"(\w+(?:\.\w+)+)(?::[\w.]+)?")
_MAX_STRING = 200
_MAX_PATH = 1000
_EXPORTS = re.compile(rb"\b__all__\s*\+?=\s*[\[(]([^\])]*)[\])]")  # `from package import *` imports these
_OPEN_ENDED = re.compile(r"[*{}%]")


class TrimRule(Model):
    """One rule, as data/trim.toml describes its keys."""

    kind: TrimKind
    reason: str
    files: Many[str]
    distribution: str = ""
    when: When = "unused"
    unless: Many[str] = ()
    computed: bool = True

    def matches(self, distribution: str, path: str) -> bool:
        """Whether it proposes a file. path: in the wheel, without the folders of purelib and platlib; of more
        than 1000 characters none is proposed, so that its search ends soon."""
        if self.distribution not in ("", distribution) or len(path) > _MAX_PATH:
            return False
        return any(_pattern(each).fullmatch(path) for each in self.files)

    def folders(self) -> frozenset[str]:
        """The folders that its patterns name in full."""
        parts = (part for each in self.files for part in each.split("/")[:-1])
        return frozenset(part for part in parts if part and "*" not in part)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """`**/` is any folders or none, `**` at the end all below, `*` anything within a name."""
    marks = {"**/": "(?:.*/)?", "**": ".+", "*": "[^/]*"}
    return re.compile(
        "".join(marks.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*)", text))
    )


class ReadGroups(Model):
    """Groups of entry points, as patterns, that only some distributions read."""

    groups: Many[str]
    readers: Many[str]


class _Facts(Model):
    rule: Many[TrimRule]
    entry_points: Many[ReadGroups]


@cache
def _facts() -> _Facts:
    text = (resources.files(__package__) / "data" / "trim.toml").read_text("utf-8")
    return _Facts.model_validate(tomllib.loads(text))


@cache
def trim_rules() -> tuple[TrimRule, ...]:
    """All rules, those of single distributions first: who read one's sources knows more of it."""
    return tuple(sorted(_facts().rule, key=lambda rule: not rule.distribution))


@dataclass(frozen=True, slots=True)
class WheelToTrim:
    """A requirement's wheel. scan: of it; kinds: what may stay out of it."""

    wheel: Wheel
    scan: AppScan
    kinds: frozenset[TrimKind] = frozenset(TRIM_KINDS)


@dataclass(frozen=True, slots=True)
class TrimmedWheel:
    """What goes onto the device of a requirement's wheel. scan: of that alone; facts: what stays out."""

    wheel: Wheel
    scan: AppScan
    facts: TrimmedDistribution


@dataclass(slots=True)
class _Part:
    """One wheel, or one app, of which nothing is proposed. root: what the names of its files begin with;
    proposed: rules by these names; imports and sources: by the same, of what is Python."""

    distribution: str
    root: str
    imports: Mapping[str, Sequence[Import]]
    places: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, bytes] = field(default_factory=dict)
    computed: frozenset[str] = frozenset()
    named: frozenset[tuple[str, str]] = frozenset()
    proposed: dict[str, TrimRule] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def stays(self, name: str) -> bool:
        return name not in self.proposed or name in self.kept

    def dropped(self) -> set[str]:
        return self.proposed.keys() - self.kept

    def code(self) -> Iterator[bytes]:
        return (data for name, data in self.sources.items() if self.stays(name))

    def strings(self) -> frozenset[str]:
        return frozenset(text for data in self.code() for text in quoted(data))


def quoted(data: bytes) -> Iterator[str]:
    """All that stands between quotes in a source, and more: what is between two strings is taken for one too,
    so that no apostrophe in a comment hides any."""
    for piece in _QUOTES.split(data):
        if 0 < len(piece) <= _MAX_STRING:
            yield piece.decode("utf-8", "replace")


def _module(place: str) -> str:
    """The module that a file is, with dots; its name goes up to the first one, as that of extensions."""
    folder, _, name = place.rpartition("/")
    stem = name.partition(".")[0]
    parts = [*folder.split("/"), *([] if stem == "__init__" else [stem])]
    return ".".join(filter(None, parts))


def _imports(scan: AppScan) -> dict[str, list[Import]]:
    found: dict[str, list[Import]] = {}
    for each in scan.imports:
        found.setdefault(each.file, []).append(each)
    return found


def _part(brought: WheelToTrim) -> _Part:
    wheel, scan = brought.wheel, brought.scan
    entry_points = wheel.dist_info.get("entry_points.txt")
    part = _Part(
        distribution=str(wheel.name),
        root=f"{wheel.path}/",
        imports=_imports(scan),
        places={name: str(place) for name, place in scan.places.items()},
        sources={
            f"{wheel.path}/{name}": file.data for name, file in wheel.files.items() if name.endswith(".py")
        },
        computed=frozenset(each.file for each in scan.computed),
        named=named_modules(wheel.path, entry_points.data) if entry_points is not None else frozenset(),
    )
    rules = [rule for rule in trim_rules() if rule.kind in brought.kinds]
    for name in wheel.files:
        path = _LIBRARY_FOLDERS.sub("", name, count=1)
        rule = next((rule for rule in rules if rule.matches(part.distribution, path)), None)
        if rule is not None:
            part.proposed[f"{wheel.path}/{name}"] = rule
    _rest(part)
    return part


def _rest(part: _Part) -> None:
    """Take back what rules propose that do not count for a distribution, as its code is."""
    searched = any(_WALKS.search(data) for data in part.code())
    computes = searched or any(part.stays(name) for name in part.computed)
    for rule in set(part.proposed.values()):
        excepted = any(re.search(each.encode(), data) for each in rule.unless for data in part.code())
        if excepted or (computes and not rule.computed):
            part.proposed = {name: each for name, each in part.proposed.items() if each != rule}


@dataclass(slots=True)
class _Judge:
    """Finds what of the proposed files code needs. modules: proposed ones, with their parts and files; there:
    the names of all distributions of the image."""

    parts: Sequence[_Part]
    there: Collection[str]
    modules: dict[str, list[tuple[_Part, str]]] = field(default_factory=dict)
    waiting: list[tuple[_Part, str]] = field(default_factory=list)

    def judge(self, words: Collection[str]) -> None:
        """words: strings of apps, which name modules as code does."""
        for part in self.parts:
            for name in part.proposed.keys() & part.places.keys():
                self.modules.setdefault(_module(part.places[name]), []).append((part, name))
        self.waiting += [(part, name) for part in self.parts for name in part.imports if part.stays(name)]
        for part in self.parts:
            self._entry_points(part)
            for name in part.sources:
                if part.stays(name):
                    self._strings(part, name)
        for text in words:
            self._named(text, "")
        self._follow()
        for part, name in self._unproved():
            self._keep(part, name)
        self._follow()
        for part in self.parts:
            part.kept |= set(_needed_data(part))

    def _keep(self, part: _Part, name: str) -> None:
        if name not in part.kept and part.proposed[name].when != "ever":
            part.kept.add(name)
            self.waiting.append((part, name))
            self._strings(part, name)

    def _strings(self, part: _Part, name: str) -> None:
        """Keep what the strings of a source name, and what a package exports."""
        data = part.sources.get(name, b"")
        package = _module(part.places.get(name, "")) if name.endswith("/__init__.py") else ""
        for listed in _EXPORTS.findall(data) if package else ():
            for text in quoted(listed):
                self._named(f"{package}.{text}", "")
        for text in quoted(data):
            self._named(text, part.distribution)

    def _follow(self) -> None:
        """Keep what is imported by what stays."""
        while self.waiting:
            part, name = self.waiting.pop()
            for imported in part.imports.get(name, ()):
                self._reached(imported, part, name)

    def _reached(self, imported: Import, by: _Part, name: str) -> None:
        for part, file in self._targets(imported):
            when, inside = part.proposed[file].when, part is by and name not in part.kept
            if imported.kind in _NOT_HERE or file in part.kept:
                continue
            if when == "own" and inside and imported.kind != "always":
                continue
            if when == "own" and part is not by and by.places and imported.kind not in NEEDED:
                continue
            self._keep(part, file)

    def _targets(self, imported: Import) -> Iterator[tuple[_Part, str]]:
        names = (f"{imported.module}.{name}" for name in imported.names)
        for module in (*with_parents(imported.module), *names):
            yield from self.modules.get(module, ())

    def _named(self, text: str, by: str) -> None:
        """A string that is a module's name, or that of something in it."""
        found = _NAME.fullmatch(text)
        if found is None:
            return
        for module in with_parents(found[1]):
            for part, file in self.modules.get(module, ()):
                if part.proposed[file].when != "own" or part.distribution != by:
                    self._keep(part, file)

    def _entry_points(self, by: _Part) -> None:
        for group, named in by.named:
            if self._unread(group):
                continue
            for module in with_parents(named):
                for part, file in self.modules.get(module, ()):
                    if not (part.proposed[file].when == "own" and group in PROGRAM_GROUPS):
                        self._keep(part, file)

    def _unread(self, group: str) -> bool:
        return any(
            any(fnmatchcase(group, pattern) for pattern in each.groups)
            and not any(reader in self.there for reader in each.readers)
            for each in _facts().entry_points
        )

    def _unproved(self) -> list[tuple[_Part, str]]:
        """Modules that go by a rule that wants a proof, and there is none: nobody imports them behind a false
        condition, nor does a module that is proved."""
        proved: set[str] = set()
        waiting = [
            imported
            for part in self.parts
            for name, imports in part.imports.items()
            for imported in imports
            if part.stays(name) and imported.kind == "never"
        ]
        while waiting:
            for part, file in self._targets(waiting.pop()):
                if file not in proved:
                    proved.add(file)
                    waiting += part.imports.get(file, ())
        return [
            (part, file)
            for files in self.modules.values()
            for part, file in files
            if part.proposed[file].when == "guarded" and file not in proved
        ]


def _needed_data(part: _Part) -> Iterator[str]:
    """Proposed files that are no modules, and that code which stays may read."""
    data = part.proposed.keys() - part.places.keys()
    strings = part.strings() if data else frozenset()
    pieces = {piece for text in strings for piece in text.split("/")}
    endings = {_OPEN_ENDED.split(piece)[-1] for piece in pieces if _OPEN_ENDED.search(piece)}
    endings |= {piece for piece in pieces if piece.startswith(".")}
    readers = {part.proposed[name] for name in part.kept if _READS_FILES.search(part.sources.get(name, b""))}
    for name in data:
        rule = part.proposed[name]
        if rule.when == "ever":
            continue
        *folders, base = name.removeprefix(part.root).split("/")
        ending = f".{base.rpartition('.')[2]}"
        # a folder of templates may hold C, and is read by its name alone
        of_interest = folders[1:] if rule.kind == "sources" else rule.folders() & set(folders)
        told = base in pieces or ending in endings or not pieces.isdisjoint(of_interest)
        if rule in readers or (rule.when != "own" and told):
            yield name


def trim_wheels(
    wheels: Sequence[WheelToTrim],
    apps: Iterable[AppScan],
    *,
    words: Collection[str] = (),
    there: Collection[str] = (),
) -> list[TrimmedWheel]:
    """The wheels of one image without what no device needs, in their order. apps: whose imports keep what
    they name; words: strings of apps and commands; there: names of distributions that feeds bring.

    EntryPointError for entry points that cannot be read.
    """
    parts = [_part(each) for each in wheels]
    names = {*there, *(part.distribution for part in parts)}
    asking = [_Part("", f"{scan.path}/", _imports(scan)) for scan in apps]
    _Judge((*parts, *asking), names).judge(words)
    return [_trimmed(brought, part) for brought, part in zip(wheels, parts, strict=True)]


def _trimmed(brought: WheelToTrim, part: _Part) -> TrimmedWheel:
    wheel, dropped = brought.wheel, part.dropped()
    files = {name: file for name, file in wheel.files.items() if f"{wheel.path}/{name}" not in dropped}
    gone = {_module(part.places[name]) for name in dropped & part.places.keys()}
    gone -= {_module(place) for name, place in part.places.items() if name not in dropped}
    saved: dict[TrimKind, int] = {}
    for name, file in wheel.files.items():
        full = f"{wheel.path}/{name}"
        if full in dropped:
            kind = part.proposed[full].kind
            saved[kind] = saved.get(kind, 0) + len(file.data)
    whole = "metadata" not in brought.kinds
    kept = replace(
        wheel,
        files=files,
        entry_points=tuple(each for each in wheel.entry_points if each.module not in gone),
        keeps_info=whole,
    )
    if not whole:
        info = sum(len(data) for _, data in kept_info(replace(wheel, keeps_info=True)))
        saved["metadata"] = info - sum(len(data) for _, data in kept_info(kept))
    facts = TrimmedDistribution(
        name=str(wheel.name),
        files=len(dropped),
        saved=sum(saved.values()),
        kinds={kind: saved[kind] for kind in TRIM_KINDS if saved.get(kind)},
    )
    return TrimmedWheel(kept, brought.scan.without(dropped), facts)
