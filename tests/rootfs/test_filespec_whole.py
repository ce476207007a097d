"""Filespecs as a whole: the order of the steps around them (rules 5 to 8), the reference's examples that need
more than one rule, and properties in all three generations. Single rules are in test_filespec.py; that a
Python package without a filespec takes site-packages (38) is in packages/test_repack.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.python.bytecode.bytecode import shipped_tree, source_tree
from imagebuilder.rootfs.filespec import Applied, FilespecError, Generation, apply, from_triples
from imagebuilder.rootfs.tree import FileTree, file_of, folder, symlink
from tests.rootfs.test_filespec import RULES, A, B, C, files, run, stages

GENERATIONS = st.sampled_from(list(Generation))
LIBRARY = "/usr/lib/python3.11"
MODULE = FileTree(
    {
        f"{LIBRARY}/m/__init__.py": file_of(b"1"),
        f"{LIBRARY}/m/data.txt": file_of(b"2"),
        f"{LIBRARY}/m/_fast.so": file_of(b"3", 0o755),
        "/usr/bin/tool": file_of(b"#!/usr/bin/env python3 -E\n", 0o755),
    }
)


@pytest.mark.parametrize("generation", [B, C])
def test_8_the_install_step_comes_first_from_18_06_on(generation: Generation) -> None:
    hook = FileTree({"/usr/bin/tool": file_of(b"", 0o755), "/usr/bin/other": file_of(b"", 0o755)})
    text = f"+|{LIBRARY}/m\n-|/usr/bin/other\n=|/usr/bin/tool|700"
    tree = run(text, hook, generation, MODULE).tree
    assert "/usr/bin/other" not in tree
    assert tree["/usr/bin/tool"].mode == 0o700


def test_8_the_install_step_comes_last_in_17_01() -> None:
    hook = FileTree({"/usr/bin/other": file_of(b"", 0o755)})
    taken = run(f"+|{LIBRARY}/m\n-|/usr/bin/other", generation=A, stage=MODULE).tree
    assert "/usr/bin/other" in taken.merged(hook)


def test_the_example_of_bytecode_and_sources() -> None:
    text = f"+|{LIBRARY}/m"
    module = {f"{LIBRARY}/m/{name}" for name in ("__init__.py", "data.txt", "_fast.so")}
    assert files(run(text, generation=A, stage=MODULE).tree) == module
    cut = run(text, stage=MODULE).tree
    bytecode = {f"{LIBRARY}/m/__init__.py": file_of(b"code")}
    shipped = {f"{LIBRARY}/m/{name}" for name in ("__init__.pyc", "data.txt", "_fast.so")}
    assert files(shipped_tree(cut, bytecode)) == shipped
    assert files(source_tree(cut)) == {f"{LIBRARY}/m/__init__.py"}


@pytest.mark.parametrize("mode", [0o700, 0o640])
@pytest.mark.parametrize("generation", [A, B])
def test_26_a_mode_with_plus_is_for_all_in_a_and_b(generation: Generation, mode: int) -> None:
    stage = FileTree({"/p/pkg/run": file_of(b"", 0o755), "/p/pkg/d": folder(0o755), "/p/x": file_of(b"")})
    tree = run(f"+|/p/x\n+|/p/pkg|{mode:o}", generation=generation, stage=stage).tree
    assert {tree[path].mode for path in ("/p/pkg", "/p/pkg/run", "/p/pkg/d")} == {mode}


@pytest.mark.parametrize("generation", list(Generation))
def test_19_links_are_taken_as_links_and_not_followed(generation: Generation) -> None:
    stage = FileTree({"/p/d/x": file_of(b""), "/p/to-file": symlink("d/x"), "/p/to-folder": symlink("d")})
    tree = run("+|/p/to-file\n+|/p/to-folder", generation=generation, stage=stage).tree
    assert tree["/p/to-file"].target == "d/x"
    assert files(tree) == {"/p/to-file", "/p/to-folder"}


def test_rules_of_one_package_cannot_be_those_of_another_generation() -> None:
    text = "+|/p/*.so\n==|/p/one.so|600"
    assert run(text).tree["/p/one.so"].mode == 0o600
    for generation in (A, B):
        with pytest.raises(FilespecError, match=r"rule 1 .*has nothing that is named /p/\*\.so"):
            run(text, generation=generation)


def outcome(
    generation: Generation, stage: FileTree, package: FileTree, triples: list[tuple[str, str, str, str]]
) -> Applied | str:
    lines = [each if generation is C else each[:3] for each in triples]
    try:
        rules = from_triples(lines, generation=generation)
        return apply(rules, stage, package, generation=generation)
    except FilespecError as error:
        return error.message


@given(GENERATIONS, stages(), stages(), st.lists(RULES, max_size=6))
def test_what_no_rule_names_is_as_it_was_in_every_generation(
    generation: Generation, stage: FileTree, package: FileTree, triples: list[tuple[str, str, str, str]]
) -> None:
    done = outcome(generation, stage, package, triples)
    if isinstance(done, str):
        return
    named = {path for effect in done.effects for path in effect.paths}
    for path in {*package, *done.tree} - named:
        assert package.get(path) == done.tree.get(path), path
    for effect in done.effects:
        if effect.rule.op != "+":
            assert set(effect.paths) <= {*package, *done.tree, *stage}
    # a file comes from the stage or was there; its content is never made up
    contents = {(entry.kind, entry.data) for tree in (stage, package) for entry in tree.values()}
    assert {(entry.kind, entry.data) for entry in done.tree.values()} <= {*contents, ("dir", None)}


@given(GENERATIONS, stages(), stages(), st.lists(RULES, max_size=6))
def test_the_same_rules_give_the_same_result_in_every_generation(
    generation: Generation, stage: FileTree, package: FileTree, triples: list[tuple[str, str, str, str]]
) -> None:
    shuffled = FileTree(dict(reversed(list(stage.items()))))
    assert outcome(generation, stage, package, triples) == outcome(generation, shuffled, package, triples)


@given(GENERATIONS, stages(), stages(), st.lists(RULES, min_size=1, max_size=6), st.data())
def test_rules_run_one_after_another(
    generation: Generation,
    stage: FileTree,
    package: FileTree,
    triples: list[tuple[str, str, str, str]],
    data: st.DataObject,
) -> None:
    """All at once is the same as the first ones, and then the others on what these made. Generation B's mode
    for new folders is what goes from rule to rule besides (25), so its `+` rules have none here."""
    if generation is B:
        triples = [(op, path, "" if op == "+" else mode, more) for op, path, mode, more in triples]
    whole = outcome(generation, stage, package, triples)
    if isinstance(whole, str):
        return
    cut = data.draw(st.integers(0, len(triples)))
    first = outcome(generation, stage, package, triples[:cut])
    if isinstance(first, str):  # A and B: a failure counts in the last line only
        return
    second = outcome(generation, stage, first.tree, triples[cut:])
    assert isinstance(second, Applied)
    assert second.tree == whole.tree
