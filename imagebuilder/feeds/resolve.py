"""Which packages an image holds: what was asked for and all that it needs. Pure.

The rules are opkg's: a constraint on a version is tested against the provider's own version; Conflicts means
the packages of that name, not those that provide it, and a package that Replaces the other has no quarrel
with it. Unlike opkg, everything that was asked for is chosen before any dependency, so that the order of a
list does not decide which of several providers is taken. A choice once made stands: with several versions of
one package in the feeds, the newest that the first asker accepts is taken, and a later asker may fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from imagebuilder.errors import UserError
from imagebuilder.feeds.version import satisfies, version_key
from imagebuilder.model.package import Dependency, Package

Alternatives = tuple[Dependency, ...]


class ResolutionError(UserError):
    """The packages that were asked for cannot be installed together. missing: what nothing provides, or
    None. chain: from what was asked for down to where it fails, package names."""

    def __init__(self, message: str, *, missing: str | None, chain: Sequence[str], hint: str | None) -> None:
        super().__init__(message, hint=hint)
        self.missing = missing
        self.chain = tuple(chain)


@dataclass(frozen=True, slots=True)
class PackageList:
    """What ImageBuilder would install: names in its order, and the literal names that were removed."""

    names: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """One package of an image. by: the package that needs it, None if it was asked for; wanted: the name
    or dependency as it was written there."""

    package: Package
    wanted: str
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What goes in: every package after those that it depends on (where they do not depend on one another).
    back: names that were removed from the list and came back as somebody's dependency."""

    chosen: tuple[Chosen, ...]
    back: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[Package, ...]:
        """The packages alone, in the same order."""
        return tuple(each.package for each in self.chosen)

    def why(self, name: str) -> tuple[str, ...]:
        """From the package that was asked for down to this one. KeyError if it does not go in."""
        return _chain({each.package.name: each for each in self.chosen}, name)


def package_list(
    defaults: Iterable[str], profile: Iterable[str], add: Iterable[str], remove: Iterable[str] = ()
) -> PackageList:
    """ImageBuilder's list: the user's packages in their order, then default and profile packages sorted,
    without every literal name that is removed; `-name` in any of the lists removes too.

    Source: BUILD_PACKAGES in ImageBuilder's Makefile, which also counts `kernel` among the defaults.
    """
    words = list(dict.fromkeys([*add, *sorted({*defaults, *profile})]))
    gone = {word[1:] for word in words if word.startswith("-")} | {name.removeprefix("-") for name in remove}
    names = tuple(word for word in words if not word.startswith("-") and word not in gone)
    return PackageList(names, tuple(sorted(gone)))


def _chain(chosen: Mapping[str, Chosen], name: str) -> tuple[str, ...]:
    names = [name]
    by = chosen[name].by
    while by is not None:
        names.append(by)
        by = chosen[by].by
    return tuple(reversed(names))


class Universe:
    """All packages of all feeds, to be looked up. Of equal versions the one that was given first counts."""

    def __init__(self, packages: Iterable[Package]) -> None:
        self._named: dict[str, list[Package]] = {}
        self._provided: dict[str, list[Package]] = {}
        for package in packages:
            self._named.setdefault(package.name, []).append(package)
            for name in package.provides:
                if name != package.name:
                    self._provided.setdefault(name, []).append(package)
        for versions in self._named.values():
            if len(versions) > 1:
                versions.sort(key=lambda package: version_key(package.version), reverse=True)

    def candidates(self, dependency: Dependency) -> Iterator[Package]:
        """Who satisfies it: packages of that name, newest first, then those that provide it, by name."""
        for package in self._named.get(dependency.name, ()):
            if fits(dependency, package):
                yield package
        providers = self._provided.get(dependency.name, ())
        newest = sorted(providers, key=lambda package: version_key(package.version), reverse=True)
        for package in sorted(newest, key=lambda package: package.name):
            if fits(dependency, package):
                yield package

    def versions(self, name: str) -> list[str]:
        """The versions of a package that the feeds hold, newest first."""
        return [package.version for package in self._named.get(name, ())]

    def nearest(self, name: str) -> list[str]:
        """Names that look like this one."""
        return get_close_matches(name, [*self._named, *self._provided], n=3, cutoff=0.7)


def fits(dependency: Dependency, package: Package) -> bool:
    """Whether a package, by its name or what it provides, satisfies one dependency."""
    if dependency.name != package.name and dependency.name not in package.provides:
        return False
    if dependency.operator is None or dependency.version is None:
        return True
    return satisfies(package.version, dependency.operator, dependency.version)


def clash(one: Package, other: Package) -> bool:
    """Whether the two cannot be in one image."""

    def against(package: Package, enemy: Package) -> bool:
        foes = any(each.name == enemy.name and fits(each, enemy) for each in package.conflicts)
        return foes and not any(each.name == enemy.name and fits(each, enemy) for each in package.replaces)

    return one.name != other.name and (against(one, other) or against(other, one))


