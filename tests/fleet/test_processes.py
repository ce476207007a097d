"""Jobs in processes of this machine: each in its own, none outlives what it was started for, and one that is
killed costs no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import accumulate
from pathlib import Path

import pytest

from imagebuilder.errors import FaultsError
from imagebuilder.fleet import processes
from imagebuilder.fleet.job import Begun, BoardJob, Ended, Waits
from imagebuilder.fleet.processes import LocalProcesses
from imagebuilder.fleet.room import Room
from imagebuilder.fleet.scheduler import JobEvent
from imagebuilder.host import children
from imagebuilder.log import CommandRun, Note, OutputLine, StepFinished, StepStarted, Warned
from tests.support.fleet_work import jobs, work

PROJECT = Path(__file__).resolve().parents[2]
Found = tuple[str, int, int]
Fleet = LocalProcesses[Found]
SECONDS = 60


class Told:
    """What was told, by the jobs' boards."""

    def __init__(self) -> None:
        self.events: dict[str, list[JobEvent]] = defaultdict(list)

    def __call__(self, job: BoardJob, event: JobEvent) -> None:
        self.events[job.board].append(event)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with LocalProcesses(work, 2, room=roomy(), load=["tests.support.fleet_work"]) as found:
        yield found


def roomy() -> Room:
    return Room(memory=lambda: 1 << 40, disk=lambda _: 1 << 40)


def run(fleet: Fleet, asked: list[BoardJob], told: Told | None = None) -> dict[str, Ended[Found]]:
    return {each.job.board: each for each in fleet.run(asked, told or Told())}


def until(what: Callable[[], object], why: str) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.02)


def running(folder: Path) -> list[int]:
    """The processes that sleep."""
    return [int(path.name.removeprefix("runs-")) for path in folder.glob("runs-*")]


def when(what: Callable[[], object], then: Callable[[], object]) -> None:
    """In another thread."""
    threading.Thread(target=lambda: [until(what, "it does not run"), then()]).start()


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_each_job_has_a_process_and_a_group_of_its_own(fleet: Fleet, tmp_path: Path) -> None:
    told = Told()
    found = run(fleet, jobs(tmp_path, "fine", "fine too", "tells"), told)
    assert {each.state for each in found.values()} == {"done"}
    processes_ = [each.found[1] for each in found.values() if each.found]
    assert len(set(processes_)) == 3
    assert os.getpid() not in processes_
    assert all(each.found and each.found[1] == each.found[2] for each in found.values())
    assert all(each.peak > 10 << 20 for each in found.values())
    first, second, third = told.events["fine"]
    assert first == Begun()
    assert second == StepStarted("fine")
    assert isinstance(third, StepFinished)
    assert Warned("beware") in told.events["tells"]
    assert not [each for each in told.events["tells"] if isinstance(each, OutputLine | CommandRun)]


def test_what_programs_say_is_told_where_it_is_wanted(tmp_path: Path) -> None:
    told = Told()
    with LocalProcesses(work, 1, room=roomy(), lines=True, load=[]) as fleet:
        run(fleet, jobs(tmp_path, "tells"), told)
    assert {OutputLine("a line of a program"), CommandRun(("make",))} <= set(told.events["tells"])


def most_at_once(told: Told) -> int:
    """By what jobs say of when they work."""
    notes = [
        each.text.split() for events in told.events.values() for each in events if isinstance(each, Note)
    ]
    marks = sorted((float(when), 1 if what == "from" else -1) for what, when in notes)
    return max(accumulate(change for _, change in marks))


def test_so_many_at_once_and_no_more(fleet: Fleet, tmp_path: Path) -> None:
    told = Told()
    found = run(fleet, jobs(tmp_path, "meet 2", "meet 02", "sleep 0.2", "sleep 0.21", "sleep 0.22"), told)
    assert {each.state for each in found.values()} == {"done"}
    assert most_at_once(told) == 2


