"""Folders of others: as deep as they like, with links out of them and without rights."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache
from imagebuilder.host.run import run
from imagebuilder.host.walk import copy_tree, files_below, remove_tree, walk
from imagebuilder.model.tree import Places
from imagebuilder.packages.opkg.feed import own_packages
from imagebuilder.python.apps.apps import app_files
from imagebuilder.python.build.host_build_source import lay_source
from imagebuilder.python.requirements.index import project_digest
from imagebuilder.rootfs.files import read_tree
from imagebuilder.tree.collect import OVERLAY_FILES, sizes_by_package
from imagebuilder.tree.reproducible import record_build

DEPTHS = (1_100, 20_000)
PLACES = Places(kernel="kernel", root="root")


def nest(top: Path, depth: int) -> None:
    """So many folders in each other, a file of 3 bytes in the innermost."""
    top.mkdir(parents=True, exist_ok=True)
    handle = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    with os.fdopen(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=handle), "wb") as stream:
        stream.write(b"abc")
    os.close(handle)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """pytest itself cannot remove such folders."""
    yield
    run(["rm", "-rf", str(tmp_path)])


@pytest.fixture(params=DEPTHS)
def deep(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tree whose root file system has folders that deep."""
    nest(tmp_path / "tree/root", request.param)
    return tmp_path / "tree"


def test_deep_folders_are_looked_through_and_removed(deep: Path) -> None:
    last = list(walk(deep))[-1]
    assert last.path.endswith("/d/file")
    assert last.status.st_size == 3
    remove_tree(deep)
    assert not deep.exists()


def test_few_descriptors_are_enough(deep: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open("/", os.O_RDONLY) for _ in range(8)]  # the lowest: others may be open above and between
    for handle in free:
        os.close(handle)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1] + 1, limits[1]))
    try:
        assert sum(item.is_file for item in walk(deep)) == 1
        remove_tree(deep)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_deep_folders_are_measured(deep: Path) -> None:
    assert sizes_by_package(deep, PLACES) == [(OVERLAY_FILES, 3)]
    cache = Cache(deep.parent / "cache", limit=0)
    cache.tree("a" * 64).parent.mkdir(parents=True)
    deep.rename(cache.tree("a" * 64))
    assert cache.size() == 3
    assert cache.clean().size == 3


def test_deep_folders_are_read_and_compared_as_far_as_a_path_goes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    nest(tree / "root", DEPTHS[0])
    assert len(read_tree(tree / "root")) == DEPTHS[0] + 1
    assert len(record_build(tree, (), tree, PLACES).files) == DEPTHS[0] + 1
    nest(tree / "root/more", DEPTHS[1])
    for refused in (lambda: read_tree(tree / "root"), lambda: record_build(tree, (), tree, PLACES)):
        with pytest.raises(UserError, match="longer than 4096 bytes"):
            refused()
    remove_tree(tree)


def test_deep_projects_and_feeds_are_read_or_refused(tmp_path: Path) -> None:
    top = tmp_path / "project"
    nest(top, DEPTHS[0])
    (top / "x.py").write_text("x = 1\n")
    (top / "packages").mkdir()
    (top / "packages/x_1_all.ipk").touch()
    link = tmp_path / "link"
    link.symlink_to("project")
    for folder in (top, link):
        assert [str(file.place) for file in app_files(folder)[1]] == ["x.py"]
        assert project_digest(folder) == project_digest(top)
        assert own_packages(folder) == (folder / "packages/x_1_all.ipk",)
    laid = lay_source(top, tmp_path / "bench")
    assert [item.path for item in walk(laid)] == [item.path for item in walk(top)]
    remove_tree(laid)
    nest(top / "packages", DEPTHS[1])
    readers = (app_files, project_digest, own_packages, lambda folder: lay_source(folder, tmp_path / "other"))
    for read in readers:
        with pytest.raises(UserError, match="longer than 4096 bytes"):
            read(top)
    remove_tree(top)


def test_files_come_in_the_order_of_os_walk(tmp_path: Path) -> None:
    for name in ("b/c/x", "b/a", "a.d/x", "a/z/y", "a/b", "c", "left/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = []
    for folder, folders, files in os.walk(tmp_path):
        folders[:] = sorted(set(folders) - {"left"})
        expected += [os.path.relpath(Path(folder, name), tmp_path) for name in sorted(files)]
    assert [item.path for item in files_below(tmp_path, lambda path: path != "left")] == expected


def test_a_copy_has_links_and_modes_as_they_are_and_nothing_special(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "folder/left").mkdir(parents=True)
    (top / "folder/program").write_text("#!/bin/sh\n")
    (top / "folder/program").chmod(0o750)
    os.utime(top / "folder/program", (1, 2))
    (top / "folder/left/file").touch()
    (top / "folder/link").symlink_to("/etc/passwd")
    os.mkfifo(top / "pipe")
    copy_tree(top, tmp_path / "copy", lambda path: not path.endswith("left"))
    assert [item.path for item in walk(tmp_path / "copy")] == ["folder", "folder/link", "folder/program"]
    assert (tmp_path / "copy/folder/link").readlink() == Path("/etc/passwd")
    status = (tmp_path / "copy/folder/program").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o750, 2)
    nest(tmp_path / "long", (4_000 - len(str(tmp_path))) // 2)
    with pytest.raises(UserError, match="longer than 4096 bytes"):
        copy_tree(tmp_path / "long", tmp_path / ("x" * 200), lambda _: True)


def test_links_are_told_and_not_followed(tmp_path: Path) -> None:
    for name in ("mine/kept", "tree/b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tree/a").symlink_to("../mine")
    (tmp_path / "tree/b/up").symlink_to("..")
    (tmp_path / "tree/b.x").write_text("text")
    found = {}
    for item in walk(tmp_path / "tree"):
        found[item.path] = item.target() if item.is_link else item.is_folder
    assert list(found.items()) == [("a", "../mine"), ("b", True), ("b/up", ".."), ("b.x", False)]
    assert [item.path for item in walk(tmp_path / "tree", enter=lambda path: path != "b")] == [
        "a",
        "b",
        "b.x",
    ]
    (tmp_path / "link").symlink_to("tree")
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine/kept").is_dir()


def test_names_that_removing_gives_may_be_taken(tmp_path: Path) -> None:
    for name in ("0/0/0/1", "0/1/2", "1/0/1", "2"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_folders_without_rights_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a/b/c/d").mkdir(parents=True)
    (tmp_path / "a/b/c/file").touch()
    for name in ("a/b/c/d", "a/b/c", "a/b", "a"):
        (tmp_path / name).chmod(0)
    remove_tree(tmp_path / "a")
    remove_tree(tmp_path / "never there")
    remove_tree(tmp_path / "never/there")
    assert list(tmp_path.iterdir()) == []
