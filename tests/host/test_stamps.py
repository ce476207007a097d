"""What is read of folders only once, and what of a tree counts (host/stamps.py, host/tree_look.py)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from imagebuilder.host import stamps
from imagebuilder.host.stamps import CannotTellError, Looks
from imagebuilder.host.tree_look import USED

KEY = b"k" * stamps.KEY_BYTES


@pytest.fixture(autouse=True)
def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made just now counts as made long ago; the clock of the disk is fine enough here."""
    monkeypatch.setattr(stamps, "SETTLED_NS", -1_000_000_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "inner").mkdir(parents=True)
    (made / "inner/file").write_text("content")
    return made


def kept(looks: Looks, folder: Path, answer: str, *without: str, what: str = "text") -> str:
    return looks.kept(folder, without, what, lambda: answer)


def test_what_was_read_of_a_folder_is_found_again(folder: Path, tmp_path: Path) -> None:
    assert kept(Looks(KEY, tmp_path), folder, "first") == "first"
    assert kept(Looks(KEY, tmp_path), folder, "second") == "first"
    assert kept(Looks(KEY, tmp_path), folder, "other", what="another question") == "other"
    assert kept(Looks(KEY, tmp_path), folder, "other", "inner") == "other"
    assert kept(Looks(KEY), folder, "without a cache") == "without a cache"
    assert kept(Looks(KEY, tmp_path / "another"), folder, "elsewhere") == "elsewhere"


@pytest.mark.parametrize("change", ["content", "mode", "name", "another file"])
def test_a_folder_that_changed_is_read_again(folder: Path, tmp_path: Path, change: str) -> None:
    assert kept(Looks(KEY, tmp_path), folder, "first") == "first"
    file, status = folder / "inner/file", (folder / "inner/file").stat()
    match change:
        case "content":
            file.write_text("CONTENT")
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        case "mode":
            file.chmod(0o755)
        case "name":
            file.rename(folder / "inner/other")
        case _:
            (folder / "more").touch()
    assert kept(Looks(KEY, tmp_path), folder, "second") == "second"


def test_of_a_folder_that_was_changed_just_now_nothing_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could change once more, and stat(2) say the same."""
    monkeypatch.setattr(stamps, "SETTLED_NS", 3600 * 10**9)
    assert kept(Looks(KEY, tmp_path), folder, "first") == "first"
    assert kept(Looks(KEY, tmp_path), folder, "second") == "second"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    for name in ("dl", "tmp", "bin", ".git", "staging_dir/host/bin", "packages"):
        (made / name).mkdir(parents=True)
    (made / "Makefile").write_text("image:\n")
    (tmp_path / "gawk").write_text("outside")
    (made / "staging_dir/host/bin/awk").symlink_to(tmp_path / "gawk")
    return made


@pytest.mark.parametrize("name", USED)
def test_what_using_a_tree_leaves_in_it_is_no_change(tree: Path, name: str) -> None:
    stamp = Looks(KEY).stamp(tree, "tree")
    (tree / name / "left").write_text("by make")
    assert Looks(KEY).same(stamp)


@pytest.mark.parametrize("name", ["Makefile", "staging_dir/host/bin/tmp", "packages/one.ipk", "../gawk"])
def test_all_else_is_one(tree: Path, name: str) -> None:
    """Also what a link leads to, and a folder below that is called as one at the top."""
    stamp = Looks(KEY).stamp(tree, "tree")
    (tree / name).write_text("changed")
    assert not Looks(KEY).same(stamp)


def test_a_tree_is_looked_at_once(tree: Path) -> None:
    """What was found before it was read is what the image is made of."""
    looks = Looks(KEY)
    looks.stamp(tree, "tree")
    before = looks.tree(tree)
    (tree / "Makefile").write_text("changed")
    assert looks.tree(tree) == before != Looks(KEY).tree(tree)


def test_a_tree_that_was_changed_just_now_is_none_to_be_sure_of(tree: Path) -> None:
    looks = Looks(KEY, now_ns=time.time_ns() - 3600 * 10**9)
    with pytest.raises(CannotTellError, match="was changed just now"):
        looks.stamp(tree, "tree")


def test_the_archive_of_a_tree_is_a_file(tmp_path: Path) -> None:
    archive = tmp_path / "openwrt-imagebuilder.tar.xz"
    archive.write_bytes(b"one")
    stamp = Looks(KEY).stamp(archive, "tree")
    assert Looks(KEY).same(stamp)
    archive.write_bytes(b"two")
    assert not Looks(KEY).same(stamp)