def test_a_job_whose_process_dies_costs_no_other(fleet: Fleet, tmp_path: Path) -> None:
    found = run(fleet, jobs(tmp_path, "kill", "fine", "exit", "bug", "fault", "faults", "fine again"))
    assert {board: each.state for board, each in found.items()} == {
        **dict.fromkeys(("kill", "exit", "bug", "fault", "faults"), "failed"),
        **dict.fromkeys(("fine", "fine again"), "done"),
    }
    failures = {board: each.failure for board, each in found.items() if each.failure}
    assert "was killed by signal 9 (SIGKILL)" in failures["kill"].message
    assert "memory" in (failures["kill"].hint or "")
    assert found["kill"].step == "kill"
    assert "exited with 3" in failures["exit"].message
    assert failures["bug"].message == "ZeroDivisionError: a bug"
    assert "in _do" in failures["bug"].trace
    assert {board for board, each in failures.items() if each.ours} == {"kill", "exit", "bug"}
    fault = failures["fault"]
    assert (fault.message, fault.hint, fault.notes) == ("it is wrong", "mend it", ("a note",))
    error = failures["faults"].error()
    assert isinstance(error, FaultsError)
    assert error.faults[0].line == 3


def test_where_the_maker_of_processes_is_killed_what_it_made_fails_and_the_rest_runs(
    fleet: Fleet, tmp_path: Path
) -> None:
    killed = False
    later: list[str] = []

    def tell(job: BoardJob, event: JobEvent) -> None:
        nonlocal killed
        if killed and isinstance(event, Begun):
            later.append(job.board)
        if not killed and job.number == 0 and isinstance(event, StepStarted):
            until(lambda: running(tmp_path), "it does not run")
            os.kill(fleet.maker._process, signal.SIGKILL)
            killed = True

    wanted = jobs(tmp_path, "sleep 30", *(f"fine {number}" for number in range(9)))
    ended = {each.job.board: each for each in fleet.run(wanted, tell)}
    assert ended["sleep 30"].state == "failed"
    assert ended["sleep 30"].failure is not None
    assert ended["sleep 30"].failure.ours
    assert later
    assert [ended[board].state for board in later] == ["done"] * len(later)
    assert list(tmp_path.glob("unwound-*")), "it was ended by SIGTERM"
    assert running(tmp_path) == []


def test_one_is_cancelled_and_one_that_has_not_begun(fleet: Fleet, tmp_path: Path) -> None:
    asked = jobs(tmp_path, "sleep 60", "sleep 2", "fine", "fine 2")

    when(lambda: len(running(tmp_path)) == 2, lambda: [fleet.cancel(asked[2]), fleet.cancel(asked[0])])
    ended = [(each.job.board, each.state) for each in fleet.run(asked, Told())]
    assert sorted(ended) == [
        ("fine", "not run"),
        ("fine 2", "done"),
        ("sleep 2", "done"),
        ("sleep 60", "interrupted"),
    ]
    assert ended[-1][0] == "fine"
    assert len(list(tmp_path.glob("unwound-*"))) == 1


def test_all_are_cancelled(fleet: Fleet, tmp_path: Path) -> None:
    when(lambda: len(running(tmp_path)) == 2, fleet.cancel)
    asked = jobs(tmp_path, "sleep 60", "sleep 61", "fine")
    assert [each.state for each in fleet.run(asked, Told())] == ["interrupted", "interrupted", "not run"]


def test_nothing_more_is_started(fleet: Fleet, tmp_path: Path) -> None:
    states = []
    for each in fleet.run(jobs(tmp_path, "fine", "sleep 0.5", "fine 2", "fine 3"), Told()):
        fleet.stop_starting()
        states.append((each.job.board, each.state))
    assert states[:2] == [("fine", "done"), ("sleep 0.5", "done")]
    assert ("fine 3", "not run") in states


def test_closing_ends_what_runs(fleet: Fleet, tmp_path: Path) -> None:
    with closing(fleet.run(jobs(tmp_path, "fine", "sleep 60"), Told())) as ended:
        assert next(ended).job.board == "fine"
        until(lambda: running(tmp_path), "it does not run")
        (process,) = running(tmp_path)
    assert not lives(process)
    assert len(list(tmp_path.glob("unwound-*"))) == 1


