"""What goes into an image is looked at as a whole before make is called: files that two packages want,
folders where overlays have files, programs for another processor."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.fs import disk_errors_explained, write_whole
from imagebuilder.host.processor import Processor, is_foreign, processor_of
from imagebuilder.model.package import Package, Selected, Wish, shown_way
from imagebuilder.packages.clash import Brought, Clash, OverwriteRules, find_clashes, misplaced
from imagebuilder.packages.contents import FOLDER, LINK, Held, contents_of
from imagebuilder.packages.feed import FEED, in_folder
from imagebuilder.packages.supply import Job, Supply
from imagebuilder.packages.universe import fits
from imagebuilder.rootfs.tree import FileTree

_FORM = "1"  # of what is kept of sets that were looked at; another number makes all of them anew
_NOTE = "\t"  # begins a line that is a note, and no warning
_MOST_PATHS = 4
_MOST_RULES = 8
_KINDS = {FOLDER: "a folder", LINK: "a link"}


class ContentsError(UserError):
    """Packages and overlays whose files cannot be in one image."""


def check_contents(
    job: Job, supply: Supply, going: Sequence[Selected], over: Mapping[str, Held], asked: Wish
) -> None:
    """ContentsError names all packages that want different files at one path, who asked for them and what
    helps; overlays' files in place of folders, and the reverse; programs, libraries and kernel modules of
    packages that are for another processor.

    going: all packages of the image, in the order of installing, laid for make (PackageManager.lay); over:
    what the overlays hold; asked: what config, overlays and Python asked for. Where make lets one of the two
    have its way, it is only told of a package that brings another one in, and of what nobody asked for.
    """
    place = job.cache / "indexes" / f"{_digest(job, going, over)}.together"
    if place.is_file():
        os.utime(place)  # last used now
        told = place.read_text("utf-8").splitlines()
    else:
        brought = [Brought(each, contents_of(job, each.package, _file(job, supply, each))) for each in going]
        told = _checked(job, brought, over, asked)
        with disk_errors_explained(job.cache):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, "\n".join(told).encode())
    for line in told:
        (job.log.note if line.startswith(_NOTE) else job.log.warn)(line.removeprefix(_NOTE))


def _digest(job: Job, going: Sequence[Selected], over: Mapping[str, Held]) -> str:
    """Of all that the answer depends on. Why a package goes in counts too: it is told."""
    tree = job.tree
    facts = [_FORM, tree.package_manager, tree.arch, str(tree.forces_overwrite)]
    for each in going:
        package = each.package
        known = package.identity or package.sha256
        facts += [package.name, known, package.filename, each.why[0], str(len(each.why))]
        if not known:  # a file that nothing tells from its successor
            facts.append(str(job.work))
    facts += [f"{path} {held.kind}" for path, held in over.items()]
    return hashlib.sha256("\0".join(facts).encode("utf-8", "surrogateescape")).hexdigest()


def _file(job: Job, supply: Supply, selected: Selected) -> Path:
    """A package's file, which make will install."""
    package = selected.package
    own = None if package.feed else supply.base.get(package.filename)
    folder = job.work / FEED if package.feed else supply.tree / "packages"
    found = own or in_folder(folder)(package)
    if found is None:
        raise ContentsError(
            f"the package {package.name} is listed, and its file {package.filename} is not in {folder}",
            hint="the tree is damaged: unpack it again",
        )
    return found


def _checked(job: Job, brought: Sequence[Brought], over: Mapping[str, Held], asked: Wish) -> list[str]:
    """What is only told, a line each, _NOTE before some. ContentsError for the rest, all at once."""
    image = _Image(job, brought, frozenset(asked.add.values()))
    rules = OverwriteRules(
        job.manager.replaces, forced=job.tree.forces_overwrite, claims=job.manager.overwrites_needed
    )
    told, errors = [], []
    for clash in find_clashes(brought, rules):
        line = f"{_words(clash)}: make takes those of {clash.later.name}"
        asked_for = image.is_asked(clash.earlier) or image.is_asked(clash.later)
        if clash.passes and (not asked_for or image.differs_in_modes_alone(clash)):
            told.append(_NOTE + line)
        elif clash.passes and image.needs(clash):
            told.append(line)
        else:
            errors.append((f"{_words(clash)}\n{_askers(clash)}", image.cure(clash)))
    for wrong in misplaced(brought, over):
        what, theirs = _kind(wrong.in_overlay), _kind(wrong.in_package)
        errors.append(
            (
                f"the overlays have {what} at {wrong.path}, where the package {wrong.package} has {theirs}",
                "put it elsewhere, or take the package out",
            )
        )
    processor = processor_of(job.tree.arch)
    if processor is not None:
        errors += _strangers(brought, processor, job.tree.arch)
    if errors:
        hints = dict.fromkeys(hint for _, hint in errors)
        raise ContentsError("\n".join(text for text, _ in errors), hint="; ".join(hints))
    return told


