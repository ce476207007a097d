"""A folder with main.py and requirements.txt, which nobody builds, through the whole pipeline on the kit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.ask import plan_and_budgets
from imagebuilder.build import build_image
from imagebuilder.cli import show_plan
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import FaultsError
from imagebuilder.host.fs import user_cache
from imagebuilder.log import Log
from imagebuilder.trial.machines import booted_image
from tests.support.planning import plan_image
from tests.support.wheel_maker import make_wheel, only_index

pytestmark = pytest.mark.kit

HEAD = 'release = "embedded"\nboards = ["qemu-x86-64"]\n[python]\nvariant = "auto"\n'
MAIN = """\
import json
import sys
import time
from pathlib import Path

import imagebuilder_words

import names

if "--serve" in sys.argv:
    while True:
        time.sleep(1)
words = (Path(__file__).parent / "data file.txt").read_text().split()
print(json.dumps({"name": names.NAME, "answer": imagebuilder_words.ANSWER, "words": words, "file": __file__}))
"""
SAID = {"name": "Zähler", "answer": 42, "words": ["a", "b"], "file": "/usr/lib/apps/my-flat/main.py"}


@pytest.fixture
def ask(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Request]:
    """Writes the config `mine`; a request for it. The only package index has one wheel."""
    wheel = make_wheel(tmp_path / "files", "imagebuilder-words", "1.5")
    only_index(monkeypatch, tmp_path / "index", [wheel])
    folder = project / "apps/My Flat"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(MAIN)
    (folder / "names.py").write_bytes("# coding: cp1252\r\nNAME = 'Zähler'\r\n".encode("cp1252"))
    (folder / "data file.txt").write_text("a b\n")
    (folder / "requirements.txt").write_bytes(b"\xef\xbb\xbf# needs\r\nimagebuilder-words>=1\r\n")

    def make(text: str) -> Request:
        (project / "configs/mine.toml").write_bytes(b"\xef\xbb\xbf" + (HEAD + text).encode())
        (asked,) = requests(project, "mine", output=tmp_path / "out", cache=user_cache())
        return asked

    return make


def test_the_plan_says_what_is_taken(
    ask: Callable[[str], Request],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan, budgets = plan_and_budgets(ask('apps = ["apps/My Flat"]\n'), Log())
    taken = (
        "apps/My Flat: /usr/bin/my-flat runs main.py; 2 modules; 1 other file;"
        " 1 requirement of requirements.txt"
    )
    assert plan.taken == (taken,)
    words = next(each for each in plan.install if each.name == "python3-imagebuilder-words")
    assert words.why[0] == "apps/My Flat/requirements.txt:2"
    monkeypatch.setenv("COLUMNS", "300")
    show_plan.plan(plan, budgets)
    assert taken in " ".join(capsys.readouterr().out.split())
    (project / "apps/My Flat/requirements.txt").write_text("imagebuilder-words\nimagebuilder words\n")
    with pytest.raises(FaultsError, match=r"apps/My Flat/requirements\.txt:2: .* is no requirement"):
        plan_image(ask('apps = ["apps/My Flat"]\n'), Log())


@pytest.mark.parametrize("more", ["", "shake = true\n", 'source = "only"\n'])
def test_it_is_built_and_runs_in_the_built_root(ask: Callable[[str], Request], more: str) -> None:
    asked = ask(f'apps = ["apps/My Flat"]\ntrace = ["my-flat"]\n{more}')
    plan_image(asked, Log())
    _, result = build_image(replace(asked, offline=True), Log())
    assert [each.command for each in result.starts] == ["/usr/bin/python3.11 /.hello.py", "my-flat"]
    assert {"app-my-flat", "python3-imagebuilder-words"} <= {each.name for each in result.packages}
    sources = [path for path in result.uncompiled if path.startswith("/usr/lib/")]
    assert bool(sources) is ("only" in more)


@pytest.mark.boot
def test_it_runs_on_a_device(ask: Callable[[str], Request]) -> None:
    use = '{ path = "apps/My Flat", service = true, user = "nobody", arguments = ["--serve"] }'
    place, result = build_image(ask(f"apps = [{use}]\n"), Log())
    with booted_image(place / result.images[0].file, Log(), way="kernel") as guest:
        assert json.loads(guest.check("my-flat")) == SAID
        running = guest.check("ps -o user,args | grep '[m]y-flat --serve'")
        assert running.split()[0] == "nobody"
        guest.check("test ! -e /usr/lib/apps/my-flat/main.py")
