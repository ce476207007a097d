"""The shortest part of a list of packages that cannot be installed, and why, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, permutations

from imagebuilder.model.package import Package, Wish
from imagebuilder.packages.opkg.resolve import NEWEST, OpkgRules, resolve
from imagebuilder.packages.resolution import PlanError, ResolutionError
from imagebuilder.packages.universe import Universe

ORDERS = 24  # that are tried: all orders of four names


@dataclass(frozen=True, slots=True)
class Conflict:
    """Names that cannot be had together, each of which could be without one of the others. facts: why, a
    sentence each, with the chains. order: one in which the package manager would take them all, if the
    order is what they fail for; the feeds' packages and the rules decide, see resolve()."""

    names: tuple[str, ...]
    facts: tuple[str, ...]
    error: ResolutionError
    order: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """What to show: lines, the first of which sums up."""
        what = f"{self.names[0]} cannot be installed"
        if len(self.names) > 1:
            what = f"these cannot be installed together: {', '.join(self.names)}"
        return "\n".join([what, *(f"  {fact}" for fact in self.facts)])

    @property
    def hint(self) -> str | None:
        """What to do next."""
        if self.order:
            return f"they can be in another order; say add = {_toml(self.order)}"
        if len(self.names) > 1:
            return f"leave one of them out: {', '.join(self.names)}"
        return self.error.hint


def _toml(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


class _Trial:
    """Lists of names tried out against the same feeds."""

    def __init__(self, universe: Universe, rules: OpkgRules, given: Sequence[Package]) -> None:
        self._universe = universe
        self._rules = rules
        self._given = given

    def error(self, names: Iterable[str]) -> ResolutionError | None:
        """Why a list cannot be installed, None if it can, or if it takes more steps to tell than it may."""
        try:
            resolve(Wish.of(names), self._universe, self._rules, given=self._given)
        except ResolutionError as error:
            return error
        except PlanError:
            return None
        return None


def shortest_conflict(
    requested: Iterable[str],
    packages: Iterable[Package] | Universe,
    rules: OpkgRules = NEWEST,
    *,
    given: Sequence[Package] = (),
) -> Conflict | None:
    """Why a list of names cannot be installed: the fewest of them that cannot; None if it can be.

    No single name of them can be left out. Where several sets are like that, the one that the package
    manager runs into first is shown. Arguments as for resolve().
    """
    universe = packages if isinstance(packages, Universe) else Universe(packages)
    trial = _Trial(universe, rules, given)
    names = tuple(dict.fromkeys(requested))
    error = trial.error(names)
    if error is None:
        return None
    suspects = tuple(name for name in names if name in error.asked)
    core = _smallest(trial, suspects if suspects and trial.error(suspects) else names)
    why = trial.error(core) or error
    others = (order for order in islice(permutations(core), 1, ORDERS) if trial.error(order) is None)
    order = next((each for each in others if trial.error((*each, *names)) is None), ())
    return Conflict(core, why.facts, why, order)


def _smallest(trial: _Trial, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names are left out, first many at once, then one by one, as long as the rest cannot be installed."""
    size = max(len(names) // 2, 1)
    while True:
        at = 0
        while at < len(names):
            fewer = names[:at] + names[at + size :]
            if fewer and trial.error(fewer) is not None:
                names = fewer
            else:
                at += size
        if size == 1:
            return names
        size //= 2