def _kind(held: Held) -> str:
    return _KINDS.get(held.kind, "a file")


def _words(clash: Clash) -> str:
    more = len(clash.paths) - _MOST_PATHS
    paths = ", ".join(clash.paths[:_MOST_PATHS]) + (f" and {more} more" if more > 0 else "")
    return f"the packages {clash.earlier.name} and {clash.later.name} both bring {paths}"


def _askers(clash: Clash) -> str:
    return "\n".join(
        f"  {each.name} is wanted by {' -> '.join(shown_way(each.why))}"
        for each in (clash.earlier, clash.later)
    )


@dataclass
class _Image:
    """What goes in, and who asked for it. askers: those whose words can be changed."""

    job: Job
    brought: Sequence[Brought]
    askers: frozenset[str]

    @cached_property
    def packages(self) -> tuple[Package, ...]:
        return tuple(each.selected.package for each in self.brought)

    def is_asked(self, selected: Selected) -> bool:
        """Whether somebody asked for a package, and not the tree or the profile."""
        return selected.why[0] in self.askers

    def needs(self, clash: Clash) -> bool:
        """Whether the later one was asked for and brought the other one in: it means to have its way."""
        return len(clash.earlier.why) > 2 and clash.earlier.why[1] == clash.later.name

    def differs_in_modes_alone(self, clash: Clash) -> bool:
        """Whether the files of a clash are equal, and their modes are not: 17.01's base-files and
        lede-keyring have one key."""
        one, other = (
            next(each.contents.held for each in self.brought if each.selected is selected)
            for selected in (clash.earlier, clash.later)
        )
        nothing = Held("", 0)
        pairs = [(one.get(path, nothing), other.get(path, nothing)) for path in clash.paths]
        return all((a.kind, a.mark) == (b.kind, b.mark) for a, b in pairs)

    def cure(self, clash: Clash) -> str:
        """What helps: what nobody asked for goes."""
        one, other = clash.earlier, clash.later
        if self.is_asked(one) == self.is_asked(other):
            names = f"{_listed(one)} or {_listed(other)}"
            if self.is_asked(one):
                return f"leave one of them out: {names}"
            return f'say remove = ["{_listed(one)}"] or remove = ["{_listed(other)}"] in [packages]'
        gone, kept = (other, one) if self.is_asked(one) else (one, other)
        users = self._users(gone, kept)
        if not users:
            return f'say remove = ["{_listed(gone)}"] in [packages]'
        needed = f"{users[0]} needs {gone.name}"
        if len(clash.paths) > _MOST_RULES or gone.name in self.job.manager.trees_own:
            return f"{needed}: leave out {_listed(kept)}, or {users[0]}"
        rules = ", ".join(f'"-|{path}"' for path in clash.paths)
        return (
            f'{needed}: leave its files out, with a [[filespec]], package = "{gone.name}", rules = [{rules}]'
        )

    def _users(self, gone: Selected, kept: Selected) -> list[str]:
        """The packages that lack something when one is not there, but for the one that takes its place."""
        left = [each for each in self.packages if each.name != gone.name]
        users = []
        for package in left:
            for group in package.depends:
                held = any(fits(term, gone.package) for term in group)
                if held and not any(fits(term, each) for term in group for each in left):
                    users.append(package.name)
                    break
        return [name for name in users if name != kept.name] or users


def _listed(selected: Selected) -> str:
    """As lists of packages name it."""
    return (selected.wanted if selected.by is None else "") or selected.package.plain_name


def _strangers(brought: Sequence[Brought], processor: Processor, arch: str) -> Iterator[tuple[str, str]]:
    for each in brought:
        wrong = [
            (path, code) for path, code in each.contents.code.items() if is_foreign(path, code, processor)
        ]
        if wrong:
            (path, code), more = wrong[0], len(wrong) - 1
            also = f", and {more} more of its files are" if more else ""
            chain = " -> ".join(shown_way(each.selected.why))
            yield (
                f"the package {each.selected.name} is for another processor: {path} is for {code}{also};"
                f" the image's is {processor} ({arch})\n  it is wanted by {chain}",
                f"take it from a feed for {arch}, or leave it out",
            )


def held_by(tree: FileTree) -> dict[str, Held]:
    """What overlays hold, without their content."""
    kinds = {"dir": FOLDER, "symlink": LINK}
    return {path: Held(kinds.get(entry.kind, "f"), entry.mode, entry.target) for path, entry in tree.items()}
