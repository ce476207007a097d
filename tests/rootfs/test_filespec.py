"""Filespecs. The numbers are those of OpenWrt rules in the notes of this project: 11-18 entries, 19-27 `+`,
28-31 `-`, 32-35 `=` and `==`, 36 and 37 errors; all as from 23.05 on."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.rootfs.filespec import Applied, FilespecError, apply, from_triples, parse
from imagebuilder.rootfs.shellglob import expand
from imagebuilder.rootfs.tree import EMPTY, FileTree, file_of, folder, symlink

STAGE = FileTree(
    {
        "/p": folder(0o755),
        "/p/pkg": folder(0o750),
        "/p/pkg/a.py": file_of(b"a", 0o644),
        "/p/pkg/run": file_of(b"r", 0o755),
        "/p/pkg/link": symlink("a.py"),
        "/p/pkg/sub": folder(0o711),
        "/p/pkg/sub/test": folder(0o755),
        "/p/pkg/sub/test/t.py": file_of(b"t", 0o600),
        "/p/pkg/sub/deep/test/u.py": file_of(b"u"),
        "/p/one.so": file_of(b"1"),
        "/p/two.so": file_of(b"2"),
        "/p/.hidden.so": file_of(b"h"),
        "/q/one.so": file_of(b"q"),
        "/secret": folder(0o700),
        "/secret/key": file_of(b"k", 0o600),
        "/with blank": file_of(b"b"),
    }
)


def run(text: str, package: FileTree = EMPTY, stage: FileTree = STAGE) -> Applied:
    return apply(parse(text), stage, package)


def files(tree: FileTree) -> set[str]:
    return {path for path, entry in tree.items() if entry.kind != "dir"}


def refused(text: str, package: FileTree = EMPTY) -> FilespecError:
    with pytest.raises(FilespecError) as caught:
        run(text, package)
    return caught.value


# section 3: the entries


def test_11_there_are_two_modes_and_both_are_optional() -> None:
    (rule,) = parse("=|/p|640|750")
    assert (rule.file_mode, rule.dir_mode) == (0o640, 0o750)
    (rule,) = parse("=|/p||750")
    assert (rule.file_mode, rule.dir_mode) == (None, 0o750)
    (rule,) = parse("+|/p")
    assert (rule.op, rule.path, rule.file_mode, rule.dir_mode, rule.number) == ("+", "/p", None, None, 1)


def test_12_the_mode_of_the_named_path_alone() -> None:
    package = run("+|/p/pkg").tree
    assert run("==|/p/pkg||711", package).tree["/p/pkg"].mode == 0o711


def test_13_lines_run_from_top_to_bottom_and_only_plus_reads_the_stage() -> None:
    assert files(run("+|/p/one.so\n-|/p/one.so").tree) == set()
    assert refused("-|/p/one.so\n+|/p/one.so").number == 1


def test_14_all_fields_are_stripped() -> None:
    tree = run("  = | /p/pkg/a.py\t| 600 | \n", run("\t+ |  /p/pkg ").tree).tree
    assert tree["/p/pkg/a.py"].mode == 0o600


def test_15_blank_lines_and_comments_are_skipped() -> None:
    text = "\n   \n# + all of it|/p\n  #x\n+|/p/one.so\n"
    applied = run(text)
    assert files(applied.tree) == {"/p/one.so"}
    assert [effect.rule.number for effect in applied.effects] == [5]


def test_16_an_unknown_operation_is_refused() -> None:
    error = refused("+|/p\n$(if x)|/p")
    assert error.number == 2
    assert "'$(if x)' is not an operation" in error.message


@pytest.mark.parametrize("text", ["+", "-|", "=||644", "==| |644"])
def test_17_an_operation_without_a_path_is_refused(text: str) -> None:
    assert "there is no path" in refused(text).message


def test_18_backslashes_are_plain() -> None:
    stage = FileTree({"/a\\b": file_of(b""), "/ab": file_of(b"")})
    assert files(run("+|/a\\b", stage=stage).tree) == {"/a\\b"}


# section 4: take


def test_19_a_folder_comes_with_all_below_and_keeps_modes_and_links() -> None:
    tree = run("+|/p/pkg").tree
    assert {path: tree[path] for path in tree if path != "/p"} == {
        path: STAGE[path] for path in ["/p/pkg", *STAGE.below("/p/pkg")]
    }


def test_19_copying_onto_a_folder_merges() -> None:
    hook = FileTree({"/p/pkg/own": file_of(b"own"), "/p/pkg/a.py": file_of(b"old")})
    tree = run("+|/p/pkg", hook).tree
    assert tree["/p/pkg/own"].data == b"own"
    assert tree["/p/pkg/a.py"].data == b"a"


def test_20_a_missing_path_stops_at_once() -> None:
    error = refused("+|/p/none\n+|/p/one.so")
    assert error.number == 1
    assert "the stage has nothing that is named /p/none" in error.message
    assert error.hint


def test_21_globs_need_a_match() -> None:
    assert files(run("+|/p/*.so").tree) == {"/p/one.so", "/p/two.so"}
    assert refused("+|/p/*.dll").number == 1


def test_21_a_glob_in_a_folders_name_makes_a_folder_named_so() -> None:
    applied = run("+|/*/one.so")
    assert files(applied.tree) == {"/*/one.so"}
    assert "a folder that is named /*" in applied.effects[0].warnings[0]


def test_22_globs_are_the_shells() -> None:
    names = [".so", "a.so", "b.so", "c", "ab", "é", "[x]", "z-", "x/y"]
    tree = FileTree({f"/d/{name}": file_of(b"") for name in names})

    def matched(pattern: str) -> list[str]:
        return [path.removeprefix("/d/") for path in expand(tree, f"/d/{pattern}")]

    assert matched("*.so") == ["a.so", "b.so"]
    assert matched(".*") == [".so"]
    assert matched("?") == ["c", "x", "é"]
    assert matched("[!a-b]*") == ["[x]", "c", "x", "z-", "é"]
    assert matched("[^a]b") == []
    assert matched("[[:alpha:]]b") == ["ab"]
    assert matched("z[]-]") == ["z-"]
    assert matched("[z-a]*") == []
    assert matched("[x]") == ["x"]
    assert matched("[x") == []
    assert matched("*/y") == ["x/y"]
    assert matched("*") == ["[x]", "a.so", "ab", "b.so", "c", "x", "z-", "é"]
    # a pattern without a match stands for itself
    assert expand(FileTree({"/d/[x]": file_of(b"")}), "/d/[x]") == ["/d/[x]"]


def test_23_blanks_inside_a_path_are_refused() -> None:
    assert "a blank in it" in refused("+|/with blank").message


def test_24_a_trailing_slash_misleads() -> None:
    applied = run("+|/p/pkg/")
    assert "/p/pkg/pkg/a.py" in applied.tree
    assert "/p/pkg/a.py" not in applied.tree
    assert "trailing slash" in applied.effects[0].warnings[0]


def test_25_parents_are_made_with_the_default_mode() -> None:
    assert run("+|/secret/key").tree["/secret"].mode == 0o755
    assert run("+|/p/one.so|600").tree["/p/one.so"].mode == 0o600


def test_26_modes_are_for_files_and_folders_apart() -> None:
    tree = run("+|/p/pkg|640|750").tree
    modes = {path: tree[path].mode for path in tree.below("/p/pkg")}
    assert modes["/p/pkg/run"] == modes["/p/pkg/sub/test/t.py"] == 0o640
    assert tree["/p/pkg"].mode == modes["/p/pkg/sub"] == 0o750
    assert tree["/p/pkg/link"] == STAGE["/p/pkg/link"]
    assert tree["/p"].mode == 0o755
    assert run("+|/p/pkg|640").tree["/p/pkg/sub"].mode == 0o711


def test_26_a_glob_sets_the_modes_of_what_was_there_before() -> None:
    package = FileTree({"/p/own.so": file_of(b"", 0o755)})
    tree = run("+|/p/*.so|600", package).tree
    assert tree["/p/own.so"].mode == tree["/p/one.so"].mode == 0o600


# section 5: drop


def test_28_files_folders_and_globs_are_dropped_from_the_package() -> None:
    package = run("+|/p").tree
    tree = run("-|/p/pkg\n-|/p/*.so", package).tree
    assert files(tree) == {"/p/.hidden.so"}


def test_29_nothing_to_drop_is_fatal() -> None:
    package = run("+|/p/one.so").tree
    for rule in ("-|/p/none", "-|/p/*.dll"):
        error = refused(rule, package)
        assert "the package has nothing" in error.message
        assert rule in error.message


def test_30_a_mode_with_minus_is_ignored() -> None:
    assert files(run("-|/p/one.so|644", run("+|/p/one.so").tree).tree) == set()


def test_31_a_glob_reaches_one_level() -> None:
    tree = run("-|/p/pkg/*/test", run("+|/p/pkg").tree).tree
    assert "/p/pkg/sub/test" not in tree
    assert "/p/pkg/sub/deep/test/u.py" in tree


# section 6: modes


def test_32_equals_is_recursive_and_keeps_kinds_apart() -> None:
    package = run("+|/p/pkg").tree
    tree = run("=|/p/pkg|700", package).tree
    assert tree["/p/pkg/sub/test/t.py"].mode == 0o700
    assert tree["/p/pkg/sub"].mode == 0o711
    assert run("=|/p/pkg||700", package).tree["/p/pkg/sub/test"].mode == 0o700


def test_33_two_equals_change_the_named_path_alone() -> None:
    package = run("+|/p").tree
    tree = run("==|/p/pkg|640|711", package).tree
    assert {path for path in tree if tree[path] != package[path]} == {"/p/pkg"}
    assert tree["/p/pkg"].mode == 0o711
    assert run("==|/p/*.so|600", package).effects[0].paths == ("/p/one.so", "/p/two.so")


def test_34_a_missing_path_is_fatal() -> None:
    for op in ("=", "=="):
        assert refused(f"{op}|/none|644").number == 1


@pytest.mark.parametrize("text", ["=|/p", "==|/p||", "= | /p | | "])
def test_35_a_mode_is_needed_to_set(text: str) -> None:
    assert "neither a file mode nor a folder mode" in refused(text, run("+|/p").tree).message


# section 7 and what is ours


def test_37_a_copy_that_clashes_does_not_stop_it() -> None:
    hook = FileTree({"/p/pkg/sub": file_of(b"in the way"), "/p/one.so": folder()})
    applied = run("+|/p/pkg\n+|/p/one.so", hook)
    assert applied.tree["/p/pkg/sub"].data == b"in the way"
    assert applied.tree["/p/pkg/a.py"].data == b"a"
    assert "/p/pkg/sub is a file in the package and a dir in the stage" in applied.effects[0].warnings[0]
    assert applied.tree["/p/one.so"].kind == "dir"
    assert applied.effects[1].warnings


@pytest.mark.parametrize("path", ["/../etc", "/a/../../b", "usr/bin", "/", "/."])
def test_a_path_names_a_place_below_the_root(path: str) -> None:
    assert path in refused(f"+|{path}").message


@pytest.mark.parametrize("mode", ["rwx", "8", "0x1", "77777", "-1", "u+x"])
def test_a_mode_is_octal(mode: str) -> None:
    assert "is not octal" in refused(f"=|/p|{mode}").message


def test_there_are_four_fields() -> None:
    assert "more than four fields" in refused("=|/p|644|755|x").message


def test_a_path_through_a_link_says_so() -> None:
    stage = FileTree({"/lib/x": file_of(b""), "/lib64": symlink("lib")})
    with pytest.raises(FilespecError, match="/lib64 is a link to lib, and links are not followed"):
        run("+|/lib64/x", stage=stage)


def test_effects_say_what_each_rule_did() -> None:
    applied = run("+|/p/pkg/sub\n-|/p/pkg/sub/test\n==|/p/pkg||700")
    assert [effect.paths for effect in applied.effects] == [
        ("/p", "/p/pkg", *(["/p/pkg/sub", *STAGE.below("/p/pkg/sub")])),
        ("/p/pkg/sub/test", "/p/pkg/sub/test/t.py"),
        ("/p/pkg",),
    ]


def test_triples_are_the_same_rules_as_text() -> None:
    triples = [["+", "/p/pkg", None], ["-", "/p/pkg/run"], ["=", "/p/pkg", "640", "750"]]
    text = "+|/p/pkg\n-|/p/pkg/run\n=|/p/pkg|640|750"
    assert from_triples(triples) == parse(text)
    with pytest.raises(FilespecError, match=re.escape("python3-x, rule 1 `*|/p`")):
        from_triples([["*", "/p", None]], origin="python3-x")


# properties

PARTS = st.sampled_from(["a", "b", "c.py", ".d"])
FILE_PATHS = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
PATTERNS = st.lists(
    st.sampled_from(["a", "b", "c.py", "*", "?", "[ab]", "*.py"]), min_size=1, max_size=3
).map(lambda parts: "/" + "/".join(parts))
RULES = st.tuples(
    st.sampled_from(["+", "-", "=", "=="]), PATTERNS, st.sampled_from(["600", "755"]), st.just("700")
)


@st.composite
def stages(draw: st.DrawFn) -> FileTree:
    """Trees in which every path is a file, except where others lie below it."""
    paths = draw(st.lists(FILE_PATHS, min_size=1, max_size=10))
    tops = {path for path in paths if not any(other.startswith(path + "/") for other in paths)}
    return FileTree({path: file_of(path.encode()) for path in tops})


@given(stages(), stages(), st.lists(RULES, max_size=6))
def test_no_rule_loses_or_changes_what_it_does_not_name(
    stage: FileTree, package: FileTree, triples: list[tuple[str, str, str, str]]
) -> None:
    try:
        applied = apply(from_triples(triples), stage, package)
    except FilespecError:
        return
    named = {path for effect in applied.effects for path in effect.paths}
    assert {path: entry for path, entry in package.items() if path not in named} == {
        path: entry for path, entry in applied.tree.items() if path not in named
    }
    # and what a rule names is what its pattern reaches, or a parent that had to be made
    for effect in applied.effects:
        reach = {*expand(stage, effect.rule.path), *expand(package, effect.rule.path)}
        if effect.rule.op == "-":
            assert all(
                any(path == top or path.startswith(top + "/") for top in reach) for path in effect.paths
            )


@given(stages(), stages(), st.lists(RULES, max_size=6))
def test_the_same_rules_give_the_same_result(
    stage: FileTree, package: FileTree, triples: list[tuple[str, str, str, str]]
) -> None:
    def outcome() -> Applied | str:
        try:
            return apply(from_triples(triples), stage, package)
        except FilespecError as error:
            return error.message

    assert outcome() == outcome()


@given(st.text(max_size=60))
def test_any_text_is_rules_or_one_error(text: str) -> None:
    with contextlib.suppress(FilespecError):
        apply(parse(text), STAGE)
