"""OpenWrt's filespecs at work: which files of an installed tree become a package.

The text of a filespec and its rules are in model/filespec.py.
Numbers in comments are those of the rules there. What one rule does to a tree raises nothing: apply() decides
what stops a filespec.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from imagebuilder.model.filespec import FilespecError, Rule, from_triples, parse
from imagebuilder.rootfs.shellglob import expand, is_pattern
from imagebuilder.rootfs.tree import EMPTY, Entry, FileTree, folder, parent_of

__all__ = ["Applied", "Effect", "FilespecError", "Rule", "apply", "from_triples", "parse"]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one rule did: the package's paths that it took, dropped or gave a mode, sorted, and what OpenWrt
    lets pass although it hardly can be meant, as text."""

    rule: Rule
    paths: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """A package's tree and what each rule did to it, in the order of the rules."""

    tree: FileTree
    effects: tuple[Effect, ...]


HINTS = {
    "+": "name what the stage holds, or leave the rule out",
    "-": "every - rule must drop something the package holds: leave it out, or take the files before",
    "=": "name what the package holds, or leave the rule out",
    "==": "name what the package holds, or leave the rule out",
}


def apply(
    rules: Sequence[Rule], stage: FileTree, package: FileTree = EMPTY, *, origin: str = "the filespec"
) -> Applied:
    """Run the rules, top to bottom, on a package's tree (empty, or what its install hook made).

    Raises FilespecError where OpenWrt's own script would stop: for every rule that finds nothing. Links on
    the way of a path are not followed.
    """
    tree = package
    effects = []
    for rule in rules:
        modes = Modes(rule.file_mode, rule.dir_mode)
        if rule.op == "+":
            step = take(tree, stage, rule.path, modes)
        elif rule.op == "-":
            step = drop(tree, rule.path)
        else:
            step = change_modes(tree, rule.path, modes, deep=rule.op == "=")
        if step.missing:
            raise FilespecError(origin, rule.number, rule.text, step.missing, hint=HINTS[rule.op])
        passed = tuple(text for text in (step.failed, step.odd) if text)
        effects.append(Effect(rule, tuple(sorted(step.paths)), passed))
        tree = step.tree
    return Applied(tree, tuple(effects))


@dataclass(frozen=True, slots=True)
class Modes:
    """The modes a rule gives to files and to folders."""

    files: int | None = None
    folders: int | None = None

    @property
    def given(self) -> bool:
        """Whether the rule names a mode at all."""
        return self.files is not None or self.folders is not None

    def of(self, entry: Entry) -> Entry:
        """The entry with the mode that is meant for its kind."""
        mode = {"file": self.files, "dir": self.folders, "symlink": None}[entry.kind]
        return entry if mode is None else entry.with_mode(mode)


@dataclass(frozen=True, slots=True)
class Step:
    """A tree after one rule and the paths that it touched. missing: nothing of that name. failed: a copy that
    did not work. odd: done, but hardly what was meant."""

    tree: FileTree
    paths: frozenset[str] = frozenset()
    missing: str = ""
    failed: str = ""
    odd: str = ""


def _with_modes(entries: dict[str, Entry], paths: Iterable[str], modes: Modes) -> set[str]:
    """Give modes to these paths, in place; those that have one for their kind."""
    touched = set()
    for path in paths:
        changed = modes.of(entries[path])
        if (
            entries[path].kind != "symlink"
            and (modes.files if changed.kind == "file" else modes.folders) is not None
        ):
            entries[path] = changed
            touched.add(path)
    return touched


def _absent(tree: FileTree, path: str, where: str) -> str:
    """Why a path is not in a tree: the first part of it that is not, or a link on its way."""
    text = f"{where} has nothing that is named {path}"
    above = parent_of(path.rstrip("/"))
    while above != "/" and not is_pattern(above):
        if above in tree and tree[above].kind == "symlink":
            return f"{text}: {above} is a link to {tree[above].target}, and links are not followed"
        above = parent_of(above)
    return text


