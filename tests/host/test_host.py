"""The base: programs, files, private views, workspaces."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagebuilder.errors import HostError
from imagebuilder.host import sandbox
from imagebuilder.host.fs import (
    disk_errors_explained,
    explained_error,
    is_inside,
    make_folder,
    naming,
    sha256_of,
)
from imagebuilder.host.handover import replace_folder, temporary_folder, write_whole
from imagebuilder.host.own_folders import ready_cache
from imagebuilder.host.run import (
    MAX_LINE,
    TAIL_LINES,
    BackgroundProgram,
    ProgramError,
    ProgramOutputError,
    ProgramTimeoutError,
    clean_environment,
    how_it_ended,
    killed_by,
    run,
    stream,
)
from imagebuilder.host.sandbox import open_view
from imagebuilder.host.walk import remove_tree
from imagebuilder.log import CommandRun, Event, Log, Warned
from imagebuilder.workspace import OUTPUT, open_workspace


def test_a_program_gets_a_clean_environment_and_umask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFILE", "leaks")
    before = os.umask(0o077)
    try:
        printed = run(["sh", "-c", "umask; env"]).stdout
    finally:
        os.umask(before)
    assert printed.splitlines()[0] == "0022"
    assert "PROFILE" not in printed
    assert {"LC_ALL=C", "TZ=UTC"} <= set(printed.splitlines())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "exited with 0"),
        (1, "exited with 1"),
        (-11, "was killed by signal 11 (SIGSEGV)"),
        (139, "was killed by signal 11 (SIGSEGV)"),
        (132, "was killed by signal 4 (SIGILL)"),
        (129, "exited with 129"),
        (143, "exited with 143"),
        (-15, "was killed by signal 15 (SIGTERM)"),
        (-99, "exited with -99"),
        (255, "exited with 255"),
    ],
)
def test_a_signal_is_told_apart_from_a_failure(code: int, said: str) -> None:
    assert how_it_ended(code) == said
    assert (killed_by(code) is None) is said.startswith("exited")


def test_output_input_and_errors() -> None:
    ended = run(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin=b"a\xffb", check=False)
    assert (ended.code, ended.stdout, ended.stderr) == (3, "a\N{REPLACEMENT CHARACTER}b", "oops\n")
    with pytest.raises(ProgramError, match="sh exited with 3, saying last:\noops") as failed:
        run(["sh", "-c", "echo oops >&2; exit 3"])
    assert failed.value.code == 3
    with pytest.raises(ProgramError, match="killed by signal 9"):
        run(["sh", "-c", "kill -9 $$"])
    with pytest.raises(ProgramError, match=r"sh was killed by signal 4 \(SIGILL\)"):
        run(["sh", "-c", "sh -c 'kill -ILL $$'; exit $?"])  # as bubblewrap says it
    with pytest.raises(HostError, match="'no-such-program' is not on this machine"):
        run(["no-such-program"])


def test_the_end_of_long_output_is_kept() -> None:
    lines: list[str] = []
    with pytest.raises(ProgramError) as failed:
        stream(["sh", "-c", "seq 10000; echo the reason >&2; exit 2"], lines.append)
    assert len(lines) == 10001
    assert failed.value.tail.splitlines()[-1] == "the reason"
    assert len(failed.value.tail.splitlines()) == TAIL_LINES


def test_a_program_that_takes_too_long_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    script = f"sleep 100 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(ProgramTimeoutError, match=r"did not end within 0\.5 s"):
        run(["sh", "-c", script], timeout=0.5)
    child = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 5
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < until:
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{child}").exists()


def test_a_time_limit_loses_no_output() -> None:
    assert {run(["echo", "all of it"], timeout=20).stdout for _ in range(50)} == {"all of it\n"}


def test_commands_are_announced() -> None:
    events: list[Event] = []
    run(["true", "a b"], log=Log([events.append]))
    assert events == [CommandRun(("true", "a b"))]


def test_a_background_program_ends_with_its_block() -> None:
    lines: list[str] = []
    with BackgroundProgram(["sh", "-c", "echo up; exec sleep 100"], lines.append) as program:
        until = time.monotonic() + 5
        while not lines and time.monotonic() < until:
            time.sleep(0.01)
        assert program.alive()
    assert lines == ["up"]
    assert not program.alive()


# --- files


def test_inside_is_not_a_matter_of_names(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/bc").mkdir()
    (tmp_path / "a/b/out").symlink_to(tmp_path / "a/bc")
    assert is_inside(tmp_path / "a/b", tmp_path / "a/b/c")
    assert is_inside(tmp_path / "a/b", tmp_path / "a/b")
    assert not is_inside(tmp_path / "a/b", tmp_path / "a/bc")
    assert not is_inside(tmp_path / "a/b", tmp_path / "a/b/../bc")
    assert not is_inside(tmp_path / "a/b", tmp_path / "a/b/out/x")


def test_a_file_is_written_whole_or_not(tmp_path: Path) -> None:
    place = tmp_path / "x/file"
    write_whole(place, b"one")
    write_whole(place, b"two")
    assert place.read_bytes() == b"two"
    assert place.stat().st_mode & 0o777 == 0o644
    assert sha256_of(place) == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
    assert [path.name for path in place.parent.iterdir()] == ["file"]


def test_a_cache_that_cannot_be_made_names_the_way_out(tmp_path: Path) -> None:
    ready_cache(tmp_path / "new/cache")
    ready_cache(tmp_path / "new/cache")
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=f"cannot write {tmp_path}/file") as failed:
        ready_cache(tmp_path / "file/cache")
    assert "--cache PATH" in (failed.value.hint or "")


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "cannot write")]
)
def test_errors_of_the_disk_are_the_users_to_mend(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(HostError, match=words), disk_errors_explained(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path))


# --- views


SCRIPT = ["sh", "-c", "pwd; echo more >> Makefile; echo new > fresh; cat Makefile"]


@pytest.mark.parametrize("shut", [True, False])
def test_a_view_leaves_the_tree_as_it_was(tree: Path, tmp_path: Path, shut: bool) -> None:
    (tmp_path / "work, too").mkdir()
    view = open_view(tree, tmp_path / "work, too", Log(), sandbox=shut)
    printed = run(view.command(SCRIPT)).stdout.splitlines()
    assert printed[1:] == ["all:", "more"]
    assert printed[0] == str(view.tree)
    assert run(view.command(["cat", "fresh"])).stdout == "new\n"
    assert (view.changed / "fresh").read_text() == "new\n"
    assert (tree / "Makefile").read_text() == "all:\n"
    assert sorted(path.name for path in tree.iterdir()) == ["Makefile"]
    remove_tree(tmp_path / "work, too")


@pytest.mark.parametrize("shut", [True, False])
def test_a_copy_serves_where_no_overlay_can_be_mounted(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shut: bool
) -> None:
    monkeypatch.setattr(sandbox, "_NAMESPACES", (("false",),) * 3)
    events: list[Event] = []
    (tmp_path / "work").mkdir()
    (tree / "-odd").mkdir(mode=0o750)
    (tree / ".git").mkdir()  # a clone's history, which may be larger than all else
    tree.chmod(0o711)
    view = open_view(tree, tmp_path / "work", Log([events.append]), sandbox=shut)
    assert (view.kind, view.sandboxed) == ("copy", shut)
    assert {path.name for path in view.changed.iterdir()} == {"-odd", "Makefile"}
    assert [each.stat().st_mode & 0o777 for each in (view.changed, view.changed / "-odd")] == [0o711, 0o750]
    assert any(isinstance(event, Warned) and "no overlay mount" in event.text for event in events)
    assert run(view.command(SCRIPT)).stdout.splitlines()[1:] == ["all:", "more"]
    assert (view.changed / "fresh").read_text() == "new\n"
    assert (tree / "Makefile").read_text() == "all:\n"


def test_a_copy_outside_the_sandbox_needs_a_plain_path(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_NAMESPACES", (("false",),) * 3)
    (tmp_path / "with blank").mkdir()
    with pytest.raises(HostError, match="blanks in its name"):
        open_view(tree, tmp_path / "with blank", Log(), sandbox=False)


# --- workspaces


def test_a_result_appears_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with open_workspace(tmp_path, "config", "board") as workspace:
            (workspace.result / "file").write_text(content)
            assert not (tmp_path / "config/board/other").exists()
            workspace.hand_over()
        assert (tmp_path / "config/board/file").read_text() == content
    assert [path.name for path in (tmp_path / "config").iterdir() if path.name[0] != "."] == ["board"]


def test_a_failed_build_leaves_the_older_result_and_its_log(tmp_path: Path) -> None:
    with open_workspace(tmp_path, "config", "board") as workspace:
        (workspace.result / "file").write_text("older")
        workspace.hand_over()
    with pytest.raises(RuntimeError), open_workspace(tmp_path, "config", "board") as workspace:
        (workspace.result / "build.log").write_text("what happened")
        kept = workspace.keep_failure_log()
        raise RuntimeError
    assert kept == tmp_path / "config/board.failed.log"
    assert kept.read_text() == "what happened"
    assert (tmp_path / "config/board/file").read_text() == "older"
    assert not list((tmp_path / "config").glob(".work-*"))


def test_an_interrupted_build_leaves_no_empty_folder(tmp_path: Path) -> None:
    output = tmp_path / "new/out"
    with pytest.raises(KeyboardInterrupt), open_workspace(output, "config", "board"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    output.mkdir(parents=True)
    with (
        open_workspace(output, "config", "board"),
        pytest.raises(KeyboardInterrupt),
        open_workspace(output, "config", "other"),
    ):
        raise KeyboardInterrupt
    assert list(output.parent.iterdir()) == [output]  # the user's own
    assert list(output.iterdir()) == []


def test_builds_that_end_do_not_disturb_those_that_begin(tmp_path: Path) -> None:
    """Each makes the folder, and takes it away where it is empty."""

    def build(board: int) -> int:
        for _ in range(100):
            with open_workspace(tmp_path / "out", "config", str(board)) as workspace:
                assert workspace.result.is_dir()
        return board

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(build, range(4))) == [0, 1, 2, 3]
    assert not list(tmp_path.rglob(".*"))


def test_a_folder_is_made_while_others_take_it_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is gone when it was found to be there, once the one above when it had just been made."""
    folder = tmp_path / "out/config"
    folder.mkdir(parents=True)
    mkdir, gone = os.mkdir, [folder, folder.parent]

    def and_it_goes(path: Path, *given: int) -> None:
        try:
            mkdir(path, *given)
        finally:
            if [path] == gone[:1]:
                gone.pop(0).rmdir()
                if path == folder:
                    folder.parent.rmdir()

    monkeypatch.setattr(os, "mkdir", and_it_goes)
    make_folder(folder)
    assert not gone
    assert folder.is_dir()


