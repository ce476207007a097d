"""A disk image in a machine of its own: QEMU's system emulation, without acceleration, on any host.

What the image boots from is its EFI system partition, and the kernel that its loader entry names. GPT as in
the UEFI specification 2.10, section 5.3; loader entries as in the UAPI group's Boot Loader Specification,
type 1. mtools reads the FAT.
"""

from __future__ import annotations

import json
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import TAIL_LINES, BackgroundProgram, clean_environment, run
from imagebuilder.host.uefi import find_uefi
from imagebuilder.log import Log
from imagebuilder.trial.guest import Console, ConsoleClosedError, Guest, Keep, TrialError

BootMode = Literal["kernel", "efi"]
Accelerator = Literal["tcg", "kvm"]
MIB = 1 << 20
MEMORY_MIB: Mapping[BootMode, int] = {"kernel": 128, "efi": 256}  # OVMF does not start with 128
BOOT_SECONDS: Mapping[BootMode, float] = {"kernel": 60.0, "efi": 120.0}
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
    guest's kernel calls it: `ttyS0`; it is the machine's first one. seconds: how long a start may take.
    told: in a few words for people, what starts the image: `UEFI`, `its kernel`.
    """

    program: str
    arguments: tuple[str, ...]
    memory: int
    drives: tuple[Drive, ...]
    cpu: str = ""
    accelerator: Accelerator = "tcg"
    card: str = "virtio-net-pci"
    console: str = "ttyS0"
    seconds: float = 120.0
    told: str = ""

    def argv(
        self, console: Path, *, persistent: bool = False, forwards: Mapping[int, int] | None = None
    ) -> tuple[str, ...]:
        """QEMU's whole command line. console: the unix socket on which the serial port is offered.
        persistent, forwards: as of started()."""
        # whole MiB, rounded up: QEMU takes no part of one for some machines
        words = [self.program, "-accel", self.accelerator, "-nodefaults", "-display", "none"]
        words += ["-m", f"{-(-self.memory // MIB)}"]
        words += ["-cpu", self.cpu] if self.cpu else []
        words += self.arguments
        snapshot = "off" if persistent else "on"
        for drive in self.drives:
            file = _comma(drive.path)
            words += ["-drive", f"file={file},format=raw,{drive.device},snapshot={snapshot}"]
        words += ["-chardev", f"socket,id=console,path={_comma(console)},server=on,wait=on"]
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


def kit_machine(image: Path, mode: BootMode, memory_mib: int | None, scratch: Path) -> VirtualMachine:
    """How an image of the kit is booted. mode: `kernel` starts the kernel and the initramfs that are in the
    image's ESP directly, `efi` starts the image by itself, as firmware does. scratch: a folder for files that
    have to be there as long as the machine.

    Raises TrialError where the image is not there or holds no kernel, HostError where the firmware is
    missing.
    """
    if not image.is_file():
        raise TrialError(f"there is no image {image}")
    if mode == "efi":
        arguments = ["-machine", "q35", *find_uefi().arguments()]
    else:
        files = take_boot_files(image, scratch)
        arguments = ["-machine", "pc", "-kernel", str(files.kernel), "-append", files.options]
        arguments += ["-initrd", str(files.initrd)] if files.initrd is not None else []
    return VirtualMachine(
        program="qemu-system-x86_64",
        arguments=tuple(arguments),
        memory=(memory_mib or MEMORY_MIB[mode]) * MIB,
        drives=(Drive(image),),
        # RDRAND, so that nothing in the guest has to wait for random numbers
        cpu="qemu64,+rdrand",
        seconds=BOOT_SECONDS[mode],
        told="UEFI" if mode == "efi" else "its kernel",
    )


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
            raise TrialError("QEMU did not start the machine", "\n".join(said)) from None
        try:
            yield console
        except ConsoleClosedError as error:
            # QEMU's own last words explain more than the guest's
            raise TrialError("\n".join([error.message, *said])) from error
        finally:
            console.close()


@contextmanager
def connected(
    machine: VirtualMachine,
    *,
    log: Log,
    persistent: bool = False,
    forwards: Mapping[int, int] | None = None,
    keep: Keep | None = None,
) -> Iterator[Console]:
    """Start a machine with its console connected and nothing read from it. As started(), which see."""
    with ExitStack() as stack:
        socket = stack.enter_context(temporary_folder("scratch")) / "console"
        argv = (*_DIE_WITH_US, *machine.argv(socket, persistent=persistent, forwards=forwards))
        yield stack.enter_context(_running(argv, socket, log, keep))


@contextmanager
def started(
    machine: VirtualMachine,
    *,
    log: Log,
    persistent: bool = False,
    forwards: Mapping[int, int] | None = None,
    seconds: float | None = None,
    keep: Keep | None = None,
) -> Iterator[Guest]:
    """Start a machine and wait for the shell on its serial console; the machine ends with the block.

    persistent: what the guest writes stays in the image; else it lives as long as the machine, reboots
    included. forwards: a network card, and ports of this host's loopback to the guest's; None for no card.
    seconds: how long a start may take, by default what the machine says. keep: gets what the console says.

    Raises TrialError where the guest does not come up, HostError where QEMU is missing.
    """
    began = time.monotonic()
    with connected(machine, log=log, persistent=persistent, forwards=forwards, keep=keep) as console:
        yield Guest(console, log, began, seconds or machine.seconds)


@contextmanager
def boot(
    image: Path,
    mode: BootMode = "kernel",
    memory_mib: int | None = None,
    *,
    log: Log,
    persistent: bool = False,
    forwards: Mapping[int, int] | None = None,
) -> Iterator[Guest]:
    """An image of the kit, started. Errors and the rest as of kit_machine() and started()."""
    with temporary_folder("scratch") as scratch:
        machine = kit_machine(image, mode, memory_mib, scratch)
        with started(machine, log=log, persistent=persistent, forwards=forwards) as guest:
            yield guest


SECTOR = 512
ESP_TYPE = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
MTOOLS_SECONDS = 30.0
_HEADER = struct.Struct("<8s64xQIII")  # signature, first LBA of the entries, their number, size, checksum
_ENTRY = struct.Struct("<16s16sQQ")  # type, own identifier, first and last LBA
_SIGNATURE = b"EFI PART"
_MOST_ENTRIES = 1024
_LARGEST_ENTRY = 4096


@dataclass(frozen=True)
class BootFiles:
    """A kernel and an initramfs as files of their own, and the kernel's command line."""

    kernel: Path
    initrd: Path | None
    options: str


