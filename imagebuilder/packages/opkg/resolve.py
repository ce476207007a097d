"""opkg's way from a list of names to packages, choice by choice. Pure.

Source: opkg-lede, libopkg/opkg_install.c, pkg_depends.c and pkg_hash.c, at the commits that OpenWrt's
branches name (package/system/opkg/Makefile). The rules, in the order in which they come to bear:

- The names are installed one after another, each with all that it needs, before the next is looked at.
- A name means the package of that name, the newest; where there is none, one of those that provide it: the
  newest of what is installed, else the first by name and the oldest version, the board's architecture before
  `all`.
- A dependency that something installed satisfies is satisfied. Else the last candidate, by name and then by
  version, that has the right version is taken: `b-any` before `a-any`, and before a literal `any`. From 21.02
  (5936c4f) the package of that very name comes first, from 22.03 (db7fb64) so does one on the command line.
- Of alternatives `a | b` the first that has a candidate is taken, also if that cannot be installed.
- From 21.02 (8769c75) a candidate whose own dependencies nothing provides is passed over, but only when its
  name is looked at for the first time.
- A package that conflicts with a name and replaces it stands in for it wherever that name is looked for.
- A package is installed over an older version of itself, whoever needs that one, and fails over a newer.
- Conflicts are checked when a package that names them goes in, not when one that is named does. 17.01's
  ImageBuilder checks none, nor stops for what is missing (--force-depends).

The last two leave images that cannot work. So what comes out is looked at as a whole, and both here and for
--force-depends, which hides what is missing, there is an error instead.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar

from imagebuilder.model.package import Dependency, Package, Wish
from imagebuilder.model.release import covers
from imagebuilder.packages.opkg.version import compare_versions
from imagebuilder.packages.refusal import check_whole, clashing, missing, version_gap
from imagebuilder.packages.resolution import Resolution, ResolutionError, Steps, resolution_of, trail
from imagebuilder.packages.universe import (
    ANY_ARCHITECTURE,
    Quarrels,
    Universe,
    distinct,
    fits_version,
    rank,
)

Alternatives = tuple[Dependency, ...]
Lost = tuple[str, Alternatives]  # a package's name and what it wants in vain
T = TypeVar("T")
# opkg recurses as deep as packages need one another, Python cannot: a step yields the steps that it calls
Step = Generator[Any, Any, T]


@dataclass(frozen=True, slots=True)
class OpkgRules:
    """How an ImageBuilder's opkg chooses. literal: the package of a name before those that provide it.
    asked: those on the command line before others. looks_ahead: candidates whose dependencies nothing
    provides are passed over. checks: conflicts stop it."""

    literal: bool = True
    asked: bool = True
    looks_ahead: bool = True
    checks: bool = True


NEWEST = OpkgRules()
_GENERATIONS = (
    ("<18.06", OpkgRules(literal=False, asked=False, looks_ahead=False, checks=False)),
    ("<21.02", OpkgRules(literal=False, asked=False, looks_ahead=False)),
    ("<22.03", OpkgRules(asked=False)),
)


def opkg_rules(release: str) -> OpkgRules:
    """How the opkg of a release chooses; the newest rules for a name that is no release."""
    return next((rules for releases, rules in _GENERATIONS if covers(releases, release)), NEWEST)


def resolve(
    wish: Wish,
    packages: Iterable[Package] | Universe,
    rules: OpkgRules = NEWEST,
    *,
    given: Iterable[Package] = (),
) -> Resolution:
    """What opkg installs for what is asked for, in its order, and why.

    packages: what the feeds hold, see Universe, which saves time where one set of feeds serves several
    images. given: package files that ImageBuilder installs before, each in a call of its own (the tree's libc
    and kernel, see first_packages()). Raises ResolutionError.
    """
    universe = packages if isinstance(packages, Universe) else Universe(packages)
    names = [name for name in wish.add if name not in wish.remove]
    machine = _Opkg(universe, rules, names)
    for package in given:
        machine.origin.setdefault(package.name, (package.name, None))
        _drive(machine.install(package))
        machine.begin_anew()
    for name in names:
        _drive(machine.request(name))
    installed = tuple(machine.installed.values())
    check_whole(universe, installed, machine.origin)
    return resolution_of(installed, machine.origin, wish)


def _drive(step: Step[T]) -> T:
    """Run a step and all that it calls, without recursion."""
    stack: list[Step[Any]] = [step]
    value: Any = None
    while True:
        try:
            stack.append(stack[-1].send(value))
            value = None
        except StopIteration as stop:
            stack.pop()
            value = stop.value
            if not stack:
                return value  # type: ignore[no-any-return]


class _Opkg:
    """One call of opkg: what it has installed, wants to, and has looked at."""

    def __init__(self, universe: Universe, rules: OpkgRules, names: Iterable[str]) -> None:
        self.universe = universe
        self.rules = rules
        self.asked = frozenset(names)
        self.installed: dict[str, Package] = {}  # in the order of installing
        self.wanted: dict[str, list[Package]] = {}
        self.checked: set[str] = set()
        self.looked: set[str] = set()
        self.origin: dict[str, tuple[str, str | None]] = {}  # of a package: as what it is wanted, and by whom
        self.gaps: dict[str, Lost] = {}  # found looking ahead, by the name that was looked for
        self._ahead: dict[str, tuple[str, str | None]] = {}
        self._steps = Steps()
        # candidates that stay as they are, and what is the best of them, of all and of what is installed
        self._settled: dict[str, list[Package]] = {}
        self._best: dict[Dependency, Package | None] = {}
        self._present: dict[Dependency, Package | None] = {}
        self._watching: dict[str, list[Dependency]] = {}  # the terms of _present, by candidates' names
        self._wishes: dict[int, tuple[str, str | None]] = {}  # the first one for each version of a package
        exact = universe.replacers or (rules.looks_ahead and universe.several)
        self._read = reading_order(universe, self.asked) if exact else None

    def begin_anew(self) -> None:
        """Another call of opkg, which knows what is installed."""
        self.checked.clear()
        self.looked.clear()
        self._settled.clear()
        self._best.clear()
        self._present.clear()
        self._watching.clear()

    def request(self, name: str) -> Step[None]:
        """Install what a name on the command line means."""
        candidates = yield self._candidates(name)
        named = [each for each in candidates if each.name == name]
        present = [each for each in candidates if each.name in self.installed]
        if not candidates:
            raise self._unknown(name)
        if named or present:
            new = (named or present)[-1]
        else:
            own = [each for each in candidates if each.architecture != ANY_ARCHITECTURE]
            new = (own or candidates)[0]
        old = self._installed(name)
        if old is None or compare_versions(old.version, new.version) < 0:
            self.origin.setdefault(new.name, (name, None))
            yield self.install(new)
        if new.name == name:
            self.origin[name] = name, None

    def _named(self, name: str) -> Sequence[Package]:
        return self.universe.named(name) if self._read is None else self._read.get(name, ())

    def _unknown(self, name: str) -> ResolutionError:
        """Why a name on the command line means nothing: no feed has it, or opkg's look ahead found a gap."""
        if name in self.gaps:
            by, group = self.gaps[name]
            return missing(self.universe, group, trail(self._ahead, by), self._ahead)
        return missing(self.universe, (Dependency(name),), (), self.origin)

    def _installed(self, name: str) -> Package | None:
        """What opkg takes for the installed package of a name."""
        first = name if self.universe.named(name) else next(iter(self.universe.providers(name)), name)
        return self.installed.get(first)

    def install(self, package: Package) -> Step[None]:
        """Install a package with all that it needs, over an older version if there is one."""
        old = self.installed.get(package.name)
        if old is not None and compare_versions(old.version, package.version) >= 0:
            raise self._too_new(package, old)
        self._want(package)
        self.wanted[package.name] = [each for each in self.wanted[package.name] if each is not old]
        if self.rules.checks:
            foes = Quarrels(package)
            for name in foes.names:
                for other in self.wanted.get(name, ()):
                    if other in foes:
                        raise clashing(package, other, self.origin)
        yield self._satisfy(package)
        now = self.installed.get(package.name)
        if now is package:  # a circle has brought it here already
            return
        if now is not None and now is not old:
            raise self._too_new(package, now)
        self.installed.pop(package.name, None)
        self.installed[package.name] = package
        for term in self._watching.get(package.name, ()):
            if now is not None:
                self._present.pop(term, None)
            elif fits_version(term, package):
                best = self._present.get(term)
                if best is None or self._order(best, term.name) < self._order(package, term.name):
                    self._present[term] = package

    def _too_new(self, package: Package, there: Package) -> ResolutionError:
        wanted, by = self._wishes.get(id(package), self.origin[package.name])
        asker = () if by is None else trail(self.origin, by)
        return version_gap(asker, wanted, there, self.origin)

    def _want(self, package: Package) -> None:
        wanted = self.wanted.setdefault(package.name, [])
        if not any(each is package for each in wanted):
            wanted.append(package)

    def _satisfy(self, package: Package) -> Step[None]:
        found: dict[int, Package] = {}
        lost = yield self._unsatisfied(package, found, ahead=False)
        if lost is not None:
            by, group = lost
            raise missing(self.universe, group, trail(self.origin, by), self.origin)
        for each in found.values():
            self._want(each)
        for each in found.values():
            if self.installed.get(each.name) is not each:
                yield self.install(each)

    def _unsatisfied(self, package: Package, found: dict[int, Package], *, ahead: bool) -> Step[Lost | None]:
        """Fill `found` with what a package needs besides what is installed, each after its own needs.
        ahead: only to see what cannot be had, the first of which is the result."""
        seen, origin = (self.looked, self._ahead) if ahead else (self.checked, self.origin)
        if package.name in seen:
            return None
        seen.add(package.name)
        lost: Lost | None = None
        for group in package.depends:
            if (yield self._first(group, present=True)) is not None:
                continue
            new = yield self._first(group, present=False)
            if new is None:
                lost = lost or (package.name, group)
            elif new is not package and id(new) not in found:
                wish = (" | ".join(map(str, group)), package.name)
                origin.setdefault(new.name, wish)
                if not ahead:
                    self._wishes.setdefault(id(new), wish)
                below = yield self._unsatisfied(new, found, ahead=ahead)
                lost = lost or below
                found[id(new)] = new
        return lost

    def _first(self, group: Alternatives, *, present: bool) -> Step[Package | None]:
        """The first of several alternatives that can be had. present: of what is installed."""
        for term in group:
            candidates = yield self._candidates(term.name)
            settled = self._settled.get(term.name)
            if settled is not None and settled is candidates:
                best = self._settled_best(term, settled, present=present)
            else:
                best = self._best_of(term, candidates, present=present)
            if best is not None:
                return best
        return None

    def _settled_best(self, term: Dependency, candidates: list[Package], *, present: bool) -> Package | None:
        """The best of candidates that stay as they are: looked for once, where what is installed is meant
        kept up with it."""
        kept = self._present if present else self._best
        if term not in kept:
            kept[term] = self._best_of(term, candidates, present=present)
            if present:
                for name in dict.fromkeys(each.name for each in candidates):
                    watching = self._watching.setdefault(name, [])
                    if not watching or watching[-1] != term:
                        watching.append(term)
        return kept[term]

    def _best_of(self, term: Dependency, candidates: list[Package], *, present: bool) -> Package | None:
        """The last of those with the highest score that have the right version."""
        best: Package | None = None
        most = 0
        self._steps.take(len(candidates))
        for each in candidates:
            if fits_version(term, each) and not (present and self.installed.get(each.name) is not each):
                score = self._score(each, term.name)
                if score >= most:
                    best, most = each, score
        return best

    def _order(self, package: Package, name: str) -> tuple[int, object]:
        """What _best_of() goes by, as far as candidates stand in their order."""
        return self._score(package, name), rank(package)

    def _score(self, package: Package, name: str) -> int:
        literal = self.rules.literal and package.name == name
        return literal + (self.rules.asked and package.name in self.asked)

    def _candidates(self, name: str) -> Step[list[Package]]:
        """All that opkg takes into consideration for a name, in its order."""
        if name in self._settled:
            return self._settled[name]
        providers = self.universe.providers(name)
        found: dict[int, Package] = {}
        settled, refused = True, False
        for provider in providers:
            replacer = self.universe.replacers.get(provider)
            if replacer in providers:
                continue
            for package in self._named(provider if replacer is None else replacer):
                if id(package) in found:
                    continue
                self._steps.take(1)
                if self.rules.looks_ahead and package.name not in self.looked:
                    settled = False
                    self._ahead.setdefault(package.name, (name, None))
                    gap = yield self._unsatisfied(package, {}, ahead=True)
                    if gap is not None:
                        self.gaps.setdefault(name, gap)
                        refused = True
                        continue
                    if name in self._settled and not refused:  # meanwhile, and none of it is refused
                        return self._settled[name]
                found[id(package)] = package
        candidates = sorted(found.values(), key=rank) if len(found) > 1 else list(found.values())
        if settled:
            self._settled[name] = candidates
        return candidates


