"""Locks: a plan written down, built again exactly, or refused with what changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.ask import compare_lock, lock_image
from imagebuilder.build import build_image
from imagebuilder.config.app import PinnedRequirement, ResolvedRequirements
from imagebuilder.config.library import Library
from imagebuilder.config.lock import NoLockError, lock_path, read_lock, write_lock
from imagebuilder.config.model_lock import LockedBoard, LockedPackage, LockedTree
from imagebuilder.config.request import Request, requests
from imagebuilder.decide import decided
from imagebuilder.errors import FaultsError
from imagebuilder.log import Log
from imagebuilder.model.package import Package, Selected
from imagebuilder.packages.lock import LockError, differences, lock_entry, only_locked
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.supply import Offers
from imagebuilder.rootfs.tree import EMPTY, FileTree, file_of

BOARD = "tplink-tl-wr740n-v4"
CONFIG = 'extends = "router"\n[[overlay]]\nname = "motd"\nvariables = { text = "hello" }\n'
AddConfig = Callable[[str, str], str]


@pytest.fixture
def asked(project: Path, small_tree: Path, tmp_path: Path, add_config: AddConfig) -> Request:
    files = project / "overlays/motd/files/etc"
    files.mkdir(parents=True)
    (files / "motd.j2").write_text("{{ text }}\n")
    (project / "overlays/motd/overlay.toml").write_text(
        'name = "motd"\n[variables]\ntext = { default = "x" }\npin = { secret = true, default = "" }\n'
    )
    add_config("mine", CONFIG)
    places = {"output": tmp_path / "out", "cache": tmp_path / "cache"}
    (found,) = requests(project, "mine", board=BOARD, imagebuilder=str(small_tree), **places)  # type: ignore[arg-type]
    return found


def locked(asked: Request) -> Request:
    """The lock written, and the same request bound to it."""
    write_lock(asked.library, "mine", {asked.board: lock_image(asked, Log())})
    return replace(asked, locked=True)


def test_what_was_locked_is_built_again(asked: Request) -> None:
    with pytest.raises(NoLockError, match="there is no lock of mine for") as error:
        build_image(replace(asked, locked=True), Log())
    assert error.value.hint == "python3 build.py lock mine writes it"
    bound = locked(asked)
    _, result = build_image(bound, Log())
    written = tomli.loads(lock_path(asked.library, "mine").read_text())
    packages = {each["name"]: each["version"] for each in written["board"][BOARD]["package"]}
    assert packages == {each.name: each.version for each in result.packages}
    assert all(len(each["sha256"]) == 64 for each in written["board"][BOARD]["package"])
    assert compare_lock(asked, Log()) == ()


def changed_text(asked: Request, tree: Path) -> None:
    path = asked.library.root / "configs/mine.toml"
    path.write_text(path.read_text().replace("hello", "bye"))


def changed_file(asked: Request, tree: Path) -> None:
    (asked.library.root / "overlays/motd/files/etc/motd.j2").write_text("x\n")


def more_packages(asked: Request, tree: Path) -> None:
    path = asked.library.root / "configs/mine.toml"
    path.write_text(path.read_text() + '[packages]\nadd = ["dropbear"]\n')


def another_makefile(asked: Request, tree: Path) -> None:
    (tree / "Makefile").write_text((tree / "Makefile").read_text() + "# changed\n")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (changed_text, "overlay 'motd' or its variables changed"),
        (changed_file, "overlay 'motd' or its variables changed"),
        (another_makefile, "the tree is another one of the same version"),
    ],
)
def test_what_changed_is_named(
    asked: Request, small_tree: Path, change: Callable[[Request, Path], None], line: str
) -> None:
    bound = locked(asked)
    change(asked, small_tree)
    with pytest.raises(LockError, match=line) as error:
        build_image(bound, Log())
    assert error.value.hint is not None
    assert "python3 build.py lock mine" in error.value.hint
    assert not list(asked.output.glob(f"mine/{BOARD}"))
    assert any(line in each for each in compare_lock(asked, Log()))


def test_a_package_that_is_new_or_another(asked: Request, small_tree: Path) -> None:
    bound = locked(asked)
    more_packages(asked, small_tree)
    assert set(compare_lock(asked, Log())) == {"wanted: dropbear is new", "package dropbear is new, 2022.83"}
    with pytest.raises(LockError, match="wanted: dropbear is new") as error:
        build_image(bound, Log())
    assert "python3 build.py lock mine" in str(error.value.hint)
    tree = FileTree({"/etc/another": file_of(b"x")})
    write_ipk(small_tree / "packages", Package("busybox", "1.36"), tree, epoch=1)
    with pytest.raises(LockError, match="busybox 1.36: another build of it"):
        build_image(bound, Log())
    (small_tree / "packages/busybox_1.36_all.ipk").unlink()
    write_ipk(small_tree / "packages", Package("busybox", "1.37"), EMPTY, epoch=1)
    with pytest.raises(LockError, match=r"busybox 1\.36: it has 1\.37"):
        build_image(bound, Log())
    assert "package busybox: 1.36 -> 1.37" in compare_lock(asked, Log())


def test_what_is_removed_and_the_profile_are_locked(asked: Request, add_config: AddConfig) -> None:
    add_config("mine", CONFIG + '[packages]\nremove = ["rssileds", "ppp"]\n')
    bound = locked(asked)
    lock = read_lock(asked.library, "mine")
    assert lock is not None
    entry = lock.board[BOARD]
    assert (entry.profile, entry.removed) == ("tplink_tl-wr740n-v4", ("-rssileds", "-ppp"))
    add_config("mine", CONFIG + '[packages]\nremove = ["rssileds", "odhcpd"]\n')
    assert compare_lock(asked, Log()) == ("removed: -odhcpd is new", "removed: -ppp is gone")
    with pytest.raises(LockError, match="removed: -odhcpd is new\nremoved: -ppp is gone"):
        build_image(bound, Log())
    add_config("mine", CONFIG + '[packages]\nremove = ["rssileds", "ppp"]\n')
    other = entry.model_copy(update={"profile": "tplink_tl-wr741nd-v4"})
    write_lock(asked.library, "mine", {BOARD: other})
    assert compare_lock(asked, Log()) == ("the profile was tplink_tl-wr741nd-v4 and is tplink_tl-wr740n-v4",)
    with pytest.raises(LockError, match="the profile was tplink_tl-wr741nd-v4 and is tplink_tl-wr740n-v4"):
        build_image(bound, Log())


def test_what_apk_knows_a_package_by_is_locked(asked: Request) -> None:
    """A package of apk's index has no SHA-256 of its file: its identity alone tells two builds apart."""
    package = Package("x", "1", filename="x-1.apk", identity="ab" * 20, feed="f")
    other = replace(package, identity="cd" * 20)
    with decided(asked, Log()) as (_, decision):
        plan = decision.plan.model_copy(update={"install": (Selected(package, ("a test", "x")),)})
    facts = {"release": "", "sha256": "0" * 64, "feeds": {"f": "1" * 64}, "overlays": {}, "apps": {}}
    made = lock_entry(plan, requirements=ResolvedRequirements(), **facts)  # type: ignore[arg-type]
    assert [(each.sha256, each.identity) for each in made.package] == [("", "ab" * 20)]
    assert only_locked(Offers((package, other)), made, {"f": "1" * 64}) == Offers((package,))
    with pytest.raises(LockError, match=r"x 1: another build of it$"):
        only_locked(Offers((other,)), made, {"f": "1" * 64})
    changed = made.package[0].model_copy(update={"identity": "cd" * 20})
    assert differences(made, made.model_copy(update={"package": (changed,)})) == (
        "package x 1 is another build of the same version",
    )


