"""What appears whole or not at all: killed before and after each step, with the call that exchanges names and
without it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagebuilder.host import handover
from imagebuilder.host.handover import (
    alone,
    appear,
    clear,
    lead,
    remove_abandoned,
    remove_whole,
    replace_folder,
    shared_folder,
    temporary_folder,
    whole_file,
    write_new,
    write_whole,
)

Steps = Callable[..., object]


@pytest.fixture(params=[True, False], ids=["exchange", "steps"])
def exchanging(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file system can exchange names."""
    if not request.param:
        monkeypatch.setattr(handover, "_rename", refused)
    return bool(request.param)


def refused(*_: object) -> None:
    raise OSError(errno.EINVAL, "as a file system without it says")


def folder_of(place: Path, text: str) -> Path:
    """A folder with two files of one text."""
    place.mkdir(parents=True)
    for name in ("first", "second"):
        (place / name).write_text(text)
    return place


def content(place: Path) -> str | None:
    """The text that a folder of folder_of() holds whole; None where there is no folder."""
    if not place.exists():
        return None
    first, second = ((place / name).read_text() for name in ("first", "second"))
    assert first == second
    return first


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Do some work in a process that kills itself before its call of that number that changes names; whether
    it came so far."""
    child = os.fork()
    if child == 0:
        left = [number]

        def hook(event: str, _: object) -> None:
            if event in ("os.rename", "os.remove", "os.rmdir", "os.link", "os.mkdir", "ctypes.call", "open"):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        real = handover._rename

        def counted(new: Path, place: Path, flags: int) -> None:
            hook("ctypes.call", ())
            real(new, place, flags)

        handover._rename = counted  # the child's own
        sys.addaudithook(hook)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def test_killed_at_any_step_a_handover_leaves_the_old_or_the_new_whole(
    tmp_path: Path, exchanging: bool
) -> None:
    out, place = tmp_path / "out", tmp_path / "out/board"

    def hand_over() -> None:
        with temporary_folder("work", out) as work:
            replace_folder(folder_of(work / "result", "new"), place)

    number, seen = 0, set()
    for number in range(1, 200):
        clear(out)
        folder_of(place, "old")
        if not killed_at(number, hand_over):
            break
        if exchanging:
            assert content(place) in ("old", "new")
        remove_abandoned(out)
        seen.add(content(place))
        assert content(place) in ("old", "new")
        assert [path.name for path in out.iterdir()] == ["board"]
    assert number > 12
    assert seen == {"old", "new"}
    assert content(place) == "new"


def test_the_steps_leave_a_moment_without_a_folder_that_the_next_start_mends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the loop above comes by there."""
    monkeypatch.setattr(handover, "_rename", refused)
    place = tmp_path / "out/board"

    def hand_over() -> None:
        with temporary_folder("work", place.parent) as work:
            replace_folder(folder_of(work / "result", "new"), place)

    for number in range(1, 200):
        clear(place.parent)
        folder_of(place, "old")
        assert killed_at(number, hand_over), "it was never without"
        if not place.exists():
            break
    remove_abandoned(place.parent)
    assert content(place) == "old"


def test_a_folder_that_was_moved_aside_by_earlier_versions_comes_back(tmp_path: Path) -> None:
    folder_of(tmp_path / ".board.old-4711", "old")
    folder_of(tmp_path / ".other.old-4711", "old")
    folder_of(tmp_path / "other", "new")
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board", "other"]
    assert (content(tmp_path / "board"), content(tmp_path / "other")) == ("old", "new")


def test_many_replace_one_folder_at_once(tmp_path: Path, exchanging: bool) -> None:
    place, ended = tmp_path / "out/board", threading.Event()

    def build(number: int) -> None:
        for _ in range(20):
            with temporary_folder("work", place.parent) as work:
                replace_folder(folder_of(work / "result", str(number)), place)

    def look() -> int:
        missing = 0
        while not ended.is_set():
            try:
                handle = os.open(place, os.O_RDONLY)
            except FileNotFoundError:
                missing += 1
                continue
            os.close(handle)
        return missing

    folder_of(place, "first")
    with ThreadPoolExecutor(5) as pool:
        looking = pool.submit(look)
        for done in [pool.submit(build, number) for number in range(4)]:
            done.result()
        ended.set()
        missing = looking.result()
    assert content(place) in "0123"
    assert [path.name for path in place.parent.iterdir()] == ["board"]
    assert missing == 0 or not exchanging


