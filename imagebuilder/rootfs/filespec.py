"""OpenWrt's filespecs at work: which files of an installed tree become a package.

The text of a filespec, its rules and the three generations that read it are in model/filespec.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imagebuilder.model.filespec import FilespecError, Generation, Rule, from_triples, parse
from imagebuilder.rootfs.filespec_steps import Modes, Step, change_modes, drop, take
from imagebuilder.rootfs.tree import EMPTY, FileTree

__all__ = ["Applied", "Effect", "FilespecError", "Generation", "Rule", "apply", "from_triples", "parse"]


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


def _step(tree: FileTree, stage: FileTree, rule: Rule, generation: Generation, modes: Modes) -> Step:
    """One rule on the package's tree."""
    if rule.op == "+":
        return take(tree, stage, rule.path, modes, generation.value)
    if rule.op == "-":
        return drop(tree, rule.path)
    return change_modes(tree, rule.path, modes, deep=rule.op == "=")


HINTS = {
    "+": "name what the stage holds, or leave the rule out",
    "-": "every - rule must drop something the package holds: leave it out, or take the files before",
    "=": "name what the package holds, or leave the rule out",
    "==": "name what the package holds, or leave the rule out",
}


def apply(
    rules: Sequence[Rule],
    stage: FileTree,
    package: FileTree = EMPTY,
    *,
    generation: Generation = Generation.C,
    origin: str = "the filespec",
) -> Applied:
    """Run the rules, top to bottom, on a package's tree (empty, or what its install hook made).

    Raises FilespecError where OpenWrt's own script of that generation would stop: in C for every rule that
    finds nothing, in A and B for `+` that finds nothing and for any other failure in the last line.
    Links on the way of a path are not followed.
    """
    tree = package
    effects = []
    folder_mode: int | None = None  # B: what the last `+` without a mode found, for those with one (rule 25)
    for rule in rules:
        if rule.op not in generation.operations:
            effects.append(Effect(rule, warnings=(f"{rule.op!r} is no operation; ignored",)))
            continue
        modes = Modes(rule.file_mode, rule.dir_mode, broken=rule.broken_mode, parents=folder_mode)
        step = _step(tree, stage, rule, generation, modes)
        last = rule is rules[-1]
        problem = step.missing if rule.op == "+" or generation.strict else ""
        if not generation.strict and last:
            problem = problem or step.failed or (step.missing if rule.op == "=" else "")
        if problem:
            raise FilespecError(origin, rule.number, rule.text, problem, hint=HINTS[rule.op])
        passed = [text for text in (step.missing if rule.op == "=" else "", step.failed, step.odd) if text]
        effects.append(Effect(rule, tuple(sorted(step.paths)), tuple(passed)))
        tree = step.tree
        if rule.op == "+":
            folder_mode = step.parents
    return Applied(tree, tuple(effects))