def test_what_cannot_be_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere/at/all")
    for place in ("file", "file/below", "dangling", "dangling/below"):
        with pytest.raises(OSError, match="File exists|Not a directory|No such file"):
            make_folder(tmp_path / place)


def test_a_folder_that_another_build_takes_away_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looks, at the folder of the results and at a config's in it, find what was there a moment ago."""
    is_dir = Path.is_dir

    def and_it_goes(place: Path) -> bool:
        there = is_dir(place)
        if there and place.name in ("out", "config"):
            place.rmdir()
        return there

    for gone in (tmp_path / "out", tmp_path / "other" / "config"):
        gone.mkdir(parents=True)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "is_dir", and_it_goes)
            assert OUTPUT.stranger(gone if gone.name == "out" else gone.parent) is None
        assert not gone.exists()


def test_what_a_killed_build_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead = tmp_path / "config/.work-deaddead"
    dead.mkdir(parents=True)
    (dead / ".lock").touch()
    with (
        open_workspace(tmp_path, "config", "one") as living,
        open_workspace(tmp_path, "config", "two") as other,
    ):
        assert not dead.exists()
        assert living.work.exists()
        assert other.work.exists()


def test_what_was_left_for_other_configs_goes_too_but_nothing_of_the_users(tmp_path: Path) -> None:
    own, users = tmp_path / "out", tmp_path / "home"
    for output in (own, users):
        for name in ("other/.work-abcdefg1", ".first-abcdefg1/config/.work-abcdefg1"):
            (output / name).mkdir(parents=True)
    (users / "other/.x.lock").touch()
    (users / "letters.txt").touch()
    for output in (own, users):
        with open_workspace(output, "config", "board") as workspace:
            workspace.hand_over()
    assert sorted(path.name for path in own.iterdir()) == [".openwrt-imagebuilder", "config", "other"]
    assert list((own / "other").iterdir()) == []
    assert sorted(path.name for path in users.iterdir()) == ["config", "letters.txt", "other"]
    assert len(list((users / "other").iterdir())) == 2


