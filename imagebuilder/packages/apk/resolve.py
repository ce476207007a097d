"""apk's way from a list of names to packages. Pure.

apk looks for one solution for the whole list, whatever its order; this does so without going back on a
choice. Everything that was asked for is chosen before any dependency. Of one package the newest version that
fits is taken, of several providers the one with the highest provider priority, then the first by name that
has all that it needs. A version is tested against what a package provides the name with; a name provided
without one satisfies no wish for a version. With several versions of one package in the feeds a later asker
may fail where apk would have taken another.

What goes into an image is for the tree's own apk to say (tool.py); this stands in for it where advice and
--fit compare hundreds of lists, each of which would cost a start of apk in the sandbox.

Source: apk-tools 3, src/solver.c (compare_providers) and doc/apk-package.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from imagebuilder.model.package import Dependency, Package, Wish
from imagebuilder.packages.apk import version as apk_version
from imagebuilder.packages.refusal import clashing, missing, version_gap
from imagebuilder.packages.resolution import Resolution, ResolutionError, Steps, resolution_of, trail
from imagebuilder.packages.universe import Universe

PRIORITY = "Provider-Priority"
Alternatives = tuple[Dependency, ...]
_Key = tuple[str, str]


def apk_fits(dependency: Dependency, package: Package) -> bool:
    """Whether a package, by its name or what it provides, satisfies one dependency."""
    if dependency.name == package.name:
        versions = [package.version]
    elif dependency.name in package.provides:
        versions = [version for name, version in package.provided_versions if name == dependency.name]
    else:
        return False
    if dependency.operator is None or dependency.version is None:
        return True
    if dependency.operator == "><":
        return dependency.version in package.identity
    return any(apk_version.satisfies(each, dependency.operator, dependency.version) for each in versions)


def _against(package: Package, other: Package) -> Dependency | None:
    return next((foe for foe in package.conflicts if apk_fits(foe, other)), None)


def apk_clash(one: Package, other: Package) -> bool:
    """Conflicts, and a name that both provide with a version: apk has one owner for such a name."""
    if one.name == other.name:
        return False
    if _against(one, other) is not None or _against(other, one) is not None:
        return True
    theirs = {name for name, _ in other.provided_versions} | {other.name}
    return any(name in theirs for name, _ in one.provided_versions) or one.name in theirs


def resolve(wish: Wish, packages: Iterable[Package] | Universe) -> Resolution:
    """What apk installs for what is asked for, every package after those that it depends on, and why.
    packages: what the feeds hold. Raises ResolutionError."""
    solver = _Solver(packages if isinstance(packages, Universe) else Universe(packages))
    waiting: list[Package] = []
    for name in wish.add:
        if name in wish.remove:
            continue
        package = solver.choose((Dependency(name),), None)
        if package is not None:
            waiting.append(package)
    for package in waiting:  # grows while it runs
        for group in package.depends:
            found = solver.choose(group, package.name)
            if found is not None:
                waiting.append(found)
    return resolution_of([solver.chosen[name] for name in solver.order()], solver.origin, wish)


class _Solver:
    """The choices made so far."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.chosen: dict[str, Package] = {}
        self.origin: dict[str, tuple[str, str | None]] = {}
        self._providers: dict[str, list[Package]] = {}
        self._owners: dict[str, Package] = {}  # of a name with a version
        self._foes: dict[str, list[tuple[Dependency, Package]]] = {}  # names, and who fights them
        self._place: dict[str, int] = {}  # of a chosen package among the others
        self._complete: dict[_Key, bool] = {}
        self._steps = Steps()
        self._sorted: dict[Dependency, tuple[Package, ...]] = {}
        # what satisfies a term, and how many of those that provide its name were asked
        self._present: dict[Dependency, tuple[Package | None, int]] = {}

    def choose(self, group: Alternatives, by: str | None) -> Package | None:
        """Satisfy one dependency: None if it is satisfied already, else the package that was added."""
        if any(self.present(term) is not None for term in group):
            return None
        options = [each for term in group for each in self._candidates(term)]
        if not options:
            raise self._unsatisfied(group, by)
        peaceful = [each for each in options if self._enemy(each) is None]
        if not peaceful:
            enemy = self._enemy(options[0])
            if enemy is None or enemy.name == options[0].name:
                raise self._unsatisfied(group, by)
            origin = {options[0].name: (str(group[0]), by)} | self.origin
            raise clashing(options[0], enemy, origin)
        whole = (each for each in peaceful if self._whole(each)) if len(peaceful) > 1 else iter(peaceful)
        package = next(whole, peaceful[0])
        self._add(package, " | ".join(map(str, group)), by)
        return package

    def present(self, term: Dependency) -> Package | None:
        """The chosen package that satisfies a dependency."""
        found, asked = self._present.get(term, (None, 0))
        if found is None:
            providers = self._providers.get(term.name, [])
            self._steps.take(len(providers) - asked)
            found = next((each for each in providers[asked:] if apk_fits(term, each)), None)
            self._present[term] = found, len(providers)
        return found

    def order(self) -> list[str]:
        """Dependencies before those that need them, otherwise in the order of the choices."""
        done: dict[str, None] = {}
        entered: set[str] = set()
        for name in self.chosen:
            stack = [(name, False)]
            while stack:
                here, left = stack.pop()
                if left:
                    done[here] = None
                elif here not in entered:
                    entered.add(here)
                    stack.append((here, True))
                    groups = self.chosen[here].depends
                    found = (next(filter(None, map(self.present, group)), None) for group in groups)
                    stack.extend((each.name, False) for each in reversed(list(filter(None, found))))
        return list(done)

    def _candidates(self, term: Dependency) -> tuple[Package, ...]:
        """By the rules above, best first; the package of that very name before others that provide it."""
        known = self._sorted.get(term)
        if known is None:
            known = self._sorted[term] = tuple(self._looked_up(term))
        self._steps.take(len(known) + 1)
        return known

    def _looked_up(self, term: Dependency) -> Iterator[Package]:
        groups = [
            sorted(self.universe.named(name), key=lambda each: apk_version.version_key(each.version))[::-1]
            for name in sorted(self.universe.providers(term.name), key=lambda name: (name != term.name, name))
        ]
        self._steps.take(sum(map(len, groups)))
        groups.sort(key=lambda versions: -_priority(versions))
        return (each for versions in groups for each in versions if apk_fits(term, each))

    def _add(self, package: Package, wanted: str, by: str | None) -> None:
        self.chosen[package.name] = package
        self.origin[package.name] = (wanted, by)
        for name in {package.name, *package.provides}:
            self._providers.setdefault(name, []).append(package)
        for name, _ in ((package.name, ""), *package.provided_versions):
            self._owners.setdefault(name, package)
        self._place[package.name] = len(self._place)
        for foe in package.conflicts:
            self._foes.setdefault(foe.name, []).append((foe, package))

    def _enemy(self, package: Package) -> Package | None:
        """A chosen package that this one cannot stand beside, also another version of itself."""
        if package.name in self.chosen:
            return self.chosen[package.name]
        owned = (self._owners.get(name) for name, _ in ((package.name, ""), *package.provided_versions))
        enemy = next((each for each in filter(None, owned) if apk_clash(package, each)), None)
        return enemy or min(self._fighting(package), key=lambda each: self._place[each.name], default=None)

    def _fighting(self, package: Package) -> Iterator[Package]:
        """The chosen packages that conflict with this one, or it with them."""
        for foe in package.conflicts:
            there = self._providers.get(foe.name, ())
            self._steps.take(len(there))
            yield from (each for each in there if apk_fits(foe, each))
        for name in {package.name, *package.provides}:
            against = self._foes.get(name, ())
            self._steps.take(len(against))
            yield from (each for foe, each in against if apk_fits(foe, package))

    def _whole(self, package: Package) -> bool:
        """Whether the feeds hold all that a package needs, conflicts aside. A circle satisfies itself."""
        start = (package.name, package.version)
        if start not in self._complete:
            reached: dict[_Key, list[list[_Key]]] = {}
            waiting = [package]
            while waiting:
                each = waiting.pop()
                key = (each.name, each.version)
                if key not in reached:
                    options = [
                        [one for term in group for one in self._candidates(term)] for group in each.depends
                    ]
                    reached[key] = [[(one.name, one.version) for one in group] for group in options]
                    waiting.extend(one for group in options for one in group)
            bad = _lacking(reached)
            self._complete.update({key: key not in bad for key in reached})
        return self._complete[start]

    def _unsatisfied(self, group: Alternatives, by: str | None) -> ResolutionError:
        chain = trail(self.origin, by) if by is not None else ()
        there = next((self.chosen[term.name] for term in group if term.name in self.chosen), None)
        if there is None:
            return missing(self.universe, group, chain, self.origin)
        return version_gap(chain, " | ".join(map(str, group)), there, self.origin)


def _lacking(reached: Mapping[_Key, list[list[_Key]]]) -> set[_Key]:
    """Those of which a group of alternatives has none that has all it needs. reached: the groups of each."""
    users: dict[_Key, list[tuple[_Key, int]]] = {}
    left: dict[tuple[_Key, int], int] = {}
    bad: set[_Key] = set()
    for key, groups in reached.items():
        for number, group in enumerate(groups):
            options = set(group)
            left[key, number] = len(options)
            for one in options:
                users.setdefault(one, []).append((key, number))
            if not options:
                bad.add(key)
    waiting = list(bad)
    while waiting:
        for key, number in users.get(waiting.pop(), ()):
            left[key, number] -= 1
            if not left[key, number] and key not in bad:
                bad.add(key)
                waiting.append(key)
    return bad


def _priority(versions: Iterable[Package]) -> int:
    return max((int(each.extra.get(PRIORITY, "0")) for each in versions), default=0)