def test_what_a_living_process_holds_stays(tmp_path: Path) -> None:
    with temporary_folder("work", tmp_path) as work:
        remove_abandoned(tmp_path)
        assert not clear(tmp_path)
        assert work.is_dir()
        with temporary_folder("work", tmp_path) as other:
            assert work.is_dir()
            assert other != work
    assert list(tmp_path.iterdir()) == []


def test_what_the_dead_left_goes(tmp_path: Path) -> None:
    for number in range(1, 100):
        if not killed_at(number, lambda: temporary_folder("first", tmp_path).__enter__()):
            break
    assert number > 1
    names = (".work-abcdefg1", ".first-abcdefg1", ".new-abcdefg1", ".x.toml.new-abcdefg1", ".x.gone-abcdefg1")
    for name in names[:3]:
        (tmp_path / name / "deep").mkdir(parents=True)
    for name in names[3:]:
        (tmp_path / name).touch()
    kept = (".x.lock", ".new", "work-abcdefg1", ".work-x", ".reading-abcdefg1", ".old-abcdefg1")
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / ".work-aaaaaaaa").symlink_to("/etc")
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    assert Path("/etc/passwd").exists()


def test_those_in_the_systems_folder_go_with_the_next_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert killed_at(5, lambda: [temporary_folder("scratch").__enter__(), *map(os.mkdir, "abcdefgh")])
    (tmp_path / "openwrt-imagebuilder-0").mkdir()  # where builds mount
    (tmp_path / ".work-abcdefg1").mkdir()  # another program's
    assert len(list(tmp_path.iterdir())) == 3
    with temporary_folder("scratch") as folder:
        assert folder.parent == tmp_path
        assert len(list(tmp_path.iterdir())) == 3
    assert len(list(tmp_path.iterdir())) == 2


def test_the_last_of_its_users_removes_a_shared_folder(tmp_path: Path) -> None:
    place = tmp_path / "shared"
    with temporary_folder("work", tmp_path / "a") as work:
        assert shared_folder(place, work / "deep")
        assert place.stat().st_mode & 0o777 == 0o700
        with temporary_folder("work", tmp_path / "b") as other:
            assert shared_folder(place, other)
        assert place.is_dir()
    assert not place.exists()
    for taken in (place.touch, lambda: place.symlink_to("/etc"), lambda: place.symlink_to("gone")):
        taken()
        with temporary_folder("work", tmp_path / "a") as work:
            assert not shared_folder(place, work)
        place.unlink()  # it stayed
    with temporary_folder("work", tmp_path / "a") as work:
        assert shared_folder(place, work)
        (place / "file").touch()
    assert (place / "file").exists()


def test_a_shared_folder_of_one_that_was_killed_goes_with_the_next(tmp_path: Path) -> None:
    def held() -> None:
        with temporary_folder("work", tmp_path / "a") as work:
            shared_folder(tmp_path / "shared", work)
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        held()
    os.waitpid(child, 0)
    assert (tmp_path / "shared").is_dir()
    with temporary_folder("work", tmp_path / "a") as work:
        assert shared_folder(tmp_path / "shared", work)
    assert not (tmp_path / "shared").exists()


def test_no_shared_folder_goes_while_somebody_has_it(tmp_path: Path) -> None:
    """Locks are those of open files, so that threads are to one another as processes are."""
    place = tmp_path / "shared"

    def use(number: int) -> bool:
        kept = True
        for _ in range(60):
            with temporary_folder("work", tmp_path / str(number)) as work:
                kept &= shared_folder(place, work)
                there = place.stat().st_ino
                time.sleep(0)
                kept &= place.stat().st_ino == there
        return kept

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))
    assert not place.exists()


