"""The sandbox: what programs in it see, what they cannot do, and where it cannot be had."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.host import bubblewrap, sandbox
from imagebuilder.host.fs import user_cache
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.ordinary_user import environment, ordinary_user, own_places, unused_number
from imagebuilder.host.run import CLEAN_PATH, Completed, run
from imagebuilder.host.sandbox import PrivateView, open_view, opening_view
from imagebuilder.host.tree_kinds import knows_every_user, tree_kinds
from imagebuilder.host.walk import remove_tree
from imagebuilder.log import Event, Log, Warned
from imagebuilder.model.package import Package
from imagebuilder.model.tree import Places
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.opkg import compressed_index, format_index, read_index
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.tree.collect import find_rootfs

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "work, too"
    folder.mkdir()
    for name in ("bin", "files", "result"):
        (folder / name).mkdir()
    yield folder
    remove_tree(folder)


@pytest.fixture(params=["overlay", "copy"])
def view(tree: Path, work: Path, request: pytest.FixtureRequest) -> PrivateView:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "copy":
            patch.setattr(sandbox, "_NAMESPACES", (("false",),) * 2)
        return open_view(tree, work, Log())


def shell(view: PrivateView, script: str) -> str:
    return run(view.command(["bash", "-c", script]), check=False).stdout


def test_programs_see_the_tree_and_their_own_folders_only(view: PrivateView, work: Path, tree: Path) -> None:
    assert view.sandboxed
    assert shell(view, "pwd; hostname; id -un; ls -A /builder/work") == (
        "/builder/tree\nbuilder\nroot\nbin\nfiles\n"
    )
    seen = set(shell(view, "ls /").split())
    assert seen <= {"bin", "builder", "dev", "etc", "lib", "lib32", "lib64", "libx32"} | {
        *("proc", "sbin", "tmp", "usr", "var")
    }
    assert shell(view, "ls -A /tmp /var/tmp") == "/tmp:\n\n/var/tmp:\n"
    assert shell(view, f"ls '{Path.home()}' '{tree}' '{work}' 2>/dev/null") == ""
    assert "shadow" not in shell(view, "ls /etc").split()


def test_only_the_view_is_written(view: PrivateView, work: Path, tree: Path) -> None:
    can = "touch {} 2>/dev/null && echo {} can be written;"
    places = ("fresh", "/builder/work/bin/x", "/tmp/x", "/builder/work/x", "/builder/work/files/x", "/x")
    places += ("/usr/x", "/etc/x", "/builder/x")
    printed = shell(view, "".join(can.format(place, place) for place in places))
    assert [line.split()[0] for line in printed.splitlines()] == ["fresh", "/builder/work/bin/x", "/tmp/x"]
    assert (work / "bin/x").exists()
    assert (view.changed / "fresh").exists()
    assert sorted(path.name for path in tree.iterdir()) == ["Makefile"]


def test_nothing_can_be_undone_from_inside(view: PrivateView) -> None:
    status = shell(view, "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status").split()
    assert int(status[1], 16) & ~0b11011 == 0  # chown, dac_override, fowner, fsetid
    assert status[3] == "1"
    assert shell(view, "mount -o remount,rw,bind /usr && echo remounted") == ""
    assert shell(view, "echo x > /proc/sys/kernel/core_pattern && echo written") == ""
    assert len(shell(view, "echo /proc/[0-9]*").split()) <= 5  # no process of this machine


def test_the_kit_sees_libraries_that_lie_beside_its_environment(
    tree: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, sources = tmp_path / "shared", tmp_path / "sources"  # as pipx and a .pth file have them
    (shared / "far-1.dist-info").mkdir(parents=True)
    (shared / "far.py").write_text("print('far away')\n")
    sources.mkdir()
    (sources / "secrets.toml").write_text("KEY = 'nobody sees it'\n")
    for folder in (shared, sources):
        monkeypatch.syspath_prepend(folder)
    script = f"cd {shared}; {sys.executable} -c 'import far'; cat {sources}/secrets.toml"
    with (tree / "Makefile").open("a") as makefile:
        makefile.write("# python3 -m imagebuilder.kit\n")
    assert shell(open_view(tree, work, Log()), script) == "far away\n"


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """A server on loopback, outside of the sandbox: its port, and what was sent to it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    said = connection.recv(100)
                if not said:
                    return
                heard.append(said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = server.getsockname()
        yield address[1], heard
        # who says nothing is the last one: those before it wait in the same queue and have been heard by then
        socket.create_connection(address).close()
        thread.join(10)
    assert not thread.is_alive()


def test_there_is_no_network(view: PrivateView, tree: Path, tmp_path: Path) -> None:
    with listening() as (port, heard):
        call = f"echo hello 2>&1 >/dev/tcp/127.0.0.1/{port} && echo reached"
        assert "reached" not in shell(view, call)
        assert shell(view, "ls /sys 2>/dev/null; cut -d: -f1 /proc/net/dev | tail -n +3").split() == ["lo"]
        outside = tmp_path / "outside"
        outside.mkdir()
        assert "reached" in shell(open_view(tree, outside, Log(), sandbox=False), call)
        remove_tree(outside)
    assert heard == [b"hello\n"]


@pytest.mark.parametrize("theirs", ["folder", "link"])
def test_a_place_to_mount_on_that_somebody_else_made_is_not_used(
    tree: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """Its name is known, and /tmp is everybody's."""
    user = 4_000_000_000 + os.getpid()  # nobody's number, so that what lies there belongs to another
    place = Path(f"/tmp/openwrt-imagebuilder-view-{user}")
    if theirs == "link":
        place.symlink_to(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    try:
        with pytest.raises(HostError, match="to somebody else"):
            open_view(tree, work, Log())
    finally:
        for each in place.parent.glob(f"{place.name}*"):
            remove_tree(each)


def test_outside_the_sandbox_is_said_so(tree: Path, work: Path) -> None:
    view = open_view(tree, work, Log(), sandbox=False)
    assert not view.sandboxed
    assert shell(view, "hostname") == run(["hostname"]).stdout


def test_other_work_goes_on_while_a_view_is_tried_out(
    tree: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on, tried = threading.Event(), list[int]()

    def try_out(argv: Sequence[str]) -> str | None:
        tried.append(len(argv))
        return None if going_on.wait(20) else "nothing went on meanwhile"

    monkeypatch.setattr(sandbox, "_refusal", try_out)
    with opening_view(tree, work, Log()) as opened:
        going_on.set()
        assert opened().kind == "overlay"
        assert opened() is opened()
    assert len(tried) == 1


def test_no_trial_goes_on_when_nobody_wants_the_view(
    tree: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up, over = threading.Event(), threading.Event()

    def try_out(_argv: Sequence[str]) -> None:
        given_up.wait(20)
        over.set()

    monkeypatch.setattr(sandbox, "_refusal", try_out)
    with pytest.raises(KeyError), opening_view(tree, work, Log()):
        given_up.set()
        raise KeyError
    assert over.is_set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root says which number the next process gets")
def test_the_numbers_that_processes_have_in_there_need_not_be_known_outside(
    tree: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container there may be no process of such a low number outside; bubblewrap looks for it in /proc.
    The best way is taken all the same: with a process namespace around all."""
    unused = next(number for number in range(20_000, 30_000) if not Path(f"/proc/{number}").exists())
    numbered = f"[ $$ != 1 ] || echo {unused - 8} > /proc/sys/kernel/ns_last_pid\n{sandbox._MOUNT}"
    monkeypatch.setattr(sandbox, "_MOUNT", numbered)
    view = open_view(tree, work, Log())
    assert "--pid" in view.command([])
    assert "--user" not in view.command([])[:8]


def test_exit_codes_pass(view: PrivateView) -> None:
    assert run(view.command(["sh", "-c", "exit 7"]), check=False).code == 7


def test_without_bubblewrap(tree: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "CLEAN_PATH", "/nonexistent")
    with pytest.raises(HostError, match=r"bubblewrap \(bwrap\) is not on this machine") as error:
        open_view(tree, work, Log())
    assert "--no-sandbox" in (error.value.hint or "")


def test_where_bubblewrap_cannot_work(tree: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = ["sh", "-c", "echo bwrap: no permissions to create a new namespace >&2; exit 1"]
    monkeypatch.setattr(bubblewrap, "argv", lambda *_, **__: refusing)
    with pytest.raises(HostError, match="shut into a sandbox here: bwrap: no permissions") as error:
        open_view(tree, work, Log())
    assert "--no-sandbox" in (error.value.hint or "")
    assert not (work / "tree").exists()


def test_a_copied_tree_is_told_of(tree: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_NAMESPACES", (("false",),) * 2)
    events: list[Event] = []
    view = open_view(tree, work, Log([events.append]))
    assert (view.kind, view.sandboxed) == ("copy", True)
    assert any(isinstance(event, Warned) and "no overlay mount" in event.text for event in events)


AS_USER = """
import sys
from pathlib import Path
from imagebuilder.errors import HostError
from imagebuilder.host.ordinary_user import environment, ordinary_user, own_places, unused_number
from imagebuilder.host.run import CLEAN_PATH, Completed, run
from imagebuilder.host.sandbox import open_view
from imagebuilder.log import Log, Warned
events = []
try:
    view = open_view(Path(sys.argv[1]), Path(sys.argv[2]), Log([events.append]))
except HostError as error:
    print(error.message)
    print(error.hint)
    sys.exit(2)
print(view.kind, view.sandboxed, *(event.text for event in events if isinstance(event, Warned)))
done = run(view.command(["bash", "-c", sys.argv[3]]), check=False)
print(done.stdout, done.stderr)
"""
# what make does all over a tree: create, rename and remove in every folder, and write to the tree's own files
EVERYWHERE = """
id -u; cat /etc/shadow 2>&1 | head -c 1
for folder in . */; do touch $folder/new && mv $folder/new $folder/newer && rm $folder/newer || exit 1; done
for file in Makefile */file; do echo more >> $file && mv $file $file.old && rm $file.old || exit 1; done
find . -name 'file*' -o -name 'new*' -o -name '.probe*'; ls -A; echo all done
"""


@dataclass(frozen=True)
class OrdinaryUser:
    """Who is not root, while this session is; number is its user and its group."""

    number: int
    home: Path
    argv: Sequence[str]

    def open_view(self, tree: Path, script: str = EVERYWHERE) -> Completed:
        """Open a view of a tree and run a script in it."""
        work = self.home / "work"
        work.mkdir()
        os.chown(work, self.number, self.number)
        return run(
            [*self.argv, sys.executable, "-c", AS_USER, str(tree), str(work), script],
            cwd=PROJECT,
            env={**environment(self.home), "PYTHONPATH": str(PROJECT)},
            check=False,
        )

    def own(self, *places: Path) -> None:
        for place in places:
            os.chown(place, self.number, self.number)


@pytest.fixture
def user() -> Iterator[OrdinaryUser]:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else; the other tests run as an ordinary user here")
    number = unused_number()
    with tempfile.TemporaryDirectory(prefix="sandbox-") as name:
        Path(name).chmod(0o755)
        home = Path(name, "home")
        home.mkdir()
        yield OrdinaryUser(number, home, ordinary_user(home, own_places(PROJECT), number))


@pytest.fixture
def users_tree(user: OrdinaryUser) -> Path:
    """A tree of the ordinary user's, two folders with a file each, and a `.git`."""
    tree = user.home.parent / "tree"
    for name in ("one", "two", ".git"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").write_text(name)
    (tree / "Makefile").touch()
    user.own(tree, *tree.rglob("*"))
    return tree


def test_an_ordinary_users_tree_is_not_copied(user: OrdinaryUser, users_tree: Path) -> None:
    done = user.open_view(users_tree)
    assert done.stdout.split() == [
        "overlay",
        "True",
        "0",
        "c./.git/file",
        ".git",
        "one",
        "two",
        "all",
        "done",
    ]
    assert (users_tree / "one/file").read_text() == "one"


@pytest.mark.parametrize("what", ["one", "one/file", "Makefile"])
@pytest.mark.parametrize("foreign", ["group", "user", "both"])
def test_a_tree_with_something_foreign_is_copied(
    user: OrdinaryUser, users_tree: Path, what: str, foreign: str
) -> None:
    """The overlay cannot change what belongs to somebody whom the user's namespace does not know."""
    os.chown(users_tree / what, -1 if foreign == "group" else 0, -1 if foreign == "user" else 0)
    done = user.open_view(users_tree)
    first, *others = done.stdout.splitlines()
    owner = 0 if foreign != "group" else user.number
    group = 0 if foreign != "user" else user.number
    assert first.startswith("copy True no overlay mount here, so the tree is copied for this build (")
    assert f"{what} belongs to user {owner} and group {group}; " in first
    assert ("Value too large for defined data type" if foreign == "group" else "Permission denied") in first
    assert others[:1] + others[-2:-1] == ["0", "all done"]
    assert ".git" not in others
    assert (users_tree / "one/file").read_text() == "one"


def test_a_foreign_folder_of_the_whole_tree_does_no_harm(user: OrdinaryUser, users_tree: Path) -> None:
    """The overlay has one of its own in its place."""
    os.chown(users_tree, 0, 0)
    assert user.open_view(users_tree).stdout.startswith("overlay True\n")


def test_a_makefile_that_the_user_cannot_read(user: OrdinaryUser, users_tree: Path) -> None:
    (users_tree / "Makefile").chmod(0)
    done = user.open_view(users_tree)
    assert (done.code, done.stdout.splitlines()[0]) == (
        2,
        f"{users_tree}/Makefile cannot be read: Permission denied",
    )


def test_a_tree_that_the_user_cannot_read_in_part(user: OrdinaryUser, users_tree: Path) -> None:
    """What is root's alone can neither be copied nor be changed."""
    for name in ("one", ".git", "two/file"):
        os.chown(users_tree / name, 0, 0)
        (users_tree / name).chmod(0o700)
    done = user.open_view(users_tree)
    assert done.code == 2
    message, hint = done.stdout.splitlines()
    assert message.startswith(f"{users_tree} has what this user cannot read: one, two/file. So it cannot be")
    assert "chmod" in hint


def test_what_is_the_users_own_need_not_be_readable(user: OrdinaryUser, users_tree: Path) -> None:
    (users_tree / "one/file").chmod(0)
    (users_tree / "two").chmod(0o500)
    assert user.open_view(users_tree).stdout.startswith("overlay True\n")


def test_git_is_not_copied(tree: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_NAMESPACES", (("false",),) * 2)
    monkeypatch.setattr(sandbox, "_ARGUMENTS", 2)
    for name in (".git/objects", ".config", "-odd", "sub/.git"):
        (tree / name).mkdir(parents=True)
    tree.chmod(0o750)
    view = open_view(tree, work, Log())
    assert sorted(path.name for path in view.changed.iterdir()) == ["-odd", ".config", "Makefile", "sub"]
    assert (view.changed / "sub/.git").is_dir()
    assert view.changed.stat().st_mode & 0o777 == 0o750


def test_kinds_of_a_tree(tree: Path) -> None:
    """One of each owner, group and mode, the smallest file; nothing of `.git`, and no link is followed."""
    for name, size, mode in (("a", 9, 0o644), ("b", 3, 0o644), ("c", 1, 0o755), (".git/d", 1, 0o600)):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(b"x" * size)
        (tree / name).chmod(mode)
    (tree / "Makefile").write_text("a makefile")
    (tree / "link").symlink_to("/etc")
    tree.chmod(0o755)
    (tree / "sub").mkdir(mode=0o700)
    found = tree_kinds(tree)
    assert found.examples == ("dsub", "d", "fb", "fc")
    assert (found.foreign, found.unreadable) == ("", ())


@pytest.mark.parametrize(
    ("text", "known"),
    [("0 0 4294967295", True), ("0 1000 1", False), ("0 1000 1\n1 100000 65536", False), ("", False)],
)
def test_whether_every_user_has_a_number(tmp_path: Path, text: str, known: bool) -> None:
    for name in ("uid_map", "gid_map"):
        (tmp_path / name).write_text(f"         {text}\n")
    assert knows_every_user(tmp_path) is known


@pytest.mark.parametrize("sandboxed", [True, False])
def test_what_is_mounted_on_is_gone_with_its_last_user(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandboxed: bool
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(sandbox, "_mount_point", partial(sandbox._mount_point, place=place))
    with temporary_folder("work", tmp_path) as work:
        view = open_view(tree, work, Log(), sandbox=sandboxed)
        with temporary_folder("work", tmp_path) as other:
            assert "Makefile" in shell(open_view(tree, other, Log(), sandbox=sandboxed), "ls")
        assert "Makefile" in shell(view, "ls")
        assert len(list(place.iterdir())) == 1
    assert list(place.iterdir()) == []


def test_a_mount_point_that_somebody_else_has(tmp_path: Path) -> None:
    """Another root's, where this one is of a user namespace; or one that was laid there to be in the way."""
    with temporary_folder("work", tmp_path / "a") as work, temporary_folder("work", tmp_path / "b") as other:
        first = sandbox._mount_point(work, tmp_path)
        assert first == sandbox._mount_point(other / "deep", tmp_path)
        assert first.stat().st_mode & 0o777 == 0o700
    first.symlink_to("/etc")
    second = sandbox._mount_point(tmp_path, tmp_path)
    assert second == first.with_name(f"{first.name}-2")
    for number in range(2, 10):
        place = first.with_name(f"{first.name}-{number}")
        if place.is_dir():
            place.rmdir()
        place.write_text("")
    with pytest.raises(HostError, match="belong to somebody else"):
        sandbox._mount_point(tmp_path, tmp_path)


def test_the_environment_holds_what_was_given_and_nothing_of_where_we_are(
    tree: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell that changes its folder exports the old one: that of whoever called us."""
    here = tmp_path / "here-it-leaks"
    here.mkdir()
    monkeypatch.chdir(here)
    for sandboxed in (True, False):
        place = work / str(sandboxed)
        place.mkdir()
        view = open_view(tree, place, Log(), sandbox=sandboxed)
        printed = run(view.command(["env"]), env={"PATH": CLEAN_PATH, "ONE": "1"}).stdout
        names = {line.partition("=")[0] for line in printed.splitlines()}
        assert names <= {"PATH", "ONE", "PWD", "SHLVL", "_"}
        assert "leaks" not in printed


# --- a package's script, on the kit

SPY = """\
#!/bin/sh
note() {{ echo "$1" >> "$IPKG_INSTROOT/spy-report"; }}
cat "{home}/secret" 2>/dev/null | grep -q hidden && note "read the home"
ls "{cache}" >/dev/null 2>&1 && note "listed the cache"
bash -c 'echo spy > /dev/tcp/127.0.0.1/{port}' 2>/dev/null && note "reached the network"
touch "{outside}/spy" 2>/dev/null && note "wrote outside"
note done
"""


@pytest.mark.kit
def test_what_a_packages_script_cannot_do(kit: Path, tmp_path: Path) -> None:
    """And, so that this says something, what it can do outside the sandbox."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    for folder in (home, outside):
        folder.mkdir()
    (home / "secret").write_text("hidden\n")
    tree = tmp_path / "kit"
    shutil.copytree(kit, tree, symlinks=True)
    with listening() as (port, heard):
        script = SPY.format(home=home, cache=user_cache(), port=port, outside=outside)
        _add_package(tree, {"postinst": script.encode()})
        assert _spied(tree, tmp_path / "inside", sandbox=True) == ["done"]
        assert heard == []
        assert list(outside.iterdir()) == []
        free = _spied(tree, tmp_path / "free", sandbox=False)
    assert free == ["read the home", "listed the cache", "reached the network", "wrote outside", "done"]
    assert heard == [b"spy\n"]


def _add_package(tree: Path, scripts: dict[str, bytes]) -> None:
    packages = tree / "packages"
    spy = write_ipk(packages, Package("spy", "1"), EMPTY, epoch=0, scripts=scripts)
    text = format_index([*read_index(packages / "Packages"), spy.package])
    (packages / "Packages").write_text(text)
    (packages / "Packages.gz").write_bytes(compressed_index(text))


def _spied(tree: Path, work: Path, *, sandbox: bool) -> list[str]:
    (work / "bin").mkdir(parents=True)
    view = open_view(tree, work, Log(), sandbox=sandbox)
    run(view.command(["make", "image", "PACKAGES=spy", f"BIN_DIR={view.work}/bin"]))
    rootfs = find_rootfs(view.changed, Places(root="build_dir/target-x86_64/root-x86"))
    assert rootfs is not None
    assert list((work / "bin").glob("*.manifest"))
    return (rootfs / "spy-report").read_text().splitlines()
