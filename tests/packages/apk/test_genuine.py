"""apk trees with a genuine apk 3, given with --apk PROGRAM: feeds and packages that it made are verified,
planned, fetched, indexed and installed in the sandbox."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from imagebuilder.host.fs import sha256_of
from imagebuilder.host.run import ProgramError, clean_environment, run
from imagebuilder.host.sandbox import PrivateView, open_view
from imagebuilder.log import Log
from imagebuilder.model.package import Package, Selected
from imagebuilder.packages.apk.apk import needed_by, parse_index, picked, with_abi_suffixes
from imagebuilder.packages.apk.feed import (
    apk_feeds_of,
    feed_indexer,
    in_used_tree,
    lay_apk_feed,
    lay_apk_repositories,
    own_apk_index,
)
from imagebuilder.packages.apk.file import WrongPackageError, check_apk_file
from imagebuilder.packages.apk.tool import (
    PROGRAM,
    ApkError,
    ApkRefusalError,
    make_index,
    pinned_versions,
    plan_install,
    words_for_apk,
)
from imagebuilder.packages.apk.version import compare, is_valid
from imagebuilder.packages.feed import FEED, FeedError, in_folder
from imagebuilder.packages.resolution import ways_of
from imagebuilder.tree.tree import read_tree, settings_of
from imagebuilder.trust.signature import UnknownKeyError, WrongSignatureError
from imagebuilder.trust.signature_adb import read_apk_key, tree_apk_keys, verify_adb
from imagebuilder.trust.signing_key import lay_tree_key
from tests.packages.apk.test_version import SIGNS
from tests.support.apk_tree import (
    ARCH,
    FEED_PATH,
    PROFILE,
    PROFILE_PACKAGES,
    RELEASE,
    VERSIONS,
    Feed,
    fill_feed,
    make_key,
    make_tree,
)

pytestmark = pytest.mark.genuine


@dataclass(frozen=True)
class World:
    """A tree, its feed on a server, and the folder in which a build would work."""

    tree: Path
    feed: Feed
    work: Path

    def view(self) -> PrivateView:
        """A sandbox on the tree, with the tree's key in it."""
        self.work.mkdir()
        view = open_view(self.tree, self.work, Log())
        assert lay_tree_key(self.tree, settings_of(self.tree), view, None)
        return view

    def packages(self) -> tuple[Package, ...]:
        return parse_index((self.feed.folder / "packages.adb").read_bytes())


@pytest.fixture
def world(apk_program: Path, tmp_path: Path) -> World:
    private, public = make_key(tmp_path / "server", "openwrt-25.12")
    tree = tmp_path / "tree"
    make_tree(apk_program, tree, keys=[public], feeds=[f"https://downloads.example.org/{FEED_PATH}"])
    feed = fill_feed(Feed(apk_program, tmp_path / "server" / FEED_PATH, private))
    return World(tree, feed, tmp_path / "work")


def test_versions_are_ordered_as_apk_orders_them(apk_program: Path) -> None:
    chosen = random.Random(25)
    parts = (".0", ".1", ".10", ".01", "a", "_rc1", "_p2", "_git20240101", "~ab", "~abc", "-r1", "-r10", ".")
    for _ in range(100):
        one, other = (
            chosen.choice("19") + "".join(chosen.sample(parts, chosen.randrange(4))) for _ in range(2)
        )
        said = run([str(apk_program), "version", "-t", one, other], check=False).stdout.strip()
        assert bool(said) == (is_valid(one) and is_valid(other)), (one, other)
        assert not said or compare(one, other) == SIGNS[said], (one, said, other)


