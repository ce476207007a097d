"""What resolving gives: the packages of an image, each with why it is there, or why there can be none.
Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice

from imagebuilder.errors import UserError
from imagebuilder.model.package import Package, Selected, Way, Wish
from imagebuilder.packages.universe import fits

STEPS = 20_000
MOST_STEPS = 2_000_000  # of one resolution, a second or so; the largest known of a genuine feed takes 10,742
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


class Steps:
    """How much a resolution may do, so that feeds made for it cannot keep it busy for hours. All packages of
    a genuine feed at once take two steps each, of 51 feeds from 15.05 to 25.12 at most 10,742 for 5,236: a
    thousandth of what is allowed."""

    def __init__(self, most: int = MOST_STEPS) -> None:
        self._most = self._left = most

    def take(self, count: int) -> None:
        """PlanError where there are no more."""
        self._left -= count
        if self._left < 0:
            raise PlanError(
                f"which packages go in takes more than {self._most} steps to find: far more of them provide "
                "and want the same names than in any feed that is known",
                hint="leave out the feed that was added last, or tell those who keep it",
            )


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
    by = {name: parent for name, (_, parent) in origins.items()}
    ways = ways_of(by, lambda root: wish.add.get(origins[root][0], THE_TREE))
    selected = tuple(Selected(package, ways[package.name], origins[package.name][0]) for package in packages)
    there = {package.name for package in packages}
    return Resolution(selected, {name: tuple(ways[name]) for name in sorted(wish.remove) if name in there})


def ways_of(by: Mapping[str, str | None], asker: Callable[[str], str]) -> dict[str, Way]:
    """For every package the way to it. by: who needs it, None for those that were asked for; asker: who asked
    for such a one."""
    return {name: Way(asker(root), by, name, length + 1) for name, (root, length) in _roots(by).items()}


def _roots(by: Mapping[str, str | None]) -> dict[str, tuple[str, int]]:
    """For every package the one that was asked for and led to it, and how many names lie between them, both
    counted."""
    roots: dict[str, tuple[str, int]] = {}
    for name in by:
        climbed: list[str] = []
        here: str | None = name
        while here is not None and here not in roots:
            climbed.append(here)
            here = by[here]
        for each in reversed(climbed):
            above = by[each]
            root, length = (each, 0) if above is None else roots[above]
            roots[each] = root, length + 1
    return roots


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
    target = _target(resolution, name)
    wants = dependents(resolution.packages)
    roots = {each.name for each in resolution.selected if each.by is None}
    return tuple(islice(_upwards(target, wants, roots), limit))


def _target(resolution: Resolution, name: str) -> str:
    """The package of that name, or that provides it. KeyError if there is none."""
    packages = {package.name: package for package in resolution.packages}
    if name in packages:
        return name
    for package in packages.values():
        if name in package.provides:
            return package.name
    raise KeyError(name)


def count_chains(resolution: Resolution, name: str) -> int | None:
    """How many ways every_chain() would give without a limit: those to a package are those to all that want
    it, and one more where it was asked for. None where packages above it need one another in a ring: then
    each chain would have to be walked. KeyError as there."""
    target = _target(resolution, name)
    wants = dependents(resolution.packages)
    roots = {each.name for each in resolution.selected if each.by is None}
    counts: dict[str, int] = {}
    open_: set[str] = set()
    waiting = [target]
    while waiting:
        here = waiting[-1]
        above = [by for by in wants[here] if by not in counts]
        if here in counts or not above:
            counts.setdefault(here, (here in roots) + sum(counts[by] for by in wants[here]))
            open_.discard(here)
            waiting.pop()
            continue
        if here in open_:  # all above it were visited, and one of them still waits for it
            return None
        open_.add(here)
        waiting += above
    return counts[target]


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