class _Resolver:
    """The choices made so far, for one call of resolve()."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.chosen: dict[str, Chosen] = {}
        self._fighters: list[Package] = []  # those with Conflicts, few
        self._providers: dict[str, list[Package]] = {}
        self._whole: dict[tuple[str, str], bool] = {}

    def present(self, dependency: Dependency) -> Package | None:
        """The chosen package that satisfies a dependency."""
        return next(
            (each for each in self._providers.get(dependency.name, ()) if fits(dependency, each)), None
        )

    def enemy(self, package: Package) -> Package | None:
        """A chosen package that this one cannot stand beside, also another version of itself."""
        twin = self.chosen.get(package.name)
        if twin is not None:
            return twin.package
        others = (
            (each.package for each in self.chosen.values()) if package.conflicts else iter(self._fighters)
        )
        return next((other for other in others if clash(package, other)), None)

    def complete(self, package: Package) -> bool:
        """Whether the feeds hold all that a package needs, conflicts aside. A cycle satisfies itself."""
        start = (package.name, package.version)
        if start not in self._whole:
            reached: dict[tuple[str, str], list[list[tuple[str, str]]]] = {}
            waiting = [package]
            while waiting:
                each = waiting.pop()
                key = (each.name, each.version)
                if key in reached:
                    continue
                reached[key] = []
                for group in each.depends:
                    options = [one for term in group for one in self.universe.candidates(term)]
                    reached[key].append([(one.name, one.version) for one in options])
                    waiting.extend(options)
            good = set(reached)
            while broken := {
                key for key in good if not all(any(one in good for one in group) for group in reached[key])
            }:
                good -= broken
            self._whole.update({key: key in good for key in reached})
        return self._whole[start]

    def choose(self, group: Alternatives, by: str | None) -> Package | None:
        """Satisfy one dependency: None if it is satisfied already, else the package that was added."""
        # who asks for dnsmasq by its own name does not mean dnsmasq-full, although that provides dnsmasq
        literal = by is None and bool(self.universe.versions(group[0].name))
        if group[0].name in self.chosen if literal else any(map(self.present, group)):
            return None
        options = [one for term in group for one in self.universe.candidates(term)]
        if literal:
            options = [one for one in options if one.name == group[0].name]
        wanted = " | ".join(str(term) for term in group)
        if not options:
            raise self._missing(group, wanted, by)
        peaceful = [one for one in options if self.enemy(one) is None]
        if not peaceful:
            raise self._clashing(options[0], wanted, by)
        whole = (one for one in peaceful if self.complete(one)) if len(peaceful) > 1 else iter(peaceful)
        package = next(whole, peaceful[0])
        self.chosen[package.name] = Chosen(package, wanted, by)
        if package.conflicts:
            self._fighters.append(package)
        for name in {package.name, *package.provides}:
            self._providers.setdefault(name, []).append(package)
        return package

    def _trail(self, by: str | None) -> tuple[str, ...]:
        return () if by is None else _chain(self.chosen, by)

    def _missing(self, group: Alternatives, wanted: str, by: str | None) -> ResolutionError:
        trail = self._trail(by)
        asked = f", which {_arrows(trail)} needs" if trail else ", which was asked for"
        versions = [f"{each.name} {one}" for each in group for one in self.universe.versions(each.name)]
        near = [name for each in group for name in self.universe.nearest(each.name) if name != each.name]
        hint = "a feed is missing, or the name is wrong"
        if versions:
            hint = f"the feeds hold {', '.join(versions[:3])}"
        elif near:
            hint = f"did you mean {' or '.join(near[:3])}?"
        chain = (*trail, group[0].name)
        return ResolutionError(f"no feed has {wanted}{asked}", missing=wanted, chain=chain, hint=hint)

    def _clashing(self, package: Package, wanted: str, by: str | None) -> ResolutionError:
        other = self.enemy(package)
        trail = self._trail(by)
        name = package.name if other is None else other.name
        theirs = _arrows(_chain(self.chosen, name)) if name in self.chosen else name
        ours = _arrows((*trail, package.name))
        if name == package.name and other is not None:
            text = f"{_arrows(trail)} wants {wanted}, but {theirs} is there with version {other.version}"
        else:
            text = f"{ours} and {theirs} cannot be in one image"
        return ResolutionError(
            text,
            missing=None,
            chain=(*trail, package.name),
            hint=f"remove one of them: -{name} in the packages",
        )


def _arrows(chain: Sequence[str]) -> str:
    return " -> ".join(chain)


def _ordered(resolver: _Resolver) -> tuple[Chosen, ...]:
    """Dependencies before those that need them, otherwise in the order of the choices."""
    done: dict[str, Chosen] = {}
    entered: set[str] = set()
    for name in resolver.chosen:
        stack = [(name, False)]
        while stack:
            here, left = stack.pop()
            if left:
                done[here] = resolver.chosen[here]
            elif here not in entered:
                entered.add(here)
                stack.append((here, True))
                needs = resolver.chosen[here].package.depends
                found = (next(filter(None, map(resolver.present, group)), None) for group in needs)
                stack.extend(
                    (each.name, False) for each in reversed([one for one in found if one is not None])
                )
    return tuple(done.values())


def resolve(
    requested: Iterable[str], removed: Iterable[str], packages: Iterable[Package] | Universe
) -> Resolution:
    """Everything that goes into an image, and why.

    requested: names, also provided ones, as package_list() gives them. removed: literal names taken off that
    list; a dependency can bring one back. packages: what the feeds hold; a Universe saves time where one
    set of feeds serves several images. Raises ResolutionError.
    """
    universe = packages if isinstance(packages, Universe) else Universe(packages)
    gone = set(removed)
    resolver = _Resolver(universe)
    waiting: list[Package] = []
    for name in dict.fromkeys(requested):
        if name not in gone:
            package = resolver.choose((Dependency(name),), None)
            if package is not None:
                waiting.append(package)
    for package in waiting:  # grows while it runs
        for group in package.depends:
            found = resolver.choose(group, package.name)
            if found is not None:
                waiting.append(found)
    chosen = _ordered(resolver)
    return Resolution(chosen, tuple(sorted(gone & resolver.chosen.keys())))
