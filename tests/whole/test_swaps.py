"""A package that is added takes the place of a default, from the config to plan, lock and make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imagebuilder.ask import lock_image
from imagebuilder.build import build_image
from imagebuilder.cli.app import app
from imagebuilder.config.request import Request
from imagebuilder.log import Event, Log, Warned
from imagebuilder.model.control import parse_names
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.resolution import PlanError
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.tree.plan import Plan
from tests.support.planning import plan_image, tree_request

AddConfig = Callable[[str, str], str]
BOARD = "tplink-tl-wr740n-v4"


@pytest.fixture
def tree(small_tree: Path) -> Path:
    """With a variant of a default package that conflicts with it, and one that only provides its name."""
    selinux = Package("busybox-selinux", "1.36", conflicts=parse_names("busybox"), provides=("busybox",))
    other = Package("rssileds-full", "4", provides=("rssileds",))
    for package in (selinux, other):
        write_ipk(small_tree / "packages", package, EMPTY, epoch=1_700_000_000)
    makefile = (small_tree / "Makefile").read_text()
    names = "base-files busybox dnsmasq kernel libc rssileds"
    assert names in makefile
    (small_tree / "Makefile").write_text(
        makefile.replace(names, "base-files dnsmasq kernel libc rssileds").replace("libc rssileds", "libc")
    )
    return small_tree


@pytest.fixture
def request_for(project: Path, tree: Path, tmp_path: Path, add_config: AddConfig) -> Callable[[str], Request]:
    def make(text: str) -> Request:
        return tree_request(project, add_config("mine", text), tree, tmp_path)

    return make


def planned(request: Request) -> tuple[Plan, list[str]]:
    told: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Warned):
            told.append(event.text)

    return plan_image(request, Log().also(hear)), told


def test_a_default_in_conflict_makes_room(request_for: Callable[[str], Request], tmp_path: Path) -> None:
    request = request_for('[packages]\nadd = ["busybox-selinux", "rssileds"]\n')
    plan, told = planned(request)
    names = [each.name for each in plan.install]
    assert "busybox-selinux" in names
    assert "busybox" not in names
    assert "PACKAGES=busybox-selinux rssileds -busybox" in plan.make
    assert told == []
    assert plan.model_dump(mode="json")["swaps"] == [
        {
            "gone": "busybox",
            "by": "busybox-selinux",
            "reason": "busybox-selinux and busybox conflict",
            "declared": True,
            "done": True,
        }
    ]
    locked = {each.name for each in lock_image(request, Log()).parts.package}
    assert {"busybox", "busybox-selinux"} & locked == {"busybox-selinux"}
    _, result = build_image(request, Log())
    assert "busybox-selinux" in [each.name for each in result.packages]


def test_plan_says_what_was_swapped(request_for: Callable[[str], Request], project: Path, tree: Path) -> None:
    request = request_for('[packages]\nadd = ["busybox-selinux"]\n')
    argv = ["plan", "mine", "--board", BOARD, "--project", str(project), "--imagebuilder", str(tree)]
    argv += ["--cache", str(request.cache)]
    shown = CliRunner().invoke(app, argv)
    assert "busybox-selinux takes the place of the default busybox" in shown.output
    (facts,) = json.loads(CliRunner().invoke(app, [*argv, "--json"]).stdout)
    assert [each["gone"] for each in facts["swaps"]] == ["busybox"]


def test_what_only_provides_the_name_is_told_of(request_for: Callable[[str], Request]) -> None:
    plan, told = planned(request_for('[packages]\nadd = ["rssileds-full"]\n'))
    assert "rssileds" in [each.name for each in plan.install]
    assert told == [
        "rssileds-full would take the place of the default rssileds, which goes in beside it: rssileds-full"
        ' provides rssileds; say remove = ["rssileds"], or replace = true, in [packages]'
    ]
    plan, told = planned(request_for('[packages]\nadd = ["rssileds-full"]\nreplace = true\n'))
    assert told == []
    assert "rssileds" not in [each.name for each in plan.install]


def test_nothing_that_somebody_names_makes_room(request_for: Callable[[str], Request], project: Path) -> None:
    folder = project / "overlays" / "needy"
    (folder / "files").mkdir(parents=True)
    (folder / "overlay.toml").write_text('name = "needy"\ndescription = "x"\npackages = ["rssileds"]\n')
    text = '[packages]\nadd = ["rssileds-full"]\nreplace = true\n[[overlay]]\nname = "needy"\n'
    plan, _ = planned(request_for(text))
    assert {"rssileds", "rssileds-full"} <= {each.name for each in plan.install}
    assert plan.swaps == ()


def test_a_config_can_forbid_it(request_for: Callable[[str], Request]) -> None:
    with pytest.raises(PlanError, match="busybox-selinux"):
        plan_image(request_for('[packages]\nadd = ["busybox-selinux"]\nreplace = false\n'), Log())


def test_a_later_file_says_the_last_word(
    request_for: Callable[[str], Request], add_config: AddConfig
) -> None:
    add_config("below", '[packages]\nadd = ["busybox-selinux"]\nreplace = false\n')
    plan, _ = planned(request_for('extends = "below"\n[packages]\nreplace = true\n'))
    assert [each.gone for each in plan.swaps] == ["busybox"]
