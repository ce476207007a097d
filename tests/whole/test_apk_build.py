"""An apk tree (25.12) through the whole pipeline, with a genuine apk: planned, fetched from a server,
indexed, installed and handed over by the code that does it for every tree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from imagebuilder.ask import fetch_image, lock_image
from imagebuilder.build import build_image, build_twice
from imagebuilder.config.lock import write_lock
from imagebuilder.config.request import Request, requests
from imagebuilder.log import Log, Warned
from imagebuilder.packages.apk.tool import ApkRefusalError
from imagebuilder.packages.check_contents import ContentsError
from imagebuilder.packages.feed import FeedError
from imagebuilder.packages.resolution import PlanError
from imagebuilder.report.files import SBOM
from imagebuilder.trust.signature import UnknownKeyError
from tests.support import firmware_images
from tests.support.apk_tree import (
    ARCH,
    BOARD,
    FEED_PATH,
    RELEASE,
    VERSIONS,
    Feed,
    fill_feed,
    make_key,
    make_tree,
)
from tests.support.download_server import Server
from tests.support.planning import plan_image

pytestmark = pytest.mark.genuine
AddConfig = Callable[[str, str], str]


@dataclass(frozen=True)
class World:
    """A tree, and a server with its feed."""

    tree: Path
    server: Server
    feed: Feed
    ask: Callable[..., Request]


@pytest.fixture
def world(apk_program: Path, server: Server, project: Path, tmp_path: Path, add_config: AddConfig) -> World:
    private, public = make_key(tmp_path / "keys", "openwrt-25.12")
    make_tree(
        apk_program,
        tmp_path / "tree",
        keys=[public],
        feeds=[f"https://downloads.example.org/{FEED_PATH}"],
    )
    lay_good_images(tmp_path / "tree")
    feed = fill_feed(Feed(apk_program, server.root / FEED_PATH, private))

    def ask(more: str = "", *, offline: bool = False) -> Request:
        add_config("mine", f'[mirror]\nurls = ["{server.url}"]\n{more}')
        tree, places = str(tmp_path / "tree"), {"output": tmp_path / "out", "cache": tmp_path / "cache"}
        (asked,) = requests(
            project,
            "mine",
            board=BOARD,
            imagebuilder=tree,
            **places,  # type: ignore[arg-type]
        )
        return replace(asked, offline=offline)

    return World(tmp_path / "tree", server, feed, ask)


def lay_good_images(tree: Path) -> None:
    """Let make give images that may be flashed: what it packs itself is no image of the board."""
    for kind, data in (("sysupgrade", firmware_images.archive()), ("factory", firmware_images.factory_ubi())):
        (tree / f"{kind}.bin").write_bytes(data)
    makefile = (tree / "Makefile").read_text()
    packing = makefile[makefile.index("\t@for type in sysupgrade factory;") :]
    copying = "\t@for type in sysupgrade factory; do cp $$type.bin $(IMAGE)-squashfs-$$type.bin; done\n"
    (tree / "Makefile").write_text(makefile.replace(packing, copying))


PYTHON = '[python]\nvariant = "full"\n'


def test_from_a_config_to_an_image_and_offline_after_that(world: World) -> None:
    fetched, _ = fetch_image(world.ask(PYTHON), Log())
    assert {each.package.filename for each in fetched.install if each.feed} == {
        path.rpartition("/")[2].replace("%2B", "+") for path in world.server.paths(".apk")
    }
    world.server.close()
    place, result = build_image(world.ask(PYTHON, offline=True), Log())
    components = json.loads((place / SBOM).read_text())["components"]
    packages = {each["name"]: each for each in components if each["bom-ref"].startswith("package:")}
    assert packages.keys() == {each.name for each in result.packages}
    assert all(each["purl"].startswith("pkg:apk/openwrt/") for each in packages.values())
    assert all(each["hashes"][0]["alg"] == "SHA-256" for each in packages.values()), "which no index states"
    assert {each.name: each.version for each in result.packages} == {
        each.name: each.version for each in fetched.install
    }
    assert result.tree.package_manager == "apk"
    assert result.tree.version == RELEASE
    assert result.feeds["base"].startswith("signed by the key ")
    python = next(each for each in fetched.install if each.name == "libpython3-3.13")
    assert python.feed == "base"
    assert python.why[0].startswith('python.variant = "full" in ')
    assert python.why[-1] == "libpython3-3.13"


def test_what_is_pinned_cannot_be_removed_and_the_plan_says_so(world: World) -> None:
    warned: list[str] = []
    log = Log([lambda event: warned.append(event.text) if isinstance(event, Warned) else None])
    plan = plan_image(world.ask('[packages]\nremove = ["base-files", "dropbear"]\n'), log)
    assert plan.back == {
        "base-files": (f"the ImageBuilder pins it to {VERSIONS['base-files']}", "base-files")
    }
    assert "'base-files' was removed, and stays, because it is needed: the ImageBuilder pins it" in warned[-1]
    names = {each.name: each.version for each in plan.install}
    assert names["base-files"] == VERSIONS["base-files"]
    assert "dropbear" not in names
    assert not any("=" in word for word in plan.make[2].split("=", 1)[1].split())


def test_what_apk_refuses_is_said_in_its_words(world: World) -> None:
    world.feed.add("needy", depends=["nosuch"])
    world.feed.make_index()
    with pytest.raises(ApkRefusalError, match="no such package"):
        plan_image(world.ask('[packages]\nadd = ["needy"]\n'), Log())


def test_two_builds_are_equal(world: World) -> None:
    _, result = build_twice(world.ask(PYTHON), Log())
    assert {image.type for image in result.images} == {"sysupgrade", "factory"}


def test_a_lock_holds_the_versions(world: World) -> None:
    asked = world.ask(PYTHON)
    write_lock(asked.library, "mine", {BOARD: lock_image(asked, Log())})
    bound = replace(asked, locked=True)
    same, free = ({each.name: each for each in plan_image(one, Log()).install} for one in (bound, asked))
    assert same == free
    world.feed.add("dropbear", "9999-r1")
    world.feed.make_index()
    newer = {each.name: each.version for each in plan_image(asked, Log()).install}
    assert newer["dropbear"] == "9999-r1"
    held = {each.name: each.version for each in plan_image(bound, Log()).install}
    assert held["dropbear"] != "9999-r1"
    _, result = build_image(bound, Log())
    assert {each.name: each.version for each in result.packages} == held


def test_a_repacked_package_is_locked_with_what_it_is_made_of(world: World) -> None:
    rules = '[[filespec]]\npackage = "dropbear"\nrules = ["-|/usr/share/dropbear"]\n'
    asked = world.ask(rules)
    entry = lock_image(asked, Log())
    (repacked,) = [each for each in entry.parts.package if each.name == "dropbear"]
    assert (repacked.feed, len(repacked.sha256), len(repacked.identity)) == ("local", 64, 64)
    assert "dropbear" in {each.name for each in entry.original}
    write_lock(asked.library, "mine", {BOARD: entry})
    _, result = build_image(replace(asked, locked=True), Log())
    assert ("dropbear", repacked.version) in {(each.name, each.version) for each in result.packages}


def test_a_feed_of_somebody_else(world: World, apk_program: Path, tmp_path: Path, project: Path) -> None:
    private, public = make_key(tmp_path / "theirs", "theirs")
    feed = Feed(apk_program, world.server.root / "theirs", private)
    feed.add("hello", "1.2-r3", files={"usr/bin/hello": b"#!/bin/sh\n"})
    feed.make_index()
    shutil.copy(public, project / "theirs.pem")
    more = f'[packages]\nadd = ["hello"]\n[[feed]]\nname = "theirs"\nurl = "{world.server.url}/theirs"\n'
    _, result = build_image(world.ask(f'{more}key = "theirs.pem"\n'), Log())
    assert ("hello", "1.2-r3") in {(each.name, each.version) for each in result.packages}
    _, other = make_key(tmp_path / "other", "other")
    shutil.copy(other, project / "theirs.pem")
    with pytest.raises(UnknownKeyError):
        build_image(world.ask(f'{more}key = "theirs.pem"\n'), Log())
    folder = more.replace(f"{world.server.url}/theirs", str(feed.folder))
    _, local = build_image(world.ask(folder), Log())
    assert local.feeds["theirs"] == "a folder of this machine, as given"
    (feed.folder / "packages.adb").unlink()
    _, bare = build_image(world.ask(folder), Log())
    assert bare.images == local.images


def test_what_is_missing_offline_is_named(world: World) -> None:
    plan_image(world.ask(PYTHON), Log())
    with pytest.raises(FeedError, match=r"package 'python3-base' is missing"):
        build_image(world.ask(PYTHON, offline=True), Log())


def test_a_repacked_package_is_made_by_the_trees_apk_and_installed(world: World) -> None:
    rules = '[[filespec]]\npackage = "dropbear"\nrules = ["-|/usr/share/dropbear"]\n'
    world.feed.add("dropbear", "9999-r1", files={"usr/share/dropbear": b"x", "usr/sbin/dropbear": b"y"})
    world.feed.make_index()
    _, result = build_image(world.ask(rules), Log())
    version = next(each.version for each in result.packages if each.name == "dropbear")
    assert version.startswith("9999~")
    assert result.filespecs[0].rules[0].paths == ("/usr/share/dropbear",)


def test_a_package_for_another_architecture_is_refused_at_plan(world: World) -> None:
    world.feed.add("gadget", "1-r1", arch="mips_24kc")
    world.feed.make_index()
    with pytest.raises(PlanError) as caught:
        plan_image(world.ask('[packages]\nadd = ["gadget"]\n'), Log())
    said = f"gadget (its architecture is 'mips_24kc', and the tree takes noarch and {ARCH})"
    assert said in caught.value.message


def test_packages_with_one_file_are_refused_but_for_those_of_one_source(world: World) -> None:
    world.feed.add("one", "1-r1", files={"usr/bin/x": b"1"})
    world.feed.add("two", "1-r1", files={"usr/bin/x": b"2"})
    world.feed.make_index()
    with pytest.raises(ContentsError) as caught:
        build_image(world.ask('[packages]\nadd = ["one", "two"]\n'), Log())
    assert "both bring /usr/bin/x" in caught.value.message


def test_a_default_in_conflict_makes_room(world: World) -> None:
    """The profile of the tree takes dnsmasq-full in place of dnsmasq."""
    plan = plan_image(world.ask('[packages]\nadd = ["dnsmasq"]\n'), Log())
    assert [(each.gone, each.done) for each in plan.swaps] == [("dnsmasq-full", True)]
    names = [each.name for each in plan.install]
    assert "dnsmasq" in names
    assert "dnsmasq-full" not in names