def test_who_does_not_end_is_killed(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (processes, children):
        monkeypatch.setattr(module, "GRACE_SECONDS", 0.3)
    asked = jobs(tmp_path, "stubborn")
    when(lambda: running(tmp_path), fleet.cancel)
    (ended,) = fleet.run(asked, Told())
    assert ended.state == "interrupted"
    (mark,) = running(tmp_path)
    assert not lives(mark)


def test_an_error_of_who_is_told_ends_all(fleet: Fleet, tmp_path: Path) -> None:
    asked = jobs(tmp_path, "sleep 60", "sleep 61", "tells")
    with pytest.raises(RuntimeError, match="cannot be shown"):
        for _ in fleet.run(asked, _fails_when(lambda: len(running(tmp_path)) == 2)):
            pass
    assert running(tmp_path) == []


def _fails_when(what: Callable[[], bool]) -> Callable[[BoardJob, JobEvent], None]:
    def tell(job: BoardJob, event: JobEvent) -> None:
        if job.number == 1 and isinstance(event, StepStarted):
            until(what, "they do not run")
            raise RuntimeError("cannot be shown")

    return tell


def test_a_server_that_did_not_answer_one_is_not_asked_by_those_that_follow(tmp_path: Path) -> None:
    told = Told()
    with LocalProcesses(work, 1, room=roomy(), load=[]) as fleet:
        found = run(fleet, jobs(tmp_path, "gives up", "asks"), told)
    assert found["gives up"].given_up == ("https://nobody.example",)
    assert found["asks"].given_up == ()
    assert Note("given up: ['https://nobody.example']") in told.events["asks"]


def test_what_one_had_to_load_is_there_for_those_that_follow(tmp_path: Path) -> None:
    told = Told()
    with LocalProcesses(work, 1, room=roomy(), load=[]) as fleet:
        run(fleet, jobs(tmp_path, "loads", "loads too"), told)
    assert Note("loaded: True") in told.events["loads"]
    assert Note("loaded: False") in told.events["loads too"]


def test_relative_paths_are_counted_from_here(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.ready()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    told = Told()
    run(fleet, jobs(tmp_path, "where"), told)
    assert Note(str(tmp_path / "here")) in told.events["where"]


def test_they_wait_for_room_and_one_always_runs(tmp_path: Path) -> None:
    told = Told()
    room = Room(memory=lambda: 300 << 20, disk=lambda _: 1 << 40)
    with LocalProcesses(work, 3, room=room, load=[]) as fleet:
        ended = list(fleet.run(jobs(tmp_path, "sleep 0.3", "sleep 0.31", "fine"), told))
    assert {each.state for each in ended} == {"done"}
    assert sum(each.seconds for each in ended) > 0.6
    waits = [each for each in told.events["sleep 0.31"] if isinstance(each, Waits)]
    assert len(waits) == 1, "it is said once"
    assert waits[0].text.endswith(" MiB of memory")
    assert told.events["sleep 0.31"].index(waits[0]) < told.events["sleep 0.31"].index(Begun())


def test_threads_share_the_places(fleet: Fleet, tmp_path: Path) -> None:
    told, ended = Told(), []

    def one(*words: str) -> None:
        ended.extend(fleet.run(jobs(tmp_path, *words), told))

    threads = [
        threading.Thread(target=one, args=words)
        for words in (("meet 2", "sleep 0.2"), ("meet 02", "sleep 0.21"), ("sleep 0.22", "sleep 0.23"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert [each.state for each in ended] == ["done"] * 6
    assert most_at_once(told) == 2


PROGRAM = """
import sys
from pathlib import Path
from imagebuilder.fleet.processes import LocalProcesses
from tests.support.fleet_work import jobs, work

folder = Path(sys.argv[1])
with LocalProcesses(work, 2, load=[]) as fleet:
    for ended in fleet.run(jobs(folder, "sleep 60", "sleep 61"), lambda *_: None):
        print(ended.state)
"""


def test_who_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    """Nor a file in the folder for temporary things, where multiprocessing's forkserver leaves one."""
    (tmp_path / "tmp").mkdir()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(PROJECT)},
        start_new_session=True,
    )
    until(lambda: len(running(tmp_path)) == 2, "they do not run")
    found = running(tmp_path)
    makers = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    assert makers
    program.kill()
    program.wait()
    until(lambda: not any(map(lives, [*found, *map(int, makers)])), "a process is left")
    assert len(list(tmp_path.glob("unwound-*"))) == 2
    assert list((tmp_path / "tmp").iterdir()) == []
