"""Repacked packages, installed by the opkg of a genuine tree and by a genuine apk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.ask import look_at_tree
from imagebuilder.config.request import requests
from imagebuilder.host.sandbox import open_view
from imagebuilder.log import Log
from imagebuilder.model.control import parse_fields
from imagebuilder.model.package import Package, Selected
from imagebuilder.packages.apk.apk import parse_index as parse_apk_index
from imagebuilder.packages.apk.feed import own_apk_index
from imagebuilder.packages.apk.file import check_apk_file
from imagebuilder.packages.apk.manager import Apk
from imagebuilder.packages.apk.reader import read_apk
from imagebuilder.packages.apk.tool import make_index, plan_install
from imagebuilder.packages.apk.writer import write_apk
from imagebuilder.packages.feed import FEED, in_folder
from imagebuilder.packages.opkg.feed import (
    base_packages,
    lay_feed,
    lay_own_index,
    lay_repositories,
    own_index,
    used_indexes,
)
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.ipk_reader import read_control
from imagebuilder.packages.opkg.manager import Opkg
from imagebuilder.packages.opkg.opkg import read_index
from imagebuilder.packages.repack import Repacked, declare, repack
from imagebuilder.rootfs.tree import folder, symlink
from imagebuilder.tree.collect import find_rootfs, read_manifest
from imagebuilder.tree.make import make_image
from imagebuilder.tree.plan import Plan
from tests.support.apk_tree import ARCH, make_tree
from tests.support.planning import plan_image
from tests.support.wanted_making import from_feeds

EPOCH = 1_561_119_851
RULES = {
    "busybox": ("-|/bin/vi", "=|/bin/busybox|4755"),
    "dnsmasq": ("-|/etc/hotplug.d", "-|/etc/dnsmasq.conf"),
    "iptables": ("-|/usr/sbin/iptables-*",),
    "kmod-gpio-button-hotplug": ("=|/lib/modules|640",),  # one of the tree's own packages
}


def indexes(tree: Path, cache: Path) -> tuple[list[Package], list[Package]]:
    """What the tree has itself, and what its feeds have."""
    own = read_index(own_index(tree, cache))
    places = look_at_tree(str(tree), cache, Log()).places
    mine = [*own, *(read_control(path).control for path in base_packages(tree, places))]
    return mine, [package for index in used_indexes(tree).values() for package in read_index(index)]


def repacked(tree: Path, package: Package) -> Repacked:
    """With its content, from where the tree has it."""
    places = [in_folder(tree / "dl"), in_folder(tree / "packages")]
    file = next(path for path in (find(package) for find in places) if path is not None)
    return repack(Opkg().read(file, package), RULES[package.name], Opkg())


def build(tree: Path, work: Path, plan: Plan, wanted: Sequence[Selected], local: Path) -> Path:
    """`make image` from exactly these packages and the tree's own; the root file system that it made."""
    work.mkdir()
    view = open_view(tree, work, Log())
    finders = [in_folder(folder) for folder in (tree / "dl", tree / "packages", local)]
    lay_feed(work / FEED, wanted, finders)
    lay_repositories(tree, view)
    lay_own_index(own_index(tree, work.parent / "cache"), tree, view, work)
    make_image(view, plan, work, work / "build.log", Log())
    root = find_rootfs(view.changed, plan.tree.places)
    assert root is not None
    return root


