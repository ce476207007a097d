"""Packages of an image, and its overlays, that want different things at one path. Pure.

opkg refuses a package whose file another one has brought, unless it replaces that one by its name or by one
that it provides; with --force-overwrite, as in 17.01 and what was made of it, the later one silently wins.
It does so everywhere over what it needs itself: a package that is asked for claims its files before the
packages that it depends on are installed (18.06's base-files has a key that openwrt-keyring has too).
apk refuses it unless one of the two replaces the other, or both were built from one source. Neither looks at
what the files hold. Folders may be everybody's, and what is in a folder goes through another package's link
to a folder. With both a file in a folder's place, and a link where a folder is already, are left out with no
more than a line in the log; opkg also lays a file over a link that leads nowhere. The links of `Alternatives`
are in no package.

Source: opkg-lede, libopkg/opkg_install.c (check_data_file_clashes, update_file_ownership), pkg_depends.c
(pkg_replaces) and libbb/unarchive.c, the same in the trees of 17.01.7 and 23.05.2, whose opkg was tried;
apk-tools 3, src/package.c (apk_pkg_replaces_file).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from imagebuilder.model.package import Package, Selected
from imagebuilder.packages.contents import FOLDER, LINK, Contents, Held

_MOST_LINKS = 40  # that lead to one another, as for Linux


@dataclass(frozen=True, slots=True)
class Brought:
    """A package that goes in, and what it holds."""

    selected: Selected
    contents: Contents


@dataclass(frozen=True, slots=True)
class OverwriteRules:
    """What a tree's package manager lets pass. replaces: whether a package may take what another one has
    brought before; forced: it takes everything, and nobody is told; claims: a package that is asked for
    takes what those that it needs have brought."""

    replaces: Callable[[Package, Package], bool]
    forced: bool = False
    claims: bool = False


@dataclass(frozen=True, slots=True)
class Clash:
    """Two packages, in the order of installing, and the paths at which they want different things. passes:
    the package manager lets the later one have its way, and tells nobody."""

    earlier: Selected
    later: Selected
    paths: tuple[str, ...]
    passes: bool


def find_clashes(brought: Sequence[Brought], rules: OverwriteRules) -> tuple[Clash, ...]:
    """The clashes of packages, which are given in the order of installing. Where the package manager is
    forced, equal files with equal modes are none: it does not matter which one wins."""
    root = _Root()
    found: dict[tuple[int, int, bool], list[str]] = {}
    for number, each in enumerate(brought):
        for path, held in root.seen_through(each.contents.held):
            other = root.owners.get(path)
            if other is not None and root.refuses(path, held, forced=rules.forced):
                earlier = brought[other].selected
                files = FOLDER not in (held.kind, root.held[path].kind)
                if not (files and rules.replaces(each.selected.package, earlier.package)):
                    needed = rules.claims and len(earlier.why) > 2 and earlier.why[1] == each.selected.name
                    passes = files and (rules.forced or needed)
                    found.setdefault((other, number, passes), []).append(path)
                    if not passes:
                        continue
            root.put(path, held, number)
    return tuple(
        Clash(brought[one].selected, brought[two].selected, tuple(paths), passes)
        for (one, two, passes), paths in sorted(found.items())
    )


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A path at which an overlay has a file or a link, and a package a folder that holds something; or the
    reverse."""

    path: str
    package: str
    in_overlay: Held
    in_package: Held


def misplaced(brought: Sequence[Brought], over: Mapping[str, Held]) -> tuple[Misplaced, ...]:
    """What overlays have in place of another kind of thing, by path: each once, with the last package that
    has it. That they replace files is meant, and that they put files into folders that are links. over: what
    the overlays hold together."""
    root = _Root()
    for number, each in enumerate(brought):
        for path, held in root.seen_through(each.contents.held):
            root.put(path, held, number)
    wrong = []
    for path, held in over.items():
        there = root.held.get(path)
        if there is None or (there.kind == FOLDER) == (held.kind == FOLDER):
            continue
        if there.kind == LINK and root.is_folder(path):
            continue
        wrong.append(Misplaced(path, brought[root.owners[path]].selected.name, held, there))
    return tuple(wrong)


@dataclass
class _Root:
    """What is in the root file system by now, and which package brought it."""

    held: dict[str, Held] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)

    def seen_through(self, held: Mapping[str, Held]) -> Iterator[tuple[str, Held]]:
        """What a package holds, at the places where it comes to lie: a folder may be a link to another one
        by then."""
        links: list[tuple[str, str]] = []
        for name, each in held.items():
            path = name
            for link, real in reversed(links):
                if name.startswith(link):
                    path = real + name[len(link) :]
                    break
            there = self.held.get(path)
            if each.kind == FOLDER and there is not None and there.kind == LINK:
                place = self.followed(path)
                if place is not None and self.held[place].kind == FOLDER:
                    links.append((f"{name}/", f"{place}/"))
                    continue
            yield path, each

    def followed(self, path: str) -> str | None:
        """Where a path leads when links are followed; None where that is nowhere, or not known here."""
        for _ in range(_MOST_LINKS):
            held = self.held.get(path)
            if held is None:
                return None
            if held.kind != LINK:
                return path
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), held.mark))
        return None

    def is_folder(self, path: str) -> bool:
        """Whether a path is a folder, or a link to one."""
        place = self.followed(path)
        return place is not None and self.held[place].kind == FOLDER

    def refuses(self, path: str, held: Held, *, forced: bool) -> bool:
        """Whether something cannot go where another thing is, or makes a difference there."""
        there = self.held[path]
        if FOLDER in (held.kind, there.kind):
            return held.kind != there.kind
        same = held == there if held.kind != LINK else (held.kind, held.mark) == (there.kind, there.mark)
        # opkg looks where a link leads, and sees nothing there, or a folder, and goes on
        unseen = there.kind == LINK and (self.followed(path) is None or self.is_folder(path))
        return not (same and (forced or unseen))

    def put(self, path: str, held: Held, owner: int) -> None:
        """Something of a package. A folder is the first one's that has it."""
        if held.kind == FOLDER and path in self.held:
            return
        self.held[path], self.owners[path] = held, owner
