"""From a plan to its entry in a lock, and what differs between two entries. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from imagebuilder.called import typed
from imagebuilder.config.app import PinnedRequirement, ResolvedRequirements
from imagebuilder.config.board import Board, Profile
from imagebuilder.config.model_lock import LockedBoard, LockedPackage, LockedParts, LockedTree
from imagebuilder.errors import UserError
from imagebuilder.model.package import LOCAL, Package, Selected
from imagebuilder.packages.supply import Offers
from imagebuilder.tree.plan import Plan

# what of a board and its profile no lock holds, and why; every other key is compared
BOARD_LEFT_OUT: Mapping[str, str] = {
    "id": "it is the name of the lock's entry",
    "name": "words for people",
    "soc": "words for people",
    "profile": "the one that counts is held key by key",
    "emulation": "how what was built is tried; what that tells `shake` shows in the packages",
}
PROFILE_LEFT_OUT: Mapping[str, str] = {
    "releases": "which profile counts shows in what it says",
    "note": "words for people",
    "images": "they stand in for the board's",
    "layout": "it stands in for the board's",
    "emulation": BOARD_LEFT_OUT["emulation"],
}
_PROFILE_KEY = {"name": "profile"}  # where board and profile have keys of one name
_HOOKS = "MAKEFILES"


class LockError(UserError):
    """What should be built is not what the lock says."""


def check_same(config: str, changes: Iterable[str]) -> None:
    """LockError where something is not what the lock of a config says. changes: what, a line each."""
    lines = list(changes)
    if lines:
        raise LockError(
            f"this is not what the lock of {config} says:\n" + "\n".join(lines),
            hint=f"take the change back, or accept it: {typed(f'lock {config}')}",
        )


def lock_entry(
    plan: Plan,
    parts: LockedParts,
    *,
    feeds: Mapping[str, str],
    requirements: ResolvedRequirements,
    originals: Sequence[Selected] = (),
) -> LockedBoard:
    """The entry of a plan. feeds: digests of their indexes. originals: what the plan took before packages got
    another form."""
    final = {each.package for each in plan.install}
    return LockedBoard(
        digest=parts.digest(),
        parts=parts,
        feeds=dict(feeds),
        requirements=requirements,
        original=_locked(each.package for each in originals if each.package not in final),
    )


def locked_parts(
    plan: Plan,
    board: Board,
    *,
    builder: str,
    release: str,
    sha256: str,
    hooks: str,
    overlays: Mapping[str, Mapping[str, str]],
    made: Mapping[str, Package],
) -> LockedParts:
    """All that decides a plan's image. board: with what the tree knows; builder: this program's version;
    release: as asked for; sha256: of the tree; hooks: what make reads first; overlays: what they lay, as
    stage.locked_files() has it; made: packages that are made here, by name, as far as they are."""
    tree = plan.tree
    return LockedParts(
        builder=builder,
        tree=LockedTree(
            release=release, version=tree.version, target=tree.target, arch=tree.arch, sha256=sha256
        ),
        make={**_variables(plan.make), _HOOKS: hashlib.sha256(hooks.encode()).hexdigest()},
        board=_board_keys(board, plan.profile),
        overlays={name: dict(entries) for name, entries in overlays.items()},
        package=_locked(made.get(each.name, each.package) for each in plan.install),
    )


def _variables(make: Sequence[str]) -> dict[str, str]:
    """Those of a make command; its goals are the program's own."""
    return {name: value for name, equals, value in (word.partition("=") for word in make) if equals}


def _board_keys(board: Board, profile: Profile) -> dict[str, str]:
    """A digest of each key that says which images are handed over, and what they are held against."""
    keys = board.for_profile(profile).model_dump(mode="json", exclude=set(BOARD_LEFT_OUT))
    for name, value in profile.model_dump(mode="json", exclude=set(PROFILE_LEFT_OUT)).items():
        keys[_PROFILE_KEY.get(name, name)] = value
    return {name: _digest(value) for name, value in keys.items()}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _locked(packages: Iterable[Package]) -> tuple[LockedPackage, ...]:
    return tuple(
        LockedPackage(
            name=each.name,
            version=each.version,
            feed=each.feed,
            filename="" if each.feed == LOCAL else each.filename,
            sha256=each.sha256.lower(),
            identity=each.identity,
        )
        for each in sorted(packages, key=lambda each: each.name)
    )


def locked_versions(locked: LockedBoard, made: Iterable[Package], *, original: bool) -> dict[str, str]:
    """The version of each package. made: what is made here by now; original: before the last of them are."""
    versions, there = (
        {each.name: each.version for each in locked.parts.package},
        {(each.name, each.version) for each in made},
    )
    before = locked.original if original else ()
    return versions | {
        each.name: each.version for each in before if (each.name, versions.get(each.name)) not in there
    }


def differences(locked: LockedBoard, fresh: LockedBoard) -> tuple[str, ...]:
    """What a fresh lock would change, a line each; none for images that are made of the same. An index that
    changed counts only with what changed of its packages: feeds of a release grow while the packages of an
    image stay. Packages that are made here, and are not yet in `fresh`, are told by their versions."""
    lines = tuple(_differences(locked, fresh))
    if not lines and locked.digest != fresh.digest and not _is_early(fresh):
        return (f"the digest of all parts was {locked.digest[:16]} and is {fresh.digest[:16]}",)
    return lines


