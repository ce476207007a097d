"""What a device would trip over in an overlay is said by plan already, and by a build before make runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.ask import plan_and_budgets
from imagebuilder.build import build_image
from imagebuilder.config.overlay import OverlayError
from imagebuilder.config.request import Request
from imagebuilder.log import Event, Log, Warned
from tests.support.planning import tree_request

AddConfig = Callable[[str, str], str]
SECRET = """
[variables.key]
type = "string"
secret = true
"""


@pytest.fixture
def request_for(
    project: Path, small_tree: Path, tmp_path: Path, add_config: AddConfig
) -> Callable[..., Request]:
    """A request for a config with one overlay, which brings these files."""

    def make(files: dict[str, str], declared: str = "", given: str = "") -> Request:
        folder = project / "overlays/mine"
        for path, text in files.items():
            file = folder / "files" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, newline="")
        (folder / "overlay.toml").write_text(f'name = "mine"\ndescription = "of a test"\n{declared}')
        return tree_request(
            project, add_config("mine", f'[[overlay]]\nname = "mine"\n{given}'), small_tree, tmp_path
        )

    return make


def test_all_that_would_not_work_is_said_at_plan(request_for: Callable[..., Request], project: Path) -> None:
    broken = {"etc/rc.local": "true\nif\n", "usr/bin/x": "#!/bin/sh\r\necho\r\n", "etc/config/z": "a\r\n"}
    with pytest.raises(OverlayError) as caught:
        plan_and_budgets(request_for(broken), Log())
    files = project / "overlays/mine/files"
    said = str(caught.value).splitlines()
    assert [line.split(": ")[0].rpartition(":")[0] for line in said] == [
        f"{files}/etc/config/z",
        f"{files}/etc/rc.local",
        f"{files}/usr/bin/x",
    ]
    assert f"{files}/usr/bin/x:1: the lines end as on Windows" in said[2]


def test_what_is_likely_a_slip_is_a_warning_of_plan(request_for: Callable[..., Request]) -> None:
    seen: list[Event] = []
    plan_and_budgets(request_for({"etc/uci-defaults/50-x": "uci commit\nexit 1\n"}), Log([seen.append]))
    (warned,) = (event for event in seen if isinstance(event, Warned) and "ends in failure" in event.text)
    assert "etc/uci-defaults/50-x:2" in warned.text


def test_a_plan_needs_no_secret_and_does_not_judge_what_is_made_of_one(
    request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    template = {"etc/rc.local.j2": "{% if key %}true{% endif %}\n"}
    asked = request_for(template, SECRET, 'variables = { key = { secret = "KEY" } }\n')
    monkeypatch.delenv("KEY", raising=False)
    plan_and_budgets(asked, Log())
    monkeypatch.setenv("KEY", "x")
    broken = {"etc/rc.local.j2": "{{ key }})\n"}
    with pytest.raises(OverlayError, match=r"etc/rc\.local.*no shell script") as caught:
        build_image(request_for(broken, SECRET, 'variables = { key = { secret = "KEY" } }\n'), Log())
    assert "x)" not in str(caught.value)


def test_an_interpreter_that_no_package_brings_stops_a_build(
    request_for: Callable[..., Request], tmp_path: Path
) -> None:
    asked = request_for({"usr/bin/x": "#!/bin/bash\necho\n"})
    plan_and_budgets(asked, Log())  # what packages hold is not known yet
    with pytest.raises(OverlayError, match=r"usr/bin/x:1: it is a script for bash, which the image does not"):
        build_image(asked, Log())
    assert not (tmp_path / "out/mine").exists()
