"""`build.py interpreters`: what a release offers, and what a board has for it."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner, Result

from imagebuilder.cli.interpreters import interpreters
from imagebuilder.config.releases import shipped_releases

APP = typer.Typer()
APP.command()(interpreters)


def run(*words: str) -> Result:
    return CliRunner().invoke(APP, words)


def test_a_release_on_a_board_that_is_too_small() -> None:
    done = run("--release", "17.01.7", "--board", "tplink-tl-wr740n-v4", "--json")
    facts = json.loads(done.stdout)
    assert (facts["series"], facts["board"]["firmware_bytes"]) == ("17.01", 3669504)
    found = {each["variant"]: each for each in facts["variants"]}
    assert [name for name, each in found.items() if each["too_big"]] == ["full", "python2-full"]
    assert found["python2-base"]["ended"].startswith("Python 2 ended on 1 January 2020")
    assert found["micropython"]["packages"] == ["micropython"]
    assert found["light"]["squashfs_bytes"]["low"] < found["light"]["squashfs_bytes"]["high"]
    assert facts["not_offered"].keys() == {"PyMite", "Tiny Python", "Zerynth"}


def test_for_people() -> None:
    shown = run("--release", "19.07.10", "--board", "tplink-tl-wr740n-v4").stdout
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "too big" in lines["full"]
    assert "Python 2 ended on 1 January 2020" in lines["python2-light"]
    assert "3.7.17" in lines["base"]
    assert "no release of OpenWrt packages it" in lines["Zerynth"]
    assert "PandoraBox" in shown


def test_the_newest_release_is_the_default() -> None:
    facts = json.loads(run("--json").stdout)
    assert facts["release"] == shipped_releases().newest()
    assert facts["board"] is None
    assert not [each for each in facts["variants"] if each["ended"] or each["too_big"]]


def test_the_kit() -> None:
    found = {
        each["variant"]: each
        for each in json.loads(run("--release", "embedded", "--json").stdout)["variants"]
    }
    assert found["light"]["squashfs_bytes"] == {"low": 4597454, "high": 4597454}
    assert found["light"]["version"] == "3.11"
    assert "micropython" not in found, "Debian 12 has none"
    facts = json.loads(run("--release", "embedded-3.13", "--json").stdout)
    (small,) = (each for each in facts["variants"] if each["variant"] == "micropython")
    assert (small["version"], small["squashfs_bytes"], small["note"]) == ("1.25.0", None, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--release", "15.05"), "there is no Python catalogue for OpenWrt 15.05"),
        (("--release", "nonsense"), "--release: 'nonsense' is no release"),
        (("--release", "25.12.0", "--board", "tplink-tl-wr740n-v4"), "is not in OpenWrt 25.12.0"),
        (("--board", "nonsense"), "unknown board 'nonsense'"),
    ],
)
def test_faults(words: tuple[str, ...], message: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert message in done.stderr
