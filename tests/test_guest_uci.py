"""The kit guest's own uci, run by the kit's own busybox: values are kept byte for byte.

What it prints was compared with the genuine uci of LEDE 17.01.7 (run under user emulation) over random calls.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagebuilder.stage.filetree import write_tree
from imagebuilder.stage.ipk_reader import read_ipk

pytest_plugins = ["kit_fixtures"]
pytestmark = pytest.mark.kit

SCRIPT = Path(__file__).resolve().parents[1] / "imagebuilder/kit/guest/uci/usr/share/uci/uci.awk"
START = """
config a 'x'
\toption p 'one'
\tlist l 'u'
\tlist l 'v w'

config a
\toption q "two"

config b
\toption r three # comment
"""
Uci = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def busybox(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busybox")
    (package,) = (kit / "packages").glob("busybox_*.ipk")
    write_tree(read_ipk(package).tree, folder)
    return folder / "bin/busybox"


@pytest.fixture
def uci(busybox: Path, tmp_path: Path) -> Uci:
    config, changes = tmp_path / "config", tmp_path / "changes"
    config.mkdir()
    changes.mkdir()

    def call(*argv: str) -> tuple[int, str]:
        whole = [str(busybox), "awk", "-f", str(SCRIPT), "--", "-c", str(config), "-t", str(changes), *argv]
        ended = subprocess.run(whole, capture_output=True, check=False, env={"LC_ALL": "C"})
        return ended.returncode, ended.stdout.decode()

    (config / "t").write_text(START)
    return call


def test_reading(uci: Uci) -> None:
    assert uci("get", "t.x.p") == (0, "one\n")
    assert uci("get", "t.x") == (0, "a\n")
    assert uci("get", "t.@a[1].q") == (0, "two\n")
    assert uci("get", "t.@a[-1].q") == (0, "two\n")
    assert uci("get", "t.@b[0].r") == (0, "three\n")
    assert uci("-q", "get", "t.x.none")[0] == 1
    assert uci("-q", "get", "none.x.p")[0] == 1
    shown = "t.x=a\nt.x.p='one'\nt.x.l='u' 'v w'\nt.@a[1]=a\nt.@a[1].q='two'\nt.@b[0]=b\nt.@b[0].r='three'\n"
    assert uci("show", "t") == (0, shown)


def test_changes_are_seen_at_once_and_written_by_commit(uci: Uci, tmp_path: Path) -> None:
    before = (tmp_path / "config/t").read_text()
    assert uci("set", "t.x.p=two") == (0, "")
    assert uci("set", "t.new=kind") == (0, "")
    assert uci("add_list", "t.new.l=one") == (0, "")
    assert uci("add_list", "t.new.l=two") == (0, "")
    assert uci("del_list", "t.x.l=u") == (0, "")
    assert uci("delete", "t.@b[0]") == (0, "")
    assert uci("get", "t.x.p") == (0, "two\n")
    assert uci("get", "t.new.l") == (0, "one two\n")
    assert (tmp_path / "config/t").read_text() == before
    assert uci("commit", "t") == (0, "")
    written = (tmp_path / "config/t").read_text()
    assert "config kind 'new'\n\tlist l 'one'\n\tlist l 'two'\n" in written
    assert "\toption p 'two'\n" in written
    assert "\tlist l 'v w'\n" in written
    assert "'u'" not in written
    assert "three" not in written
    assert not any(path.stat().st_size for path in (tmp_path / "changes").iterdir())


def test_anonymous_sections(uci: Uci) -> None:
    code, name = uci("add", "t", "a")
    assert code == 0
    assert name.startswith("cfg")
    assert uci("set", "t.@a[-1].n=last") == (0, "")
    assert uci("commit") == (0, "")
    assert uci("get", "t.@a[2].n") == (0, "last\n")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=80)
    | st.text("'\"\\$`\n\r\t #=.@[]-", min_size=1, max_size=30)
)
def test_any_value_is_kept(uci: Uci, value: str) -> None:
    assert uci("set", f"t.x.v={value}") == (0, "")
    assert uci("get", "t.x.v") == (0, f"{value}\n")
    assert uci("commit", "t") == (0, "")
    assert uci("get", "t.x.v") == (0, f"{value}\n")
    assert uci("get", "t.x.p") == (0, "one\n")


def test_control_characters_are_refused_as_by_the_genuine_one(uci: Uci) -> None:
    for value in ("\x01", "a\x0bb", "\x1b[0m"):
        assert uci("-q", "set", f"t.x.v={value}")[0] == 1
    assert uci("set", "t.x.v=\x7f") == (0, "")