def esp_offset(image: Path) -> int:
    """Where the EFI system partition begins, in bytes. TrialError where the image has none."""
    with image.open("rb") as stream:
        stream.seek(SECTOR)
        header = stream.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_SIGNATURE):
            raise TrialError(f"{image} has no GPT")
        _, first, number, size, _ = _HEADER.unpack(header)
        sectors = image.stat().st_size // SECTOR
        if first >= sectors or number > _MOST_ENTRIES or not _ENTRY.size <= size <= _LARGEST_ENTRY:
            raise TrialError(f"the GPT of {image} is damaged")
        stream.seek(first * SECTOR)
        table = stream.read(number * size)
    for at in range(0, len(table) - size + 1, size):
        kind, _, begin, _ = _ENTRY.unpack_from(table, at)
        if UUID(bytes_le=kind) == ESP_TYPE and begin < sectors:
            return int(begin) * SECTOR
    raise TrialError(f"{image} has no EFI system partition")


def _copy_out(image: Path, offset: int, source: str, target: Path) -> None:
    run(
        ("mcopy", "-n", "-i", f"{image}@@{offset}", f"::{source}", str(target)),
        env=clean_environment(MTOOLS_SKIP_CHECK="1"),
        timeout=MTOOLS_SECONDS,
    )


def _loader_entry(text: str) -> dict[str, str]:
    """The last value of each key of a loader entry."""
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("#"))
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def take_boot_files(image: Path, into: Path) -> BootFiles:
    """Copy what the image's first loader entry names into a folder.

    Raises TrialError where the image has no ESP or no such entry, ProgramError where mtools fails.
    """
    offset = esp_offset(image)
    entries = into / "entries"
    entries.mkdir()
    _copy_out(image, offset, "/loader/entries/*.conf", entries)
    files = sorted(entries.glob("*.conf"))
    entry = _loader_entry(files[0].read_text("utf-8", "replace")) if files else {}
    if "linux" not in entry:
        raise TrialError(f"the EFI system partition of {image} has no loader entry that names a kernel")
    kernel, initrd = into / "kernel", None
    _copy_out(image, offset, entry["linux"], kernel)
    if "initrd" in entry:
        initrd = into / "initrd"
        _copy_out(image, offset, entry["initrd"], initrd)
    return BootFiles(kernel, initrd, entry.get("options", ""))


DEMO_PROGRAM = "/usr/share/demo/demo.py"  # overlays/demo
DEMO_ANSWER = {"greeting": str, "python": str, "machine": str, "free_memory_kib": int, "answer": int}


def ask_demo(image: Path, log: Log) -> dict[str, str | int | float]:
    """Boot the image by its kernel with 128 MiB and run the demo program in it.

    What the program said (the keys of DEMO_ANSWER), and `boot_seconds`. TrialError if it said anything else.
    """
    with boot(image, "kernel", log=log) as guest:
        text = guest.check(f"python3 {DEMO_PROGRAM}")
        try:
            said = json.loads(text)
        except ValueError as error:
            raise TrialError("the demo program did not answer in JSON", text) from error
        if not isinstance(said, dict) or {key: type(value) for key, value in said.items()} != DEMO_ANSWER:
            raise TrialError("the demo program answered something else than it should", text)
        return {**said, "boot_seconds": round(guest.boot_seconds, 1)}
