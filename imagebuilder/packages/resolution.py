"""What resolving gives: the packages of an image with who asked for each, or why there can be none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice

from imagebuilder.errors import UserError
from imagebuilder.model.package import Package
from imagebuilder.packages.universe import fits

STEPS = 20_000
CHAINS = 100  # of a package such as libc there are millions


class ResolutionError(UserError):
    """The packages that were asked for cannot be installed together. missing: what nothing provides, or
    None. chain: from what was asked for down to where it fails, package names. facts: what stands against
    what, a sentence each. asked: the names that were asked for and led there."""

    def __init__(
        self,
        message: str,
        *,
        missing: str | None,
        chain: Sequence[str],
        hint: str | None,
        facts: Sequence[str],
        asked: Sequence[str],
    ) -> None:
        super().__init__(message, hint=hint)
        self.missing = missing
        self.chain = tuple(chain)
        self.facts = tuple(facts)
        self.asked = tuple(asked)


@dataclass(frozen=True, slots=True)
class Chosen:
    """One package of an image. by: the package that needs it, None if it was asked for; wanted: the name
    or dependency as it was written there."""

    package: Package
    wanted: str
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What goes in, in the order of installing: every package after those that it depends on (where they do
    not depend on one another). back: names that were removed from the list and came back as somebody's
    dependency; why() says whose. requested: what was asked for."""

    chosen: tuple[Chosen, ...]
    back: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[Package, ...]:
        """The packages alone, in the same order."""
        return tuple(each.package for each in self.chosen)

    def why(self, name: str) -> tuple[str, ...]:
        """From the package that was asked for down to this one, the way by which it was chosen. KeyError if
        it does not go in."""
        return chain_of({each.package.name: each for each in self.chosen}, name)


def chain_of(chosen: Mapping[str, Chosen], name: str) -> tuple[str, ...]:
    """Who asked for a chosen package, down to it."""
    names = [name]
    by = chosen[name].by
    while by is not None:
        names.append(by)
        by = chosen[by].by
    return tuple(reversed(names))


def arrows(chain: Sequence[str]) -> str:
    """`a -> b -> c`."""
    return " -> ".join(chain)


def every_chain(resolution: Resolution, name: str, *, limit: int = CHAINS) -> tuple[tuple[str, ...], ...]:
    """Every way from a package that was asked for to the one of that name (or that provides it), shortest
    first, no package twice in one chain; `limit` of them at most. KeyError if it does not go in."""
    packages = {package.name: package for package in resolution.packages}
    target = packages.get(name) or next(
        (package for package in packages.values() if name in package.provides), None
    )
    if target is None:
        raise KeyError(name)
    wants = dependents(resolution.packages)
    roots = {each.package.name for each in resolution.chosen if each.by is None}
    return tuple(islice(_upwards(target.name, wants, roots), limit))


def dependents(packages: Sequence[Package]) -> dict[str, tuple[str, ...]]:
    """For every package of an image the names of those in it that depend on it."""
    holders: dict[str, list[Package]] = {}
    for package in packages:
        for name in (package.name, *package.provides):
            holders.setdefault(name, []).append(package)
    wants: dict[str, dict[str, None]] = {package.name: {} for package in packages}
    for package in packages:
        for group in package.depends:
            for term in group:
                for other in holders.get(term.name, ()):
                    if other is not package and fits(term, other):
                        wants[other.name][package.name] = None
    return {name: tuple(by) for name, by in wants.items()}


def _upwards(target: str, wants: Mapping[str, tuple[str, ...]], roots: set[str]) -> Iterator[tuple[str, ...]]:
    """Best first by the length that a chain will have at least; gives up where packages that need one
    another make far more ways than anybody reads."""
    far = _distances(wants, roots)
    waiting: list[tuple[int, tuple[str, ...]]] = [(far[target], (target,))] if target in far else []
    for _ in range(STEPS):
        if not waiting:
            return
        _, chain = heappop(waiting)
        if chain[0] in roots:
            yield chain
        for by in wants[chain[0]]:
            if by in far and by not in chain:
                heappush(waiting, (len(chain) + far[by], (by, *chain)))


def _distances(wants: Mapping[str, tuple[str, ...]], roots: set[str]) -> dict[str, int]:
    """For each package that something asked for needs: how many steps from there."""
    below: dict[str, list[str]] = {}
    for name, users in wants.items():
        for user in users:
            below.setdefault(user, []).append(name)
    far = dict.fromkeys(roots, 0)
    waiting = list(roots)
    for name in waiting:  # grows while it runs
        for needed in below.get(name, ()):
            if needed not in far:
                far[needed] = far[name] + 1
                waiting.append(needed)
    return far
