"""What a tree is: anything that is changed in it makes it another one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.host.cache import Cache
from imagebuilder.host.tree_look import USED
from imagebuilder.trust.tree_identity import MOST_BYTES, behind_tree, tree_identity


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "include/deep").mkdir(parents=True)
    (folder / "Makefile").write_text("all:\n")
    (folder / "include/rules.mk").write_text("A=1\n")
    (folder / "link").symlink_to("include")
    return folder


def same_length_and_time(tree: Path) -> None:
    """As somebody who wants to be taken for another tree would do it."""
    place = tree / "include/rules.mk"
    before = place.stat()
    place.write_text("A=2\n")
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_link(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("includf")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": same_length_and_time,
    "program": lambda tree: (tree / "Makefile").chmod(0o755),
    "new file": lambda tree: (tree / "include/deep/new").touch(),
    "new folder": lambda tree: (tree / "empty").mkdir(),
    "link to a folder": lambda tree: (tree / "more").symlink_to("include"),
    "link": other_link,
    "name": lambda tree: (tree / "Makefile").rename(tree / "makefile"),
    "gone": lambda tree: (tree / "include/rules.mk").unlink(),
    "pipe": lambda tree: os.mkfifo(tree / "pipe"),
    "deep dl": lambda tree: (tree / "include/dl").mkdir(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_tree_is_another(tree: Path, tmp_path: Path, name: str) -> None:
    cache = tmp_path / "cache"
    before = tree_identity(tree, cache)
    assert tree_identity(tree) == before
    CHANGES[name](tree)
    assert tree_identity(tree, cache) == tree_identity(tree) != before


def test_using_a_tree_does_not_change_it(tree: Path, tmp_path: Path) -> None:
    before = tree_identity(tree, tmp_path / "cache")
    for name in USED:
        (tree / name).mkdir()
        (tree / name / "file").touch()
    assert tree_identity(tree, tmp_path / "cache") == before


def test_a_copy_is_the_same_tree(tree: Path, tmp_path: Path) -> None:
    before = tree_identity(tree, tmp_path / "cache")
    (tree / "include").chmod(0o700)
    (tree / "Makefile").chmod(0o600)  # unpacked under another umask
    copy = tree.rename(tmp_path / "elsewhere")
    (tmp_path / "by-link").symlink_to(copy)
    assert tree_identity(copy, tmp_path / "cache") == before
    assert tree_identity(tmp_path / "by-link", tmp_path / "cache") == before


def test_a_tree_is_read_once(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = tree_identity(tree, cache)
    (kept,) = (cache / "indexes").iterdir()
    kept.write_text("ab" * 32 + "\n")
    assert tree_identity(tree, cache) == "ab" * 32  # it was found, not read again
    for damaged in (b"", b"\xff" * 64, b"AB" * 32):
        kept.write_bytes(damaged)
        assert tree_identity(tree, cache) == before
    os.utime(kept, (0, 0))
    assert tree_identity(tree, cache) == before
    assert kept.stat().st_mtime > 0
    assert Cache(cache).clean().indexes == 1  # it goes with what else is kept
    assert not kept.exists()


def test_a_cache_that_cannot_be_written(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot write"):
        tree_identity(tree, tmp_path / "file")


def test_what_links_lead_to_outside_has_a_digest_of_its_own(tree: Path, tmp_path: Path) -> None:
    assert behind_tree(tree) == ""
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep/file").write_text("one")
    (tmp_path / "further").write_text("one")
    (outside / "on").symlink_to(tmp_path / "further")
    (outside / "round").symlink_to(outside)
    (outside / "back").symlink_to(tree / "include")
    before = tree_identity(tree)
    (tree / "gone").symlink_to(tmp_path / "nothing")
    assert behind_tree(tree) == ""
    (tree / "gone").unlink()
    (tree / "out").symlink_to(outside)
    (tree / "loop").symlink_to("loop")
    known = behind_tree(tree)
    assert known == behind_tree(tree) != ""
    for place in (outside / "deep/file", tmp_path / "further"):
        place.write_text("two")
        assert behind_tree(tree) != known
        place.write_text("one")
    (outside / "new").mkdir()
    assert behind_tree(tree) != known
    (outside / "new").rmdir()
    (outside / "back").unlink()
    (outside / "back").symlink_to(tree)
    assert behind_tree(tree) != known
    (outside / "back").unlink()
    (outside / "back").symlink_to(tree / "include")
    assert behind_tree(tree) == known
    (tree / "out").unlink()
    (tree / "loop").unlink()
    assert tree_identity(tree) == before


@pytest.mark.parametrize("target", ["..", "/proc/self/status", "/"])
def test_what_cannot_be_looked_at_behind_links_is_never_the_same(tree: Path, target: str) -> None:
    (tree / "out").symlink_to(target)
    assert behind_tree(tree) != behind_tree(tree)


def test_links_of_root_file_systems_are_for_the_device(tree: Path) -> None:
    """As each ImageBuilder that was used has them."""
    for name in ("root-ar71xx", "root.orig-ar71xx"):
        folder = tree / "build_dir/target-mips_24kc_musl" / name
        folder.mkdir(parents=True)
        (folder / "var").symlink_to("/tmp")
    assert behind_tree(tree) == ""
    (tree / "build_dir/target-mips_24kc_musl/root-x").symlink_to("..")
    assert behind_tree(tree) == ""
    (tree / "build_dir/target-mips_24kc_musl/root-y").symlink_to("/")
    assert behind_tree(tree) != behind_tree(tree)


def test_too_much_behind_links_is_never_the_same(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    (tree / "out").symlink_to(tmp_path / "large")
    assert behind_tree(tree) == behind_tree(tree)
    os.truncate(tmp_path / "large", MOST_BYTES + 1)
    assert behind_tree(tree) != behind_tree(tree)
