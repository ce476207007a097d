"""File trees: the value, and folders from and to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.errors import UserError
from imagebuilder.rootfs.files import Written, digest, read_tree, write_tree
from imagebuilder.rootfs.tree import EMPTY, Entry, FileTree, FileTreeError, file_at, file_of, folder, symlink

NAMES = st.sampled_from(["a", "b", "a-b", "a.b", "ab", "é"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@st.composite
def trees(draw: st.DrawFn) -> FileTree:
    """Trees of files, links and empty folders; a path below a file is left out."""
    entries: dict[str, Entry] = {}
    for path in draw(st.lists(PATHS, max_size=12)):
        entry = draw(
            st.one_of(
                st.builds(file_of, st.binary(max_size=8), st.sampled_from([0o644, 0o755, 0o400, 0o4755])),
                st.builds(symlink, st.sampled_from(["a", "../x", "/etc", "nowhere"])),
                st.builds(folder, st.sampled_from([0o755, 0o700, 0o500])),
            )
        )
        try:
            FileTree({**entries, path: entry})
        except FileTreeError:
            continue
        entries[path] = entry
    return FileTree(entries)


def test_folders_above_an_entry_are_there_with_the_default_mode() -> None:
    tree = FileTree({"/usr/bin/x": file_of(b"", 0o755)})
    assert list(tree) == ["/usr", "/usr/bin", "/usr/bin/x"]
    assert tree["/usr"] == folder(0o755)


@pytest.mark.parametrize("path", ["", "/", "a", "/a/", "/a//b", "/../a", "/a/./b", "/a/..", "/a\0b"])
def test_a_path_is_plain_and_absolute(path: str) -> None:
    with pytest.raises(FileTreeError, match="no place in a file tree"):
        FileTree({path: file_of(b"")})


@pytest.mark.parametrize("above", [file_of(b""), symlink("/etc")])
def test_nothing_lies_below_a_file_or_a_link(above: Entry) -> None:
    with pytest.raises(FileTreeError, match=r"/a/b lies below /a, which is a (file|symlink)"):
        FileTree({"/a": above, "/a/b": file_of(b"")})


@pytest.mark.parametrize(
    "entry",
    [
        Entry("file", 0o644),
        Entry("file", 0o644, Path("x"), b"x"),
        Entry("symlink", 0o777),
        Entry("dir", 0o17777),
    ],
)
def test_an_entry_says_one_thing(entry: Entry) -> None:
    with pytest.raises(FileTreeError):
        FileTree({"/x": entry})


def test_below_and_children_are_not_misled_by_names_that_begin_alike() -> None:
    tree = FileTree(dict.fromkeys(["/a/x/y", "/a-b", "/a.c", "/a0", "/ab/z"], file_of(b"")))
    assert tree.below("/a") == ["/a/x", "/a/x/y"]
    assert tree.children("/a") == ["/a/x"]
    assert tree.children("/") == ["/a", "/a-b", "/a.c", "/a0", "/ab"]


def test_without_takes_what_lies_below_and_empty_folders_go_at_any_depth() -> None:
    tree = FileTree({"/a/b/c/d": file_of(b""), "/a/e": symlink("b"), "/f/g": folder()})
    assert list(tree.without(["/a/b", "/not/there"])) == ["/a", "/a/e", "/f", "/f/g"]
    assert list(tree.without(["/a/b/c/d"]).without_empty_folders()) == ["/a", "/a/e"]


def test_merged_lets_the_other_win_but_not_over_a_folder_that_holds_something() -> None:
    tree = FileTree({"/a/b": file_of(b"1"), "/c": folder()})
    assert tree.merged({"/a/b": file_of(b"2")})["/a/b"].data == b"2"
    assert tree.merged({"/c": symlink("a")})["/c"].kind == "symlink"
    with pytest.raises(FileTreeError):
        tree.merged({"/a": file_of(b"")})


@settings(deadline=None)
@given(trees())
def test_a_tree_written_and_read_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, tree: FileTree
) -> None:
    place = tmp_path_factory.mktemp("tree")
    written = write_tree(tree, place, mtime=1_700_000_000)
    again = read_tree(place)
    assert digest(again) == digest(tree)
    assert list(again) == list(tree)
    files = [entry for entry in tree.values() if entry.kind == "file"]
    assert written == Written(len(tree), sum(len(entry.data or b"") for entry in files))
    assert all((place / path[1:]).lstat().st_mtime == 1_700_000_000 for path in tree)


def test_the_umask_does_not_reach_the_modes(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_tree(FileTree({"/etc/x": file_of(b"", 0o664)}), tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out/etc").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "out/etc/x").stat().st_mode & 0o7777 == 0o664


def test_writing_never_follows_a_link_out_of_the_folder(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (outside / "precious").write_text("kept")
    (out / "etc").symlink_to(outside)
    (out / "file").symlink_to(outside / "precious")
    write_tree(FileTree({"/etc/precious": file_of(b"new"), "/file": file_of(b"new")}), out)
    assert (outside / "precious").read_text() == "kept"
    assert (out / "etc/precious").read_bytes() == (out / "file").read_bytes() == b"new"


def test_writing_does_not_change_a_file_that_another_name_shares(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("kept")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x").hardlink_to(tmp_path / "store")
    write_tree(FileTree({"/x": file_of(b"new")}), tmp_path / "out")
    assert (tmp_path / "store").read_text() == "kept"


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x/y").mkdir(parents=True)
    with pytest.raises(UserError, match="is a folder, where a file"):
        write_tree(FileTree({"/x": file_of(b"")}), tmp_path)


def test_read_tree_keeps_contents_by_reference(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/a").write_bytes(b"a")
    (tmp_path / "usr/lib/a").chmod(0o640)
    tree = read_tree(tmp_path)
    assert list(tree) == ["/usr", "/usr/lib", "/usr/lib/a"]
    assert tree["/usr/lib/a"] == file_at(tmp_path / "usr/lib/a", 0o640)


def test_read_tree_refuses_pipes_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the folder"):
        read_tree(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="neither a file, a folder nor a symbolic link"):
        read_tree(tmp_path)


def test_the_digest_sees_content_mode_and_links_but_not_where_content_is_kept(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1")
    one = FileTree({"/x": file_of(b"1")})
    assert digest(one) == digest(FileTree({"/x": file_at(tmp_path / "x")}))
    others = [EMPTY, FileTree({"/x": file_of(b"2")}), FileTree({"/x": file_of(b"1", 0o600)})]
    others += [FileTree({"/y": file_of(b"1")}), FileTree({"/x": symlink("1")})]
    assert len({digest(tree) for tree in [one, *others]}) == 6
