"""A session with a booted image: QEMU's start, the config's trials, and the end of the machine."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.config.board import SystemEmulation
from imagebuilder.config.model_config import Trial
from imagebuilder.log import Log
from imagebuilder.model.boot import BootReport
from imagebuilder.model.trial import TrialCheck
from imagebuilder.python.shake.commands import DEVICE_PATH, command_words
from imagebuilder.trial.command_check import CommandAnswer, expected_of, judged_trial
from imagebuilder.trial.guest import Console, Guest, Keep, TrialError
from imagebuilder.trial.guest_checks import (
    ASK_KERNEL,
    ASK_PORTS,
    ASK_SERVICES,
    SERVICES_APART,
    kernel_check,
    listened_ports,
    services_check,
)
from imagebuilder.trial.judged import Question, finding
from imagebuilder.trial.machine import VirtualMachine, connected, started
from imagebuilder.trial.machines import machine_of

MIB = 1 << 20
READY_SECONDS = 120.0
ANSWER_SECONDS = 30.0  # beside what a command may take
END_SECONDS = 60.0
_SAID_BYTES = 100_000  # of a command's output, the end
# the shell is there before all services are: init scripts that still run, one a line
_STARTING = """\
for each in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < "$each" 2> /dev/null; echo; done |
	sed -n 's|.*/etc/rc\\.common /etc/rc\\.d/\\(S[^ ]*\\).*|\\1|p'
"""
_FREE = "cat /proc/meminfo"
_FREE_WITH_PYTHON = """\
for each in python3 micropython; do
	command -v $each > /dev/null || continue
	exec $each -c "print(open('/proc/meminfo').read())"
