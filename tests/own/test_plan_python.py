"""The Python of a plan: which packages, and which line of which app wants each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.config.model_config import Python
from imagebuilder.config.request import Request, requests
from imagebuilder.errors import FaultsError, UserError
from imagebuilder.log import Log, Warned
from imagebuilder.model.package import Package
from imagebuilder.own.own import choose_python
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.python.catalogue.catalogue import load_catalogue
from imagebuilder.python.catalogue.variants import source_packages
from imagebuilder.rootfs.tree import EMPTY
from tests.support.planning import plan_image

BOARD = "tplink-tl-wr740n-v4"
AddConfig = Callable[[str, str], str]


@pytest.fixture
def app(project: Path) -> Path:
    folder = project / "apps/sensor"
    (folder / "sensor").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "sensor"\nversion = "1"\n')
    (folder / "sensor/__init__.py").write_text("import json\nimport sqlite3\n")
    (folder / "sensor/__main__.py").write_text(
        "from . import json\ntry:\n    import curses\nexcept ImportError:\n    pass\n"
    )
    return folder


@pytest.fixture
def asked(project: Path, small_tree: Path, tmp_path: Path, add_config: AddConfig) -> Callable[..., Request]:
    sources = source_packages(load_catalogue("23.05"), ("python3-base", "python3-pip"))
    for name in ("python3-sqlite3", "python3-bottle", "python3-pip", *sources):
        write_ipk(small_tree / "packages", Package(name, "3.11.7"), EMPTY, epoch=1)

    def ask(python: str) -> Request:
        add_config("mine", f'extends = "router"\n[python]\n{python}\n')
        (found,) = requests(
            project, "mine", board=BOARD, imagebuilder=str(small_tree), cache=tmp_path / "cache"
        )
        return found

    return ask


def test_auto_takes_what_the_apps_import(asked: Callable[..., Request], app: Path) -> None:
    plan = plan_image(asked('variant = "auto"\napps = ["apps/sensor"]'), Log())
    assert {each.name for each in plan.install} >= {"python3-base", "python3-light", "python3-sqlite3"}
    assert plan.wanted.add["python3-sqlite3"] == "apps/sensor/sensor/__init__.py:2 imports sqlite3"
    assert plan.wanted.add["python3-base"].startswith('python.variant = "auto" in ')
    assert plan.imports.wanted["python3-sqlite3"] == ("apps/sensor/sensor/__init__.py:2 imports sqlite3",)
    (left,) = plan.imports.left_out
    assert left.startswith("apps/sensor/sensor/__main__.py:3 imports curses, which may be missing; python3-")
    sqlite = next(each for each in plan.install if each.name == "python3-sqlite3")
    assert sqlite.why == ("apps/sensor/sensor/__init__.py:2 imports sqlite3", "python3-sqlite3")


def test_a_module_that_no_package_has(asked: Callable[..., Request], app: Path) -> None:
    (app / "sensor/__init__.py").write_text("import bottle\nimport numpy\nimport tkinter\n")
    with pytest.raises(FaultsError) as error:
        plan_image(asked('variant = "auto"\napps = ["apps/sensor"]'), Log())
    lines = {(Path(fault.file).name, fault.line, fault.message) for fault in error.value.faults}
    assert ("__init__.py", 2, "no package brings the module 'numpy'") in lines
    assert len(lines) == 2


def test_switches_and_reasons(asked: Callable[..., Request], project: Path) -> None:
    plan = plan_image(asked('variant = "base"\npip = true\nsource = true'), Log())
    assert {"python3-base", "python3-pip", "python3-base-src"} <= set(plan.wanted.add)
    assert plan.wanted.add["python3-pip"] == f"python.pip = true in {project}/configs/mine.toml"
    with pytest.raises(UserError, match=r"python\.pip = true needs CPython"):
        plan_image(asked('variant = "none"\npip = true'), Log())


def test_python_2_has_ended(asked: Callable[..., Request]) -> None:
    with pytest.raises(UserError, match=r"OpenWrt 23\.05 has no Python 2"):
        plan_image(asked('variant = "python2-light"'), Log())
    found = choose_python(Python(variant="python2-light"), Path(), "19.07.10", ())
    assert found.packages == ("python-light",)
    assert found.warnings == ("Python 2 ended on 1 January 2020: faults in it are no longer put right",)


def test_a_warning_is_shown(asked: Callable[..., Request], small_tree: Path) -> None:
    config = (small_tree / ".config").read_text().replace("23.05.5", "18.06.9")
    (small_tree / ".config").write_text(config.replace("ath79", "ar71xx"))
    write_ipk(small_tree / "packages", Package("python-base", "2.7.18"), EMPTY, epoch=1)
    warned: list[str] = []
    log = Log([lambda event: warned.append(event.text) if isinstance(event, Warned) else None])
    makefile = (small_tree / "Makefile").read_text().replace("tplink_tl-wr740n-v4", "tl-wr740n-v4")
    (small_tree / "Makefile").write_text(makefile)
    plan_image(asked('variant = "python2-base"'), log)
    assert "Python 2 ended on 1 January 2020: faults in it are no longer put right" in warned
