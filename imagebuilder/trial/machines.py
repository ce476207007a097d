"""Which machine of QEMU starts an image, told by the image itself: what it starts from, where its console is,
and which of QEMU's devices its kernel has drivers for.

A PC (x86) is the same for every release: the disk is on virtio where the kernel has that built in, as x86/64
and x86/generic have, else on IDE or AHCI (legacy, geode). It starts by UEFI where the image has a loader for
that and this machine has the firmware, else by its BIOS; and by its kernel, taken out of the image with its
own command line, where neither can be, or its console is on the screen alone. Other machines are what the
board's file says (`emulation.system`): their kernels are given to QEMU, as OpenWrt's READMEs of armsr and
malta do it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from imagebuilder.config.board import SystemEmulation
from imagebuilder.errors import HostError, UserError
from imagebuilder.firmware.disk.disk import cut_off
from imagebuilder.firmware.reader import View
from imagebuilder.firmware.starting import Starting, built_in_drivers
from imagebuilder.host import kvm
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import find_program
from imagebuilder.host.uefi import find_uefi, has_uefi
from imagebuilder.log import Log
from imagebuilder.trial.guest import Guest
from imagebuilder.trial.machine import Drive, VirtualMachine, started
from imagebuilder.trial.media import Media, find_media, lay_disk

Way = Literal["UEFI", "BIOS", "kernel"]
PC = ("x86_64", "i386")
# what brings QEMU's program for a processor, qemu-system-… in Debian
PACKAGES = {"x86_64": "x86", "aarch64": "arm", "mipsel": "mips", "mips64": "mips", "mips64el": "mips"}
PC_BYTES = 128 << 20
UEFI_BYTES = 256 << 20  # OVMF does not start with half of it
NOT_ITS_LOADER = "it is started by its kernel: its own boot loader is not tried"
_SPEED = "115200"
_TOLD = {"UEFI": "UEFI", "BIOS": "its BIOS", "kernel": "its kernel"}
# QEMU's network cards by the drivers in the kernel or beside it, the best first
CARDS = {
    "virtio_net": "virtio-net-pci",
    "e1000e": "e1000e",
    "e1000": "e1000",
    "8139cp": "rtl8139",
    "8139too": "rtl8139",
    "pcnet32": "pcnet",
    "ne2k-pci": "ne2k_pci",
}


class NoMachineError(UserError):
    """An image that no machine of QEMU starts, and why."""


def machine_for(
    media: Media,
    scratch: Path,
    log: Log,
    *,
    system: SystemEmulation | None = None,
    memory: int | None = None,
    way: Way | None = None,
) -> VirtualMachine:
    """The machine that starts an image; what is not as on a device is noted.

    scratch: a folder for what QEMU needs as files, which has to stay while the machine runs. system: the
    board's, needed for everything but a PC. memory: bytes, in place of the board's. way: how it is to start,
    by default the first way that the device has.

    NoMachineError; ImageFormatError for a damaged image; HostError where QEMU, firmware or space is missing.
    """
    start = media.start
    if told := cut_off(media.name, media.read.part.problems):
        log.warn(told)
    if (start.architecture or _of_board(start, system)) in PC:
        _need("x86_64")
        return _Pc(media, scratch, log, system, memory).machine(way)
    if way not in (None, "kernel"):
        raise NoMachineError(f"{media.name} is started by its kernel here, not by {_TOLD[way]}")
    if system is None:
        known = start.architecture
        reason = f"it is for {known}" if known else "nothing in it says its processor"
        raise NoMachineError(
            f"no machine of QEMU is known for {media.name}: {reason}",
            hint="--board names the board that it is for",
        )
    other = _Other(media, scratch, log, system)
    _need(system.binary)
    return other.machine(memory or system.memory)


def _need(binary: str) -> None:
    """HostError where QEMU's program for a processor is not here."""
    try:
        find_program(f"qemu-system-{binary}")
    except HostError as error:
        package = PACKAGES.get(binary, binary)
        raise HostError(error.message, hint=f"Debian's package qemu-system-{package} brings it") from error


@contextmanager
def machine_of(
    image: Path,
    log: Log,
    *,
    system: SystemEmulation | None = None,
    memory: int | None = None,
    way: Way | None = None,
) -> Iterator[VirtualMachine]:
    """The machine that starts an image, with KVM where that is of use here; what it needs as files is there
    until the block ends. system, memory, way: as of machine_for(). Raises as find_media() and that do."""
    with temporary_folder("scratch") as scratch:
        machine = machine_for(find_media(image), scratch, log, system=system, memory=memory, way=way)
        if machine.program == "qemu-system-x86_64" and kvm.works():
            machine = replace(machine, accelerator="kvm")
        yield machine


