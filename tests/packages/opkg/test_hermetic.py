"""Hermetic feeds, the kept index, and builds that are equal twice: on small data, the kit, a genuine tree."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.config.request import requests
from imagebuilder.errors import HostError
from imagebuilder.host.fs import sha256_of
from imagebuilder.host.run import clean_environment, run
from imagebuilder.host.sandbox import PrivateView, open_view
from imagebuilder.log import Event, Log, Warned
from imagebuilder.model.package import Dependency, Package, Selected
from imagebuilder.model.result import ImageFile
from imagebuilder.model.tree import Places, TreeError
from imagebuilder.packages.feed import FEED, FeedError, in_folder
from imagebuilder.packages.opkg.feed import (
    FEED_NAME,
    OWN_FEED,
    architectures_of,
    base_packages,
    feeds_of,
    lay_feed,
    lay_lists,
    lay_own_index,
    lay_repositories,
    own_index,
    used_indexes,
)
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.ipk_reader import read_control
from imagebuilder.packages.opkg.opkg import read_index
from imagebuilder.packages.resolution import ResolutionError
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.tree import reproducible
from imagebuilder.tree.collect import BuildError
from imagebuilder.tree.make import GIVEN_HOOKS, make_image, pass_host_check
from imagebuilder.tree.plan import Plan
from imagebuilder.tree.reproducible import (
    BuildRecord,
    ReproducibilityError,
    check_equal,
    differences,
    record_build,
    settle_makefile,
    source_date_epoch,
    steady_tools,
)
from tests.support.planning import plan_image
from tests.support.wanted_making import from_feeds
from tests.whole.test_genuine import digest_of

EPOCH = 1_561_119_851
MakePackage = Callable[..., Package]


def needs(*names: str) -> tuple[tuple[Dependency, ...], ...]:
    return tuple((Dependency(name),) for name in names)


@pytest.fixture
def make_package(tmp_path: Path) -> MakePackage:
    """Writes a package into a folder; its facts as an index has them."""

    def make(name: str, *depends: str, folder: Path = tmp_path / "dl", epoch: int = EPOCH) -> Package:
        facts = Package(name, "1", depends=needs(*depends), description=f"{name}\n with two lines")
        return write_ipk(folder, facts, EMPTY, epoch=epoch).package

    return make


def view_on(changed: Path) -> PrivateView:
    changed.mkdir(exist_ok=True)
    return PrivateView("overlay", Path("/builder/tree"), Path("/builder/work"), changed)


# --- feeds


def test_a_feed_holds_exactly_the_packages_and_their_index(make_package: MakePackage, tmp_path: Path) -> None:
    luci, uhttpd = make_package("luci", "uhttpd"), make_package("uhttpd")
    make_package("other")
    feed = tmp_path / "feed"
    wanted = from_feeds(["luci"], [], [luci, replace(uhttpd, filename=f"sub/{uhttpd.filename}")])
    assert [each.why for each in wanted] == [("luci", "uhttpd"), ("luci",)]
    laid = lay_feed(feed, wanted, [in_folder(tmp_path / "no"), in_folder(tmp_path / "dl")])
    assert [path.name for path in laid] == ["uhttpd_1_all.ipk", "luci_1_all.ipk"]
    names = sorted(path.name for path in feed.iterdir())
    assert names == ["Packages", "Packages.gz", "luci_1_all.ipk", "uhttpd_1_all.ipk"]
    assert read_index(feed / "Packages") == read_index(feed / "Packages.gz") == (luci, uhttpd)


def test_a_size_that_the_index_does_not_tell_is_not_compared(
    make_package: MakePackage, tmp_path: Path
) -> None:
    luci = make_package("luci")
    for number, size in enumerate((0, luci.size)):
        wanted = [Selected(replace(luci, size=size), ("luci",))]
        assert lay_feed(tmp_path / f"feed{number}", wanted, [in_folder(tmp_path / "dl")])
    for other in (replace(luci, size=luci.size + 1), replace(luci, size=0, sha256="0" * 64)):
        with pytest.raises(FeedError, match="is damaged"):
            lay_feed(tmp_path / "no", [Selected(other, ("luci",))], [in_folder(tmp_path / "dl")])
        (tmp_path / "no").rmdir()


def test_the_architectures_that_a_tree_takes(tmp_path: Path) -> None:
    lines = "src imagebuilder file:packages\n  arch  other 10\n#arch no 5\narch mips_24kc 200\narch broken\n"
    (tmp_path / "repositories.conf").write_text(lines)
    assert architectures_of(tmp_path, "mips_24kc") == ("all", "mips_24kc", "other")


def test_laying_a_feed_changes_nothing_of_the_files_that_it_takes(
    make_package: MakePackage, tmp_path: Path
) -> None:
    """Not even the time of their status, by which make (find -cnewer) tells whether an index is old."""
    package = make_package("luci")
    file = tmp_path / "dl/luci_1_all.ipk"
    before = file.stat()
    wanted = [Selected(package, ("luci",))]
    (laid,) = lay_feed(tmp_path / "feed", wanted, [in_folder(tmp_path / "dl")])
    assert laid.read_bytes() == file.read_bytes()
    assert (file.stat().st_ctime_ns, file.stat().st_nlink) == (before.st_ctime_ns, 1)


def test_what_the_tree_has_itself_comes_from_no_feed(make_package: MakePackage) -> None:
    libc, luci = make_package("libc"), make_package("luci", "libc")
    (wanted,) = from_feeds(["luci", "libc"], [libc], [luci, replace(libc)])
    assert wanted.package is luci
    with pytest.raises(ResolutionError, match="no feed has libc, which luci needs"):
        from_feeds(["luci"], [], [luci])


def test_all_that_is_missing_or_damaged_is_named_with_what_wants_it(
    make_package: MakePackage, tmp_path: Path
) -> None:
    luci, uhttpd, lua = make_package("luci", "uhttpd"), make_package("uhttpd", "lua"), make_package("lua")
    (tmp_path / "dl/uhttpd_1_all.ipk").unlink()
    damaged = tmp_path / "dl/lua_1_all.ipk"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    unknown = Selected(Package("x", "1", filename="x.ipk"), ("x",))
    wanted = (*from_feeds(["luci"], [], [luci, uhttpd, lua]), unknown)
    with pytest.raises(FeedError) as error:
        lay_feed(tmp_path / "feed", wanted, [in_folder(tmp_path / "dl")])
    lines = error.value.message.splitlines()
    assert lines[0].startswith(f"package 'lua' is damaged: {damaged} is not")
    assert lines[0].endswith("(luci -> uhttpd needs it)")
    assert lines[1] == "package 'uhttpd' is missing: nothing has uhttpd_1_all.ipk (luci needs it)"
    assert lines[2].startswith("package 'x' has no SHA256 in its index")
    assert lines[2].endswith("(it was asked for)")
    hints = (error.value.hint or "").split("; ")
    assert [hint.split()[0] for hint in hints] == ["remove", "fetch", "make"]
    with pytest.raises(FeedError) as error:
        lay_feed(tmp_path / "again", from_feeds(["lua"], [], [lua]), [in_folder(tmp_path / "dl")])
    assert error.value.hint == hints[0]


def test_a_damaged_file_is_replaced_by_a_good_one_elsewhere(
    make_package: MakePackage, tmp_path: Path
) -> None:
    package = make_package("luci")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / package.filename).write_bytes(b"x" * package.size)
    finders = [in_folder(tmp_path / "bad"), in_folder(tmp_path / "dl")]
    (file,) = lay_feed(tmp_path / "feed", [Selected(package, ("luci",))], finders)
    assert sha256_of(file) == package.sha256


@pytest.mark.parametrize("name", ["../secret.ipk", "/secret.ipk", "a/../../secret.ipk", "", ".."])
def test_an_index_names_no_files_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.ipk").touch()
    (tmp_path / "a").mkdir()
    assert in_folder(tmp_path / "a")(Package("x", "1", filename=name)) is None


REPOSITORIES = """\
## comment
option check_signature
option overlay_root /overlay
src/gz reboot_core http://downloads.example/core
src/gz reboot_base http://downloads.example/base
# src/gz not http://downloads.example/not
src imagebuilder file:packages
"""


def test_the_views_repositories(tmp_path: Path) -> None:
    (tmp_path / "dl").mkdir()
    (tmp_path / "dl/reboot_base").touch()
    (tmp_path / "repositories.conf").write_text(REPOSITORIES)
    urls = {"reboot_core": "http://downloads.example/core", "reboot_base": "http://downloads.example/base"}
    assert feeds_of(tmp_path) == urls
    assert used_indexes(tmp_path) == {"reboot_base": tmp_path / "dl/reboot_base"}
    lay_repositories(tmp_path, view_on(tmp_path / "upper"))
    assert (tmp_path / "upper/repositories.conf").read_text().splitlines() == [
        "option overlay_root /overlay",
        "src hermetic file:/builder/work/feed",
        "src imagebuilder file:packages",
    ]


PLACES = Places(root="build_dir/target-x/root-y")


def test_opkg_finds_its_lists_where_a_fork_does_not_update_them(
    make_package: MakePackage, tmp_path: Path
) -> None:
    package = make_package("luci")
    for name in ("dl", "make"):
        (tmp_path / "work" / name).mkdir(parents=True)
    own = tmp_path / "work/make/Packages"
    lay_lists(tmp_path / "work")  # a build that takes all from the tree's dl/
    assert not list((tmp_path / "work/dl").iterdir())
    own.write_text("Package: own\nVersion: 1\n\n")
    feed = tmp_path / "work" / FEED
    lay_feed(feed, [Selected(package, ("luci",))], [in_folder(tmp_path / "dl")])
    lay_lists(tmp_path / "work")
    lists = {path.name: path for path in (tmp_path / "work/dl").iterdir()}
    assert set(lists) == {FEED_NAME, OWN_FEED.split()[1]}  # as repositories.conf names them
    assert read_index(lists[FEED_NAME]) == (package,)
    assert lists["imagebuilder"].read_text() == own.read_text()


# --- the index of the tree's own packages

INDEX_TREE = """\
image:
\t$(MAKE) package_reload
package_reload:
\t@test -z "`find packages -cnewer packages/Packages.gz`" && echo up to date || echo made anew
"""
# as LEDE's first releases and forks of them
INLINE_TREE = """\
image:
\t$(MAKE) -s _call_image
_call_image:
\t@test -z "`find packages -cnewer packages/Packages.gz`" && echo up to date || echo made anew
"""


def test_the_own_index_is_kept_and_is_the_files(
    make_package: MakePackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "tree/packages"
    one = make_package("one", "libc", folder=packages)
    make_package("libc", folder=packages)
    make_package("kernel", folder=packages)
    index = own_index(tmp_path / "tree", tmp_path / "cache")
    assert read_index(index) == (one,)
    names = [path.name for path in base_packages(tmp_path / "tree", Places())]
    assert names == ["libc_1_all.ipk", "kernel_1_all.ipk"]

    def never(*_: object) -> str:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr("imagebuilder.packages.opkg.feed.index_of", never)
        assert own_index(tmp_path / "tree", tmp_path / "cache") == index
    make_package("one", folder=packages, epoch=1)
    assert own_index(tmp_path / "tree", tmp_path / "cache") != index


def test_libc_and_kernel_lie_where_the_makefile_looks(make_package: MakePackage, tmp_path: Path) -> None:
    """From 21.02 on beside the kernel's .config; before that its folder is not looked at."""
    linux = "build_dir/target-mips_24kc_musl/linux-ath79_generic/linux-5.15.137"
    places = Places(linux=linux)
    for folder in ("packages", linux):
        for name in ("libc", "kernel"):
            make_package(name, folder=tmp_path / folder)
    (tmp_path / "Makefile").write_text(
        "\t$(OPKG) install $(firstword $(wildcard $(LINUX_DIR)/kernel_*.ipk $(PACKAGE_DIR)/kernel_*.ipk))\n"
    )
    found = base_packages(tmp_path, places)
    assert [(path.parent, path.name) for path in found] == [
        (tmp_path / linux, "libc_1_all.ipk"),
        (tmp_path / linux, "kernel_1_all.ipk"),
    ]
    found[1].unlink()
    assert base_packages(tmp_path, places)[1] == tmp_path / "packages/kernel_1_all.ipk"
    (tmp_path / "Makefile").write_text(
        "\t$(OPKG) install $(firstword $(wildcard $(PACKAGE_DIR)/libc_*.ipk))\n"
    )
    assert {path.parent for path in base_packages(tmp_path, places)} == {tmp_path / "packages"}


