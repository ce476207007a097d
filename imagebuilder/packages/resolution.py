"""What resolving gives: the packages of an image, each with why it is there, or why there can be none.
Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice

from imagebuilder.errors import UserError
from imagebuilder.model.package import Package, Selected, Wish
from imagebuilder.packages.universe import fits

STEPS = 20_000
CHAINS = 100  # of a package such as libc there are millions
THE_TREE = "the tree"  # who asked for what no config asks for

Origins = Mapping[str, tuple[str, str | None]]  # of a package: as what it is wanted, and by whom


class PlanError(UserError):
    """What was asked for cannot be installed together, or at all."""


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
class Resolution:
    """What goes in, in the order of installing: every package after those that it depends on (where they do
    not depend on one another). back: names that were to stay out and are there all the same, with why."""

    selected: tuple[Selected, ...]
    back: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def packages(self) -> tuple[Package, ...]:
        """The packages alone, in the same order."""
        return tuple(each.package for each in self.selected)


def resolution_of(packages: Sequence[Package], origins: Origins, wish: Wish) -> Resolution:
    """The resolution of packages that were chosen, with the way to each. origins: of all of them."""
    selected = []
    for package in packages:
        chain = trail(origins, package.name)
        asker = wish.add.get(origins[chain[0]][0], THE_TREE)
        selected.append(Selected(package, (asker, *chain), origins[package.name][0]))
    there = {each.name: each.why for each in selected}
    return Resolution(tuple(selected), {name: there[name] for name in sorted(wish.remove) if name in there})


def trail(origins: Origins, name: str) -> tuple[str, ...]:
    """From what was asked for down to a package."""
    names = [name]
    while (by := origins[names[-1]][1]) is not None:
        names.append(by)
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
    roots = {each.name for each in resolution.selected if each.by is None}
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