def test_an_index_by_apk_is_verified_and_read(world: World, tmp_path: Path) -> None:
    data = (world.feed.folder / "packages.adb").read_bytes()
    assert verify_adb(data, tree_apk_keys(world.tree), "packages.adb").name == "openwrt-25.12.pem"
    packages = {package.filename: package for package in parse_index(data)}
    assert sorted(packages) == sorted(path.name for path in world.feed.listed)
    library = packages["libustream20201210-2025.10.03~f0bd0ae8-r1.apk"]
    assert (library.plain_name, library.abi_version) == ("libustream", "20201210")
    assert packages["libpython3-3.13-3.13.9-r2.apk"].plain_name == "libpython3"
    for path in world.feed.listed:
        check_apk_file(path, packages[path.name])
    _, other = make_key(tmp_path / "others", "other")
    with pytest.raises(UnknownKeyError):
        verify_adb(data, [read_apk_key(other)], "packages.adb")
    unpacked = run([str(world.feed.apk), "adbdump", str(world.feed.folder / "packages.adb")]).stdout
    assert unpacked.count("  - name:") >= len(packages)


@pytest.mark.parametrize("packed", ["none", "deflate", "deflate:9", "zstd", "zstd:19"])
def test_packages_in_any_container(world: World, packed: str, tmp_path: Path) -> None:
    light = next(path for path in world.feed.listed if path.name.startswith("python3-light"))
    other = tmp_path / light.name
    (listed,) = (each for each in world.packages() if each.filename == light.name)
    run([str(world.feed.apk), "adbsign", "--allow-untrusted", "--compression", packed, str(light)])
    other.write_bytes(light.read_bytes())
    check_apk_file(other, replace(listed, size=0))  # packed in another way it is the same package
    data = bytearray(other.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(data)
    with pytest.raises(WrongPackageError):
        check_apk_file(other, replace(listed, size=0))


def asked(world: World, add: Sequence[str] = (), remove: Sequence[str] = ()) -> list[str]:
    """The list as make puts it together, without pins."""
    defaults = {*PROFILE_PACKAGES, "base-files", "busybox", "dnsmasq", "dropbear", "libc", "libustream"}
    gone = {*remove, *(name[1:] for name in PROFILE_PACKAGES if name.startswith("-"))}
    names = [*add, *sorted({*defaults, "kernel"})]
    return [name for name in names if name not in gone and not name.startswith("-")]


def planned(
    world: World, view: PrivateView, names: Sequence[str], pins: dict[str, str] | None = None
) -> tuple[Package, ...]:
    own = own_apk_index(world.tree, view, world.work, Log())
    index = (world.feed.folder / "packages.adb").read_bytes()
    offers = [*parse_index(own), *parse_index(index)]
    words = words_for_apk(with_abi_suffixes(names, offers), pinned_versions(world.tree), pins or {})
    chosen = plan_install(view, world.work, [own, index], words, Log(), arch=ARCH)
    return picked(chosen, offers)


def test_a_tree_says_what_it_is(world: World) -> None:
    view = world.view()
    tree = read_tree(world.tree, lambda: view, world.work / "cache", Log())
    assert (tree.package_manager, tree.version, tree.arch) == ("apk", RELEASE, ARCH)
    assert tree.profiles[PROFILE].packages == PROFILE_PACKAGES
    assert apk_feeds_of(world.tree) == {"base": f"https://downloads.example.org/{FEED_PATH}"}
    assert pinned_versions(world.tree) == VERSIONS
    own = parse_index(own_apk_index(world.tree, view, world.work, Log()))
    assert {package.name: package.version for package in own} == VERSIONS


def test_apk_plans_what_make_would_install(world: World) -> None:
    view = world.view()
    chosen = planned(world, view, asked(world, ["python3"]))
    names = [package.name for package in chosen]
    assert sorted(names) == [
        *("base-files", "busybox", "dnsmasq-full", "dropbear", "kernel", "kmod-mwlwifi", "libc"),
        *("libpython3-3.13", "libustream20201210", "python3", "python3-base", "python3-light"),
    ]
    assert names.index("libc") < names.index("python3-base") < names.index("python3")
    assert next(each for each in chosen if each.name == "python3").version == "3.13.9-r2"
    needed = needed_by(with_abi_suffixes(asked(world, ["python3"]), world.packages()), chosen)
    why = ways_of(needed, lambda _: "who asked")
    assert why["libpython3-3.13"] == (
        "who asked",
        "python3",
        "python3-light",
        "python3-base",
        "libpython3-3.13",
    )
    assert why["libustream20201210"] == ("who asked", "libustream20201210")
    assert set(why) == set(names)
    pinned = planned(world, view, asked(world, ["python3"]), {"python3": "3.13.8-r1"})
    assert next(each for each in pinned if each.name == "python3").version == "3.13.8-r1"
    kept = planned(world, view, asked(world, remove=["kernel", "kmod-mwlwifi", "base-files"]))
    assert {"kernel", "base-files"} <= {package.name for package in kept}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["nosuch"], "nosuch (no such package):\n    required by: world[nosuch]"),
        (["dangling"], "nowhere (no such package):\n    required by: dangling-1-r1[nowhere]"),
        (["dnsmasq", "dnsmasq-full"], "dnsmasq-full-2.91-r2[!dnsmasq]"),
    ],
)
def test_what_apk_cannot_install_it_says(world: World, names: list[str], words: str) -> None:
    with pytest.raises(ApkRefusalError) as error:
        planned(world, world.view(), names)
    assert words in error.value.words
    assert error.value.message.startswith("the tree's apk cannot install these packages together:\n")