def test_a_tree_without_the_packages_that_make_installs_by_their_files_is_told_before_make(
    make_package: MakePackage, tmp_path: Path
) -> None:
    """A tree that lost its packages/ planned well, and make failed; trees of other kinds do without."""
    installs = (
        "\t$(OPKG) install $(firstword $(wildcard $(PACKAGE_DIR)/{0}_*.ipk $(PACKAGE_DIR)/base/{0}_*.ipk))\n"
    )
    (tmp_path / "Makefile").write_text(installs.format("libc") + installs.format("kernel"))
    with pytest.raises(TreeError, match=r"no package libc and no package kernel.* none in packages$"):
        base_packages(tmp_path, Places())
    make_package("libc", folder=tmp_path / "packages/base")
    with pytest.raises(TreeError, match="has no package kernel, which make installs by its file"):
        base_packages(tmp_path, Places())
    make_package("kernel", folder=tmp_path / "packages")
    assert len(base_packages(tmp_path, Places())) == 2
    (tmp_path / "Makefile").write_text("image:\n\ttrue\n")
    assert base_packages(tmp_path, Places(packages="none")) == ()
    beside = (
        "\t$(OPKG) install $(firstword $(wildcard $(LINUX_DIR)/kernel_*.ipk $(PACKAGE_DIR)/kernel_*.ipk))\n"
    )
    (tmp_path / "Makefile").write_text(beside)
    assert base_packages(tmp_path, Places(packages="none")) == ()  # where else it looks is not known
    with pytest.raises(TreeError, match="no package kernel.* none in build_dir/linux, none$"):
        base_packages(tmp_path, Places(packages="none", linux="build_dir/linux"))


