"""The plan against the manifest of the built image: where the genuine tree's opkg decides, and on the kit.

The pipeline compares the two itself after every build and fails on a difference; here the cases are such
that it could. Local packages lie in the packages/ of a copy of the tree, so that opkg sees all candidates.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from imagebuilder.build import build_image
from imagebuilder.config.request import requests
from imagebuilder.host.fs import user_cache
from imagebuilder.log import Log, Warned
from imagebuilder.model.package import Dependency, Package
from imagebuilder.model.result import Result
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.resolution import PlanError
from imagebuilder.rootfs.tree import FileTree, file_of
from tests.support.planning import plan_image

BOARD = "tplink-tl-wr740n-v4"
AddConfig = Callable[[str, str], str]
Names = set[str]


def wants(*terms: str) -> tuple[tuple[Dependency, ...], ...]:
    """`libfoo` or `libfoo >= 2`."""
    return tuple((dependency(term),) for term in terms)


def dependency(term: str) -> Dependency:
    name, _, rest = term.partition(" ")
    operator, _, version = rest.partition(" ")
    return Dependency(name, operator or None, version or None)


@pytest.fixture
def tree_with(genuine_tree: Path, tmp_path: Path) -> Callable[[Sequence[Package]], Path]:
    """A copy of the genuine tree (of hard links: nothing in it is written to) with packages of ours."""

    def make(packages: Sequence[Package]) -> Path:
        copy = tmp_path / "tree"
        shutil.copytree(
            genuine_tree, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"), copy_function=os.link
        )
        for package in packages:
            name = f"/etc/local/{package.name}"
            tree = FileTree({name: file_of(package.version.encode())})
            write_ipk(copy / "packages", package, tree, epoch=1_500_000_000)
        return copy

    return make


@pytest.fixture
def compared(project: Path, tmp_path: Path, add_config: AddConfig) -> Callable[..., tuple[Result, list[str]]]:
    """Builds, compares plan and manifest, name and version; the result and the warnings."""

    def compare(tree: Path, more: str) -> tuple[Result, list[str]]:
        add_config("mine", f'extends = "router"\n{more}')
        places = {"output": tmp_path / "out", "cache": tmp_path / "cache"}
        (asked,) = requests(project, "mine", board=BOARD, imagebuilder=str(tree), **places)  # type: ignore[arg-type]
        warned: list[str] = []
        log = Log([lambda event: warned.append(event.text) if isinstance(event, Warned) else None])
        plan = plan_image(asked, Log())
        place, result = build_image(asked, log)
        manifest = dict(line.split(" - ") for line in (place / "manifest").read_text().splitlines())
        assert {each.name: each.version for each in plan.install} == manifest
        assert {each.name: each.version for each in result.packages} == manifest
        return result, warned

    return compare


def names(result: Result) -> dict[str, str]:
    return {each.name: each.version for each in result.packages}


@pytest.mark.genuine
@pytest.mark.parametrize(
    ("more", "there", "gone"),
    [
        ("", {"dnsmasq", "ppp", "kernel", "libc"}, set()),
        (
            '[packages]\nremove = ["ppp", "ppp-mod-pppoe"]\n',
            {"dnsmasq"},
            {"ppp", "kmod-ppp", "ppp-mod-pppoe"},
        ),
        ('[packages]\nremove = ["odhcpd", "odhcp6c", "dnsmasq"]\n', {"ppp"}, {"odhcpd", "dnsmasq"}),
        ('[packages]\nremove = ["firewall"]\n', {"dropbear"}, {"firewall"}),
    ],
    ids=["defaults", "removal", "three-removals", "removal-of-firewall"],
)
def test_defaults_and_removals(
    compared: Callable[..., tuple[Result, list[str]]],
    genuine_tree: Path,
    more: str,
    there: Names,
    gone: Names,
) -> None:
    result, _ = compared(genuine_tree, more)
    assert there <= names(result).keys()
    assert not gone & names(result).keys()


@pytest.mark.genuine
def test_a_removal_that_a_dependency_brings_back(
    compared: Callable[..., tuple[Result, list[str]]], genuine_tree: Path
) -> None:
    result, warned = compared(genuine_tree, '[packages]\nremove = ["iptables", "kmod-nf-nat"]\n')
    assert {"iptables", "kmod-nf-nat"} <= names(result).keys()
    (line,) = (line for line in warned if line.startswith("'iptables' was removed"))
    assert " -> iptables" in line


@pytest.mark.genuine
def test_a_repacked_feed_package_is_installed_by_opkg(
    compared: Callable[..., tuple[Result, list[str]]], genuine_tree: Path
) -> None:
    more = '[[filespec]]\npackage = "iptables"\nrules = ["-|/usr/sbin/iptables-restore"]\n'
    result, _ = compared(genuine_tree, more)
    assert "+rules." in names(result)["iptables"]
    (record,) = result.filespecs
    assert record.rules[0].paths == ("/usr/sbin/iptables-restore",)


def add(*packages: str) -> str:
    return f"[packages]\nadd = {list(packages)}\n".replace("'", '"')


LOCAL = {
    "conflict": (
        [
            Package("one", "1", depends=wants("thing")),
            Package("thing-small", "1", provides=("thing",), conflicts=(Dependency("thing-large"),)),
            Package("thing-large", "1", provides=("thing",), conflicts=(Dependency("thing-small"),)),
        ],
        ("thing-large", "one"),
        {"one": "1", "thing-large": "1"},
        {"thing-small"},
    ),
    "provider-of-a-name": (
        [
            Package("one", "1", depends=wants("own-mta")),
            Package("own-postfix", "3", provides=("own-mta",)),
            Package("own-msmtp", "2", provides=("own-mta",)),
        ],
        ("one",),
        {"one": "1"},
        set(),
    ),
    "provider-that-was-asked-for": (
        [
            Package("one", "1", depends=wants("own-mta")),
            Package("own-postfix", "3", provides=("own-mta",)),
            Package("own-msmtp", "2", provides=("own-mta",)),
        ],
        ("one", "own-postfix"),
        {"one": "1", "own-postfix": "3"},
        {"own-msmtp"},
    ),
    "the-name-itself-and-a-provider": (
        [
            Package("one", "1", depends=wants("own-mta")),
            Package("own-mta", "1"),
            Package("own-postfix", "3", provides=("own-mta",)),
        ],
        ("one",),
        {"one": "1", "own-postfix": "3"},  # 17.01's opkg takes the last by name; newer ones the literal
        {"own-mta"},
    ),
    "versioned-dependency": (
        [
            Package("one", "1", depends=wants("lib >= 2")),
            Package("lib", "2.1"),
        ],
        ("one",),
        {"one": "1", "lib": "2.1"},
        set(),
    ),
    "several-versions": (
        [
            Package("one", "1", depends=wants("lib")),
            Package("lib", "1.9"),
            Package("lib", "1.10"),
            Package("lib", "1.10~rc1"),
        ],
        ("one",),
        {"one": "1", "lib": "1.10"},
        set(),
    ),
    "abi-suffixed-names": (
        [
            Package("one", "1", depends=wants("libstuff20240329")),
            Package("libstuff20240329", "5", provides=("libstuff",), abi_version="20240329"),
            Package("two", "1", depends=wants("libstuff")),
        ],
        ("one", "two"),
        {"one": "1", "two": "1", "libstuff20240329": "5"},
        set(),
    ),
}


@pytest.mark.genuine
@pytest.mark.parametrize("case", LOCAL)
def test_local_packages(
    compared: Callable[..., tuple[Result, list[str]]],
    tree_with: Callable[[Sequence[Package]], Path],
    case: str,
) -> None:
    packages, asked, there, gone = LOCAL[case]
    result, _ = compared(tree_with(packages), add(*asked))
    assert there.items() <= names(result).items()
    assert not gone & names(result).keys()


@pytest.mark.genuine
def test_what_cannot_be_together_is_refused_as_opkg_would(
    tree_with: Callable[[Sequence[Package]], Path], project: Path, tmp_path: Path, add_config: AddConfig
) -> None:
    tree = tree_with([Package("one", "1", depends=wants("lib >= 3")), Package("lib", "2.1")])
    add_config("mine", f'extends = "router"\n{add("one")}')
    (asked,) = requests(project, "mine", board=BOARD, imagebuilder=str(tree), cache=tmp_path / "cache")
    with pytest.raises(PlanError, match=r"one needs lib \(>= 3\), which no feed has"):
        plan_image(asked, Log())


@pytest.mark.kit
@pytest.mark.parametrize("variant", ["none", "base", "light", "full"])
def test_every_variant_on_the_kit(project: Path, tmp_path: Path, add_config: AddConfig, variant: str) -> None:
    add_config("mine", f'release = "embedded"\nboards = ["qemu-x86-64"]\n[python]\nvariant = "{variant}"\n')
    (asked,) = requests(project, "mine", output=tmp_path / "out", cache=user_cache())
    plan = plan_image(asked, Log())
    place, _ = build_image(asked, Log())
    manifest = dict(line.split(" - ") for line in (place / "manifest").read_text().splitlines())
    assert {each.name: each.version for each in plan.install} == manifest
    assert ("python3-base" in manifest) == (variant != "none")