@contextmanager
def booted_image(
    image: Path,
    log: Log,
    *,
    system: SystemEmulation | None = None,
    memory: int | None = None,
    way: Way | None = None,
    forwards: Mapping[int, int] | None = None,
    seconds: float | None = None,
) -> Iterator[Guest]:
    """Boot an image and wait for its shell; the machine ends with the block, and the image stays as it is.

    system, memory, way: as of machine_for(). forwards, seconds: as of started(). Raises as machine_of() and
    started() do.
    """
    with (
        machine_of(image, log, system=system, memory=memory, way=way) as machine,
        started(machine, log=log, forwards=forwards, seconds=seconds) as guest,
    ):
        yield guest


def _of_board(start: Starting, system: SystemEmulation | None) -> str:
    """The processor of what does not say it: a disk whose first sector is run is a PC's."""
    return system.binary if system is not None else "x86_64" if start.bios else ""


def _file(view: View, scratch: Path, name: str) -> str:
    place = scratch / name
    place.write_bytes(view.raw)
    return str(place)


def _kernel_options(start: Starting, scratch: Path, line: str) -> tuple[str, ...]:
    """QEMU's options for a kernel that it is given. NoMachineError where the image has none."""
    if start.kernel is None:
        where = f"{start.source} names no kernel that is there" if start.source else "no boot loader is known"
        raise NoMachineError(
            f"there is no kernel to start: {where}", hint="inspect shows what is in an image"
        )
    argv = ["-kernel", _file(start.kernel, scratch, "kernel"), "-append", line]
    if start.initrd is not None:
        argv += ["-initrd", _file(start.initrd, scratch, "initrd")]
    return tuple(argv)


class _Pc:
    """A PC for one image."""

    def __init__(
        self, media: Media, scratch: Path, log: Log, system: SystemEmulation | None, memory: int | None
    ) -> None:
        self.media, self.scratch, self.log, self.start = media, scratch, log, media.start
        self.given = memory
        self.memory = memory or (system.memory if system is not None else PC_BYTES)
        self.cpu = (system.cpu if system is not None else None) or "max"
        drivers = built_in_drivers(self.start.kernel) if self.start.kernel is not None else None
        # an initramfs brings what the kernel has not built in, as the kit's does
        virtual = frozenset({"virtio_blk", "virtio-pci", "virtio_net"})
        self.drivers = virtual if self.start.initrd is not None else (drivers or frozenset())
        self.unread = drivers is None and self.start.initrd is None

    def machine(self, way: Way | None) -> VirtualMachine:
        chosen = way or self._way()
        if chosen == "UEFI" and self.given is not None and self.given < UEFI_BYTES:
            raise NoMachineError(
                f"UEFI does not start with {self.given >> 20} MiB of memory in QEMU",
                hint=f"it wants {UEFI_BYTES >> 20} MiB",
            )
        device = self._device()
        arguments = ["-machine", "q35" if chosen == "UEFI" or device == AHCI else "pc"]
        if chosen == "UEFI":
            arguments += find_uefi().arguments()
        elif chosen == "kernel":
            arguments += _kernel_options(self.start, self.scratch, self._line(device))
        port = self._serial() or 0
        arguments += ["-serial", "null"] * port  # the ports before the one that we listen to
        drives: tuple[Drive, ...] = ()
        if self.media.disk is not None:
            place = lay_disk(self.media, self.scratch)
            drives = (Drive(place, "if=virtio" if device == VIRTIO else "if=ide"),)
        return VirtualMachine(
            "qemu-system-x86_64",
            tuple(arguments),
            max(self.memory, UEFI_BYTES) if chosen == "UEFI" else self.memory,
            drives,
            cpu=self.cpu,
            card=self._card(),
            console=f"ttyS{port}",
            told=_TOLD[chosen],
        )

    def _serial(self) -> int | None:
        """The number of the serial port that is the console; None where the image names others alone."""
        consoles = self.start.entry.consoles if self.start.entry is not None else ()
        ports = [name[4:] for name in consoles if name.startswith("ttyS")]
        numbers = [int(port) for port in ports if port in ("0", "1", "2", "3")]
        if numbers:
            return numbers[-1]
        return None if consoles else 0

    def _way(self) -> Way:
        start = self.start
        if start.form != "disk":
            return "kernel"
        if self._serial() is None:
            self.log.note(
                f"the console of {self.media.name} is on the screen alone ({start.source}), which nobody"
                " looks at here: it is started by its kernel, with a serial one"
            )
            return "kernel"
        has_loader = "x86_64" in start.efi
        if has_loader and has_uefi() and (self.given or UEFI_BYTES) >= UEFI_BYTES:
            return "UEFI"
        if start.bios:
            return "BIOS"
        if start.kernel is not None:
            self.log.note(NOT_ITS_LOADER)
            return "kernel"
        if has_loader:
            find_uefi()  # says what is missing, and what brings it
        raise NoMachineError(
            f"{self.media.name} has no boot loader that QEMU's PC starts",
            hint="inspect shows what is in it; a disk that starts has combined in its name",
        )

    def _line(self, device: str) -> str:
        """The kernel's command line: the image's own, or what finds a root file system alone; with the
        console where we listen."""
        entry = self.start.entry
        words = [entry.options] if entry is not None else []
        if self.start.form == "root":
            place = "/dev/vda" if device == VIRTIO else "/dev/sda"
            words.append(f"root={place} rootfstype={self.media.kind} rootwait")
        if entry is None or not entry.consoles or self._serial() is None:
            words.append(f"console=ttyS0,{_SPEED}")
        return " ".join(words)

    def _device(self) -> str:
        """What the disk is attached to."""
        if {"virtio_blk", "virtio-pci"} <= self.drivers:
            return VIRTIO
        if "ata_piix" in self.drivers or self.unread or self.media.disk is None:
            return IDE
        if "ahci" in self.drivers:
            return AHCI
        raise NoMachineError(
            f"the kernel in {self.media.name} has no driver for any disk of QEMU's PC",
            hint="build it with virtio, AHCI or PIIX in the kernel, as OpenWrt's x86 targets have",
        )

    def _card(self) -> str:
        found = self.drivers | self.media.modules()
        card = next((card for driver, card in CARDS.items() if driver in found), None)
        if card is None:
            self.log.note(f"{self.media.name} shows no driver for a network card of QEMU's PC")
        return card or "e1000"