@pytest.mark.parametrize("makefile", [INDEX_TREE, INLINE_TREE])
@pytest.mark.parametrize("kind", ["overlay", "copy"])
def test_make_finds_the_laid_index_up_to_date(
    tmp_path: Path, kind: str, makefile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "copy":
        monkeypatch.setattr("imagebuilder.host.sandbox._NAMESPACES", (("false",),) * 2)
    tree, work = tmp_path / "tree", tmp_path / "work"
    (tree / "packages").mkdir(parents=True)
    (tree / "Makefile").write_text(makefile)
    work.mkdir()
    (tmp_path / "index").write_text("Package: x\nVersion: 1\n\n")
    view = open_view(tree, work, Log())
    lay_own_index(tmp_path / "index", tree, view, work)
    for _ in range(3):
        run(view.command(["sh", "-c", "ls packages; touch packages/more.ipk"]))
        env = clean_environment(MAKEFILES=f"/builder/work/make/{GIVEN_HOOKS}")
        assert "up to date" in run(view.command(["make", "-s", "image"]), env=env).stdout
    assert (view.changed / "packages/Packages").read_text().startswith("Package: x")


# --- equal builds


def test_the_time_of_a_tree(make_package: MakePackage, tmp_path: Path) -> None:
    assert source_date_epoch(tmp_path) == 0
    make_package("a", folder=tmp_path / "packages", epoch=5)
    assert source_date_epoch(tmp_path) == 5
    make_package("kernel", folder=tmp_path / "packages", epoch=6)
    assert source_date_epoch(tmp_path) == 6
    (tmp_path / ".config").write_text('CONFIG_X=y\nCONFIG_KIT_SOURCE_DATE_EPOCH="7"\n')
    assert source_date_epoch(tmp_path) == 7
    (tmp_path / "include").mkdir()
    (tmp_path / "include/version.mk").write_text("# SOURCE_DATE_EPOCH:=x\n")
    assert source_date_epoch(tmp_path) == 7
    (tmp_path / "include/version.mk").write_text("X:=1\nSOURCE_DATE_EPOCH:=8\n")
    assert source_date_epoch(tmp_path) == 8
    (tmp_path / "version.date").write_text("9\n")
    assert source_date_epoch(tmp_path) == 9


@pytest.mark.parametrize("content", [b"", b"no package", b"\x1f\x8b\x08broken"])
def test_a_damaged_package_tells_no_time(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/kernel_1_all.ipk").write_bytes(content)
    with pytest.raises(TreeError, match=r"kernel_1_all\.ipk"):
        source_date_epoch(tmp_path)


def test_the_trees_check_of_the_build_system_is_passed(tmp_path: Path) -> None:
    tree, view = tmp_path / "tree", view_on(tmp_path / "upper")
    check, stamp = tree / "include/prereq-build.mk", Path("staging_dir/host/.prereq-build")
    assert not pass_host_check(tree, view)  # such as the kit, which has none
    check.parent.mkdir(parents=True)
    check.write_text("Please install Python >= 3.5")
    assert pass_host_check(tree, view)
    assert (view.changed / stamp).is_file()
    (tree / stamp).parent.mkdir(parents=True)
    (tree / stamp).touch()
    os.utime(tree / stamp, (0, 0))
    assert pass_host_check(tree, view)  # make would run it again: its makefile is newer
    os.utime(check, (0, 0))
    assert not pass_host_check(tree, view)
    (tree / stamp).unlink()
    (tree / "include/prepare.mk").touch()
    assert not pass_host_check(tree, view)  # the goal does more than to check


SETTLING = """\
TARGET_DIR := $(CURDIR)/root
build_image:
\t@stat -c '%n %Y' root root/link root/usr/lib/opkg/status; cat root/usr/lib/opkg/status
last:
\t@echo Installed-Time: 2 >> root/usr/lib/opkg/status
"""


def test_the_root_file_system_is_dated(tmp_path: Path) -> None:
    (tmp_path / "root/usr/lib/opkg").mkdir(parents=True)
    (tmp_path / "root/usr/lib/opkg/status").write_text("Package: a\nInstalled-Time: 17\n")
    (tmp_path / "root/link").symlink_to("nowhere")
    (tmp_path / "Makefile").write_text(SETTLING)
    (tmp_path / "hooks.mk").write_text(settle_makefile(["last"]))
    env = clean_environment(MAKEFILES="hooks.mk", SOURCE_DATE_EPOCH="1561119851")
    assert run(["make", "-s", "build_image"], cwd=tmp_path, env=env).stdout.splitlines() == [
        "root 1561119851",
        "root/link 1561119851",
        "root/usr/lib/opkg/status 1561119851",
        "Package: a",
        "Installed-Time: 1561119851",
        "Installed-Time: 1561119851",
    ]


ECHO = """\
#!/bin/sh
# mksquashfs version 4.2 (2011/02/28)
for word; do
    printf '<%s>' "$word"
    [ "$last" != -sort ] || [ ! -f "$word" ] || sorted="$word"
    last="$word"
done
# as its read_sort_file() does: a word, a number; what is meant by it goes by the inode
[ -z "$sorted" ] || while read -r path priority rest; do
    [ -z "$rest" ] && found="$(find "$1" -samefile "$path" -printf '%P')" || found="nothing: $path"
    printf '\\n%s %s' "$found" "$priority"
done < "$sorted"
"""


@pytest.fixture
def tools(tmp_path: Path) -> Callable[..., str]:
    return _tools(tmp_path)


def _tools(tmp_path: Path) -> Callable[..., str]:
    """Lays stand-ins for programs that print their arguments, and calls one of them."""
    tree = tmp_path / "tree"
    (tree / reproducible.TOOLS).mkdir(parents=True)
    for name in ("mksquashfs4", "ubinize", "mkfs.fat", "mcopy"):
        (tree / reproducible.TOOLS / name).write_text(ECHO)
        (tree / reproducible.TOOLS / name).chmod(0o755)
    view = PrivateView("overlay", tmp_path / "upper", tmp_path, tmp_path / "upper")
    view.changed.mkdir()
    assert steady_tools(tree, view, Log()) == ("mksquashfs4", "ubinize", "mkfs.fat", "mcopy")
    assert steady_tools(tree, view, Log()) != ()  # again, on the same view

    def call(name: str, *arguments: str) -> str:
        env = clean_environment(SOURCE_DATE_EPOCH=str(EPOCH))
        program = str(view.changed / reproducible.TOOLS / name)
        return run([program, *arguments], env=env, cwd=tmp_path).stdout

    return call


def test_stand_ins_add_what_makes_programs_steady(tools: Callable[..., str], tmp_path: Path) -> None:
    assert tools("ubinize", "-o", "x y", "c") == f"<-Q><{EPOCH}><-o><x y><c>"
    assert tools("ubinize", "-Q", "5", "c") == "<-Q><5><c>"
    assert tools("mkfs.fat", "-C", "x", "9") == f"<-i><{EPOCH:08x}><-C><x><9>"
    assert tools("mkfs.fat", "-i", "ab", "x") == "<-i><ab><x>"
    (tmp_path / "boot.bin").touch()
    assert tools("mcopy", "-i", "disk", "boot.bin", "::") == "<-m><-i><disk><boot.bin><::>"
    assert int((tmp_path / "boot.bin").stat().st_mtime) == EPOCH


@pytest.mark.parametrize("places", ["/tmp /dev/shm", "/nothing"])
def test_large_files_come_first_in_a_squashfs(
    tmp_path: Path, places: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the others as mksquashfs walks: folder by folder, each name by its bytes. A name with a blank in it
    cannot be listed: of a copy the file has another name, else it is left out."""
    script = reproducible._MKSQUASHFS.replace("/tmp /dev/shm", places)
    monkeypatch.setitem(reproducible._STAND_INS, "mksquashfs4", script)
    tools = _tools(tmp_path)
    root = tmp_path / "root"
    sizes = {"small": 65535, "with blank": 65536, "b": 100_000, "back\\slash": 131_072}
    sizes |= {"small.d/x": 5, "s-": 5, "s/last": 0, "tab\tand\nline": 5}
    for name, size in sizes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * size)
    walked = ["b", "back\\slash", "s/last", "s-", "small", "small.d/x", "tab\tand\nline", "with blank"]
    for size, large in (("64k", (0, 1, 7)), ("1m", ()), ("131072", (1,))):
        printed, _, order = tools("mksquashfs4", "root", "image", "-b", size).partition("\n")
        packed, *arguments = re.findall("<([^>]*)>", printed)
        assert arguments[:4] == ["image", "-b", size, "-sort"]
        wanted = [walked[i] for i in large] + [name for i, name in enumerate(walked) if i not in large]
        if packed == str(root):
            wanted = [name for name in wanted if name.split() == [name]]
        assert order == "\n".join(f"{name} {32767 - i}" for i, name in enumerate(wanted))
        assert not Path(arguments[4]).exists()
        assert packed == str(root) or not [*Path(packed).parent.glob(f"{Path(packed).name}*")]
    assert tools("mksquashfs4", "root", "image", "-sort", "mine") == "<root><image><-sort><mine>"


LIST = """\
#!/bin/sh
# mksquashfs version 4.2 (2011/02/28)
cd "$1" || exit 1
find . -type d | LC_ALL=C sort | while read -r folder; do
    echo "$folder: $(ls -U "$folder" | tr '\\n' ' ')"
done
find . ! -type f -printf '%p %m %T@ %l\\n' -o -printf '%p %m %T@ %s %n\\n' | LC_ALL=C sort
"""


@pytest.mark.parametrize("places", ["/tmp /dev/shm", "/nothing"])
def test_a_squashfs_is_numbered_alike_on_all_disks(
    tmp_path: Path, places: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mksquashfs 4.2 numbers files as their folders list them: here that is by name."""
    monkeypatch.setitem(
        reproducible._STAND_INS,
        "mksquashfs4",
        reproducible._MKSQUASHFS.replace("/tmp /dev/shm", places),
    )
    program = tmp_path / "tree" / reproducible.TOOLS / "mksquashfs4"
    program.parent.mkdir(parents=True)
    program.write_text(LIST)
    program.chmod(0o755)
    root = tmp_path / "root"
    names = ["é", "a.b", "a/x", "a/-T", "dir/deep/z", "dir/deep/y", "dir/9", *map(str, range(50))]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
        os.utime(root / name, (EPOCH, EPOCH))
    (root / "linked").hardlink_to(root / "a.b")
    (root / "link").symlink_to("dir/9")
    os.utime(root / "link", (EPOCH, EPOCH), follow_symlinks=False)
    (root / "a.b").chmod(0o4711)
    for folder in (root / "dir/deep", root / "dir", root / "a", root):
        folder.chmod(0o751)
        os.utime(folder, (EPOCH, EPOCH))
    view = PrivateView("overlay", tmp_path / "upper", tmp_path, tmp_path / "upper")
    view.changed.mkdir()
    assert steady_tools(tmp_path / "tree", view, Log()) == ("mksquashfs4",)
    packed, plain = (
        run([str(each), str(root), "image"], env=clean_environment(SOURCE_DATE_EPOCH=str(EPOCH)))
        for each in (view.changed / reproducible.TOOLS / "mksquashfs4", program)
    )
    if places == "/nothing":
        assert "on another one the image is another" in packed.stderr
        assert packed.stdout == plain.stdout
        return
    if packed.stderr:
        pytest.skip("there is no file system in memory here")
    folders = [line.partition(": ")[2].split() for line in packed.stdout.splitlines() if ": " in line]
    assert len(folders) == 4
    assert folders == [sorted(each, key=os.fsencode) for each in folders]
    what_it_is = [[line for line in each.stdout.splitlines() if ": " not in line] for each in (packed, plain)]
    assert what_it_is[0] == what_it_is[1]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["+%s"], str(EPOCH)),
        (["-u", "+%Y-%m-%d"], "2019-06-21"),
        (["-u", "-d", "@0", "+%Y"], "1970"),
        (["-u", "--date=@0", "+%Y"], "1970"),
    ],
)
def test_a_trees_makefiles_ask_for_the_time_of_its_sources(
    tmp_path: Path, arguments: list[str], printed: str
) -> None:
    tree = tmp_path / "tree"
    (tree / reproducible.TOOLS).mkdir(parents=True)
    steady_tools(tree, view_on(tmp_path / "upper"), Log())
    program = str(tmp_path / "upper" / reproducible.TOOLS / "date")
    env = clean_environment(SOURCE_DATE_EPOCH=str(EPOCH))
    assert run([program, *arguments], env=env).stdout.strip() == printed
    (tmp_path / "file").touch()
    os.utime(tmp_path / "file", (5, 5))
    assert run([program, "-r", str(tmp_path / "file"), "+%s"], env=env).stdout == "5\n"
    assert int(run([program, "+%s"], env=clean_environment()).stdout) > EPOCH