def test_what_packages_are_made_of_is_locked_too(
    asked: Request, add_config: AddConfig, small_tree: Path
) -> None:
    add_config("mine", CONFIG + '[[filespec]]\npackage = "busybox"\nrules = ["-|/x"]\n')
    files = FileTree({"/x": file_of(b"x"), "/y": file_of(b"y")})
    write_ipk(small_tree / "packages", Package("busybox", "1.36"), files, epoch=1)
    bound = locked(asked)
    written = tomli.loads(lock_path(asked.library, "mine").read_text())["board"][BOARD]
    (original,) = written["original"]
    (repacked,) = [each for each in written["package"] if each["name"] == "busybox"]
    assert (original["name"], original["version"]) == ("busybox", "1.36")
    assert len(original["sha256"]) == 64
    assert repacked["version"] != "1.36"
    with decided(bound, Log()) as (_, decision):
        assert ("busybox", repacked["version"]) in {
            (each.name, each.version) for each in decision.plan.install
        }
    write_ipk(small_tree / "packages", Package("busybox", "1.36"), FileTree({"/x": file_of(b"z")}), epoch=1)
    with pytest.raises(LockError, match="busybox 1.36: another build of it"):
        build_image(bound, Log())


def test_secrets_are_in_no_lock(asked: Request, add_config: AddConfig) -> None:
    add_config("mine", CONFIG.replace('"hello"', '"hello", pin = "hunter2"'))
    entry = lock_image(asked, Log())
    add_config("mine", CONFIG.replace('"hello"', '"hello", pin = "correct horse"'))
    assert lock_image(asked, Log()) == entry
    write_lock(asked.library, "mine", {BOARD: entry})
    assert "hunter2" not in lock_path(asked.library, "mine").read_text()