@pytest.mark.genuine
def test_genuine_opkg_installs_repacked_packages_and_the_manifest_says_so(
    genuine_tree: Path, project: Path, tmp_path: Path
) -> None:
    (asked,) = requests(
        project,
        "router",
        board="tplink-tl-wr740n-v4",
        imagebuilder=str(genuine_tree),
        cache=tmp_path / "cache",
    )
    plan = plan_image(asked, Log())
    mine, feeds = indexes(genuine_tree, tmp_path / "cache")
    indexed = {name: next(each for each in (*mine, *feeds) if each.name == name) for name in RULES}
    declared = {name: declare(package, RULES[name], Opkg()) for name, package in indexed.items()}
    planned = {
        each.package.name: each for each in from_feeds(plan.wanted.add, mine, [*declared.values(), *feeds])
    }
    assert {name: planned[name].package for name in RULES} == declared

    local = tmp_path / "local"
    for name, package in indexed.items():
        made = repacked(genuine_tree, package).content
        assert made.package == declared[name]
        kept = {"scripts": made.scripts, "conffiles": made.conffiles}
        written = write_ipk(local, made.package, made.tree, epoch=EPOCH, **kept)
        planned[name] = replace(planned[name], package=written.package)
    root = build(genuine_tree, tmp_path / "work", plan, tuple(planned.values()), local)

    _, installed = read_manifest(tmp_path / "work/bin")
    for name in RULES:
        (there,) = (each for each in installed if each.name == name)
        assert there.version == declared[name].version
        assert there.version.startswith(f"{indexed[name].version}+rules.")
    for gone in ("bin/vi", "etc/hotplug.d/ntp", "etc/dnsmasq.conf", "usr/sbin/iptables-save"):
        assert not os.path.lexists(root / gone)
    assert (root / "usr/sbin/iptables").is_symlink()
    assert (root / "bin/busybox").stat().st_mode & 0o7777 == 0o4755
    (module,) = root.glob("lib/modules/*/gpio-button-hotplug.ko")
    assert module.stat().st_mode & 0o777 == 0o640
    status = (root / "usr/lib/opkg/status").read_text()
    paragraph = next(each for each in status.split("\n\n") if each.startswith("Package: dnsmasq\n"))
    fields = parse_fields(paragraph)
    assert "installed" in fields["Status"]
    assert "/etc/config/dhcp" in fields["Conffiles"]
    assert "dnsmasq.conf" not in fields["Conffiles"]
    assert (root / "etc/rc.d").is_dir()
    assert any("dnsmasq" in link.name for link in (root / "etc/rc.d").iterdir())


@pytest.mark.genuine
def test_a_genuine_apk_makes_and_installs_a_repacked_package(apk_program: Path, tmp_path: Path) -> None:
    tree, work = tmp_path / "tree", tmp_path / "work"
    feed = make_tree(apk_program, tree)
    original = feed.add(
        "libdemo",
        "1.2-r3",
        depends=["libc>=1.2", "!other"],
        provides=["demo=1.2-r3", "any"],
        abi="7",
        files={
            "usr/bin/demo": b"#!/bin/sh\n",
            "usr/share/doc": b"words",
            "etc/demo": b"x",
            "usr/empty": b"",
        },
        post_install="echo installed",
    )
    work.mkdir()
    view = open_view(tree, work, Log())
    index = own_apk_index(tree, view, work, Log())
    (package,) = (each for each in parse_apk_index(index) if each.name == "libdemo7")
    check_apk_file(original, package)
    content = read_apk(original, package)
    assert {path for path, entry in content.tree.items() if entry.kind == "file"} == {
        *("/usr/bin/demo", "/usr/share/doc", "/etc/demo", "/usr/empty"),
    }
    assert content.scripts == {"post-install": b"#!/bin/sh\necho installed\n"}

    rules = ("-|/usr/share", "=|/usr/bin/demo|750")
    done = repack(content, rules, Apk()).content
    assert done.package == declare(package, rules, Apk())
    tree_made = done.tree.merged({"/usr/bin/d": symlink("demo"), "/var/lib/demo": folder(0o700)})
    done = replace(done, tree=tree_made)
    files = [write_apk(tmp_path / name, done, view, work, Log(), epoch=EPOCH) for name in ("1", "2")]
    assert files[0].sha256 == files[1].sha256
    assert not list((work / "tmp").iterdir())
    (work / "dl").mkdir(exist_ok=True)
    (work / "dl" / files[0].path.name).write_bytes(files[0].path.read_bytes())
    indexed = make_index(view, work, [view.work / "dl" / files[0].path.name], Log(), sign_with=None)
    (again,) = parse_apk_index(indexed)
    check_apk_file(files[0].path, again)
    sizes = {"identity": "", "filename": "", "size": 0, "installed_size": 0}
    assert replace(again, **sizes) == replace(declare(package, rules, Apk()), **sizes)
    assert again.extra == package.extra
    assert again.installed_size == files[0].installed_size
    assert read_apk(files[0].path, again) == replace(done, package=again)

    asked = plan_install(view, work, [index, indexed], ["libdemo7"], Log(), arch=ARCH)
    assert asked[-1] == ("libdemo7", done.package.version)
