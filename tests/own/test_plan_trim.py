"""What a plan leaves out of requirements' wheels, and the packages that it saves."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagebuilder.budget.flash import packed_bytes
from imagebuilder.choose import lay_packages
from imagebuilder.config.model_lock import LockedBoard
from imagebuilder.config.request import Request, requests
from imagebuilder.decide import decided, entry_of
from imagebuilder.log import Log
from imagebuilder.model.package import Package
from imagebuilder.packages.lock import differences
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.python.bytecode.bytecode import Interpreter
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.tree.plan import Plan
from tests.support.planning import plan_image
from tests.support.wheel_maker import make_wheel, only_index

BOARD = "tplink-tl-wr740n-v4"
FILES = {
    "demo/__init__.py": b"import json\n",
    "demo/tests/__init__.py": b"",
    "demo/tests/test_a.py": b"import sqlite3\n",
    "demo/py.typed": b"x",
}
Ask = Callable[..., Plan]
Write = Callable[..., Request]


@pytest.fixture
def write(
    project: Path,
    small_tree: Path,
    tmp_path: Path,
    add_config: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Write:
    wheels = [
        make_wheel(tmp_path / "files", files=FILES),
        make_wheel(tmp_path / "files", "other", files={"other.py": b"import demo\n"}, requires=["demo"]),
    ]
    only_index(monkeypatch, tmp_path / "index", wheels)
    write_ipk(small_tree / "packages", Package("python3-sqlite3", "3.11.7"), EMPTY, epoch=1)

    def written(requirements: str, more: str = "") -> Request:
        add_config(
            "mine",
            f'extends = "router"\n[python]\nvariant = "auto"\nrequirements = {requirements}\n{more}\n',
        )
        (request,) = requests(
            project, "mine", board=BOARD, imagebuilder=str(small_tree), cache=tmp_path / "cache"
        )
        return request

    return written


@pytest.fixture
def ask(write: Write) -> Ask:
    return lambda requirements, more="": plan_image(write(requirements, more), Log())


def wants_sqlite(plan: Plan) -> bool:
    return "python3-sqlite3" in {each.name for each in plan.install}


def test_tests_of_a_requirement_of_a_requirement_bring_no_package(ask: Ask) -> None:
    plan = ask('["other"]')
    assert not wants_sqlite(plan)
    demo, other = plan.trimmed
    assert (demo.name, demo.files, other.name, other.files) == ("demo", 3, "other", 0)
    assert demo.kinds["tests"] == len(FILES["demo/tests/test_a.py"])
    shown = plan.model_dump(mode="json")["trimmed"]
    assert shown[0] == {"name": "demo", "files": 3, "saved": demo.saved, "kinds": demo.kinds}


def test_what_is_made_here_takes_its_room_in_the_plan(write: Write, project: Path, tmp_path: Path) -> None:
    (project / "apps").mkdir()
    noise = random.Random(1).randbytes(9000).hex()
    (project / "apps/check.py").write_text(f"import demo\nX = {noise!r}\n")
    code = b"".join(b"def f%d(x):\n    return x * %d\n" % (n, n * n) for n in range(4000))
    big = make_wheel(tmp_path / "more", "big", files={"big.py": code}, requires=["demo"])
    plan = plan_image(write(f'["{big}"]', 'apps = ["apps/check.py"]'), Log())
    sizes = {each.name: packed_bytes(each.package) for each in plan.install}
    assert 20_000 < sizes["python3-big"] < 200_000
    assert 9_000 < sizes["app-check"] < 40_000
    assert 0 < sizes["python3-demo"] < 1000


def test_who_says_so_gets_all_of_it(ask: Ask) -> None:
    plan = ask('["other", { name = "demo", trim = false }]')
    assert wants_sqlite(plan)
    assert [each.name for each in plan.trimmed] == ["other"]
    assert wants_sqlite(ask('["demo", { name = "demo>=1", trim = ["typing"] }]'))  # one of them wants tests
    assert not wants_sqlite(ask('[{ name = "demo", trim = ["tests"] }]'))


def test_what_an_app_imports_stays(ask: Ask, project: Path) -> None:
    (project / "apps").mkdir()
    app = project / "apps/check.py"
    app.write_text("def f():\n    import demo.tests.test_a\n")
    assert wants_sqlite(ask('["demo"]', 'apps = ["apps/check.py"]'))
    app.write_text("SUITE = 'demo.tests.test_a'\n")
    assert wants_sqlite(ask('["demo"]', 'apps = ["apps/check.py"]'))
    app.write_text("import demo\n")
    assert not wants_sqlite(ask('["demo"]', 'apps = ["apps/check.py"]'))
    assert wants_sqlite(ask('["demo"]', 'apps = ["apps/check.py"]\ntrace = ["python3 -m demo.tests.test_a"]'))


def test_what_stays_out_shows_in_the_lock_and_in_the_package(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    magic = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
    monkeypatch.setattr(
        "imagebuilder.own.making.host_interpreter",
        lambda python, _magic: Interpreter((sys.executable,), python, magic),
    )

    def made(requirements: str) -> tuple[LockedBoard, int]:
        with decided(write(requirements), Log()) as (inputs, found):
            laid = lay_packages(found.job, found.supply, found.plan.install, found.local)
            return entry_of(inputs, found, laid.made), laid.made["python3-demo"].installed_size or 0

    (trimmed, small), (again, _) = made('["demo"]'), made('["demo"]')
    whole, large = made('[{ name = "demo", trim = false }]')
    assert trimmed.digest == again.digest != whole.digest
    assert [line for line in differences(trimmed, whole) if "python3-demo" in line]
    assert small < large
