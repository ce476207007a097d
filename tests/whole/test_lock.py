"""Locks: a plan written down, built again exactly, or refused with what changed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder import decide
from imagebuilder.ask import compare_lock, lock_image
from imagebuilder.build import build_image
from imagebuilder.config.app import PinnedRequirement, ResolvedRequirements
from imagebuilder.config.library import Library
from imagebuilder.config.lock import NoLockError, OldLockError, lock_path, read_lock, write_lock
from imagebuilder.config.model_lock import LockedBoard, LockedPackage, LockedParts, LockedTree
from imagebuilder.config.request import Request, requests
from imagebuilder.decide import decided, entry_of
from imagebuilder.errors import FaultsError
from imagebuilder.host.walk import Item
from imagebuilder.log import Log
from imagebuilder.model.package import Package, Selected
from imagebuilder.model.tree import TreeError
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
    assert error.value.hint == "owrt-python lock mine writes it"
    bound = locked(asked)
    _, result = build_image(bound, Log())
    written = tomli.loads(lock_path(asked.library, "mine").read_text())
    packages = {each["name"]: each["version"] for each in written["board"][BOARD]["parts"]["package"]}
    assert packages == {each.name: each.version for each in result.packages}
    assert all(len(each["sha256"]) == 64 for each in written["board"][BOARD]["parts"]["package"])
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
        (changed_text, "overlay 'motd': /etc/motd changed"),
        (changed_file, "overlay 'motd': /etc/motd changed"),
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
    assert "owrt-python lock mine" in error.value.hint
    assert not list(asked.output.glob(f"mine/{BOARD}"))
    assert any(line in each for each in compare_lock(asked, Log()))


def test_a_package_that_is_new_or_another(asked: Request, small_tree: Path) -> None:
    bound = locked(asked)
    more_packages(asked, small_tree)
    assert set(compare_lock(asked, Log())) == {
        "make's PACKAGES: dropbear is new",
        "package dropbear is new, 2022.83",
    }
    with pytest.raises(LockError, match="make's PACKAGES: dropbear is new") as error:
        build_image(bound, Log())
    assert "owrt-python lock mine" in str(error.value.hint)
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
    assert entry.parts.make["PROFILE"] == "tplink_tl-wr740n-v4"
    assert entry.parts.make["PACKAGES"].split()[-2:] == ["-rssileds", "-ppp"]
    add_config("mine", CONFIG + '[packages]\nremove = ["rssileds", "odhcpd"]\n')
    assert compare_lock(asked, Log()) == (
        "make's PACKAGES: -odhcpd is new",
        "make's PACKAGES: -ppp is gone",
    )
    with pytest.raises(LockError, match="make's PACKAGES: -odhcpd is new\nmake's PACKAGES: -ppp is gone"):
        build_image(bound, Log())
    add_config("mine", CONFIG + '[packages]\nremove = ["rssileds", "ppp"]\n')
    make = {**entry.parts.make, "PROFILE": "tplink_tl-wr741nd-v4"}
    write_lock(asked.library, "mine", {BOARD: with_parts(entry, make=make)})
    line = "make's PROFILE was tplink_tl-wr741nd-v4 and is tplink_tl-wr740n-v4"
    assert compare_lock(asked, Log()) == (line,)
    with pytest.raises(LockError, match=line):
        build_image(bound, Log())


def test_what_apk_knows_a_package_by_is_locked(asked: Request) -> None:
    """A package of apk's index has no SHA-256 of its file: its identity alone tells two builds apart."""
    package = Package("x", "1", filename="x-1.apk", identity="ab" * 20, feed="f")
    other = replace(package, identity="cd" * 20)
    with decided(asked, Log()) as (inputs, decision):
        plan = decision.plan.model_copy(update={"install": (Selected(package, ("a test", "x")),)})
        parts = entry_of(inputs, replace(decision, plan=plan)).parts
    made = lock_entry(plan, parts, requirements=ResolvedRequirements(), feeds={"f": "1" * 64})
    assert [(each.sha256, each.identity) for each in made.parts.package] == [("", "ab" * 20)]
    assert only_locked(Offers((package, other)), made, {"f": "1" * 64}) == Offers((package,))
    with pytest.raises(LockError, match=r"x 1: another build of it$"):
        only_locked(Offers((other,)), made, {"f": "1" * 64})
    changed = made.parts.package[0].model_copy(update={"identity": "cd" * 20})
    assert differences(made, with_parts(made, package=(changed,))) == (
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
    (repacked,) = [each for each in written["parts"]["package"] if each["name"] == "busybox"]
    assert (original["name"], original["version"]) == ("busybox", "1.36")
    assert len(original["sha256"]) == 64
    assert repacked["version"] != "1.36"
    assert len(repacked["sha256"]) == 64
    with decided(bound, Log()) as (_, decision):
        assert ("busybox", repacked["version"]) in {
            (each.name, each.version) for each in decision.plan.install
        }
    write_ipk(small_tree / "packages", Package("busybox", "1.36"), FileTree({"/x": file_of(b"z")}), epoch=1)
    with pytest.raises(LockError, match="busybox 1.36: another build of it"):
        build_image(bound, Log())


def test_a_secret_need_not_be_there_to_be_locked(
    asked: Request, add_config: AddConfig, small_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a lock is made of a secret's value, which could be guessed where it is short: the template
    of a file that holds one stands for it, and the secret's name."""
    motd = asked.library.root / "overlays/motd/files/etc/motd.j2"
    motd.write_text("{{ text }} {{ pin }}\n")
    (motd.parent / "open.j2").write_text("{{ text }}\n")
    secret = CONFIG.replace('"hello"', '"hello", pin = { secret = "PIN" }')
    add_config("mine", secret)
    (small_tree / "behaviour").write_text("cat $FILES/etc/motd | rev\n")
    bound = locked(asked)
    entry = read_lock(asked.library, "mine").board[BOARD]  # type: ignore[union-attr]
    texts = []
    for pin in ("1234", "4321"):
        monkeypatch.setenv("PIN", pin)
        assert lock_image(asked, Log()) == entry
        place, _ = build_image(bound, Log())
        texts.append((place / "build.log").read_text())
    assert ["4321" in texts[0], "1234" in texts[1]] == [True, True]
    monkeypatch.delenv("PIN")
    add_config("mine", secret.replace("PIN", "OTHER"))
    assert compare_lock(asked, Log()) == ("overlay 'motd': /etc/motd changed",)
    add_config("mine", secret.replace("hello", "bye"))
    assert set(compare_lock(asked, Log())) == {
        "overlay 'motd': /etc/motd changed",
        "overlay 'motd': /etc/open changed",
    }
    add_config("mine", secret)
    motd.write_text("{{ text }} {{ pin }}!\n")
    assert compare_lock(asked, Log()) == ("overlay 'motd': /etc/motd changed",)


@pytest.mark.parametrize("name", ["range", "dict", "namespace", "pin"])
def test_a_secret_that_is_called_as_something_of_jinja2s_stays_out(
    asked: Request, add_config: AddConfig, name: str
) -> None:
    folder = asked.library.root / "overlays/motd"
    (folder / "files/etc/motd.j2").write_text("{% if true %}{{ " + name + " }}{% endif %}\n")
    (folder / "overlay.toml").write_text(f"[variables]\ntext = {{}}\n{name} = {{ secret = true }}\n")
    entries = []
    for value in ("1234", "4321"):
        add_config("mine", CONFIG.replace('"hello"', f'"hello", {name} = "{value}"'))
        entries.append(lock_image(asked, Log()))
    assert entries[0] == entries[1]


def test_a_lock_of_the_former_form_is_refused(asked: Request) -> None:
    """It said less than an image takes: what it does not name must not pass as locked."""
    bound = locked(asked)
    path = lock_path(asked.library, "mine")
    old = 'lock_schema = 1\nconfig = "mine"\n[board.{board}]\nprofile = "p"\n'
    path.write_text(old.format(board=BOARD))
    for ask in (lambda: build_image(bound, Log()), lambda: compare_lock(asked, Log())):
        with pytest.raises(
            OldLockError, match=r"mine\.lock is a lock of the form 1, which does not say"
        ) as error:
            ask()
        assert error.value.hint == ("see that it is what you want, and lock it anew: owrt-python lock mine")
    path.write_text(old.format(board="other"))
    with pytest.raises(OldLockError, match="form 1, and has other too"):
        locked(asked)
    path.write_text(old.format(board=BOARD).replace("lock_schema = 1\n", ""))  # it could be left out
    locked(asked)
    assert compare_lock(asked, Log()) == ()


def test_a_lock_that_was_edited_is_refused(asked: Request) -> None:
    bound = locked(asked)
    path = lock_path(asked.library, "mine")
    path.write_text(path.read_text().replace('version = "1.36"', 'version = "1.35"'))
    with pytest.raises(FaultsError, match="the digest is not that of the parts"):
        build_image(bound, Log())


def test_the_order_of_overlays_counts_as_far_as_it_shows(asked: Request, add_config: AddConfig) -> None:
    other = asked.library.root / "overlays/other"
    (other / "files/etc/deep").mkdir(parents=True)
    (other / "files/etc/deep/a").write_text("a\n")
    (other / "overlay.toml").write_text("")
    both = CONFIG + '[[overlay]]\nname = "other"\n'
    add_config("mine", both)
    locked(asked)
    swapped = both.replace('name = "motd"\nvariables = { text = "hello" }\n[[overlay]]\nname = "other"', "")
    swapped += 'name = "other"\n[[overlay]]\nname = "motd"\nvariables = { text = "hello" }\n'
    add_config("mine", swapped)
    assert compare_lock(asked, Log()) == ()
    (other / "files/etc/motd").write_text("of the other\n")
    (other / "overlay.toml").write_text('replaces = ["/etc/motd"]\n')
    add_config("mine", both)
    assert compare_lock(asked, Log()) == ("overlay 'other': /etc/motd changed",)
    add_config("mine", CONFIG)
    (other / "files/etc/motd").unlink()
    (other / "overlay.toml").write_text("")
    assert compare_lock(asked, Log()) == ("overlay 'other' is gone",)


def test_a_file_whose_name_is_no_text(asked: Request) -> None:
    odd = Path(os.fsdecode(os.fsencode(asked.library.root / "overlays/motd/files/etc") + b"/x\xff"))
    odd.write_text("x")
    Path(f"{odd}.link").symlink_to(odd.name)
    locked(asked)
    assert compare_lock(asked, Log()) == ()
    odd.write_text("y")
    assert compare_lock(asked, Log()) == (
        f"overlay 'motd': //bytes {(b'/etc/x' + bytes([255])).hex()} changed",
    )


def test_another_version_of_the_builder_is_told(asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = locked(asked)
    monkeypatch.setattr(decide, "__version__", "99")
    (line,) = compare_lock(asked, Log())
    assert line.startswith("the builder's version was ")
    assert line.endswith(" and is 99")
    with pytest.raises(LockError, match="and is 99"):
        build_image(bound, Log())


def a_link(asked: Request, tree: Path) -> None:
    (tree / "include/linked").symlink_to("../packages")


def a_folder(asked: Request, tree: Path) -> None:
    (tree / "include/empty").mkdir()


def a_pipe(asked: Request, tree: Path) -> None:
    os.mkfifo(tree / "include/pipe")


def a_program(asked: Request, tree: Path) -> None:
    (tree / "include/version.mk").chmod(0o755)


@pytest.mark.parametrize("change", [a_link, a_folder, a_pipe, a_program])
def test_what_is_no_file_of_a_tree_counts_too(
    asked: Request, small_tree: Path, change: Callable[[Request, Path], None]
) -> None:
    bound = locked(asked)
    change(asked, small_tree)
    with pytest.raises(LockError, match="the tree is another one of the same version"):
        build_image(bound, Log())


def test_what_using_and_cloning_a_tree_leaves_counts_for_nothing(asked: Request, small_tree: Path) -> None:
    locked(asked)
    for name in (".git", "tmp", "bin"):
        (small_tree / name).mkdir()
        (small_tree / name / "x").write_text("x")
    (small_tree / "dl").symlink_to("/nowhere")
    assert compare_lock(asked, Log()) == ()
    (small_tree / "include/.git").mkdir()
    assert len(compare_lock(asked, Log())) == 1


def test_a_tree_that_cannot_be_read(
    asked: Request, small_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_item: Item) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", "include/version.mk")

    monkeypatch.setattr(Item, "sha256", refuses)
    with pytest.raises(TreeError, match="cannot be read: include/version.mk: Permission denied"):
        lock_image(asked, Log())


def test_another_requirement_is_not_answered_by_the_lock(
    asked: Request, add_config: AddConfig, small_tree: Path
) -> None:
    for name in ("python3-bottle", "python3-meter"):
        write_ipk(small_tree / "packages", Package(name, "1"), EMPTY, epoch=1)
    python = '[python]\nvariant = "light"\nrequirements = ["bottle"{more}]\n'
    add_config("mine", CONFIG + python.format(more=""))
    bound = locked(asked)
    assert "python3-bottle" in {each.name for each in build_image(bound, Log())[1].packages}
    add_config("mine", CONFIG + python.format(more=', "meter>=1"'))
    with pytest.raises(LockError, match="requirement: meter>=1 is new"):
        build_image(bound, Log())
    assert "requirement: meter>=1 is new" in compare_lock(asked, Log())
    add_config("mine", CONFIG + '[python]\nvariant = "light"\n')
    with pytest.raises(LockError, match="requirement: bottle is gone"):
        build_image(bound, Log())


def test_a_feed_that_is_gone_is_said(asked: Request, add_config: AddConfig) -> None:
    write_ipk(asked.library.root / "office", Package("tool", "1"), EMPTY, epoch=1)
    more = '[packages]\nadd = ["tool"]\n'
    add_config("mine", CONFIG + more + '[[feed]]\nname = "office"\nurl = "office"\n')
    bound = locked(asked)
    with decided(bound, Log()) as (_, decision):
        assert ("tool", "office") in {(each.name, each.feed) for each in decision.plan.install}
    add_config("mine", CONFIG + more)
    with pytest.raises(LockError, match=r"tool 1: it is gone \(there is no feed office any more\)"):
        build_image(bound, Log())


def test_secrets_are_in_no_lock(asked: Request, add_config: AddConfig) -> None:
    add_config("mine", CONFIG.replace('"hello"', '"hello", pin = "hunter2"'))
    entry = lock_image(asked, Log())
    add_config("mine", CONFIG.replace('"hello"', '"hello", pin = "correct horse"'))
    assert lock_image(asked, Log()) == entry
    write_lock(asked.library, "mine", {BOARD: entry})
    assert "hunter2" not in lock_path(asked.library, "mine").read_text()


def test_two_that_lock_other_boards_at_once_lose_no_entry(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    library, names = Library(tmp_path), [f"board-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: write_lock(library, "mine", {name: entry()}), names))
    lock = read_lock(library, "mine")
    assert lock is not None
    assert sorted(lock.board) == names
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["mine.lock"]


def entry(*packages: LockedPackage, feeds: dict[str, str] | None = None) -> LockedBoard:
    tree = LockedTree(release="", version="1", target="a/b", arch="c", sha256="0" * 64)
    parts = LockedParts(builder="1", tree=tree, make={}, board={}, package=packages)
    return LockedBoard(digest=parts.digest(), parts=parts, feeds=feeds or {})


def with_parts(entry: LockedBoard, **changes: object) -> LockedBoard:
    """An entry with other parts, whole again."""
    parts = entry.parts.model_copy(update=changes)
    return entry.model_copy(update={"parts": parts, "digest": parts.digest()})


def test_entries_of_other_boards_stay(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
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


@pytest.mark.parametrize("text", ["", "lock_schema = 3\nconfig = 'x'\n[board]\n", "x = 1", "\0"])
def test_a_file_that_is_no_lock(tmp_path: Path, text: str) -> None:
    for folder in ("configs", "locks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "locks/x.lock").write_text(text)
    with pytest.raises(FaultsError, match=r"x\.lock"):
        read_lock(Library(tmp_path), "x")


def test_a_requirement_that_is_built_otherwise_is_told() -> None:
    pin = PinnedRequirement(
        name="fast", version="1.0", filename="fast-1.0.tar.gz", sha256="0" * 64, built="pure"
    )
    one, other = (
        entry().model_copy(
            update={"requirements": ResolvedRequirements(pins=(pin.model_copy(update={"built": built}),))}
        )
        for built in ("pure", "zig 0.17.1 -Os")
    )
    told = "requirement fast: fast-1.0.tar.gz, pure -> fast-1.0.tar.gz, zig 0.17.1 -Os"
    assert differences(one, other) == (told,)
    assert differences(one, one) == ()