def test_an_index_that_apk_cannot_read(world: World) -> None:
    view = world.view()
    with pytest.raises(ApkError, match="cannot read an index: .*packages.adb: "):
        plan_install(view, world.work, [b"ADB.nothing"], [], Log(), arch=ARCH)
    with pytest.raises(ApkError, match="could not make an index:\n.*Makefile"):
        make_index(view, world.work, [view.tree / "Makefile"], Log(), sign_with=None)


def laid_feed(world: World, view: PrivateView, chosen: Sequence[Package]) -> Path:
    from_feed = {package.identity for package in world.packages()}
    wanted = [Selected(each, (each.name,)) for each in chosen if each.identity in from_feed]
    indexer = feed_indexer(view, world.tree, world.work, Log())
    lay_apk_feed(world.work / FEED, wanted, [in_folder(world.feed.folder)], indexer)
    lay_apk_repositories(view)
    return world.work / FEED


def made_image(world: World, view: PrivateView, packages: str) -> str:
    """`make image` in the view; what it prints."""
    for name in ("bin", "home", "dl"):
        (world.work / name).mkdir()
    argv = ["make", "image", f"PROFILE={PROFILE}", f"PACKAGES={packages}"]
    argv += [f"BIN_DIR={view.work}/bin", f"DL_DIR={view.work}/dl"]
    return run(view.command(argv), env=clean_environment(HOME=f"{view.work}/home")).stdout


def test_a_hermetic_feed_is_indexed_signed_and_installed_without_network(world: World) -> None:
    view = world.view()
    chosen = planned(world, view, asked(world, ["python3", "scripts"]))
    feed = laid_feed(world, view, chosen)
    data = (feed / "packages.adb").read_bytes()
    key = read_apk_key(view.changed / "keys/local-public-key.pem")
    assert verify_adb(data, [key], "packages.adb") is key
    from_feed = {package.identity for package in world.packages()}
    listed = {package.identity: package for package in parse_index(data)}
    assert set(listed) == {package.identity for package in chosen} & from_feed
    printed = made_image(world, view, "python3 scripts")
    assert "Installing packages..." in printed
    (manifest,) = (world.work / "bin").glob("*.manifest")
    lines = sorted(f"{package.name} - {package.version}" for package in chosen)
    assert manifest.read_text().splitlines() == lines
    (image,) = (world.work / "bin").glob("*-sysupgrade.bin")
    members = run(["tar", "-tf", str(image)]).stdout.splitlines()
    assert {"./usr/x", "./etc/openwrt_release", "./etc/rc.d/S19dropbear"} <= set(members)
    assert not (world.tree / "build_dir").exists()
    assert not list((world.work / "dl").iterdir())


