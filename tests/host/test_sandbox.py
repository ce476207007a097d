"""The sandbox: what programs in it see, what they cannot do, and where it cannot be had."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.host import bubblewrap, sandbox
from imagebuilder.host.fs import user_cache
from imagebuilder.host.run import run
from imagebuilder.host.sandbox import PrivateView, open_view
from imagebuilder.host.walk import remove_tree
from imagebuilder.log import Event, Log, Warned
from imagebuilder.model.package import Package
from imagebuilder.model.tree import Places
from imagebuilder.packages.opkg.ipk import write_ipk
from imagebuilder.packages.opkg.opkg import compressed_index, format_index, read_index
from imagebuilder.rootfs.tree import EMPTY
from imagebuilder.tree.collect import find_rootfs


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
            patch.setattr(sandbox, "_OUTSIDE_BUBBLEWRAP", (("false",),) * 2)
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
    place = Path(f"/tmp/openwrt-imagebuilder-{user}")
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
    monkeypatch.setattr(sandbox, "_OUTSIDE_BUBBLEWRAP", (("false",),) * 2)
    events: list[Event] = []
    view = open_view(tree, work, Log([events.append]))
    assert (view.kind, view.sandboxed) == ("copy", True)
    assert any(isinstance(event, Warned) and "no overlay mount" in event.text for event in events)


AS_USER = """
import sys
from pathlib import Path
from imagebuilder.host.run import run
from imagebuilder.host.sandbox import open_view
from imagebuilder.log import Log
view = open_view(Path(sys.argv[1]), Path(sys.argv[2]), Log())
print(view.kind, view.sandboxed)
print(run(view.command(["sh", "-c", "id -u; touch fresh; ls; cat /etc/shadow; true"])).stdout)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="all other tests run as a normal user then")
@pytest.mark.parametrize(("owner", "kind"), [("nobody", "overlay"), ("root", "copy")])
def test_as_a_normal_user(owner: str, kind: str) -> None:
    user = pwd.getpwnam("nobody")
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if run([*become, sys.executable, "-c", "import imagebuilder.host.sandbox"], check=False).code != 0:
        pytest.skip("this Python, or what is installed for it, is not for other users")
    with tempfile.TemporaryDirectory(prefix="sandbox-") as name:
        Path(name).chmod(0o755)
        tree, work = Path(name, "tree"), Path(name, "work")
        for folder in (tree, work):
            folder.mkdir()
            os.chown(folder, user.pw_uid, user.pw_gid)
        (tree / "Makefile").touch()
        os.chown(tree / "Makefile", pwd.getpwnam(owner).pw_uid, 0)
        printed = run([*become, sys.executable, "-c", AS_USER, str(tree), str(work)]).stdout
        assert printed.split() == [kind, "True", "0", "Makefile", "fresh"]


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