def test_a_program_that_does_not_race_is_left_alone(tmp_path: Path) -> None:
    program = tmp_path / reproducible.TOOLS / "mksquashfs4"
    program.parent.mkdir(parents=True)
    program.write_text("mksquashfs version 4.3-git")
    assert steady_tools(tmp_path, view_on(tmp_path / "upper"), Log()) == ()


# as OpenWrt's bundle-libraries.sh of 15.05 wrote it, and forks have it in 2019; here without a loader
BUNDLED = """\
#!/usr/bin/env bash
dir="$(dirname "$0")"
bin="$(basename "$0")"
exec "$dir/bundled/lib/run" "$dir/bundled/$bin" "$@"
"""


def bundled_tree(tree: Path, **programs: str) -> Path:
    """A tree whose programs are links to one wrapper, which runs what lies in bundled/."""
    bundled = tree / reproducible.TOOLS / "bundled"
    (bundled / "lib").mkdir(parents=True)
    files = {"run.sh": BUNDLED, "lib/run": '#!/bin/sh\nexec "$@"\n', **programs}
    for name, text in files.items():
        (bundled / name).write_text(text)
        (bundled / name).chmod(0o755)
    for name in programs:
        (tree / reproducible.TOOLS / name).symlink_to("./bundled/run.sh")
    return tree


