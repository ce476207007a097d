"""From a plan to its entry in a lock, and what differs between two entries. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from imagebuilder.config.app import PinnedRequirement, ResolvedRequirements
from imagebuilder.config.model_lock import LockedBoard, LockedPackage, LockedTree
from imagebuilder.errors import UserError
from imagebuilder.model.package import Package, Selected
from imagebuilder.packages.supply import Offers
from imagebuilder.tree.plan import Plan


class LockError(UserError):
    """What should be built is not what the lock says."""


def lock_entry(
    plan: Plan,
    *,
    release: str,
    sha256: str,
    feeds: Mapping[str, str],
    overlays: Mapping[str, str],
    apps: Mapping[str, str],
    requirements: ResolvedRequirements,
    originals: Sequence[Selected] = (),
) -> LockedBoard:
    """The entry of a plan. release: as asked for; sha256: of the tree; feeds: digests of their indexes.
    originals: what the plan took before packages got another form."""
    tree = plan.tree
    final = {each.package for each in plan.install}
    return LockedBoard(
        profile=plan.profile.name,
        python=plan.python,
        tree=LockedTree(
            release=release, version=tree.version, target=tree.target, arch=tree.arch, sha256=sha256
        ),
        wanted=plan.wanted.names,
        removed=plan.wish.removals,
        disabled_services=plan.disabled_services,
        feeds=dict(feeds),
        overlays=dict(overlays),
        apps=dict(apps),
        requirements=requirements,
        package=_locked(plan.install),
        original=_locked(each for each in originals if each.package not in final),
    )


def _locked(packages: Iterable[Selected]) -> tuple[LockedPackage, ...]:
    return tuple(
        LockedPackage(
            name=each.name,
            version=each.version,
            feed=each.feed,
            filename=each.package.filename,
            sha256=each.package.sha256.lower(),
            identity=each.package.identity,
        )
        for each in sorted(packages, key=lambda each: each.name)
    )


def locked_versions(locked: LockedBoard, made: Iterable[Package], *, original: bool) -> dict[str, str]:
    """The version of each package. made: what is made here by now; original: before the last of them are."""
    versions, there = (
        {each.name: each.version for each in locked.package},
        {(each.name, each.version) for each in made},
    )
    before = locked.original if original else ()
    return versions | {
        each.name: each.version for each in before if (each.name, versions.get(each.name)) not in there
    }


def differences(locked: LockedBoard, fresh: LockedBoard) -> tuple[str, ...]:
    """What a fresh lock would change, a line each. An index that changed counts only with what changed of
    its packages: feeds of a release grow while the packages of an image stay."""
    return tuple(_differences(locked, fresh))


def _differences(locked: LockedBoard, fresh: LockedBoard) -> Iterator[str]:
    for name in ("release", "version", "target", "arch"):
        yield from _changed(f"the tree's {name}", getattr(locked.tree, name), getattr(fresh.tree, name))
    if locked.tree.sha256 != fresh.tree.sha256 and locked.tree.version == fresh.tree.version:
        yield f"the tree is another one of the same version: {fresh.tree.sha256[:16]}"
    yield from _changed("the profile", locked.profile, fresh.profile)
    yield from _changed("the Python variant", locked.python, fresh.python)
    for what in ("wanted", "removed", "disabled_services"):
        yield from _listed(what.replace("_", " "), getattr(locked, what), getattr(fresh, what))
    yield from _digests("overlay", "or its variables ", locked.overlays, fresh.overlays)
    yield from _digests("app", "", locked.apps, fresh.apps)
    before, now = ({pin.name: pin for pin in each.requirements.pins} for each in (locked, fresh))
    for name in sorted(before.keys() | now.keys()):
        if name not in now or name not in before:
            yield f"requirement {name} is {'new' if name in now else 'gone'}"
        elif before[name] != now[name]:
            yield f"requirement {name}: {_built(before[name])} -> {_built(now[name])}"
    yield from _packages(locked.package, fresh.package)
    yield from _packages(locked.original, fresh.original)


def _built(pin: PinnedRequirement) -> str:
    return f"{pin.filename}, {pin.built}" if pin.built else pin.filename


def _digests(what: str, more: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if name not in now or name not in before:
            yield f"{what} '{name}' is {'new' if name in now else 'gone'}"
        elif before[name] != now[name]:
            yield f"{what} '{name}' {more}changed"


def _changed(what: str, before: str, now: str) -> Iterator[str]:
    if before != now:
        yield f"{what} was {before or 'none'} and is {now or 'none'}"


def _listed(what: str, before: Iterable[str], now: Iterable[str]) -> Iterator[str]:
    before, now = set(before), set(now)
    yield from (f"{what}: {name} is new" for name in sorted(now - before))
    yield from (f"{what}: {name} is gone" for name in sorted(before - now))


def _packages(locked: Iterable[LockedPackage], fresh: Iterable[LockedPackage]) -> Iterator[str]:
    before, now = ({each.name: each for each in side} for side in (locked, fresh))
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old is None or new is None:
            there = f"new, {new.version}" if new is not None else "gone"
            yield f"package {name} is {there}"
        elif old.version != new.version:
            yield f"package {name}: {old.version} -> {new.version}"
        elif (old.sha256, old.identity, old.feed) != (new.sha256, new.identity, new.feed):
            where = f" from {new.feed or 'the tree'}" if old.feed != new.feed else ""
            yield f"package {name} {new.version} is another build of the same version{where}"


def only_locked(offers: Offers, locked: LockedBoard, indexes: Mapping[str, str]) -> Offers:
    """The offers without what the lock does not name.

    indexes: the digest of each feed's index as it is now. LockError, naming the feed, where what the lock
    takes from it is not there any more.
    """
    theirs = (each for each in (*locked.package, *locked.original) if each.feed in ("", *indexes))
    wanted = {(each.feed, each.name, each.version): each for each in theirs}
    kept = tuple(
        each for each in offers.packages if _is(wanted.get((each.feed, each.name, each.version)), each)
    )
    there = {(each.feed, each.name, each.version) for each in kept}
    lines = []
    for feed, name, version in sorted(wanted.keys() - there):
        now = sorted(each.version for each in offers.packages if (each.feed, each.name) == (feed, name))
        found = f"it has {', '.join(now)}" if now and version not in now else "another build of it"
        lines.append(f"{name} {version}: {found if now else 'it is gone'}")
        if feed and indexes.get(feed) != locked.feeds.get(feed):
            lines[-1] += f" (the index of feed {feed} is not the one that the lock names)"
    if lines:
        raise LockError(
            "what the lock names is not to be had any more:\n" + "\n".join(lines),
            hint="fill the cache early (build.py fetch), keep a mirror, or lock anew (build.py lock)",
        )
    return replace(offers, packages=kept)


def _is(locked: LockedPackage | None, package: Package) -> bool:
    return locked is not None and (locked.sha256, locked.identity) == (
        package.sha256.lower(),
        package.identity,
    )
