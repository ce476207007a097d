"""What lies below a folder: read, walked and written there, and nowhere else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from imagebuilder.host import beneath
from imagebuilder.host import walk as walking
from imagebuilder.host.beneath import (
    BeneathError,
    is_plain,
    read_beneath,
    real_folder,
    write_beneath,
)
from imagebuilder.host.walk import listed, walk


@pytest.fixture(params=["openat2", "steps"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's call, and as on a kernel without it."""
    if request.param == "steps":

        def unknown(*_: object) -> int:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(beneath, "_openat2", unknown)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with links out of it, and a secret beside it."""
    (tmp_path / "secret").write_text("hidden")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("hidden")
    folder = tmp_path / "root"
    (folder / "etc/deep").mkdir(parents=True)
    (folder / "etc/deep/plain").write_bytes(b"plain")
    (folder / "etc/file").symlink_to(tmp_path / "secret")
    (folder / "etc/up").symlink_to("../..")
    (folder / "etc/within").symlink_to("deep")
    (folder / "away").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "etc/pipe")
    return folder


LINKS = ["etc/file", "away/secret", "etc/up/secret", "etc/within/plain", "away", "etc/up/outside/secret"]


@pytest.mark.parametrize("name", LINKS)
def test_no_link_is_followed(root: Path, name: str) -> None:
    with pytest.raises(BeneathError, match="is a symbolic link to") as error:
        read_beneath(root, name, 100)
    assert "hidden" not in error.value.message
    assert str(root) in error.value.message


@pytest.mark.parametrize("name", ["../secret", "etc/../../secret", "/etc/passwd"])
def test_no_path_leads_out(root: Path, name: str) -> None:
    with pytest.raises(BeneathError, match="is no path below a folder"):
        read_beneath(root, name, 100)


def test_a_root_that_is_a_link(root: Path) -> None:
    for read in (lambda: listed(root / "away"), lambda: read_beneath(root / "away", "secret", 100)):
        with pytest.raises(BeneathError, match=f"{root}/away is a symbolic link to"):
            read()


def test_what_is_read(root: Path) -> None:
    assert read_beneath(root, "etc/deep/plain", 5) == b"plain"
    with pytest.raises(BeneathError, match="has 5 bytes, more than the 4 that it may have"):
        read_beneath(root, "etc/deep/plain", 4)
    with pytest.raises(FileNotFoundError):
        read_beneath(root, "etc/nothing", 4)
    for name in ("etc/pipe", "etc/deep"):
        with pytest.raises(BeneathError, match="is no file"):
            read_beneath(root, name, 100)


def test_a_large_file_is_not_read(root: Path) -> None:
    with (root / "sparse").open("wb") as stream:
        stream.truncate(200 << 30)
    with pytest.raises(BeneathError, match="more than the 1048576"):
        read_beneath(root, "sparse", 1 << 20)


def test_folders(root: Path) -> None:
    assert real_folder(root, "etc/deep") == root / "etc/deep"
    assert real_folder(root, "") == root
    assert real_folder(root, "etc/none") is None
    assert real_folder(root, "etc/deep/plain") is None
    assert real_folder(root, "new/one", make=True) == root / "new/one"
    for name in ("away", "etc/within", "away/new"):
        with pytest.raises(BeneathError, match="is a symbolic link"):
            real_folder(root, name, make=True)
    assert is_plain(root, "etc/deep/plain")
    assert not any(is_plain(root, name) for name in ("etc/file", "etc/pipe", "etc", "none", "none/of"))


def test_what_is_walked(root: Path) -> None:
    found = {}
    for each in walk(root):
        found[each.path] = each
        if each.path == "etc/up":
            assert each.target() == "../.."
    assert sorted(found) == [
        *("away", "etc", "etc/deep", "etc/deep/plain", "etc/file", "etc/pipe", "etc/up", "etc/within"),
    ]
    assert [path for path, each in found.items() if each.is_file] == ["etc/deep/plain"]


def test_the_number_of_entries_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MOST_ENTRIES", 8)
    assert len(list(walk(root, bounded=True))) == 8
    monkeypatch.setattr(walking, "MOST_ENTRIES", 7)
    with pytest.raises(BeneathError, match="more than 7 files and folders"):
        list(walk(root, bounded=True))
    assert len(list(walk(root))) == 8


def test_what_is_written(root: Path, tmp_path: Path) -> None:
    assert write_beneath(root, "etc/new/file", b"1", 0o600).read_bytes() == b"1"
    assert (root / "etc/new/file").stat().st_mode & 0o777 == 0o600
    write_beneath(root, "etc/file", b"2")
    assert (root / "etc/file").read_bytes() == b"2"
    assert not (root / "etc/file").is_symlink()
    assert (tmp_path / "secret").read_text() == "hidden"
    with pytest.raises(BeneathError, match="is a symbolic link"):
        write_beneath(root, "away/secret", b"3")
    assert (tmp_path / "outside/secret").read_text() == "hidden"