@pytest.mark.parametrize("kind", ["overlay", "copy"])
def test_stand_ins_for_programs_in_bundled_work(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "copy":
        monkeypatch.setattr("imagebuilder.host.sandbox._NAMESPACES", (("false",),) * 2)
    squashfs = '#!/bin/sh\n# mksquashfs version 4.2 (2011)\necho squashfs "$@"\n'
    tree = bundled_tree(tmp_path / "tree", mksquashfs4=squashfs, ubinize='#!/bin/sh\necho ubinize "$@"\n')
    (tree / "Makefile").touch()
    (tmp_path / "work/tmp").mkdir(parents=True)
    view, warned = open_view(tree, tmp_path / "work", Log()), Warnings()
    assert steady_tools(tree, view, Log([warned])) == ("mksquashfs4", "ubinize")
    assert warned == []
    called = run(
        view.command([f"{view.tree}/staging_dir/host/bin/ubinize", "config"]),
        env=clean_environment(SOURCE_DATE_EPOCH="7"),
    )
    assert called.stdout == "ubinize -Q 7 config\n"


class Warnings(list[str]):
    """What a log warned of."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.append(event.text)


# does what it is told, but knows no -Q
OLD_UBINIZE = '#!/bin/sh\ncase "$*" in *-Q*) echo "invalid option -- Q" >&2; exit 1 ;; esac\necho old "$@"\n'


@pytest.mark.parametrize("kind", ["overlay", "copy"])
def test_a_stand_in_that_does_not_work_is_left_out_with_a_warning(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "copy":
        monkeypatch.setattr("imagebuilder.host.sandbox._NAMESPACES", (("false",),) * 2)
    broken = "#!/bin/sh\nexit 3\n"
    tree = bundled_tree(tmp_path / "tree", ubinize=OLD_UBINIZE, **{"mkfs.fat": broken})
    (tree / "Makefile").touch()
    (tmp_path / "work/tmp").mkdir(parents=True)
    view, warned = open_view(tree, tmp_path / "work", Log()), Warnings()
    for _ in range(2):
        assert steady_tools(tree, view, Log([warned]), tmp_path / "cache") == ()
    assert len(warned) == 2
    assert "the tree's ubinize cannot be made deterministic here (invalid option -- Q)" in warned[0]
    program = f"{view.tree}/staging_dir/host/bin/ubinize"
    assert run(view.command([program, "config"])).stdout == "old config\n"


def test_stand_ins_are_tried_once_with_the_same_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = bundled_tree(tmp_path / "tree", ubinize=OLD_UBINIZE)
    (tree / "Makefile").touch()
    (tmp_path / "work/tmp").mkdir(parents=True)
    view = open_view(tree, tmp_path / "work", Log())
    tried: list[int] = []
    trying = reproducible._tried
    monkeypatch.setattr(reproducible, "_tried", lambda *given: tried.append(1) or trying(*given))
    assert [steady_tools(tree, view, Log(), tmp_path / "cache") for _ in range(3)] == [(), (), ()]
    assert len(tried) == 1
    (tree / reproducible.TOOLS / "bundled/run.sh").write_text(BUNDLED + "# another\n")
    steady_tools(tree, view, Log(), tmp_path / "cache")
    assert len(tried) == 2


def image(folder: Path, content: bytes, kind: str = "sysupgrade") -> ImageFile:
    folder.mkdir(exist_ok=True)
    (folder / kind).write_bytes(content)
    sha256 = sha256_of(folder / kind)
    return ImageFile(file=kind, type=kind, size=len(content), sha256=sha256, required=True)


def test_what_differs_is_named(tmp_path: Path) -> None:
    rootfs = tmp_path / "build_dir/target-x/root-y/etc"
    rootfs.mkdir(parents=True)
    (rootfs / "same").touch()
    (rootfs / "stamp").write_text("1")
    (rootfs / "link").symlink_to("a")
    one, two = tmp_path / "one", tmp_path / "two"
    first = record_build(
        one,
        [image(one, b"abc"), image(one, b"x", "factory")],
        tmp_path,
        PLACES,
    )
    (rootfs / "stamp").write_text("2")
    (rootfs / "stamp").chmod(0o755)
    (rootfs / "link").unlink()
    (rootfs / "link").symlink_to("b")
    (rootfs / "new").touch()
    second = record_build(two, [image(two, b"abd")], tmp_path, PLACES)
    assert differences(first, second) == (
        "the sysupgrade image differs, first at byte 2 of 3",
        "only the first build made the factory image",
        "/etc/link differs",
        "/etc/new is in the second root file system only",
        "/etc/stamp differs: -rw-r--r-- and -rwxr-xr-x",
    )
    with pytest.raises(ReproducibilityError, match="two builds of one plan differ:\nthe sysupgrade"):
        check_equal(first, second)
    assert differences(first, first) == ()
    blamed = BuildRecord(two, second.images, first.files)
    assert "it is the program that makes the image" in differences(first, blamed)[-1]


# --- whole builds


def built(tree: Path, folder: Path, plan: Plan, *, with_feed: bool) -> tuple[BuildRecord, str]:
    """`make image` in the sandbox; its record, and what it printed."""
    folder.mkdir(parents=True)
    view = open_view(tree, folder, Log())
    assert view.sandboxed
    if with_feed:
        own = own_index(tree, folder.parents[1] / "cache")
        mine = [
            *read_index(own),
            *(read_control(path).control for path in base_packages(tree, plan.tree.places)),
        ]
        others = [package for index in used_indexes(tree).values() for package in read_index(index)]
        wanted = from_feeds(plan.wanted.add, mine, others)
        lay_feed(folder / FEED, wanted, [in_folder(tree / "dl")])
        lay_repositories(tree, view)
        lay_own_index(own, tree, view, folder)
    log = folder / "build.log"
    make_image(view, plan, folder, log, Log())
    made = [image_at(path) for path in sorted((folder / "bin").glob("*-squashfs-*"))]
    return record_build(folder / "bin", made, view.changed, plan.tree.places), log.read_text()


def image_at(path: Path) -> ImageFile:
    kind = path.name.partition("squashfs-")[2]
    return ImageFile(
        file=path.name, type=kind, size=path.stat().st_size, sha256=sha256_of(path), required=True
    )


@pytest.mark.kit
def test_the_kit_builds_the_same_twice(kit: Path, project: Path, tmp_path: Path) -> None:
    (asked,) = requests(project, "demo", board="qemu-x86-64", imagebuilder=str(kit), cache=tmp_path)
    plan = plan_image(asked, Log())
    first, _ = built(kit, tmp_path / "1/work", plan, with_feed=False)
    time.sleep(1.1)
    second, _ = built(kit, tmp_path / "another folder/2/work", plan, with_feed=False)
    check_equal(first, second)
    assert first.images
    assert first.files


@pytest.mark.genuine
@pytest.mark.parametrize("board", ["tplink-tl-wr740n-v4", "glinet-gl-ar150"])
def test_a_genuine_tree_builds_the_same_twice_and_needs_no_network(
    genuine_tree: Path, project: Path, tmp_path: Path, board: str
) -> None:
    before = digest_of(genuine_tree)
    (asked,) = requests(project, "router", board=board, imagebuilder=str(genuine_tree), cache=tmp_path)
    plan = plan_image(asked, Log())
    first, printed = built(genuine_tree, tmp_path / "1/work", plan, with_feed=True)
    time.sleep(1.1)
    second, _ = built(genuine_tree, tmp_path / "another folder/2/work", plan, with_feed=True)
    check_equal(first, second)
    assert {image.type for image in first.images} >= {"sysupgrade.bin"}
    assert first.files == second.files
    for complaint in ("Failed", "failed", "http://", "Package list missing"):
        assert complaint not in printed
    assert digest_of(genuine_tree) == before


@pytest.mark.genuine
def test_our_index_of_a_genuine_tree_says_what_its_own_says(genuine_tree: Path, tmp_path: Path) -> None:
    ours = read_index(own_index(genuine_tree, tmp_path))
    assert ours == read_index(genuine_tree / "packages/Packages")
    assert [package.extra for package in ours] == [
        package.extra for package in read_index(genuine_tree / "packages/Packages")
    ]


@pytest.mark.genuine
def test_a_fresh_tree_passes_its_host_check(genuine_tree: Path, project: Path, tmp_path: Path) -> None:
    """Its own asks for what no image needs; what a fork adds to it (include/prepare.mk) is done."""
    copy = tmp_path / "copy"
    shutil.copytree(genuine_tree, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    (copy / "staging_dir/host/.prereq-build").unlink(missing_ok=True)
    (asked,) = requests(project, "router", board="tplink-tl-wr740n-v4", imagebuilder=str(copy))
    plan = plan_image(asked, Log())
    fresh, printed = built(copy, tmp_path / "1/work", plan, with_feed=True)
    assert "Checking" not in printed
    assert {image.type for image in fresh.images} == {"factory.bin", "sysupgrade.bin"}
    check = copy / "include/prereq-build.mk"
    never = "\ndefine Require/never\n\tfalse\nendef\n$(eval $(call Require,never,Never to be had))\n"
    check.write_text(check.read_text() + never)
    (copy / "include/prepare.mk").touch()
    with pytest.raises(BuildError) as error:
        built(copy, tmp_path / "2/work", plan, with_feed=True)
    assert "Checking 'working-make'... ok." in error.value.message
    assert "Never to be had" in error.value.message


FAT = """\
export SOURCE_DATE_EPOCH=1561119851 TZ=UTC
PATH=/builder/tree/staging_dir/host/bin:$PATH
for i in 1 2; do
    rm -f disk kernel; echo kernel > kernel
    mkfs.fat -C disk 1024 >/dev/null; mcopy -i disk kernel ::kernel.img; sha256sum < disk
    volume='vol_id=0 vol_type=dynamic vol_name=rootfs vol_size=1MiB'
    printf '%s\\n' '[rootfs]' mode=ubi image=kernel $volume > ini
    ubinize -o ubi -m 2048 -p 128KiB ini 2>/dev/null; sha256sum < ubi
    sleep 2.1
done
"""


@pytest.mark.genuine
def test_the_genuine_programs_behind_the_stand_ins(genuine_tree: Path, tmp_path: Path) -> None:
    """FAT's times are even seconds: two file systems made 2.1 s apart would differ."""
    view = open_view(genuine_tree, tmp_path, Log())
    plain = run(view.command(["bash", "-c", FAT])).stdout.split()[::2]
    assert plain[0] != plain[2]
    assert plain[1] != plain[3]
    assert len(steady_tools(genuine_tree, view, Log())) == 4
    disk, ubi, disk2, ubi2 = run(view.command(["bash", "-c", FAT])).stdout.split()[::2]
    assert (disk, ubi) == (disk2, ubi2)


def test_a_cache_that_cannot_be_written(make_package: MakePackage, tmp_path: Path) -> None:
    make_package("one", folder=tmp_path / "packages")
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot write"):
        own_index(tmp_path, tmp_path / "file")