def test_a_name_that_another_took_before_it_was_locked_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = []
    lock = handover._lock

    def late(handle: int, **how: bool) -> bool:
        if not locks:
            locks.append(handle)
            remove_abandoned(tmp_path)
        return lock(handle, **how)

    monkeypatch.setattr(handover, "_lock", late)
    with temporary_folder("work", tmp_path) as work:
        assert work.is_dir()
        assert [path.name for path in tmp_path.iterdir()] == [work.name]


@pytest.mark.parametrize("there", ["file", "folder"])
def test_a_name_is_given_once(tmp_path: Path, exchanging: bool, there: str) -> None:
    assert exchanging in (True, False)
    place = tmp_path / "place"
    new = folder_of(tmp_path / "new", "new") if there == "folder" else tmp_path / "new"
    if there == "file":
        new.write_text("new")
    appear(new, place)
    assert not new.exists()
    again = folder_of(tmp_path / "again", "again")
    with pytest.raises(FileExistsError):
        appear(again, place)
    assert (place if there == "file" else place / "first").read_text() == "new"
    assert content(again) == "again"


@pytest.mark.parametrize("made", [True, False], ids=["over", "new"])
def test_killed_at_any_step_a_file_is_the_old_or_the_new(tmp_path: Path, made: bool) -> None:
    place = tmp_path / "x.toml"
    write = write_whole if made else write_new
    for number in range(1, 100):
        place.unlink(missing_ok=True)
        if made:
            place.write_bytes(b"old")
        if not killed_at(number, lambda: write(place, b"new" * 100)):
            break
        assert (place.read_bytes() if place.exists() else None) in (b"old" if made else None, b"new" * 100)
    assert number > 4
    write_whole(place, b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["x.toml"]


def test_a_file_keeps_its_mode_and_the_link_that_leads_to_it(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles/x.toml", tmp_path / "configs/x.toml"
    write_whole(real, b"old")
    assert real.stat().st_mode & 0o777 == 0o644
    real.chmod(0o600)
    link.parent.mkdir()
    link.symlink_to("../dotfiles/x.toml")
    write_whole(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_new(link, b"newer")
    assert real.read_bytes() == b"new"
    with pytest.raises(ZeroDivisionError), whole_file(real) as new:
        new.write_bytes(b"half")
        raise ZeroDivisionError
    assert [path.name for path in real.parent.iterdir()] == ["x.toml"]
    assert real.read_bytes() == b"new"


def test_names_of_255_bytes(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127):
        write_whole(tmp_path / name, b"data")
        assert (tmp_path / name).read_bytes() == b"data"
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
        remove_whole(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_removal_that_is_killed_leaves_no_half(tmp_path: Path) -> None:
    place = tmp_path / "board"
    for number in range(1, 100):
        if not place.exists():
            folder_of(place, "old")
        if not killed_at(number, lambda: clear(tmp_path)):
            break
        assert content(place) in ("old", None)
        remove_abandoned(tmp_path)
        assert content(place) in ("old", None)
        assert {path.name for path in tmp_path.iterdir()} <= {"board"}
    assert number > 3
    assert list(tmp_path.iterdir()) == []


def test_only_one_is_in_a_folder_alone(tmp_path: Path) -> None:
    folder, inside, waited = tmp_path / "kits", [0], []

    def work(_: int) -> None:
        for _ in range(10):
            with alone(folder, lambda: waited.append(1)):
                inside[0] += 1
                assert inside[0] == 1
                time.sleep(0.002)
                inside[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [None] * 4
    assert waited
    remove_whole(folder)  # as `clean` does
    with pytest.raises(FileNotFoundError, match="the block's own"), alone(folder):
        raise FileNotFoundError("the block's own")


def test_a_link_leads_to_the_old_or_the_new_at_any_moment(tmp_path: Path) -> None:
    link, seen, done = tmp_path / "link", set(), threading.Event()
    lead(link, "a")

    def look() -> None:
        while not done.is_set():
            seen.add(str(link.readlink()))

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        for number in range(200):
            lead(link, "ab"[number % 2])
        done.set()
        looking.result()
    assert seen <= {"a", "b"}
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        lead(tmp_path / "folder", "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]