def entry(*packages: LockedPackage, feeds: dict[str, str] | None = None) -> LockedBoard:
    tree = LockedTree(release="", version="1", target="a/b", arch="c", sha256="0" * 64)
    return LockedBoard(profile="p", python="none", tree=tree, wanted=(), feeds=feeds or {}, package=packages)


def test_entries_of_other_boards_stay(tmp_path: Path) -> None:
    library = Library(tmp_path)
    write_lock(library, "x", {"one": entry()})
    write_lock(library, "x", {"two": entry()})
    lock = read_lock(library, "x")
    assert lock is not None
    assert list(lock.board) == ["one", "two"]


def test_an_index_that_is_not_the_locks_is_said() -> None:
    package = Package("x", "1", filename="x.ipk", sha256="A" * 64, feed="f")
    wanted = LockedPackage(name="x", version="1", feed="f", filename="x.ipk", sha256="a" * 64)
    one = entry(wanted, feeds={"f": "1" * 64})
    other = replace(package, name="y")
    assert only_locked(Offers((package, other)), one, {"f": "2" * 64}).packages == (package,)
    with pytest.raises(
        LockError, match=r"x 1: it is gone \(the index of feed f is not the one that the lock"
    ):
        only_locked(Offers(()), one, {"f": "2" * 64})
    with pytest.raises(LockError, match=r"x 1: another build of it$"):
        only_locked(Offers((replace(package, sha256="b" * 64),)), one, {"f": "1" * 64})


@given(
    names=st.lists(st.sampled_from("abcd"), unique=True),
    others=st.lists(st.sampled_from("abcd"), unique=True),
)
def test_differences_are_empty_exactly_for_equal_entries(names: list[str], others: list[str]) -> None:
    def made(each: list[str]) -> LockedBoard:
        return entry(*(LockedPackage(name=x, version="1", filename=x, sha256=x * 64) for x in sorted(each)))

    assert (differences(made(names), made(others)) == ()) == (set(names) == set(others))


@pytest.mark.parametrize("text", ["", "lock_schema = 2\nconfig = 'x'\n[board]\n", "x = 1", "\0"])
def test_a_file_that_is_no_lock(tmp_path: Path, text: str) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/x.lock").write_text(text)
    with pytest.raises(FaultsError, match=r"x\.lock"):
        read_lock(Library(tmp_path), "x")


def test_a_requirement_that_is_built_otherwise_is_told() -> None:
    pin = PinnedRequirement(
        name="fast", version="1.0", filename="fast-1.0.tar.gz", sha256="0" * 64, built="pure"
    )
    tree = LockedTree(release="", version="23.05.5", target="ath79/tiny", arch="mips_24kc", sha256="1" * 64)
    one, other = (
        LockedBoard(
            profile="x",
            python="auto",
            tree=tree,
            wanted=(),
            package=(),
            requirements=ResolvedRequirements(pins=(pin.model_copy(update={"built": built}),)),
        )
        for built in ("pure", "zig 0.17.1 -Os")
    )
    told = "requirement fast: fast-1.0.tar.gz, pure -> fast-1.0.tar.gz, zig 0.17.1 -Os"
    assert differences(one, other) == (told,)
    assert differences(one, one) == ()