VIRTIO, IDE, AHCI = "virtio", "PIIX", "AHCI"


@dataclass(frozen=True)
class _Kind:
    """A machine of QEMU that is given its kernel. port: what its serial ports are called. device, disk: how
    QEMU attaches its disk, and what Linux calls that. card: its network card."""

    port: str
    device: str
    disk: str
    card: str
    more: tuple[str, ...] = ()


# RNG, so that nothing in the guest has to wait for random numbers
_VIRT = _Kind("ttyAMA", "if=virtio", "/dev/vda", "virtio-net-pci", ("-device", "virtio-rng-pci"))
_MALTA = _Kind("ttyS", "if=ide", "/dev/sda", "pcnet")
_KINDS = {"virt": _VIRT, "malta": _MALTA}


class _Other:
    """What a board's file says, for one image."""

    def __init__(self, media: Media, scratch: Path, log: Log, system: SystemEmulation) -> None:
        self.media, self.scratch, self.log, self.system = media, scratch, log, system
        kind = _KINDS.get(system.machine)
        if kind is None:
            raise NoMachineError(
                f"nobody has said how OpenWrt starts on QEMU's machine {system.machine}",
                hint=f"known are the PC (pc, q35) and {', '.join(_KINDS)}",
            )
        self.kind = kind

    def machine(self, memory: int) -> VirtualMachine:
        start, kind = self.media.start, self.kind
        found = start.architecture
        if found and found != self.system.binary:
            raise NoMachineError(
                f"{self.media.name} is for {found}, and the board's machine is {self.system.binary}",
                hint="--board names the board that it is for",
            )
        entry = start.entry
        words = [entry.options] if entry is not None else []
        if start.form == "root":
            words.append(f"root={kind.disk} rootfstype={self.media.kind} rootwait")
        if not any(name.startswith(kind.port) for name in (entry.consoles if entry else ())):
            words.append(f"console={kind.port}0,{_SPEED}")
        if start.form == "disk":
            self.log.note(NOT_ITS_LOADER)
        arguments = ("-machine", self.system.machine, *kind.more)
        drives: tuple[Drive, ...] = ()
        if self.media.disk is not None:
            drives = (Drive(lay_disk(self.media, self.scratch), kind.device),)
        return VirtualMachine(
            f"qemu-system-{self.system.binary}",
            (*arguments, *_kernel_options(start, self.scratch, " ".join(words))),
            memory,
            drives,
            cpu=self.system.cpu or "",
            card=kind.card,
            console=f"{kind.port}0",
            told=_TOLD["kernel"],
        )
