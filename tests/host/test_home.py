"""Paths that start with ~, and users without a home folder."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.config.init import read_public_key
from imagebuilder.errors import HostError, UserError
from imagebuilder.host.fs import expand_home, user_cache
from imagebuilder.log import Log
from imagebuilder.server.archive import given_tree
from imagebuilder.server.mirror import parse_mirror
from imagebuilder.trust.signing_key import user_keys

NOBODYS = "~no-such-user/folder"


def test_a_path_below_somebodys_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    root = pwd.getpwuid(0)
    assert expand_home("~/a/b") == Path("/home/me/a/b")
    assert expand_home(Path("~")) == Path("/home/me")
    assert expand_home(f"~{root.pw_name}/a") == Path(root.pw_dir, "a")
    assert expand_home("a/~/b") == Path("a/~/b")


def test_a_home_of_nobody_is_a_name_like_any_other() -> None:
    """As in a shell."""
    assert expand_home(NOBODYS) == Path(NOBODYS)


@pytest.mark.parametrize(
    "ask",
    [
        lambda _: parse_mirror(NOBODYS),
        lambda cache: given_tree(NOBODYS, cache, Log()),
        lambda _: read_public_key(Path(NOBODYS)),
    ],
    ids=["mirror", "imagebuilder", "key"],
)
def test_what_is_asked_for_in_a_home_of_nobody(ask: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no-such-user"):
        ask(tmp_path)


@pytest.mark.parametrize(
    ("folder", "variable"), [(user_cache, "XDG_CACHE_HOME"), (user_keys, "XDG_DATA_HOME")]
)
def test_a_user_without_a_home(
    folder: Callable[[], Path], variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs with a user's number that its passwd does not have."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(HostError, match="no home folder") as raised:
        folder()
    assert variable in str(raised.value.hint)
    monkeypatch.setenv(variable, str(tmp_path))
    assert folder().is_relative_to(tmp_path)