def test_two_installations_are_equal(world: World) -> None:
    images = []
    for name in ("first", "second"):
        other = replace(world, work=world.work.with_name(name))
        view = other.view()
        laid_feed(other, view, planned(other, view, asked(other, ["python3"])))
        made_image(other, view, "python3")
        (image,) = (other.work / "bin").glob("*-sysupgrade.bin")
        images.append(sha256_of(image))
        time.sleep(1.1)
    assert images[0] == images[1]


def test_make_takes_nothing_that_the_hermetic_feed_does_not_have(world: World) -> None:
    view = world.view()
    laid_feed(world, view, planned(world, view, asked(world)))
    with pytest.raises(ProgramError) as error:
        run(view.command(["make", "image", f"PROFILE={PROFILE}", "PACKAGES=python3"]))
    assert "python3 (no such package)" in error.value.tail


def test_a_feed_signed_by_somebody_else_is_not_taken(world: World, tmp_path: Path) -> None:
    view = world.view()
    feed = laid_feed(world, view, planned(world, view, asked(world)))
    private, _ = make_key(tmp_path / "others", "other")
    argv = [
        str(world.feed.apk),
        "adbsign",
        "--allow-untrusted",
        "--reset-signatures",
        "--sign-key",
        str(private),
    ]
    run([*argv, str(feed / "packages.adb")])
    with pytest.raises(ProgramError, match="no such package"):
        run(view.command(["make", "image", f"PROFILE={PROFILE}"]))
    with pytest.raises((UnknownKeyError, WrongSignatureError)):
        verify_adb((feed / "packages.adb").read_bytes(), tree_apk_keys(world.tree), "packages.adb")


def test_all_that_is_missing_or_damaged_is_named(world: World) -> None:
    view = world.view()
    packages = {package.name: package for package in world.packages()}
    for name, damage in (("busybox", b""), ("dropbear", b"x")):
        path = world.feed.folder / packages[name].filename
        path.write_bytes(damage + path.read_bytes()[1:]) if damage else path.unlink()
    wanted = [Selected(packages[name], ("scripts", name)) for name in ("busybox", "dropbear", "scripts")]
    indexer = feed_indexer(view, world.tree, world.work, Log())
    with pytest.raises(FeedError) as error:
        lay_apk_feed(world.work / FEED, wanted, [in_folder(world.feed.folder)], indexer)
    missing, damaged = error.value.message.splitlines()
    assert missing == "package 'busybox' is missing: nothing has busybox-1.37.0-r6.apk (scripts needs it)"
    assert damaged.startswith("package 'dropbear' is damaged: ")


def test_the_cache_of_a_used_tree_is_a_source(world: World, tmp_path: Path) -> None:
    """apk's cache, filled by apk: `name-version.HASH.apk`."""
    cache, root = tmp_path / "dl", tmp_path / "root"
    cache.mkdir()
    root.mkdir()
    (tmp_path / "repositories").write_text(f"{world.feed.folder}/packages.adb\n")
    argv = [str(world.feed.apk), "--root", str(root), "--allow-untrusted", "--arch", ARCH]
    argv += ["--repositories-file", str(tmp_path / "repositories")]
    run([*argv, "add", "--initdb"])
    fetched = run([*argv, "fetch", "--output", str(cache), "scripts"]).stdout
    assert "scripts" in fetched
    (scripts,) = (package for package in world.packages() if package.name == "scripts")
    (cache / scripts.filename).rename(cache / f"scripts-1-r1.{scripts.identity[:8]}.apk")
    found = in_used_tree(cache)(scripts)
    assert found is not None
    check_apk_file(found, scripts)


def test_the_sandbox_runs_the_trees_own_apk(world: World) -> None:
    view = world.view()
    assert run(view.command([PROGRAM, "--version"])).stdout.startswith("apk-tools 3.")
    assert plan_install(view, world.work, [], [], Log(), arch=ARCH) == ()
    own = own_apk_index(world.tree, view, world.work, Log())
    only = plan_install(view, world.work, [own], ["libc"], Log(), arch=ARCH)
    assert only == (("libc", VERSIONS["libc"]),)
    assert list((world.work / "tmp").iterdir()) == []