def reading_order(universe: Universe, asked: Iterable[str]) -> dict[str, list[Package]]:
    """The packages that opkg takes in from its lists, by name, in the order in which it does: it reads all
    lists over and over, each time taking what it knows by then that it may need.

    Source: pkg_hash_load_package_details() in pkg_hash.c, SF_NEED_DETAIL in pkg_parse.c and pkg_depends.c.
    """
    return _Reading(universe, asked).taken()


class _Reading:
    """opkg's passes over its lists, of which only those places are visited where something happens: (pass,
    place) pairs in their order. A name that becomes needed somewhere is noticed behind that place in the same
    pass, and before it in the next one."""

    def __init__(self, universe: Universe, asked: Iterable[str]) -> None:
        self._packages = universe.packages[::-1]
        self._named: dict[str, list[int]] = {}
        self._providing: dict[str, list[int]] = {}
        for place, package in enumerate(self._packages):
            self._named.setdefault(package.name, []).append(place)
            for name in package.provides:
                self._providing.setdefault(name, []).append(place)
        self._needed: set[str] = set()
        # in the first pass all that provide something say whom they mention
        self._events = [(0, place) for place, package in enumerate(self._packages) if package.provides]
        for name in asked:
            self._need(name, (0, -1))
        heapify(self._events)

    def _need(self, name: str, now: tuple[int, int]) -> None:
        if name in self._needed:
            return
        self._needed.add(name)
        turn, here = now
        for places in (self._named, self._providing):
            for place in places.get(name, ()):
                heappush(self._events, (turn + (place <= here), place))

    def taken(self) -> dict[str, list[Package]]:
        """What it comes to."""
        taken: dict[str, list[Package]] = {}
        done: set[int] = set()
        before: tuple[int, int] | None = None
        while self._events:
            now = heappop(self._events)
            package = self._packages[now[1]]
            if now == before or now[1] in done:
                continue
            before = now
            take = package.name in self._needed
            if package.provides:
                if now[0] == 0:
                    for name in _mentioned(package):
                        self._need(name, now)
                if not self._needed.isdisjoint(package.provides):
                    self._need(package.name, now)
            if take:
                done.add(now[1])
                taken.setdefault(package.name, []).append(package)
                for name in (*_mentioned(package), *(each.name for each in package.replaces)):
                    self._need(name, now)
        return {name: distinct(packages) for name, packages in taken.items()}


def _mentioned(package: Package) -> list[str]:
    terms = [term.name for group in package.depends for term in group]
    return terms + [each.name for each in package.conflicts]
