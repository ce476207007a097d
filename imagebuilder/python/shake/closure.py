"""Which modules are reached from an app: pure, over what python.shake.read read.

A module that is reached runs its body, with all that this imports; an import whose absence is caught counts
if the module is there, because it would be imported. Functions count when something that is reached uses
their name: a function of a module where its module does, or one that imports it; a method where anything
does; one that begins like `do_` where a getattr() is given such a text. All functions of an app's own
modules count, and of those that were asked for by name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from imagebuilder.python.imports.imports import absolute_module, with_parents
from imagebuilder.python.shake.hidden import (
    CODEC_USERS,
    COMPUTED_NAME,
    GATES,
    HIDDEN,
    IMPORTERS,
    STARTUP,
    TRANSFORMS,
    Hidden,
    codecs_in,
    is_prefix,
    prefix_of,
)
from imagebuilder.python.shake.read import Imported, ModuleFacts, Unit

Read = Callable[[Sequence[str]], Mapping[str, ModuleFacts]]


@dataclass(frozen=True, slots=True)
class Closure:
    """reached: modules, and programs by their paths. problems: of modules whose code could not be read, so
    that what they import is not known; unusable: modules that lack one that they always import, and were left
    out though they are looked for."""

    reached: frozenset[str]
    problems: Mapping[str, str]
    unusable: frozenset[str]


@dataclass(frozen=True, slots=True)
class Modules:
    """What can be reached. files: modules with files, and programs by their paths; packages: those of the
    modules that others can be in; builtin: modules inside the interpreter."""

    files: Collection[str]
    packages: Collection[str]
    builtin: Collection[str]

    def __contains__(self, name: str) -> bool:
        return name in self.files or name in self.builtin


def absolute(imported: Imported, module: str, *, is_package: bool) -> str:
    """What an import in a module means; "" where it leads out of the topmost package."""
    package = module if is_package else module.rpartition(".")[0]
    name = absolute_module(imported.module, imported.level, package)
    return "" if name.startswith(".") else name


@dataclass(slots=True)
class _Walk:
    modules: Modules
    read: Read
    whole: frozenset[str]
    reached: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)
    facts: dict[str, ModuleFacts] = field(default_factory=dict)
    live: set[tuple[str, int]] = field(default_factory=set)
    waiting: list[tuple[str, Unit]] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    globals: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    attributes: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    taken: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    importers: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    used: set[str] = field(default_factory=set)  # every name of a reached unit, whosesoever
    prefixes: set[str] = field(default_factory=set)
    lazy: list[tuple[str, str, Imported]] = field(default_factory=list)  # of modules' __getattr__
    problems: dict[str, str] = field(default_factory=dict)

    def need(self, module: str) -> None:
        """A module with the packages that it is in, as far as they are there."""
        # a program has a path, which is in no package
        for name in [module] if module.startswith("/") else with_parents(module):
            if name not in self.reached and name in self.modules:
                self.reached.add(name)
                self.unread.append(name)
                self.hidden += HIDDEN.get(name, ())

    def run(self) -> None:
        """Read and follow until nothing is added."""
        while self.unread or self._follow_names():
            names, self.unread = self.unread, []
            read = self.read([name for name in names if name in self.modules.files])
            for name in names:
                facts = read.get(name)
                if facts is None:
                    continue
                if facts.problem:
                    self.problems[name] = facts.problem
                self.facts[name] = facts
                self.waiting += [(name, unit) for unit in facts.units[1:]]
                for unit in facts.units[:1]:
                    self._enter(name, unit)

    def _follow_names(self) -> bool:
        """Enter the units, and need the hidden modules, that names lead to by now; whether there were any."""
        before = len(self.live), len(self.reached)
        for hidden in self.hidden:
            if not hidden.names or hidden.names & self.used:
                for name in self._named_so(hidden.module):
                    self.need(name)
        for module, name, imported in self.lazy:
            if any(self._is_asked(module, each) for each in (imported.module, *imported.names)):
                self._take(module, name, imported)
        waiting, self.waiting = self.waiting, []
        for module, unit in waiting:
            if (module, unit.parent) in self.live and self._is_used(module, unit):
                self._enter(module, unit)
            else:
                self.waiting.append((module, unit))
        return before != (len(self.live), len(self.reached))

    def _named_so(self, pattern: str) -> list[str]:
        if not pattern.endswith("*"):
            return [pattern]
        return sorted(name for name in self.modules.files if name.startswith(pattern[:-1]))

    def _is_used(self, module: str, unit: Unit) -> bool:
        if unit.kind == "nested" or module in self.whole:
            return True
        if module in STARTUP:
            return False
        name = unit.name
        if any(name.startswith(prefix) for prefix in self.prefixes):
            return True
        if unit.kind == "method":
            named = not unit.owner or self._is_named(module, unit.owner)
            return named and (_is_special(name) or name in self.used)
        return name == "__getattr__" or self._is_named(module, name)

    def _is_named(self, module: str, name: str) -> bool:
        """Whether something uses a function or a class of a module."""
        gate = GATES.get((module, name))
        if gate is not None and not gate & self.used:
            return False
        return name in self.globals[module] or "*" in self.taken[module] or self._is_asked(module, name)

    def _enter(self, module: str, unit: Unit) -> None:
        """A unit runs: its names are used, and what it imports is needed."""
        self.live.add((module, unit.number))
        self.globals[module] |= unit.globals
        self.attributes[module] |= unit.attributes
        self.used |= unit.globals | unit.attributes
        names = unit.globals | unit.attributes
        if COMPUTED_NAME in names:
            self.used |= unit.words
            self.attributes[module] |= unit.words
            self.globals[module] |= unit.words
            self.prefixes |= {prefix_of(word) for word in unit.words if is_prefix(word)}
        whole = module in self.whole
        if whole or names & CODEC_USERS:
            for codec in codecs_in(unit.words):
                if whole or codec not in TRANSFORMS:
                    self.need(codec)
        if names & IMPORTERS:
            for word in self._words_of(module):
                if word in self.modules.files and (whole or "." in word):
                    self.need(word)
        for imported in unit.imports:
            self._import(module, unit, imported)

    def _words_of(self, module: str) -> frozenset[str]:
        return frozenset().union(*(unit.words for unit in self.facts[module].units))

    def _import(self, module: str, unit: Unit, imported: Imported) -> None:
        is_package = module in self.modules.packages
        name = absolute(imported, module, is_package=is_package)
        if not name or self._is_there(module, imported.instead):
            return
        if unit.kind == "function" and unit.name == "__getattr__" and module not in self.whole:
            self.lazy.append((module, name, imported))
        else:
            self._take(module, name, imported)

    def _take(self, module: str, name: str, imported: Imported) -> None:
        """An import happens. name: its module, absolute."""
        self.need(name)
        for each in imported.names:
            self.need(f"{name}.{each}")
            self.importers[f"{name}.{each}"].add(module)
        self.taken[name] |= set(imported.names)
        for each in with_parents(name):
            self.importers[each].add(module)

    def _is_asked(self, module: str, name: str) -> bool:
        """Whether something takes a name out of a module."""
        return name in self.taken[module] or any(
            name in self.attributes[each] for each in self.importers[module]
        )

    def _is_there(self, module: str, instead: Iterable[str]) -> bool:
        """Whether all that would be imported first is there, so that nothing takes its place."""
        names = []
        for each in instead:
            bare = each.lstrip(".")
            found = Imported(False, len(each) - len(bare), bare)
            names.append(absolute(found, module, is_package=module in self.modules.packages))
        return bool(names) and all(name in self.modules for name in names)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def close(roots: Collection[str], modules: Modules, read: Read, *, whole: Collection[str] = ()) -> Closure:
    """All that the roots reach. Roots that are not there do not matter. whole: those of them all whose
    functions count; read: the facts of modules by name, asked for as they are reached; of extension modules
    nothing comes back.

    A module that cannot be imported, because one that it always imports is in no package, counts as not
    there (`ssl` where _ssl is missing), unless it is a root that is whole.
    """
    unusable: set[str] = set()
    known: dict[str, ModuleFacts] = {}

    def cached(names: Sequence[str]) -> Mapping[str, ModuleFacts]:
        known.update(read([name for name in names if name not in known]))
        return known

    while True:
        walk = _Walk(modules, cached, frozenset(whole))
        for root in roots:
            walk.need(root)
        walk.run()
        broken = {name for name in walk.facts if name not in whole and _lacks(walk.facts[name], modules)}
        if not broken:
            return Closure(frozenset(walk.reached), walk.problems, frozenset(unusable))
        unusable |= broken
        modules = Modules(set(modules.files) - broken, modules.packages, modules.builtin)


def _lacks(facts: ModuleFacts, modules: Modules) -> bool:
    """Whether a module always imports one that is not there."""
    is_package = facts.name in modules.packages
    for imported in facts.units[0].imports if facts.units else ():
        name = absolute(imported, facts.name, is_package=is_package)
        if imported.certain and not _may_be_there(name, modules):
            return True
    return False


def _may_be_there(name: str, modules: Modules) -> bool:
    """Whether a module is there, or its parent is, which may put it into sys.modules when it is imported: so
    do `os` with os.path, and from Python 3.13 on `collections` with collections.abc (Lib/os.py,
    Lib/collections/__init__.py)."""
    parent = name.rpartition(".")[0]
    return name in modules or parent in modules or name == "__main__"
