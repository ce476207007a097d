"""Packages that somebody adds and that stand in for a default package of the tree or the profile. Pure.

`wpad` and `wpad-mini` both bring hostapd: with both of them make refuses the image, or lets one win (see
clash.py). Which packages stand in for one another they say themselves, by Conflicts and Provides; where they
do not, data/families.json does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources

from imagebuilder.model.package import Package, Swap, Wish
from imagebuilder.packages.universe import Universe, rank

_ALTERNATIVES = "Alternatives"
Quarrel = Callable[[Package, Package], bool]  # of a package manager: whether they cannot be in one image


def find_swaps(
    wish: Wish, theirs: Wish, universe: Universe, quarrel: Quarrel, *, replace: bool | None
) -> tuple[Swap, ...]:
    """The defaults that what was added stands in for, each once.

    wish: of config, overlays and Python: what these name stays; theirs: of tree and profile. replace: the
    config's: None: where a package of the same family declares the conflict; True: all of them; False: none.
    """
    added = dict(_needed(wish, universe))
    named = {package.name for package in added.values()}
    there = ((name, _meant(universe, name)) for name in theirs.add)
    defaults = [
        (name, package)
        for name, package in there
        if package is not None and package.name not in named and name not in (*wish.remove, *theirs.remove)
    ]
    found: dict[str, Swap] = {}
    for name, other in defaults:
        for key, package in added.items():
            quarrels = quarrel(package, other)
            swap = _swap(key[0], package, name, other, quarrels=quarrels, replace=replace)
            if swap is not None and (name not in found or swap.declared > found[name].declared):
                found[name] = swap
    return tuple(found.values())


def _swap(
    asked: str, package: Package, name: str, other: Package, *, quarrels: bool, replace: bool | None
) -> Swap | None:
    declared = quarrels or _names(package, other) or _names(other, package)
    related = _kinship(package, other)
    if declared:
        what = f"{package.plain_name} and {other.plain_name}"
        if asked != package.plain_name:
            what = f"{package.plain_name}, which it needs, and {other.plain_name}"
        done = replace if replace is not None else related is not None
        # foreigners that cannot stand one another do not stand in for one another
        return Swap(name, asked, f"{what} conflict", True, done) if related or replace else None
    if related is None or _takes_turns(package, other):
        return None
    return Swap(name, asked, related, False, bool(replace))


def _names(package: Package, other: Package) -> bool:
    """Whether a package's Conflicts mean another one, whose name ends in its ABI version since."""
    replaced = {each.name for each in package.replaces}
    return any(foe.name == other.plain_name and foe.name not in replaced for foe in package.conflicts)


def _kinship(package: Package, other: Package) -> str | None:
    """Why two packages are of one family, as a clause; None where they are not."""
    for one, two in ((package, other), (other, package)):
        if two.plain_name in one.provides and two.plain_name != one.plain_name:
            return f"{one.plain_name} provides {two.plain_name}"
    for brings, members in families():
        if {package.plain_name, other.plain_name} <= members:
            return f"both bring {brings}"
    shared = [name for name in package.provides if name in other.provides]
    if shared and (package.conflicts or other.conflicts) and _fight(package, other):
        return f"both provide {shared[0]}"
    return None


def _fight(package: Package, other: Package) -> bool:
    """Whether either names the other one, or what it provides, among its Conflicts."""
    for one, two in ((package, other), (other, package)):
        names = {two.name, two.plain_name, *two.provides}
        if any(foe.name in names for foe in one.conflicts):
            return True
    return False


def _takes_turns(package: Package, other: Package) -> bool:
    """Whether both leave it to Alternatives (`300:/sbin/ip:/usr/libexec/ip-full`) whose link is laid."""
    paths = [
        {part.split(":")[1] for part in each.extra.get(_ALTERNATIVES, "").split(",") if part.count(":") >= 2}
        for each in (package, other)
    ]
    return not paths[0].isdisjoint(paths[1])


@cache
def families() -> tuple[tuple[str, frozenset[str]], ...]:
    """What each family that says nothing of itself brings, and its members."""
    text = (resources.files(__package__) / "data/families.json").read_text("utf-8")
    return tuple((each["brings"], frozenset(each["packages"])) for each in json.loads(text)["families"])


def _needed(wish: Wish, universe: Universe) -> Iterator[tuple[tuple[str, str], Package]]:
    """What is sure to go in with what was added: by the name that was asked for and the package's, the
    package. Of dependencies those that one package alone satisfies."""
    for asked in wish.add:
        first = _meant(universe, asked)
        waiting = [] if first is None or asked in wish.remove else [first]
        seen: set[str] = set()
        while waiting:
            package = waiting.pop()
            if package.name in seen:
                continue
            seen.add(package.name)
            yield (asked, package.name), package
            for group in package.depends:
                if len(group) == 1 and len(universe.providers(group[0].name)) == 1:
                    needed = _meant(universe, group[0].name)
                    waiting += [needed] if needed is not None else []


def _meant(universe: Universe, name: str) -> Package | None:
    """The newest package of a name, or of the only other one that provides it."""
    versions = universe.named(name)
    providers: Mapping[str, None] = universe.providers(name)
    if not versions and len(providers) == 1:
        versions = universe.named(next(iter(providers)))
    return max(versions, key=rank, default=None)
