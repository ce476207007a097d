"""What a program in the sandbox may take, and how it ends where it takes more."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.errors import HostError, UserError
from imagebuilder.host import limits, sandbox
from imagebuilder.host.limits import LIMITS, LimitError, SandboxLimits, Watch
from imagebuilder.host.run import Completed, run, stream
from imagebuilder.host.sandbox import open_view
from imagebuilder.host.walk import remove_tree
from imagebuilder.log import Log

MIB = 1 << 20
TRACE = f"limits-of-the-sandbox-{os.getpid()}"  # in the command line of all that the tests start

# 1,024 processes that wait, where nothing stops them: bounded, so that a fault of ours is no danger here
FORK_BOMB = "bomb() { if [ $1 -gt 0 ]; then bomb $(($1-1)) | bomb $(($1-1)) & fi; sleep 20; }; bomb 9"
GRANDCHILDREN = f"(setsid bash -c 'sleep 30; :' {TRACE} &); "


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "work"
    (folder / "bin").mkdir(parents=True)
    yield folder
    remove_tree(folder)


Shell = Callable[..., Completed]


@pytest.fixture(params=["overlay", "copy"])
def shell(tree: Path, work: Path, request: pytest.FixtureRequest) -> Shell:
    def call(script: str, bounds: SandboxLimits = LIMITS) -> Completed:
        with pytest.MonkeyPatch.context() as patch:
            if request.param == "copy":
                patch.setattr(sandbox, "_NAMESPACES", (("false",),) * 2)
            view = open_view(tree, work, Log(), limits=bounds)
        assert view.kind == request.param
        argv = view.command(["bash", "-c", script, TRACE])
        return run(argv, check=False, watch=view.watch("making an image"))

    return call


def left_over() -> list[str]:
    """The command lines of what still runs of these tests."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes()
        except OSError:  # it has just ended
            continue
        if TRACE.encode() in line:
            found.append(line.decode())
    return found


@pytest.mark.parametrize(
    ("script", "bounds", "said"),
    [
        (FORK_BOMB, {"tasks": 100}, r"\d+ processes and threads ran at once, more than 100, most of them '"),
        ("while :; do :; done", {"cpu_seconds": 1}, r"one process took 1 s of processor time, more than 1 "),
        ("sleep 30", {"seconds": 0.3}, r"it did not end within 0.3 s"),
        (
            "tail /dev/zero",
            {"memory": 64 * MIB},
            r"it took \d+ MiB of memory, more than 64 MiB .*tail /dev/z",
        ),
        ("yes > /tmp/file", {"scratch": 64 * MIB}, r"the files in its /tmp, .* more than 64 MiB; .*TMPDIR"),
        ("yes > /dev/shm/file", {"memory": 64 * MIB}, r"it took \d+ MiB of memory, more than 64 MiB"),
    ],
)
def test_what_takes_too_much_is_stopped(
    shell: Shell, script: str, bounds: dict[str, float], said: str
) -> None:
    with pytest.raises(LimitError) as error:
        shell(f"{GRANDCHILDREN}{script}; sleep 30", replace(LIMITS, **bounds))
    assert re.match(f"making an image was stopped: {said}", error.value.message), error.value.message
    assert "--no-sandbox" in (error.value.hint or "")
    assert left_over() == []


def test_who_takes_too_much_is_named_with_who_started_it(shell: Shell) -> None:
    script = 'bash -c "tail /dev/zero; :" ./usr/lib/opkg/info/greedy.postinst; :'
    with pytest.raises(LimitError) as error:
        shell(script, replace(LIMITS, memory=64 * MIB))
    assert "greedy.postinst > tail /dev/zero)" in error.value.message


