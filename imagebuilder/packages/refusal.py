"""Why packages cannot be installed together, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imagebuilder.model.package import Dependency, Package
from imagebuilder.packages.resolution import Origins, ResolutionError, arrows, trail
from imagebuilder.packages.universe import Quarrels, Universe, fits


def _asked(origins: Origins, *chains: Sequence[str]) -> tuple[str, ...]:
    """What was asked for, as it was written, that chains begin with."""
    return tuple(dict.fromkeys(origins[chain[0]][0] for chain in chains if chain))


def missing(
    universe: Universe, group: Sequence[Dependency], chain: Sequence[str], origins: Origins
) -> ResolutionError:
    """Nothing provides what the last package of a chain needs; an empty chain: what was asked for."""
    wanted = " | ".join(map(str, group))
    versions = [f"{each.name} {one}" for each in group for one in universe.versions(each.name)]
    hint = "a feed is missing, or the name is wrong"
    if versions:
        hint = f"the feeds hold {', '.join(versions[:3])}"
    elif near := [name for each in group for name in universe.nearest(each.name) if name != each.name]:
        hint = f"did you mean {' or '.join(near[:3])}?"
    who = f"{arrows(chain)} needs" if chain else "which was asked for"
    lame = tuple(universe.unusable[each.name] for each in group if each.name in universe.unusable)
    if lame:
        hint = "take it from another feed, or tell those who keep this one"
    return ResolutionError(
        "\n".join((f"no feed has {wanted}, " + (f"which {who}" if chain else who), *lame)),
        missing=wanted,
        chain=(*chain, group[0].name),
        hint=hint,
        facts=(f"{who} {wanted}, which no feed has" if chain else f"no feed has {wanted}", *lame),
        asked=_asked(origins, chain) if chain else (wanted,),
    )


def clashing(package: Package, other: Package, origins: Origins) -> ResolutionError:
    """Two packages that cannot stand beside one another, or one that says so of itself."""
    ours, theirs = arrows(trail(origins, package.name)), arrows(trail(origins, other.name))
    text = f"{ours} and {theirs} cannot be in one image"
    facts: tuple[str, ...] = (theirs, ours, "both provide a name that only one can have")
    if foe := _foe(package, other):
        facts = (theirs, f"{ours}, which conflicts with {foe}")
    elif foe := _foe(other, package):
        facts = (ours, f"{theirs}, which conflicts with {foe}")
    hint = f"leave one of them out: {_out(other)}"
    if package.name == other.name:
        text = f"{ours} conflicts with {foe}, that is with itself"
        facts = (text,)
        hint = f"leave it out: {_out(package)}"
    chain = trail(origins, package.name)
    asked = _asked(origins, chain, trail(origins, other.name))
    return ResolutionError(text, missing=None, chain=chain, hint=hint, facts=facts, asked=asked)


def _out(package: Package) -> str:
    """What a config says so that a package does not go in."""
    return f'packages.remove = ["{package.name}"]'


def _foe(package: Package, other: Package) -> Dependency | None:
    """As what a package names another among its conflicts."""
    return next((each for each in package.conflicts if each.name in (other.name, *other.provides)), None)


def version_gap(asker: Sequence[str], wanted: str, there: Package, origins: Origins) -> ResolutionError:
    """`wanted` by the last package of a chain, but another version of it goes in; no chain: asked for."""
    chain = trail(origins, there.name)
    wish = f"{arrows(asker)} wants {wanted}" if asker else f"{wanted} was asked for"
    return ResolutionError(
        f"{wish}, but {arrows(chain)} is there with version {there.version}",
        missing=None,
        chain=(*asker, there.name),
        hint=f"leave one of them out: {_out(there)}",
        facts=(wish, f"{arrows(chain)} goes in with version {there.version}"),
        asked=_asked(origins, asker, chain),
    )


def left_out(package: Package, wanted: str, origins: Origins) -> ResolutionError:
    """opkg looks at what a package needs once, also if another version of it goes in later."""
    chain = trail(origins, package.name)
    text = f"{arrows(chain)} {package.version} goes in over another version without {wanted}, which it needs"
    hint = f"ask for {wanted} too, or for fewer packages that want a version of their own"
    asked = _asked(origins, chain)
    return ResolutionError(text, missing=None, chain=chain, hint=hint, facts=(text,), asked=asked)


def check_whole(universe: Universe, packages: Sequence[Package], origins: Origins) -> None:
    """Whether an image of these packages works: ResolutionError names the first that lacks something or
    stands beside what it conflicts with."""
    holders: dict[str, list[Package]] = {}
    for package in packages:
        for name in (package.name, *package.provides):
            holders.setdefault(name, []).append(package)
    by_name = {package.name: package for package in packages}
    quarrels = {package.name: Quarrels(package) for package in packages if package.conflicts}
    none = Quarrels(Package("", ""))
    there: dict[Dependency, bool] = {}
    for package in packages:
        for group in package.depends:
            for term in group:
                if term not in there:
                    there[term] = any(fits(term, other) for other in holders.get(term.name, ()))
            if not any(there[term] for term in group):
                raise _lacking(universe, package, group, by_name, origins)
        for name in dict.fromkeys(foe.name for foe in package.conflicts):
            other = by_name.get(name)
            if other is None or other is package:
                continue
            if other in quarrels.get(package.name, none) or package in quarrels.get(name, none):
                raise clashing(package, other, origins)


def _lacking(
    universe: Universe,
    package: Package,
    group: Sequence[Dependency],
    there: Mapping[str, Package],
    origins: Origins,
) -> ResolutionError:
    wanted = " | ".join(map(str, group))
    other = next((there[term.name] for term in group if term.name in there), None)
    if other is not None:
        return version_gap(trail(origins, package.name), wanted, other, origins)
    if any(True for term in group for _ in universe.candidates(term)):
        return left_out(package, wanted, origins)
    return missing(universe, group, trail(origins, package.name), origins)
