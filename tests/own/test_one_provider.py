"""One distribution has one provider: the feed's package if its version fits, else the wheel in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from imagebuilder.config.request import requests
from imagebuilder.errors import UserError
from imagebuilder.log import Log, Warned
from imagebuilder.model.control import parse_depends
from imagebuilder.model.package import Package
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.tree.plan import Plan
from tests.support.planning import plan_image
from tests.support.wheel_maker import make_wheel, only_index

BOARD = "tplink-tl-wr740n-v4"
Asked = Callable[..., tuple[Plan, list[str]]]


@pytest.fixture
def asked(
    project: Path,
    small_tree: Path,
    tmp_path: Path,
    add_config: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Asked:

    def ask(
        wheels: Iterable[Path], packages: Iterable[Package], requirements: list[str], add: Iterable[str] = ()
    ) -> tuple[Plan, list[str]]:
        only_index(monkeypatch, tmp_path / "index", wheels)
        for package in packages:
            write_ipk(small_tree / "packages", package, EMPTY, epoch=1)
        words = f'[python]\nvariant = "base"\nrequirements = {requirements!r}\n'
        add_config("mine", f'extends = "router"\n{words}[packages]\nadd = {[*add]!r}\n')
        (request,) = requests(
            project, "mine", board=BOARD, imagebuilder=str(small_tree), cache=tmp_path / "cache"
        )
        warned: list[str] = []
        log = Log([lambda event: warned.append(event.text) if isinstance(event, Warned) else None])
        return plan_image(request, log), [text for text in warned if "place" in text]

    return ask


def ours(plan: Plan) -> dict[str, str]:
    names = ("python3-", "pypi-")
    return {each.name: each.package.version for each in plan.install if each.name.startswith(names)}


def feed(name: str, version: str, depends: str = "") -> Package:
    return Package(name, version, "mips_24kc", depends=parse_depends(depends))


SETUPTOOLS = (
    feed("python3-setuptools", "68.2.2-1", "python3-pkg-resources"),
    feed("python3-pkg-resources", "68.2.2-1"),
    feed("python3-wheel", "0.41.2-1", "python3-setuptools"),
)
TOOLS = {"setuptools/__init__.py": b"import wheel\n", "pkg_resources/__init__.py": b""}


def test_a_feeds_setuptools_satisfies(asked: Asked, tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path / "f", "setuptools", "75.0", files=TOOLS)]
    plan, warned = asked(wheels, SETUPTOOLS, ["setuptools>=65"])
    assert ours(plan) == {
        "python3-base": "3.11.7",
        "python3-setuptools": "68.2.2-1",
        "python3-pkg-resources": "68.2.2-1",
    }
    assert warned == []


def test_a_wheel_takes_the_place_of_what_does_not_fit(asked: Asked, tmp_path: Path) -> None:
    wheels = [
        make_wheel(tmp_path / "f", "setuptools", "75.0", files=TOOLS),
        make_wheel(tmp_path / "f", "Setuptools_Rust", "1.10", requires=["setuptools>=70"]),
    ]
    plan, warned = asked(wheels, SETUPTOOLS, ["setuptools-rust"])
    assert ours(plan) == {
        "python3-base": "3.11.7",
        "pypi-setuptools": "75.0-1",
        "python3-setuptools-rust": "1.10-1",
        "python3-wheel": "0.41.2-1",
    }
    made = next(each.package for each in plan.install if each.name == "pypi-setuptools")
    assert made.provides == ("python3-setuptools", "python3-pkg-resources")
    assert [str(each) for each in made.conflicts] == ["python3-setuptools", "python3-pkg-resources"]
    assert warned == [
        "pypi-setuptools 75.0-1 takes the place of the feeds' python3-setuptools, wanted by python3-wheel"
    ]


@pytest.mark.parametrize(
    ("distribution", "version", "packages"),
    [
        ("PyYAML", "7.0", ["python3-yaml"]),
        ("Django", "5.0", ["python3-django", "python3-django1"]),
        ("pip", "30.0", ["python3-pip"]),
        ("et_xmlfile", "2.0", ["python3-et_xmlfile"]),
        ("requests", "1.0", ["python3-requests"]),
    ],
)
def test_every_package_of_a_distribution_makes_place(
    asked: Asked, tmp_path: Path, distribution: str, version: str, packages: list[str]
) -> None:
    """Also where feed and index call it otherwise, and where the feed's is newer."""
    name = distribution.lower().replace("_", "-")
    theirs = [
        *(feed(each, "1.5-1") for each in packages),
        feed("user", "1", ", ".join(["python3-base", packages[0]])),
    ]
    wheels = [make_wheel(tmp_path / "f", distribution, version)]
    plan, warned = asked(wheels, theirs, [f"{distribution}=={version}"], add=["user", packages[-1]])
    assert ours(plan) == {"python3-base": "3.11.7", f"pypi-{name}": f"{version}-1"}
    assert "user" in {each.name for each in plan.install}
    assert len(warned) == len(packages)


def test_what_needs_the_feeds_version_is_told(asked: Asked, tmp_path: Path) -> None:
    theirs = [feed("python3-requests", "2.31-1"), feed("user", "1", "python3-requests (>= 2)")]
    wheels = [make_wheel(tmp_path / "f", "requests", "1.0")]
    with pytest.raises(UserError) as caught:
        asked(wheels, theirs, ["requests<2"], add=["user"])
    assert (
        "python3-requests 2.31-1 does not go in: pypi-requests, another version, takes its place"
        in caught.value.message
    )
    assert "user" in caught.value.message


def test_a_distribution_called_as_a_part_of_the_standard_library(asked: Asked, tmp_path: Path) -> None:
    """It takes nobody's place: python3-light is none of it."""
    plan, warned = asked([make_wheel(tmp_path / "f", "light", "2.0")], [], ["light"], add=["python3-light"])
    assert {"pypi-light", "python3-light"} <= set(ours(plan))
    assert warned == []