def test_a_previous_result_that_a_killed_build_moved_aside_comes_back(tmp_path: Path) -> None:
    """As versions left it that handed over in two steps, and file systems that cannot exchange names."""
    old = tmp_path / "out/config/.board.old-4711"
    old.mkdir(parents=True)
    (old / "result.json").write_text(json.dumps({"config": "config", "board": "board"}))
    with pytest.raises(KeyboardInterrupt), open_workspace(tmp_path / "out", "config", "other"):
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "out/config").iterdir()] == ["board"]


def test_the_cache_is_marked_and_what_the_dead_left_in_it_goes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    names = (
        *(".asking-abcdefg1", "asking-abcdefg1", "look-abcdefg1", "partial/read-abcdefg1"),
        *("partial/apt-abcdefg1", "kits/.making-abcdefg1", "build-requires/.new-abcdefg1"),
        *("trees/.unpack-abcdefg1", "mine/.new-abcdefg1"),
    )
    for name in names:
        (cache / name / "deep").mkdir(parents=True)
    (cache / "indexes").mkdir()
    (cache / "indexes/.x.packages.new-abcdefg1").touch()
    with temporary_folder("read", cache / "partial") as living:
        ready_cache(cache)
        assert list((cache / "partial").iterdir()) == [living]
    assert (cache / "mine/.new-abcdefg1/deep").is_dir()  # no folder of ours, so the cache is not marked
    assert [str(path) for path in cache.glob("*/*") if path.parent.name != "mine"] == []
    assert not (cache / "CACHEDIR.TAG").exists()
    remove_tree(cache / "mine")
    ready_cache(cache)
    assert (cache / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_interrupting_stops_what_runs(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 100"])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_environment_can_be_added_to() -> None:
    assert clean_environment(A="1")["A"] == "1"


def test_a_line_without_an_end_is_kept_to_its_bound() -> None:
    """300 MB in one line took 1.56 GB of memory; what is said beside it is not lost."""
    lines: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    script = f"echo begin; head -c {8 << 20} /dev/zero | tr '\\0' x; echo; printf end"
    stream(["sh", "-c", script], lines.append)
    left_out = (8 << 20) - MAX_LINE
    assert lines == ["begin", "x" * MAX_LINE + f" [{left_out} more bytes of this line are left out]", "end"]
    with pytest.raises(ProgramOutputError, match="said more than 16 MiB and was stopped"):
        stream(["sh", "-c", f"head -c {300 << 20} /dev/zero"], lines.append)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


def test_a_program_that_never_stops_talking_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagebuilder.host.run.MAX_LOG_LINES", 1000)
    with pytest.raises(ProgramOutputError, match="said more than 1000 lines and was stopped"):
        stream(["yes"], lambda _: None)
    monkeypatch.setattr("imagebuilder.host.run.MAX_RESULT_BYTES", 1 << 20)
    with pytest.raises(ProgramOutputError, match="said more than 1 MiB and was stopped"):
        run(["yes"])


def test_lines_come_while_a_program_runs() -> None:
    """In their order, whole, and with what is no UTF-8 replaced."""
    heard: list[tuple[str, float]] = []
    script = "printf 'a\\nb'; sleep 0.5; printf '\\303'; sleep 0.1; printf '\\244\\n\\377\\n\\n'"
    stream(["sh", "-c", script], lambda line: heard.append((line, time.monotonic())))
    assert [line for line, _ in heard] == ["a", "b\u00e4", "\ufffd", ""]
    assert heard[1][1] - heard[0][1] > 0.4


def test_it_is_told_that_a_program_runs() -> None:
    """Once, also where it says nothing for a while; and not of one that does not start."""
    heard: list[str] = []
    stream(["sh", "-c", "sleep 0.5; echo line"], heard.append, begun=lambda: heard.append("begun"))
    assert heard == ["begun", "line"]
    with pytest.raises(HostError):
        stream(["/no/such/program"], heard.append, begun=lambda: heard.append("begun"))
    assert heard == ["begun", "line"]


def test_a_full_disk_is_told_of_the_place_that_is_full(tmp_path: Path) -> None:
    """Whatever folder the work was for: a full cache is no full output folder."""
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(OSError, match="No space left") as full, Path("/dev/full").open("wb", 0) as stream:  # noqa: SIM117
        with naming(cache / "blobs" / "file"):
            stream.write(b"x")
    with pytest.raises(HostError) as failed, disk_errors_explained(tmp_path / "out"):
        raise full.value
    free = shutil.disk_usage(cache).free // 1024
    told = re.fullmatch(rf"no space left below {cache}: (\d+) KiB are free", failed.value.message)
    assert told is not None
    assert abs(int(told[1]) - free) < 1 << 20
    assert "--cache" in (failed.value.hint or "")
    with pytest.raises(HostError, match=f"no space left below {tmp_path}: "), disk_errors_explained(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_error_of_a_program_of_ours_is_none_of_the_machine() -> None:
    assert explained_error(OSError(errno.EBADF, "Bad file descriptor", "/etc")) is None
    assert explained_error(OSError(errno.EACCES, "Permission denied")) is None
    told = explained_error(OSError(errno.ENAMETOOLONG, "File name too long", "/etc/" + "n" * 4000))
    assert told is not None
    assert told.message.startswith("cannot use /etc/nnn")
    assert len(told.message) < 400


def test_words_that_no_program_can_be_given() -> None:
    for word in ("\udcff", "zero\0byte"):
        with pytest.raises(HostError, match="true cannot be given"):
            run(["true", word])
