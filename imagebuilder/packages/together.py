"""Files of packages and overlays in one image: what is wrong with them, who asked for it, and what helps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from imagebuilder.host.processor import Processor, is_foreign, processor_of
from imagebuilder.model.package import Package, Selected, Wish, shown_way
from imagebuilder.packages.check_contents import NOTE, ContentsError
from imagebuilder.packages.clash import Brought, Clash, OverwriteRules, find_clashes, misplaced
from imagebuilder.packages.contents import FOLDER, KINDS, LINK, Held, contents_of
from imagebuilder.packages.supply import Job
from imagebuilder.packages.universe import fits
from imagebuilder.rootfs.tree import FileTree

_MOST_PATHS = 4
_MOST_RULES = 8
_KINDS = {FOLDER: "a folder", LINK: "a link"}


def looked_at(job: Job, going: Sequence[tuple[Selected, Path]], over: FileTree, asked: Wish) -> list[str]:
    """What is only told, a line each, NOTE before some. ContentsError for the rest, all at once. going: all
    packages in the order of installing, each with its file; the rest as for check_contents().
    PackageFileError for a damaged file."""
    brought = [Brought(each, contents_of(job, each.package, file)) for each, file in going]
    held = {path: Held(KINDS[entry.kind], entry.mode, entry.target) for path, entry in over.items()}
    image = _Image(job, brought, frozenset(asked.add.values()))
    rules = OverwriteRules(
        job.manager.replaces, forced=job.tree.forces_overwrite, claims=job.manager.overwrites_needed
    )
    told, errors = [], []
    for clash in find_clashes(brought, rules):
        line = f"{_words(clash)}: make takes those of {clash.later.name}"
        asked_for = image.is_asked(clash.earlier) or image.is_asked(clash.later)
        if clash.passes and (not asked_for or image.differs_in_modes_alone(clash)):
            told.append(NOTE + line)
        elif clash.passes and image.needs(clash):
            told.append(line)
        else:
            errors.append((f"{_words(clash)}\n{_askers(clash)}", image.cure(clash)))
    for wrong in misplaced(brought, held):
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