def drop(tree: FileTree, path: str) -> Step:
    """`-`: remove what the pattern names, folders with all below them (28, 29, 31)."""
    found = expand(tree, path)
    if not found:
        return Step(tree, missing=_absent(tree, path, "the package"))
    kept = tree.without(found)
    return Step(kept, frozenset(tree) - frozenset(kept))


def change_modes(tree: FileTree, path: str, modes: Modes, *, deep: bool) -> Step:
    """`=` and `==`: modes of what the pattern names, with `deep` also of all below (32 to 34)."""
    found = expand(tree, path)
    if not found:
        return Step(tree, missing=_absent(tree, path, "the package"))
    named = set(found)
    if deep:
        named.update(below for each in found for below in tree.below(each))
    entries = dict(tree)
    touched = _with_modes(entries, named, modes)
    return Step(FileTree(entries), frozenset(touched))


@dataclass
class _Copy:
    """A copy from the stage into the package's entries, like `cp -R`, that goes on after a clash."""

    entries: dict[str, Entry]
    touched: set[str] = field(default_factory=set)
    clashes: list[str] = field(default_factory=list)

    def put(self, path: str, entry: Entry) -> bool:
        """One entry; False if something of the other kind is in its place."""
        there = self.entries.get(path)
        if there is not None and (there.kind == "dir") != (entry.kind == "dir"):
            self.clashes.append(f"{path} is a {there.kind} in the package and a {entry.kind} in the stage")
            return False
        self.entries[path] = entry
        self.touched.add(path)
        return True

    def put_all(self, stage: FileTree, source: str, destination: str) -> None:
        """One path of the stage with all below it."""
        if not self.put(destination, stage[source]):
            return
        refused: list[str] = []
        for path in stage.below(source):
            target = destination + path[len(source) :]
            if not any(target.startswith(each + "/") for each in refused) and not self.put(
                target, stage[path]
            ):
                refused.append(target)


def _make_parents(copy: _Copy, above: str) -> bool:
    """Make the folder above a path, and those above it; False where something else is in the way."""
    ways = []
    while above != "/":
        ways.append(above)
        above = parent_of(above)
    for way in reversed(ways):
        if way not in copy.entries:
            copy.entries[way] = folder()
            copy.touched.add(way)
        elif copy.entries[way].kind != "dir":
            copy.clashes.append(
                f"{way} is a {copy.entries[way].kind} in the package and a folder in the stage"
            )
            return False
    return True


def take(package: FileTree, stage: FileTree, path: str, modes: Modes) -> Step:
    """`+`: copy from the stage what the pattern names, then set modes (19 to 27)."""
    found = expand(stage, path)
    if not found:
        return Step(package, missing=_absent(stage, path, "the stage"))
    # the text is cut at its last slash, so that `+|/p/pkg/` makes /p/pkg/pkg (24) and `+|/a/*/x` a folder
    # whose name is a star (21)
    into = path.rpartition("/")[0] or "/"
    copy = _Copy(dict(package))
    if _make_parents(copy, into):
        for source in found:
            copy.put_all(stage, source, f"{into.rstrip('/')}/{source.rpartition('/')[2]}")
    tree = FileTree(copy.entries)
    if modes.given:
        # on the package, not only on what was copied: earlier rules' files are meant as well (26)
        named = expand(tree, path.rstrip("/"))
        deep = {each for top in named for each in (top, *tree.below(top))}
        copy.touched |= _with_modes(copy.entries, deep, modes)
        tree = FileTree(copy.entries)
    odd = ""
    if path.endswith("/"):
        odd = f"the trailing slash puts it into {into}"
    elif is_pattern(into):
        odd = f"the pattern in the folder's name makes a folder that is named {into}"
    return Step(tree, frozenset(copy.touched), failed="; ".join(copy.clashes), odd=odd)