done
"""
_AVAILABLE = re.compile(r"^MemAvailable:\s*(\d+) kB", re.MULTILINE)
# a command that is still there when its time is over is killed, so that the shell answers further ones
_TIMED = """\
rm -f /tmp/.late
PATH={path} {command} < /dev/null > /tmp/.said 2>&1 &
pid=$!
( sleep {seconds}; : > /tmp/.late; kill -9 $pid ) > /dev/null 2>&1 &
watch=$!
wait $pid 2> /dev/null
code=$?
kill $watch 2> /dev/null
tail -c {most} /tmp/.said
[ -f /tmp/.late ] && exit {late}
exit $code
"""
_LATE = 253


@dataclass(frozen=True)
class BootAsked:
    """What is booted, and how. system: the board's machine, None for a PC; memory: RAM in bytes, None for
    what the machine has by itself. board, twin_of: for the report. trials: the config's. forwards: ports of
    this host's loopback to the guest's; with any, the guest stays until somebody interrupts it, or its time
    is over. seconds: how long the start may take, and how long the guest stays. log_file: gets what the
    console says."""

    image: Path
    system: SystemEmulation | None = None
    memory: int | None = None
    board: str | None = None
    twin_of: str = ""
    trials: Sequence[Trial] = ()
    forwards: Mapping[int, int] = field(default_factory=dict)
    seconds: float | None = None
    log_file: Path | None = None


def boot_session(asked: BootAsked, log: Log) -> BootReport:
    """Boot an image, look at it from inside, run its trials, and shut it down.

    What is wrong with it is in the report. TrialError, with the console's last lines, for a guest that does
    not come up, panics, or answers no more; others as of machine_of() and started().
    """
    with _machine(asked, log) as machine, _kept(asked.log_file) as keep:
        began = time.monotonic()
        log.progress(f"{machine.program} starts {asked.image.name} by {machine.told}")
        running = started(machine, log=log, forwards=asked.forwards, seconds=asked.seconds, keep=keep)
        try:
            with running as guest:
                return _Session(asked, guest, log).report(machine)
        except TrialError as error:
            error.add_note(f"{time.monotonic() - began:.0f} s after its start")
            if asked.log_file is not None:
                error.add_note(f"all that the console said: {asked.log_file}")
            raise


@contextmanager
def asked_console(asked: BootAsked, log: Log) -> Iterator[Console]:
    """The console of the machine that starts the image, for somebody to type on; nothing was read from it.
    Raises as machine_of() and connected() do."""
    with (
        _machine(asked, log) as machine,
        _kept(asked.log_file) as keep,
        connected(machine, log=log, forwards=asked.forwards, keep=keep) as console,
    ):
        yield console


def _machine(asked: BootAsked, log: Log) -> AbstractContextManager[VirtualMachine]:
    return machine_of(asked.image, log, system=asked.system, memory=asked.memory)


@contextmanager
def _kept(path: Path | None) -> Iterator[Keep | None]:
    """A file that gets what the console says, as it says it."""
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as stream:
        yield stream.write


class _Session:
    def __init__(self, asked: BootAsked, guest: Guest, log: Log) -> None:
        self.asked, self.guest, self.log = asked, guest, log

    def report(self, machine: VirtualMachine) -> BootReport:
        asked, guest = self.asked, self.guest
        self.log.note(f"the shell answers after {guest.boot_seconds:.1f} s")
        checks = [*self._starting()]
        free, with_python = self._available(_FREE), self._available(_FREE_WITH_PYTHON)
        checks += [self._tried(trial) for trial in asked.trials]
        self.log.progress("looking at its services")
        before = self._services()
        time.sleep(SERVICES_APART)
        checks += [services_check(before, self._services())]
        checks += [*self._listening()]
        ended = bool(asked.forwards) and self._stays()
        if not ended:
            checks.append(kernel_check(guest.run(ASK_KERNEL).output))
        seconds, shutdown = (
            (None, _SHUTDOWN.answered("it was shut down from inside")) if ended else self._ends()
        )
        return BootReport(
            image=asked.image.name,
            board=asked.board,
            twin_of=asked.twin_of,
            program=machine.program,
            accelerator=machine.accelerator,
            started_by=machine.told,
            memory=machine.memory,
            seconds=round(guest.boot_seconds, 2),
            free_memory=free,
            free_with_python=with_python,
            shutdown_seconds=seconds,
            console="" if asked.log_file is None else str(asked.log_file),
            checks=(*checks, shutdown),
        )

    def _starting(self) -> Iterator[TrialCheck]:
        """Wait until all init scripts are through; a check of those that are not."""
        question = Question("start", "all init scripts end", "none still runs when the time is over")
        limit = self.asked.seconds or READY_SECONDS
        until = time.monotonic() + limit
        while running := self.guest.run(_STARTING).output.split():
            if time.monotonic() > until:
                yield question.failed("", f"after {limit:g} s {', '.join(sorted(set(running)))} still runs")
                return
            self.log.progress(f"its init scripts run: {running[-1]}")
            time.sleep(1)
        yield question.answered("none does")

    def _available(self, script: str) -> int | None:
        found = _AVAILABLE.search(self.guest.run(script).output)
        return None if found is None else int(found[1])

    def _services(self) -> str:
        return self.guest.run(ASK_SERVICES).output

    def _tried(self, trial: Trial) -> TrialCheck:
        """A command of the config, in the guest."""
        self.log.progress(f"trying {trial.run}")
        question = Question("command", f"`{trial.run}`", expected_of(trial))
        script = _TIMED.format(
            path=DEVICE_PATH,
            command=shlex.join(command_words(trial.run)),
            seconds=trial.timeout,
            most=_SAID_BYTES,
            late=_LATE,
        )
        done = self.guest.run(script, seconds=trial.timeout + ANSWER_SECONDS)
        late = done.code == _LATE
        why = f"did not end within {trial.timeout} s" if late else ""
        answer = CommandAnswer(done.code, done.output, why, late)
        return judged_trial(question, trial, answer, answer.fault())

    def _listening(self) -> Iterator[TrialCheck]:
        """Wait until programs of the guest listen at the ports that lead into it; a check of each."""
        until = time.monotonic() + ANSWER_SECONDS
        for port in sorted(set(self.asked.forwards.values())):
            question = Question("port", f"port {port} is listened at", "a program that takes connections")
            while port not in (found := listened_ports(self.guest.run(ASK_PORTS).output)):
                if time.monotonic() > until:
                    break
                self.log.progress(f"waiting for port {port} of the guest")
                time.sleep(1)
            text = f"no program of the guest listens at port {port}"
            missing = [] if port in found else [finding("", {}, text, "warning")]
            if missing:
                self.log.warn(text)  # now: the report comes when the guest is gone
            yield question.answered("it is", missing)

    def _stays(self) -> bool:
        """Leave the guest to whoever uses its ports. Whether it ended by itself."""
        for here, there in self.asked.forwards.items():
            self.log.note(f"127.0.0.1:{here} leads to port {there} of the guest")
        limit = self.asked.seconds
        told = "until Ctrl-C" if limit is None else f"for {limit:g} s, or until Ctrl-C"
        self.log.note(f"the guest is ready, and stays {told}")
        try:
            return self.guest.wait_for_end(float("inf") if limit is None else limit)
        except KeyboardInterrupt:
            self.log.note("the guest is shut down")
            return False

    def _ends(self) -> tuple[float | None, TrialCheck]:
        self.log.progress("shutting it down")
        began = time.monotonic()
        try:
            self.guest.poweroff(seconds=END_SECONDS)
        except TrialError as error:
            return None, _SHUTDOWN.failed("", error.message)
        seconds = round(time.monotonic() - began, 2)
        return seconds, _SHUTDOWN.answered(f"in {seconds:.1f} s")


_SHUTDOWN = Question("shutdown", "it shuts down", "the machine ends after poweroff")
