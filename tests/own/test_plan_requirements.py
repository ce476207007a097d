"""Requirements as pip writes them, in a config: planned, locked, and planned again as they are locked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.ask import compare_lock, lock_image
from imagebuilder.config.config import load_config, shown_config
from imagebuilder.config.lock import write_lock
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.log import Log
from imagebuilder.packages.lock import LockError
from imagebuilder.tree.plan import Plan
from tests.support.planning import plan_image
from tests.support.wheel_maker import make_project, make_wheel, only_index

BOARD = "tplink-tl-wr740n-v4"


@pytest.fixture
def asked(
    project: Path,
    small_tree: Path,
    tmp_path: Path,
    add_config: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Request]:
    files = [make_wheel(tmp_path / "files", "needed", "1.0")]
    only_index(monkeypatch, tmp_path / "index", files)

    def ask(requirements: str, **more: object) -> Request:
        words = f'[python]\nvariant = "base"\nrequirements = [{requirements}]\n'
        add_config("mine", f'extends = "router"\n{words}')
        (request,) = requests(
            project,
            "mine",
            board=BOARD,
            imagebuilder=str(small_tree),
            cache=tmp_path / "cache",
            **more,  # type: ignore[arg-type]
        )
        return request

    return ask


def made(plan: Plan) -> dict[str, str]:
    return {each.name: each.package.version for each in plan.install if each.feed == "local"}


def test_a_folder_and_a_wheel_are_packages_and_locked(asked: Callable[..., Request], project: Path) -> None:
    folder = make_project(project / "libs/foo", "foo", "1.0")
    make_wheel(project / "libs", "bar", "2.0", requires=["needed"])
    request = asked('"./libs/foo", "libs/bar-2.0-py3-none-any.whl"')
    packages = {"python3-bar": "2.0-1", "python3-foo": "1.0-1", "python3-needed": "1.0-1"}
    assert made(plan_image(request, Log())) == packages
    entry = lock_image(request, Log())
    sources = {pin.name: pin.source for pin in entry.requirements.pins}
    assert sources == {"bar": "libs/bar-2.0-py3-none-any.whl", "foo": "libs/foo", "needed": ""}
    write_lock(request.library, "mine", {BOARD: entry})
    bound = replace(request, locked=True, offline=True)
    assert made(plan_image(bound, Log())) == packages
    (folder / "foo.py").write_text("ANSWER = 43\n")
    with pytest.raises(UserError, match=r"'\./libs/foo' is not what is locked"):
        plan_image(bound, Log())
    (changed,) = [line for line in compare_lock(request, Log()) if line.startswith("requirement")]
    assert changed.startswith("requirement foo: foo, libs/foo ")
    with pytest.raises(LockError, match=r"requirement: foo is new\nrequirement: \./libs/foo is gone"):
        plan_image(replace(asked('"foo", "libs/bar-2.0-py3-none-any.whl"'), locked=True), Log())


def test_faults_are_the_files_lines(asked: Callable[..., Request]) -> None:
    with pytest.raises(FaultsError, match=r"mine\.toml:4: python\.requirements\[1\].*'hg\+https:' is none"):
        plan_image(asked('"needed", "hg+https://host/x"'), Log())
    with pytest.raises(FaultsError, match=r"python\.requirements: .*/nowhere is not there"):
        plan_image(asked('"./nowhere"'), Log())


def test_a_password_in_a_config_is_not_shown(asked: Callable[..., Request]) -> None:
    request = asked('"foo @ git+https://me:hunter2@host/foo@v1", "needed>=1"')
    loaded = load_config(request.library, "mine")
    (one, two) = shown_config(request.library, loaded.config).python.requirements
    assert (one.name, two.name) == ("foo @ git+https://me:****@host/foo@v1", "needed>=1")


def test_what_a_script_requires_may_lie_beside_it(
    asked: Callable[..., Request], project: Path, add_config: Callable[[str, str], str]
) -> None:
    make_project(project / "apps/lib", "lib", "1.0")
    (project / "apps/run.py").write_text(
        f'# /// script\n# dependencies = ["lib @ file://{project}/apps/lib"]\n# ///\nimport lib\n'
    )
    request = asked("")
    add_config("mine", 'extends = "router"\n[python]\nvariant = "auto"\napps = ["apps/run.py"]\n')
    plan = plan_image(request, Log())
    assert made(plan) == {"app-run": "0-1", "python3-lib": "1.0-1"}
    (app,) = (each.package for each in plan.install if each.name == "app-run")
    assert "python3-lib" in {term.name for group in app.depends for term in group}