@pytest.mark.parametrize("hidden", ["", " 2>/dev/null"])
def test_a_disk_that_runs_full(
    shell: Shell, work: Path, hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One on which 40 MiB were free: it is stopped before there are none, whatever it says."""
    measured = limits._free
    before = measured(work)
    monkeypatch.setattr(limits, "_free", lambda folder: max(0, measured(folder) - before + 40 * MIB))
    said = r"no space left on the disk of .* for making an image, which was stopped when \d+ MiB were left"
    with pytest.raises(HostError, match=said) as error:
        shell(f"{GRANDCHILDREN}yes > /builder/work/bin/file{hidden}", LIMITS)
    assert str(work) in error.value.message
    assert left_over() == []


def test_a_small_disk_may_be_used_up_further(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk in memory of 20 MB is too small for what must be left of others."""
    monkeypatch.setattr(limits, "_disk_size", lambda _folder: 20 * MIB)
    monkeypatch.setattr(limits, "_free", lambda _folder: 1 * MIB)
    assert run(["sleep", "0.2"], watch=Watch("a step", work)).code == 0
    monkeypatch.setattr(limits, "_free", lambda _folder: 0)
    with pytest.raises(HostError, match="no space left"):
        run(["sleep", "20"], watch=Watch("a step", work))


def test_what_lies_in_memory_may_not_run_full_either(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_free", lambda folder: 0 if folder.name == "memory" else 1 << 40)
    with pytest.raises(HostError, match=r"no space left on the disk of /memory for a step") as error:
        monkeypatch.setattr(limits, "_disk_size", lambda _folder: 1 << 40)
        run(["sleep", "20"], watch=Watch("a step", work, in_memory=Path("/memory")))
    assert "0 MiB are free now" in (error.value.hint or "")


def test_a_file_that_grows_without_end(shell: Shell, work: Path) -> None:
    with pytest.raises(
        LimitError, match=r"making an image failed: a file grew beyond 8 MiB, saying: "
    ) as error:
        shell("exec yes > /builder/work/bin/file", replace(LIMITS, file_size=8 * MIB))
    assert "File" in error.value.message
    assert (work / "bin/file").stat().st_size == 8 * MIB


def test_a_full_disk_is_told_by_what_the_program_said(shell: Shell, work: Path) -> None:
    """A disk with no room, before the watch has seen it."""
    said = "making an image, saying: tar: write error: No space left on device"
    with pytest.raises(HostError, match=said) as error:
        shell("echo 'tar: write error: No space left on device' >&2; exit 2")
    assert str(work) in error.value.message


def test_what_does_not_fail_may_say_anything(shell: Shell) -> None:
    assert shell("echo 'File too large'; echo 'No space left on device' >&2").code == 0


def test_streamed_output_is_read_for_limits_too(tree: Path, work: Path) -> None:
    view = open_view(tree, work, Log(), limits=replace(LIMITS, file_size=8 * MIB))
    watch = view.watch("making an image")
    assert watch is not None
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        watch.step = "installing greedy"

    argv = view.command(["bash", "-c", "echo begun; sleep 0.2; exec yes > file"])
    with pytest.raises(LimitError, match=r"^making an image \(installing greedy\) failed: a file grew"):
        stream(argv, on_line, watch=watch)
    assert lines[0] == "begun"


def test_what_takes_little_is_not_touched(shell: Shell) -> None:
    done = shell("ulimit -c; ulimit -f; ulimit -t; ulimit -v; for i in 1 2 3; do sleep 0.3 & done; wait")
    core, file_size, cpu, address_space = done.stdout.split()
    assert done.code == 0
    assert core == "0"
    assert int(file_size) * 1024 == LIMITS.file_size
    assert int(cpu) > LIMITS.cpu_seconds  # the watch comes first, and says why
    assert address_space == "unlimited"  # emulators reserve much and use little


@pytest.mark.skipif(os.geteuid() == 0, reason="root is not held by this")
def test_the_kernel_bounds_the_processes_of_an_ordinary_user(shell: Shell) -> None:
    assert int(shell("ulimit -u").stdout) <= LIMITS.tasks + 100


def test_only_kernels_that_count_by_namespace_bound_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(text: str) -> None:
        monkeypatch.setattr(
            limits.os, "uname", lambda: os.uname_result(("Linux", "host", text, "1", "x86_64"))
        )

    monkeypatch.setattr(limits.os, "geteuid", lambda: 1000)
    release("5.10.0-30-amd64")
    assert limits.bounded_argv() == []
    release("5.14.0")
    assert limits.bounded_argv()[0] == "prlimit"
    release("6.1-rc3")
    assert limits.bounded_argv()[0] == "prlimit"
    monkeypatch.setattr(limits.os, "geteuid", lambda: 0)
    assert limits.bounded_argv() == []


def test_a_limit_of_ones_own_is_kept(tree: Path, work: Path) -> None:
    """A user who has less than we would give goes on with that."""
    argv = open_view(tree, work, Log()).command(["bash", "-c", "ulimit -f"])
    limited = run(["prlimit", "--fsize=1048576", "--", *argv], watch=Watch("a step", work))
    assert limited.stdout == "1024\n"


def test_outside_the_sandbox_there_are_no_limits(tree: Path, work: Path) -> None:
    view = open_view(tree, work, Log(), sandbox=False)
    assert view.watch("making an image") is None


def test_a_watch_ends_with_its_program(tree: Path, work: Path) -> None:
    """And where no sandbox was made, what it watches is ended by itself."""
    watch = Watch("a step", work, replace(LIMITS, seconds=0.3))
    with pytest.raises(UserError, match="a step was stopped: it did not end within 0.3 s"):
        run(["bash", "-c", "sleep 30", TRACE], watch=watch)
    assert left_over() == []
    assert not [each for each in threading.enumerate() if each.name.startswith(limits._THREAD)]


def test_a_fault_of_the_watch_is_not_lost(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_disk_size", lambda _folder: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        run(["sleep", "0.2"], watch=Watch("a step", work))


def test_children_are_found_without_the_kernels_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every kernel has /proc/PID/task/TID/children."""
    monkeypatch.setattr(limits.Path, "exists", lambda _: False)
    assert os.getpid() in limits._children(os.getppid())
