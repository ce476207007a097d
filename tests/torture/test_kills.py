"""kill -9 at every call by which a command changes something, and what is there afterwards."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.torture.commands import COMMANDS, genuine
from tests.torture.conftest import Report
from tests.torture.support import KILLED, Command, Torture, Victim, sample
from tests.torture.world import World

SAMPLE = 2  # kills of each of two kinds, of each command
MOMENTS = 20
GENUINE = 12  # of each of three kinds
# kinds of calls, as strace names them, and every how manyth is tried
CALLS = {
    "rename,renameat,renameat2": 1,
    "link,linkat,symlink,symlinkat": 1,
    "mkdir,mkdirat": 1,
    "unlink,unlinkat,rmdir": 3,
    "write,pwrite64,ftruncate,sendfile,copy_file_range": 7,
}
MOST_CALLS = 60


def by_name(command: Command) -> str:
    return command.name.replace(" ", "-")


@pytest.mark.parametrize("command", COMMANDS, ids=by_name)
def test_some_kills(command: Command, world: World, victim: Victim) -> None:
    torture, chosen = Torture(command, world, victim), random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}, of {len(torture.points)} points")
    for at in sample(torture.points, SAMPLE, chosen):
        torture.kill(at)
    torture.kill_after(chosen.uniform(0, torture.seconds))
    assert torture.figures.faults() == []
    assert torture.figures.made > 0


@pytest.mark.torture
@pytest.mark.parametrize("command", COMMANDS, ids=by_name)
def test_every_kill(command: Command, world: World, victim: Victim, report: Report) -> None:
    torture = Torture(command, world, victim)
    for at in range(1, len(torture.points) + 1):
        torture.kill(at)
    for number in range(MOMENTS):
        torture.kill_after(torture.seconds * number / MOMENTS)
    report(torture.figures)


@pytest.mark.torture
@pytest.mark.parametrize("command", COMMANDS[:1] + COMMANDS[3:4], ids=by_name)
def test_kills_of_programs_too(command: Command, world: World, victim: Victim, report: Report) -> None:
    """strace kills whichever process first makes its N-th call of a kind: the builder, make, cp, tar, …"""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    torture = Torture(command, world, victim)
    for calls, step in CALLS.items():
        for at in range(1, MOST_CALLS * step, step):
            tracer = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={calls}"]
            tracer += ["-e", f"inject={calls}:signal=KILL:when={at}"]
            hurt = torture.suffer(
                f"at {calls} number {at}",
                lambda argv, tracer=tracer: victim.run(argv, program=tracer),  # type: ignore[misc]
                (KILLED, 0, 2),
            )
            if hurt.code == 0:  # no process makes so many
                break
    report(torture.figures)


@pytest.mark.torture
@pytest.mark.genuine
def test_kills_with_a_genuine_tree(genuine_tree: Path, world: World, victim: Victim, report: Report) -> None:
    torture, chosen = Torture(genuine(genuine_tree), world, victim), random.Random(1)
    for at in sample(torture.points, GENUINE, chosen):
        torture.kill(at)
    for _ in range(GENUINE):
        torture.kill_after(chosen.uniform(0, torture.seconds))
    report(torture.figures)


def test_a_build_of_a_release_is_kept_and_says_of_no_change(world: World, victim: Victim) -> None:
    command = next(each for each in COMMANDS if each.name == "build of a release")
    command.prepare(world, victim)
    command.before(world, "a")
    ended = victim.run(command.argv(world, "a"))
    assert ended.code == 0, ended.said
    assert "changed while it was built" not in ended.said
    assert list((world.cache / "builds").iterdir())