def _is_early(entry: LockedBoard) -> bool:
    return any(map(_is_to_be_made, entry.parts.package))


def _is_to_be_made(package: LockedPackage) -> bool:
    return package.feed == LOCAL and not (package.sha256 or package.identity)


def _differences(locked: LockedBoard, fresh: LockedBoard) -> Iterator[str]:
    old, new = locked.parts, fresh.parts
    yield from _changed("the builder's version", old.builder, new.builder)
    for name in ("release", "version", "target", "arch"):
        yield from _changed(f"the tree's {name}", getattr(old.tree, name), getattr(new.tree, name))
    if old.tree.sha256 != new.tree.sha256 and old.tree.version == new.tree.version:
        yield f"the tree is another one of the same version: {new.tree.sha256[:16]}"
    yield from _made(old.make, new.make)
    yield from _facts("the board's", old.board, new.board)
    yield from _laid(old, new)
    yield from requirement_changes(locked.requirements, fresh.requirements)
    yield from _packages(old.package, new.package)
    yield from _packages(locked.original, fresh.original)


def _made(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What differs of make's command, or else of what it reads first. Lists of words are told word by
    word."""
    names = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if names == [_HOOKS]:
        yield "what make reads before its own makefiles changed"
    for name in names:
        old, new = before.get(name, ""), now.get(name, "")
        if name == _HOOKS:
            continue
        if name in ("PACKAGES", "DISABLED_SERVICES"):
            lines = list(_listed(f"make's {name}", old.split(), new.split()))
            yield from lines or [f"make's {name} are in another order"]
        else:
            yield from _changed(f"make's {name}", old, new)


def _laid(before: LockedParts, now: LockedParts) -> Iterator[str]:
    """What differs of what overlays lay; an overlay that is new or gone is told once."""
    old, new = before.files, now.files
    told = set()
    for path in sorted(old.keys() | new.keys()):
        was, (_, words) = old.get(path, ("", "")), new.get(path, ("", ""))
        if was[1] == words:
            continue
        name = (new if path in new else old)[path][0]
        if name in before.overlays and name in now.overlays:
            yield f"overlay '{name}': {path} {_how(path, old, new)}"
        elif name not in told:
            told.add(name)
            yield f"overlay '{name}' is {'new' if name in now.overlays else 'gone'}"


def _how(key: str, before: Container[str], now: Container[str]) -> str:
    return "changed" if key in before and key in now else "is new" if key in now else "is gone"


def _facts(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{what} {name} {_how(name, before, now)}"


def requirement_changes(before: ResolvedRequirements, now: ResolvedRequirements) -> Iterator[str]:
    """What differs of requirements, a line each: of their texts too, since a lock's pins answer these."""
    yield from _listed("requirement", before.wanted, now.wanted)
    old, new = ({pin.name: pin for pin in each.pins} for each in (before, now))
    for name in sorted(old.keys() | new.keys()):
        if name not in new or name not in old:
            yield f"requirement {name} is {'new' if name in new else 'gone'}"
        elif old[name] != new[name]:
            before_it, now_it = _described(old[name]), _described(new[name])
            if before_it == now_it:
                before_it, now_it = (f"{before_it} {each[name].sha256[:16]}" for each in (old, new))
            yield f"requirement {name}: {before_it} -> {now_it}"


def _described(pin: PinnedRequirement) -> str:
    return ", ".join(filter(None, (pin.filename, pin.built, pin.source)))


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
        elif old.feed == new.feed and _is_to_be_made(new):
            continue
        elif (old.sha256, old.identity, old.feed) != (new.sha256, new.identity, new.feed):
            where = f" from {new.feed or 'the tree'}" if old.feed != new.feed else ""
            made = ", which is made here," if new.feed == LOCAL else ""
            yield f"package {name} {new.version}{made} is another build of the same version{where}"


def only_locked(offers: Offers, locked: LockedBoard, indexes: Mapping[str, str]) -> Offers:
    """The offers without what the lock does not name.

    indexes: the digest of each feed's index as it is now. LockError, naming the feed, where what the lock
    takes from it is not there any more.
    """
    theirs = (each for each in (*locked.parts.package, *locked.original) if each.feed != LOCAL)
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
        if feed and feed not in indexes:
            lines[-1] += f" (there is no feed {feed} any more)"
        elif feed and indexes[feed] != locked.feeds.get(feed):
            lines[-1] += f" (the index of feed {feed} is not the one that the lock names)"
    if lines:
        raise LockError(
            "what the lock names is not to be had any more:\n" + "\n".join(lines),
            hint=f"fill the cache early ({typed('fetch')}), keep a mirror, or lock anew ({typed('lock')})",
        )
    return replace(offers, packages=kept)


def _is(locked: LockedPackage | None, package: Package) -> bool:
    return locked is not None and (locked.sha256, locked.identity) == (
        package.sha256.lower(),
        package.identity,
    )
