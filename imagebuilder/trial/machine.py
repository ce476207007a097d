"""A machine of QEMU's, as values and as a program that runs: its command line, its console, its end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import TAIL_LINES, BackgroundProgram
from imagebuilder.log import Log
from imagebuilder.trial.guest import Console, ConsoleClosedError, Guest, Keep, TrialError

Accelerator = Literal["tcg", "kvm"]
MIB = 1 << 20
START_SECONDS = 120.0  # without acceleration
CONSOLE_SECONDS = 10.0
# OpenWrt's LAN is 192.168.1.1/24 (base-files, bin/config_generate); forwarded ports lead to the first lease
_NETWORK = "net=192.168.1.0/24,host=192.168.1.2,dns=192.168.1.3,dhcpstart=192.168.1.1"
# when this process dies, even by kill -9, the machine does not go on
_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


@dataclass(frozen=True)
class Drive:
    """A disk of a machine. path: a raw image, whole sectors long. device: what QEMU's option -drive calls
    the way it is attached, `if=virtio` or `if=ide`."""

    path: Path
    device: str = "if=virtio"


@dataclass(frozen=True)
class VirtualMachine:
    """How one image is booted: everything that QEMU has to be told of it, and nothing of how it is watched.

    program: QEMU's program, `qemu-system-x86_64`. arguments: machine, firmware or kernel, and its command
    line, as QEMU takes them; no `-accel`, `-m`, `-drive`, `-nic`, `-serial` or `-cpu`, which come from the
    fields below. memory: RAM in bytes. cpu: QEMU's name of the processor's model, "" for what the machine
    has by itself. accelerator: `kvm` only where it was tried and works. drives: in their order. card: the
    model of the network card. console: the serial port of the machine that carries the console, as the
    guest's kernel calls it: `ttyS0`; it is the machine's first one. told: in a few words for people, what
    starts the image: `UEFI`, `its kernel`.
    """

    program: str
    arguments: tuple[str, ...]
    memory: int
    drives: tuple[Drive, ...]
    cpu: str = ""
    accelerator: Accelerator = "tcg"
    card: str = "virtio-net-pci"
    console: str = "ttyS0"
    told: str = ""

    def argv(self, console: str, *, forwards: Mapping[int, int] | None = None) -> tuple[str, ...]:
        """QEMU's whole command line. console: the unix socket on which the serial port is offered, by a name
        in the folder that QEMU is started in. forwards: as of started()."""
        # whole MiB, rounded up: QEMU takes no part of one for some machines
        words = [self.program, "-accel", self.accelerator, "-nodefaults", "-display", "none"]
        words += ["-m", f"{-(-self.memory // MIB)}"]
        words += ["-cpu", self.cpu] if self.cpu else []
        words += self.arguments
        for drive in self.drives:
            file = _comma(drive.path)
            words += ["-drive", f"file={file},format=raw,{drive.device},snapshot=on"]
        words += ["-chardev", f"socket,id=console,path={console},server=on,wait=on"]
        words += ["-serial", "chardev:console"]
        return (*words, *_network(self.card, forwards))


def _comma(path: Path) -> str:
    """A path in a QEMU option, where a comma separates."""
    return str(path.resolve()).replace(",", ",,")


def _network(card: str, forwards: Mapping[int, int] | None) -> list[str]:
    """A card whose network ends in QEMU. forwards: ports of this host's loopback to the guest's.

    The guest has OpenWrt's own address there, whether it has given it itself (its LAN) or asked for one.
    """
    if forwards is None:
        return ["-nic", "none"]
    rules = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in forwards.items())
    return ["-nic", f"user,model={card},restrict=on,{_NETWORK}{rules}"]


@contextmanager
def _running(
    argv: Sequence[str], socket: Path, log: Log, keep_console: Keep | None = None
) -> Iterator[Console]:
    """QEMU with its console connected; what QEMU itself says goes into the error if it ends at once."""
    said: deque[str] = deque(maxlen=TAIL_LINES)

    def keep(line: str) -> None:
        if "info: QEMU waiting for connection" not in line:
            said.append(line)

    with BackgroundProgram(argv, keep, log=log) as program:
        try:
            console = Console(socket, program.alive, CONSOLE_SECONDS, keep_console)
        except ConsoleClosedError:
            program.stop()  # what it said is all there then
            raise TrialError("QEMU did not start the machine", "\n".join(said)) from None
        try:
            yield console
        except ConsoleClosedError as error:
            program.stop()
            # QEMU's own last words explain more than the guest's
            raise TrialError("\n".join([error.message, *said])) from error
        finally:
            console.close()


@contextmanager
def connected(
    machine: VirtualMachine,
    *,
    log: Log,
    forwards: Mapping[int, int] | None = None,
    keep: Keep | None = None,
) -> Iterator[Console]:
    """Start a machine with its console connected and nothing read from it. As started(), which see."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("scratch"))
        socket = folder / "console"
        # started there: the whole path may be longer than a socket's may be (unix(7): 108 bytes)
        there = ("env", "--chdir", str(folder))
        argv = (*there, *_DIE_WITH_US, *machine.argv(socket.name, forwards=forwards))
        yield stack.enter_context(_running(argv, socket, log, keep))


@contextmanager
def started(
    machine: VirtualMachine,
    *,
    log: Log,
    forwards: Mapping[int, int] | None = None,
    seconds: float | None = None,
    keep: Keep | None = None,
) -> Iterator[Guest]:
    """Start a machine and wait for the shell on its serial console; the machine ends with the block.

    What the guest writes lives as long as the machine, reboots included; the image stays as it is. forwards:
    a network card, and ports of this host's loopback to the guest's; None for no card. seconds: how long a
    start may take, by default START_SECONDS. keep: gets what the console says.

    Raises TrialError where the guest does not come up, HostError where QEMU is missing.
    """
    began = time.monotonic()
    with connected(machine, log=log, forwards=forwards, keep=keep) as console:
        yield Guest(console, log, began, seconds or START_SECONDS)
