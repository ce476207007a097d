"""Filespecs as a whole: the order of the steps around them (rules 5 to 8), the reference's examples that need
more than one rule, and properties. Single rules are in test_filespec.py; that a Python package without a
filespec takes site-packages (38) is in packages/test_repack.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.python.bytecode.bytecode import shipped_tree, source_tree
from imagebuilder.rootfs.filespec import Applied, FilespecError, apply, from_triples
from imagebuilder.rootfs.tree import FileTree, file_of, symlink
from tests.rootfs.test_filespec import RULES, files, run, stages

LIBRARY = "/usr/lib/python3.11"
MODULE = FileTree(
    {
        f"{LIBRARY}/m/__init__.py": file_of(b"1"),
        f"{LIBRARY}/m/data.txt": file_of(b"2"),
        f"{LIBRARY}/m/_fast.so": file_of(b"3", 0o755),
        "/usr/bin/tool": file_of(b"#!/usr/bin/env python3 -E\n", 0o755),
    }
)


def test_8_the_install_step_comes_first() -> None:
    hook = FileTree({"/usr/bin/tool": file_of(b"", 0o755), "/usr/bin/other": file_of(b"", 0o755)})
    text = f"+|{LIBRARY}/m\n-|/usr/bin/other\n=|/usr/bin/tool|700"
    tree = run(text, hook, MODULE).tree
    assert "/usr/bin/other" not in tree
    assert tree["/usr/bin/tool"].mode == 0o700


def test_the_example_of_bytecode_and_sources() -> None:
    text = f"+|{LIBRARY}/m"
    cut = run(text, stage=MODULE).tree
    bytecode = {f"{LIBRARY}/m/__init__.py": file_of(b"code")}
    shipped = {f"{LIBRARY}/m/{name}" for name in ("__init__.pyc", "data.txt", "_fast.so")}
    assert files(shipped_tree(cut, bytecode)) == shipped
    assert files(source_tree(cut)) == {f"{LIBRARY}/m/__init__.py"}


def test_19_links_are_taken_as_links_and_not_followed() -> None:
    stage = FileTree({"/p/d/x": file_of(b""), "/p/to-file": symlink("d/x"), "/p/to-folder": symlink("d")})
    tree = run("+|/p/to-file\n+|/p/to-folder", stage=stage).tree
    assert tree["/p/to-file"].target == "d/x"
    assert files(tree) == {"/p/to-file", "/p/to-folder"}


def outcome(stage: FileTree, package: FileTree, triples: list[tuple[str, str, str, str]]) -> Applied | str:
    try:
        return apply(from_triples(triples), stage, package)
    except FilespecError as error:
        return error.message


@given(stages(), stages(), st.lists(RULES, max_size=6))
def test_what_no_rule_names_is_as_it_was(
    stage: FileTree, package: FileTree, triples: list[tuple[str, str, str, str]]
) -> None:
    done = outcome(stage, package, triples)
    if isinstance(done, str):
        return
    named = {path for effect in done.effects for path in effect.paths}
    for path in {*package, *done.tree} - named:
        assert package.get(path) == done.tree.get(path), path
    there = {*package, *stage}  # what "+" puts into the image can be named by a later rule
    for effect in done.effects:
        if effect.rule.op == "+":
            there.update(effect.paths)
        else:
            assert set(effect.paths) <= {*there, *done.tree}
    # a file comes from the stage or was there; its content is never made up
    contents = {(entry.kind, entry.data) for tree in (stage, package) for entry in tree.values()}
    assert {(entry.kind, entry.data) for entry in done.tree.values()} <= {*contents, ("dir", None)}


@given(stages(), stages(), st.lists(RULES, max_size=6))
def test_the_same_rules_give_the_same_result(
    stage: FileTree, package: FileTree, triples: list[tuple[str, str, str, str]]
) -> None:
    shuffled = FileTree(dict(reversed(list(stage.items()))))
    assert outcome(stage, package, triples) == outcome(shuffled, package, triples)


@given(stages(), stages(), st.lists(RULES, min_size=1, max_size=6), st.data())
def test_rules_run_one_after_another(
    stage: FileTree,
    package: FileTree,
    triples: list[tuple[str, str, str, str]],
    data: st.DataObject,
) -> None:
    """All at once is the same as the first ones, and then the others on what these made."""
    whole = outcome(stage, package, triples)
    if isinstance(whole, str):
        return
    cut = data.draw(st.integers(0, len(triples)))
    first = outcome(stage, package, triples[:cut])
    assert isinstance(first, Applied)
    second = outcome(stage, first.tree, triples[cut:])
    assert isinstance(second, Applied)
    assert second.tree == whole.tree
