"""Trials in whole builds with the kit: what does not stand its trial is not handed over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.build import bring_up_to_date, build_image
from imagebuilder.cli import main
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import UserError
from imagebuilder.host.fs import user_cache
from imagebuilder.log import Event, Log, Note, StepFinished, Warned
from imagebuilder.trial.image import start_checks, try_image
from imagebuilder.trial.trial import TrialFailedError
from tests.support.firmware_writers import uimage

pytestmark = pytest.mark.kit
BOARD = "qemu-x86-64"
HEAD = f'boards = ["{BOARD}"]\nrelease = "embedded"\n'
METER = '[python]\nvariant = "base"\napps = ["apps/meter.py"]\n[[trial]]\nrun = "meter"\nexpect = "^ready$"\n'


@pytest.fixture
def ask(project: Path, tmp_path: Path) -> Callable[[str], Request]:
    """Writes the config `mine`; a request for it."""
    (project / "apps").mkdir(exist_ok=True)

    def make(text: str) -> Request:
        (project / "configs/mine.toml").write_text(HEAD + text)
        (asked,) = requests(project, "mine", output=tmp_path / "out", cache=user_cache())
        return asked

    return make


def test_an_image_that_does_not_stand_its_trial_is_not_handed_over(
    ask: Callable[[str], Request], project: Path, tmp_path: Path
) -> None:
    script = project / "apps/meter.py"
    script.write_text('print("not yet")\n')
    asked = ask(METER)
    with pytest.raises(TrialFailedError, match="`meter`: it did not say that") as caught:
        build_image(asked, Log())
    (failed,) = caught.value.report.failed
    assert failed.findings[0].text == "it did not say that, saying last:\nnot yet"
    assert any("the whole log: " in note for note in caught.value.__notes__)
    place = tmp_path / f"out/mine/{BOARD}"
    assert not place.exists()

    said: list[Event] = []
    place, result = build_image(replace(asked, trial=False), Log([said.append]))
    assert result.trial is not None
    assert (result.trial.why, result.trial.checks, result.starts, result.bytecode) == (
        *("--no-trial", ()),
        (),
        None,
    )
    assert any(isinstance(each, Note) and "not tried: --no-trial" in each.text for each in said)

    # what was not tried is not what a build with a trial gives
    with pytest.raises(TrialFailedError):
        bring_up_to_date(asked, Log())

    script.write_text('print("ready")\n')
    steps: list[Event] = []
    _, result = build_image(asked, Log([steps.append]))
    assert "trial" in [each.step for each in steps if isinstance(each, StepFinished)]
    assert result.trial is not None
    assert not result.trial.failed
    assert result.trial.made == ("app-meter",)
    assert [check.what for check in result.trial.checks][-1] == "`meter`"
    assert result.starts[0].command == result.trial.figures[0].command
    assert bring_up_to_date(asked, Log()).state == "up to date"
    assert bring_up_to_date(ask(METER + "timeout = 30\n"), Log()).state != "up to date"


def run(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["build.py", *argv])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def test_the_command_tries_a_config_and_an_image(
    ask: Callable[[str], Request],
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (project / "apps/meter.py").write_text('print("ready")\n')
    ask(METER)
    where = ["--project", str(project), "--cache", str(user_cache()), "--output", str(tmp_path / "out")]
    code, said = run(["trial", "mine", *where], capsys, monkeypatch)
    assert code == 0
    assert said.startswith(f"mine for {BOARD}: {tmp_path}/out/mine/{BOARD}/openwrt-")
    assert "ok       `meter`: it says: ready\n" in said
    assert "hello world: " in said

    code, said = run(["trial", "mine", "--json", *where], capsys, monkeypatch)
    (entry,) = json.loads(said)
    assert (code, entry["state"], entry["by"], entry["made"]) == (0, "tried", "this machine", ["app-meter"])
    image = Path(entry["folder"]) / entry["image"]

    code, said = run(["trial", str(image), "--json", "--project", str(project)], capsys, monkeypatch)
    facts = json.loads(said)
    assert (code, facts["image"], facts["board"]) == (0, image.name, None)
    names = [check["name"] for check in facts["checks"]]
    assert "program" in names, "of an image nobody says which programs are one's own"
    assert "command" not in names

    (project / "apps/meter.py").write_text('print("late")\n')
    code, said = run(["trial", "mine", *where], capsys, monkeypatch)
    assert code == 2
    assert "the image, which was not handed over" in said
    assert "FAILED   `meter`\n" in said


def test_verify_says_when_it_started_nothing(ask: Callable[[str], Request]) -> None:
    asked = ask("")
    place, result = build_image(asked, Log())
    board = asked.library.board(BOARD)
    (check,) = start_checks(place / result.images[0].file, board, Log())
    assert check.found == "nothing was started: the image has no Python"
    assert not check.ok
    assert not check.refuses


def test_an_image_that_is_cut_off_is_said_to_be(ask: Callable[[str], Request], tmp_path: Path) -> None:
    """Where its root file system is still whole, and where it is not."""
    place, result = build_image(ask(""), Log())
    data = (place / result.images[0].file).read_bytes()
    image, said = tmp_path / "cut.img", list[Event]()
    image.write_bytes(data[: len(data) // 2])
    assert not try_image(image, None, Log([said.append])).report.failed
    (warned,) = [each.text for each in said if isinstance(each, Warned)]
    assert warned.startswith("cut.img looks cut off: partition 2 lies at ")
    image.write_bytes(data[:1000000])
    with pytest.raises(UserError, match="can be read: .*cut.img looks cut off: partition 1 lies at "):
        try_image(image, None, Log())


def test_an_image_without_a_root_file_system_is_no_image_to_try(tmp_path: Path) -> None:

    image = tmp_path / "x.bin"
    image.write_bytes(uimage(b"a kernel" * 1000))
    with pytest.raises(UserError, match="has no root file system that can be read"):
        try_image(image, None, Log())
