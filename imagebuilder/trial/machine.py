"""A disk image in a machine of its own: QEMU's system emulation, without acceleration, on any host."""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from imagebuilder.host.run import TAIL_LINES, BackgroundProgram
from imagebuilder.host.uefi import find_uefi
from imagebuilder.log import Log
from imagebuilder.trial.console import Console, ConsoleClosedError
from imagebuilder.trial.errors import TrialError
from imagebuilder.trial.esp import take_boot_files
from imagebuilder.trial.guest import Guest

BootMode = Literal["kernel", "efi"]
MEMORY_MIB: Mapping[BootMode, int] = {"kernel": 128, "efi": 256}  # OVMF does not start with 128
BOOT_SECONDS: Mapping[BootMode, float] = {"kernel": 60.0, "efi": 120.0}
CONSOLE_SECONDS = 10.0
# when this process dies, even by kill -9, the machine does not go on
_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


def _comma(path: Path) -> str:
    """A path in a QEMU option, where a comma separates."""
    return str(path.resolve()).replace(",", ",,")


def _network(forwards: Mapping[int, int] | None) -> list[str]:
    """A card whose network ends in QEMU. forwards: ports of this host's loopback to the guest's."""
    if forwards is None:
        return ["-nic", "none"]
    rules = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in forwards.items())
    return ["-nic", f"user,model=virtio-net-pci,restrict=on{rules}"]


def _machine(image: Path, mode: BootMode, scratch: Path) -> list[str]:
    if mode == "efi":
        return ["-machine", "q35", *find_uefi().arguments()]
    files = take_boot_files(image, scratch)
    argv = ["-machine", "pc", "-kernel", str(files.kernel), "-append", files.options]
    return [*argv, "-initrd", str(files.initrd)] if files.initrd is not None else argv


@contextmanager
def _running(argv: list[str], socket: Path, log: Log) -> Iterator[Console]:
    """QEMU with its console connected; what QEMU itself says goes into the error if it ends at once."""
    said: deque[str] = deque(maxlen=TAIL_LINES)

    def keep(line: str) -> None:
        if "info: QEMU waiting for connection" not in line:
            said.append(line)

    with BackgroundProgram(argv, keep, log=log) as program:
        try:
            console = Console(socket, program.alive, CONSOLE_SECONDS)
        except ConsoleClosedError:
            raise TrialError("QEMU did not start the machine", "\n".join(said)) from None
        try:
            yield console
        except ConsoleClosedError as error:
            # QEMU's own last words explain more than the guest's
            raise TrialError("\n".join([error.message, *said])) from error
        finally:
            console.close()


@contextmanager
def boot(
    image: Path,
    mode: BootMode = "kernel",
    memory_mib: int | None = None,
    *,
    log: Log,
    persistent: bool = False,
    forwards: Mapping[int, int] | None = None,
    seconds: float | None = None,
) -> Iterator[Guest]:
    """Boot a disk image and wait for the shell on its serial console; the machine ends with the block.

    mode: `kernel` starts the kernel and the initramfs that are in the image's ESP directly, `efi` starts the
    image by itself, as firmware does. memory_mib: RAM in MiB, by default MEMORY_MIB. persistent: what the
    guest writes stays in the image; else it lives as long as the machine, reboots included. forwards: a
    network card, and ports of this host's loopback to the guest's; None for no card. seconds: how long a
    start may take, by default BOOT_SECONDS.

    Raises TrialError where the guest does not come up, HostError where QEMU or the firmware is missing.
    """
    began = time.monotonic()
    if not image.is_file():
        raise TrialError(f"there is no image {image}")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trial-")))
        socket = scratch / "console"
        snapshot = "off" if persistent else "on"
        argv = [*_DIE_WITH_US, "qemu-system-x86_64", "-accel", "tcg", "-nodefaults", "-display", "none"]
        # RDRAND, so that nothing in the guest has to wait for random numbers
        argv += ["-cpu", "qemu64,+rdrand", "-m", str(memory_mib or MEMORY_MIB[mode])]
        argv += _machine(image, mode, scratch)
        argv += ["-drive", f"file={_comma(image)},format=raw,if=virtio,snapshot={snapshot}"]
        argv += ["-chardev", f"socket,id=console,path={socket},server=on,wait=on"]
        argv += ["-serial", "chardev:console"]
        argv += _network(forwards)
        console = stack.enter_context(_running(argv, socket, log))
        yield Guest(console, log, began, seconds or BOOT_SECONDS[mode])
