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
from typing import Any, TypeVar

from imagebuilder.model.package import Dependency, Package, Wish
from imagebuilder.model.release import covers
from imagebuilder.packages.opkg.version import compare_versions
from imagebuilder.packages.refusal import check_whole, clashing, missing, version_gap
from imagebuilder.packages.resolution import Resolution, ResolutionError, resolution_of, trail
from imagebuilder.packages.universe import ANY_ARCHITECTURE, Universe, distinct, fits_version, quarrels, rank

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
        machine.checked.clear()
        machine.looked.clear()
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
        self._wishes: dict[int, tuple[str, str | None]] = {}  # the first one for each version of a package
        exact = universe.replacers or (rules.looks_ahead and universe.several)
        self._read = reading_order(universe, self.asked) if exact else None

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
            for foe in package.conflicts:
                for other in self.wanted.get(foe.name, ()):
                    if quarrels(package, other):
                        raise clashing(package, other, self.origin)
        yield self._satisfy(package)
        now = self.installed.get(package.name)
        if now is package:  # a circle has brought it here already
            return
        if now is not None and now is not old:
            raise self._too_new(package, now)
        self.installed.pop(package.name, None)
        self.installed[package.name] = package

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
        if lost:
            by, group = lost[0]
            raise missing(self.universe, group, trail(self.origin, by), self.origin)
        for each in found.values():
            self._want(each)
        for each in found.values():
            if self.installed.get(each.name) is not each:
                yield self.install(each)

    def _unsatisfied(self, package: Package, found: dict[int, Package], *, ahead: bool) -> Step[list[Lost]]:
        """Fill `found` with what a package needs besides what is installed, each after its own needs.
        ahead: only to see what cannot be had, which is the result."""
        seen, origin = (self.looked, self._ahead) if ahead else (self.checked, self.origin)
        if package.name in seen:
            return []
        seen.add(package.name)
        lost: list[Lost] = []
        for group in package.depends:
            if (yield self._first(group, present=True)) is not None:
                continue
            new = yield self._first(group, present=False)
            if new is None:
                lost.append((package.name, group))
            elif new is not package and id(new) not in found:
                wish = (" | ".join(map(str, group)), package.name)
                origin.setdefault(new.name, wish)
                if not ahead:
                    self._wishes.setdefault(id(new), wish)
                lost += yield self._unsatisfied(new, found, ahead=ahead)
                found[id(new)] = new
        return lost

    def _first(self, group: Alternatives, *, present: bool) -> Step[Package | None]:
        """The first of several alternatives that can be had. present: of what is installed."""
        for term in group:
            best: Package | None = None
            most = 0
            for each in (yield self._candidates(term.name)):
                if fits_version(term, each) and not (present and self.installed.get(each.name) is not each):
                    score = self._score(each, term.name)
                    if score >= most:
                        best, most = each, score
            if best is not None:
                return best
        return None

    def _score(self, package: Package, name: str) -> int:
        literal = self.rules.literal and package.name == name
        return literal + (self.rules.asked and package.name in self.asked)

    def _candidates(self, name: str) -> Step[list[Package]]:
        """All that opkg takes into consideration for a name, in its order."""
        providers = dict.fromkeys(self.universe.providers(name))
        found: dict[int, Package] = {}
        for provider in providers:
            replacer = self.universe.replacers.get(provider)
            if replacer in providers:
                continue
            for package in self._named(provider if replacer is None else replacer):
                if id(package) in found:
                    continue
                if self.rules.looks_ahead:
                    self._ahead.setdefault(package.name, (name, None))
                    gaps = yield self._unsatisfied(package, {}, ahead=True)
                    if gaps:
                        self.gaps.setdefault(name, gaps[0])
                        continue
                found[id(package)] = package
        return sorted(found.values(), key=rank) if len(found) > 1 else list(found.values())


def reading_order(universe: Universe, asked: Iterable[str]) -> dict[str, list[Package]]:
    """The packages that opkg takes in from its lists, by name, in the order in which it does: it reads all
    lists over and over, each time taking what it knows by then that it may need.

    Source: pkg_hash_load_package_details() in pkg_hash.c, SF_NEED_DETAIL in pkg_parse.c and pkg_depends.c.
    """
    needed = set(asked)
    taken: dict[str, list[Package]] = {}
    waiting: list[Package] = list(reversed(universe.packages))
    before = -1
    while before != len(needed):
        before = len(needed)
        left: list[Package] = []
        for package in waiting:
            name = package.name
            take = name in needed
            if package.provides:
                needed.update(_mentioned(package))
                if not needed.isdisjoint(package.provides):
                    needed.add(name)
            if take:
                taken.setdefault(name, []).append(package)
                needed.update(_mentioned(package), (each.name for each in package.replaces))
            else:
                left.append(package)
        waiting = left
    return {name: distinct(packages) for name, packages in taken.items()}


def _mentioned(package: Package) -> list[str]:
    terms = [term.name for group in package.depends for term in group]
    return terms + [each.name for each in package.conflicts]
