"""Which machine starts an image, told by images of our own: no QEMU runs here."""

from __future__ import annotations

import gzip
import re
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from imagebuilder.config.board import SystemEmulation
from imagebuilder.config.library import Library
from imagebuilder.errors import HostError, UserError
from imagebuilder.host.uefi import FirmwareFile, Uefi
from imagebuilder.log import Event, Log, Note, Warned
from imagebuilder.trial import machines
from imagebuilder.trial.machine import VirtualMachine
from imagebuilder.trial.machines import UEFI_BYTES, NoMachineError, Way, machine_for
from imagebuilder.trial.media import ROOM_BYTES, NoMediaError, find_media, image_to_boot, lay_disk
from tests.firmware.test_starting import OLD_GRUB, bios_disk, payload_kernel
from tests.support import firmware_images as images
from tests.support import firmware_writers as make

VIRTUAL = b"virtio_blk\0virtio-pci\0virtio_net\0ata_piix\0ahci"
MIB = 1 << 20
ROOT = "root=PARTUUID=cafe1234-02 rootfstype=squashfs rootwait"
BIOS_GPT = UUID("21686148-6449-6e6f-744e-656564454649")


@pytest.fixture(autouse=True)
def firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has QEMU and UEFI firmware, whatever machine this is."""
    has(monkeypatch, firmware=True)
    monkeypatch.setattr(machines, "find_program", lambda name: f"/usr/bin/{name}")


def has(monkeypatch: pytest.MonkeyPatch, *, firmware: bool) -> None:
    found = Uefi(FirmwareFile(Path("/f/code.fd")), FirmwareFile(Path("/f/vars.fd")), "split", "")

    def find() -> Uefi:
        if not firmware:
            raise HostError("there is no UEFI firmware for QEMU on this machine")
        return found

    monkeypatch.setattr(machines, "find_uefi", find)
    monkeypatch.setattr(machines, "has_uefi", lambda: firmware)


def grub_disk(
    tmp_path: Path, menu: str = OLD_GRUB, drivers: bytes = VIRTUAL, *, packed: bool = False
) -> Path:
    """An x86 disk as up to 19.07."""
    kernel = payload_kernel(drivers, "xz")
    data = bios_disk((("boot/grub/grub.cfg", menu.encode()), ("boot/vmlinuz", kernel)))
    path = tmp_path / ("x-combined.img.gz" if packed else "x-combined.img")
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    return path


def efi_disk(
    tmp_path: Path, *, bios: bool = True, loader: str = "bootx64.efi", name: str = "x-efi.img"
) -> Path:
    """An x86 disk as combined-efi from 21.02 on. bios: GRUB in the first sectors as well."""
    menu = OLD_GRUB.replace("(hd0,msdos1)", "(hd0,gpt1)").encode()
    kernel = payload_kernel(VIRTUAL, "gzip")
    files = (("boot/grub/grub.cfg", menu), ("boot/vmlinuz", kernel), (f"efi/boot/{loader}", make.noise(2000)))
    parts = [(make.EFI_SYSTEM, "", make.fat(files)), (make.LINUX, "", images.x86_root())]
    if bios:
        parts.append((BIOS_GPT, "", make.noise(1000)))
    data = bytearray(make.gpt(parts))
    if bios:
        data[:3] = b"\xeb\x63\x90"
    path = tmp_path / name
    path.write_bytes(data)
    return path


def chosen(
    image: Path,
    tmp_path: Path,
    *,
    system: SystemEmulation | None = None,
    memory: int | None = None,
    way: Way | None = None,
    said: list[Event] | None = None,
) -> VirtualMachine:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    for left in scratch.iterdir():
        left.unlink()
    return machine_for(
        find_media(image),
        scratch,
        Log([(said if said is not None else []).append]),
        system=system,
        memory=memory,
        way=way,
    )


def option(machine: VirtualMachine, name: str) -> str:
    """What follows an option; "" where it is not given."""
    words = machine.arguments
    return words[words.index(name) + 1] if name in words else ""


def test_a_disk_with_grub_starts_by_its_bios(tmp_path: Path) -> None:
    image = grub_disk(tmp_path)
    machine = chosen(image, tmp_path)
    assert machine.program == "qemu-system-x86_64"
    assert machine.arguments == ("-machine", "pc")
    assert (machine.memory, machine.console, machine.card) == (128 * MIB, "ttyS0", "virtio-net-pci")
    assert [(drive.path, drive.device) for drive in machine.drives] == [(image, "if=virtio")]
    assert machine.told == "its BIOS"


def test_a_compressed_disk_becomes_one_of_its_full_length(tmp_path: Path) -> None:
    machine = chosen(grub_disk(tmp_path, packed=True), tmp_path)
    laid = machine.drives[0].path
    assert laid == tmp_path / "scratch" / "disk"
    plain = grub_disk(tmp_path).read_bytes()
    assert laid.read_bytes()[: len(plain)] == plain
    cut = tmp_path / "cut-combined.img"
    longer = bytearray(plain)  # ends inside of its last partition, as up to 19.07
    longer[474:478] = (int.from_bytes(longer[474:478], "little") + 4096).to_bytes(4, "little")
    cut.write_bytes(longer)
    laid = chosen(cut, tmp_path).drives[0].path
    assert laid != cut
    assert len(plain) + 2 * MIB - 512 <= laid.stat().st_size <= len(plain) + 2 * MIB + 512
    assert laid.stat().st_size % 512 == 0


@pytest.mark.parametrize("length", [100_000, 5_298_688])
def test_a_disk_that_is_cut_off_is_said_to_be(tmp_path: Path, length: int) -> None:
    """Whatever comes of it; a disk that ends early as its recipe has it is none."""
    image = efi_disk(tmp_path)
    chosen(image, tmp_path, said=(said := list[Event]()))
    chosen(grub_disk(tmp_path), tmp_path, said=said)
    assert not [each for each in said if isinstance(each, Warned)]
    image.write_bytes(image.read_bytes()[:length])
    with suppress(UserError):
        chosen(image, tmp_path, said=said)
    (warned,) = [each.text for each in said if isinstance(each, Warned)]
    assert re.fullmatch(r"x-efi\.img looks cut off: partition \d lies .* to .*, the file has \d+", warned)


def test_zeros_of_a_disk_take_no_space(tmp_path: Path) -> None:
    image = tmp_path / "x-combined.img.gz"
    image.write_bytes(images.large_disk(512))
    laid = lay_disk(find_media(image), tmp_path)
    assert laid.stat().st_size >= 512 * MIB
    assert laid.stat().st_blocks * 512 < 16 * MIB


@pytest.mark.parametrize(
    ("drivers", "machine", "device", "card"),
    [
        (VIRTUAL, "pc", "if=virtio", "virtio-net-pci"),
        (b"virtio_blk\0ata_piix\0e1000", "pc", "if=ide", "e1000"),  # no virtio on PCI
        (b"ata_piix\0008139too", "pc", "if=ide", "rtl8139"),
        (b"ahci\0e1000e", "q35", "if=ide", "e1000e"),
        (b"ahci", "q35", "if=ide", "e1000"),
    ],
)
def test_devices_are_those_that_the_kernel_drives(
    tmp_path: Path, drivers: bytes, machine: str, device: str, card: str
) -> None:
    found = chosen(grub_disk(tmp_path, drivers=drivers), tmp_path)
    assert (option(found, "-machine"), found.drives[0].device, found.card) == (machine, device, card)


def test_a_kernel_that_drives_no_disk_of_ours_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoMachineError, match="no driver for any disk"):
        chosen(grub_disk(tmp_path, drivers=b"nothing"), tmp_path)


def test_a_console_on_the_screen_alone_is_started_by_the_kernel(tmp_path: Path) -> None:
    said: list[Event] = []
    menu = OLD_GRUB.replace(" console=ttyS0,115200n8", "")
    machine = chosen(grub_disk(tmp_path, menu), tmp_path, said=said)
    assert option(machine, "-append") == f"{ROOT} console=tty0 noinitrd console=ttyS0,115200"
    assert Path(option(machine, "-kernel")).read_bytes() == payload_kernel(VIRTUAL, "xz")
    assert "on the screen alone (boot/grub/grub.cfg)" in str(said)
    missing = bios_disk((("boot/grub/grub.cfg", menu.encode()),))
    (tmp_path / "y-combined.img").write_bytes(missing)
    with pytest.raises(NoMachineError, match="grub.cfg names no kernel that is there"):
        chosen(tmp_path / "y-combined.img", tmp_path)


def test_another_serial_port_is_listened_to(tmp_path: Path) -> None:
    machine = chosen(grub_disk(tmp_path, OLD_GRUB.replace("ttyS0", "ttyS1")), tmp_path)
    assert machine.console == "ttyS1"
    words = machine.argv(tmp_path / "console")
    ports = [words[at + 1] for at, word in enumerate(words) if word == "-serial"]
    assert ports == ["null", "chardev:console"]


def test_a_disk_for_uefi_starts_as_this_machine_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = efi_disk(tmp_path)
    machine = chosen(image, tmp_path)
    assert (option(machine, "-machine"), machine.told, machine.memory) == ("q35", "UEFI", UEFI_BYTES)
    assert "file=/f/code.fd" in " ".join(machine.arguments)
    small = chosen(image, tmp_path, memory=64 * MIB)
    assert (small.told, small.memory) == ("its BIOS", 64 * MIB)
    with pytest.raises(NoMachineError, match="UEFI does not start with 64 MiB"):
        chosen(image, tmp_path, memory=64 * MIB, way="UEFI")
    has(monkeypatch, firmware=False)
    assert chosen(image, tmp_path).told == "its BIOS"
    said: list[Event] = []
    alone = chosen(efi_disk(tmp_path, bios=False), tmp_path, said=said)
    assert (alone.told, option(alone, "-append")) == (
        "its kernel",
        f"{ROOT} console=tty0 console=ttyS0,115200n8 noinitrd",
    )
    assert said == [Note("it is started by its kernel: its own boot loader is not tried")]


def test_what_uefi_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, firmware=False)
    files = (("efi/boot/bootx64.efi", make.noise(2000)),)
    image = tmp_path / "x.img"
    image.write_bytes(make.gpt([(make.EFI_SYSTEM, "", make.fat(files)), (make.LINUX, "", images.x86_root())]))
    with pytest.raises(HostError, match="no UEFI firmware"):
        chosen(image, tmp_path)


def test_the_kits_initramfs_goes_with_its_kernel(tmp_path: Path) -> None:
    image = tmp_path / "kit.img"
    entry = b"title X\nlinux /vmlinuz\ninitrd /initrd\noptions console=ttyS0 quiet\n"
    files = (
        ("EFI/BOOT/BOOTX64.EFI", make.noise(3000)),
        ("loader/entries/openwrt.conf", entry),
        ("vmlinuz", make.bzimage()),
        ("initrd", b"initramfs" * 100),
    )
    image.write_bytes(make.gpt([(make.EFI_SYSTEM, "", make.fat(files)), (make.LINUX, "", images.x86_root())]))
    system = Library(Path()).board("qemu-x86-64").emulation.system
    assert chosen(image, tmp_path, system=system).told == "UEFI"
    machine = chosen(image, tmp_path, system=system, way="kernel", memory=128 * MIB)
    assert option(machine, "-append") == "console=ttyS0 quiet"
    assert Path(option(machine, "-initrd")).read_bytes() == b"initramfs" * 100
    assert (machine.drives[0].device, machine.card, machine.memory) == (
        "if=virtio",
        "virtio-net-pci",
        128 * MIB,
    )


def beside(tmp_path: Path, *, kernel: str = "o-19.07-x86-64-vmlinuz", data: bytes | None = None) -> Path:
    """A root file system with a kernel beside it."""
    (tmp_path / kernel).write_bytes(data or payload_kernel(VIRTUAL, "xz"))
    root = tmp_path / "o-19.07-x86-64-rootfs-squashfs.img.gz"
    root.write_bytes(gzip.compress(images.x86_root()))
    return root


def test_a_root_file_system_starts_with_the_kernel_beside_it(tmp_path: Path) -> None:
    root = beside(tmp_path)
    (tmp_path / "rootfs.manifest").write_text("no image")
    line = "root=/dev/vda rootfstype=squashfs rootwait console=ttyS0,115200"
    for image in (root, tmp_path / "o-19.07-x86-64-vmlinuz"):
        machine = chosen(image, tmp_path)
        assert option(machine, "-append") == line
        disk = machine.drives[0].path
        assert disk.stat().st_size >= len(images.x86_root()) + ROOM_BYTES
    (tmp_path / "z-other-vmlinuz").write_bytes(make.bzimage())
    assert option(chosen(root, tmp_path), "-append") == line
    (tmp_path / "o-19.07-x86-64-vmlinux").write_bytes(make.bzimage())
    with pytest.raises(NoMediaError, match="several could go with it: o-19.07-x86-64-vmlinux, o-19"):
        chosen(root, tmp_path)


def test_a_root_file_system_without_a_kernel_is_told(tmp_path: Path) -> None:
    root = beside(tmp_path, kernel="kernel.txt", data=b"no kernel" * 100)
    with pytest.raises(NoMediaError, match="there is no kernel beside it"):
        chosen(root, tmp_path)


def test_a_kernel_alone_is_started_alone(tmp_path: Path) -> None:
    kernel = tmp_path / "initramfs-kernel.bin"
    kernel.write_bytes(payload_kernel(VIRTUAL, "xz"))
    machine = chosen(kernel, tmp_path)
    assert machine.drives == ()
    assert option(machine, "-append") == "console=ttyS0,115200"


def system_of(board: str) -> SystemEmulation:
    found = Library(Path()).board(board).emulation.system
    assert found is not None
    return found


def test_armsr_is_started_by_its_kernel(tmp_path: Path) -> None:
    menu = "menuentry a {\nlinux /efi/openwrt/Image root=PARTUUID=1-02 rootwait earlycon noinitrd\n}\n"
    image = bytearray(make.noise(5000))
    image[0x10:0x18] = (6000).to_bytes(8, "little")
    image[0x38:0x3C] = b"ARM\x64"
    files = (
        ("efi/boot/bootaa64.efi", make.noise(900)),
        ("efi/openwrt/grub.cfg", menu.encode()),
        ("efi/openwrt/Image", bytes(image)),
    )
    path = tmp_path / "x-combined-efi.img"
    path.write_bytes(make.gpt([(make.EFI_SYSTEM, "", make.fat(files)), (make.LINUX, "", images.x86_root())]))
    machine = chosen(path, tmp_path, system=system_of("qemu-armsr-armv8"), memory=512 * MIB)
    assert (machine.program, machine.cpu, machine.memory) == (
        "qemu-system-aarch64",
        "cortex-a53",
        512 * MIB,
    )
    line = "root=PARTUUID=1-02 rootwait earlycon noinitrd console=ttyAMA0,115200"
    assert (option(machine, "-append"), machine.console) == (line, "ttyAMA0")
    with pytest.raises(NoMachineError, match="it is for aarch64"):
        chosen(path, tmp_path)
    with pytest.raises(NoMachineError, match="is for aarch64, and the board's machine is arm"):
        chosen(path, tmp_path, system=system_of("qemu-armsr-armv7"))
    with pytest.raises(NoMachineError, match="by its kernel here, not by UEFI"):
        chosen(path, tmp_path, system=system_of("qemu-armsr-armv8"), way="UEFI")


def test_malta_gets_kernel_and_root(tmp_path: Path) -> None:
    kernel = make.elf(make.MIPS)
    root = beside(tmp_path, kernel="o-19.07-vmlinux.elf", data=kernel)
    machine = chosen(root, tmp_path, system=system_of("qemu-malta-be"), memory=32 * MIB)
    assert (machine.program, option(machine, "-machine")) == ("qemu-system-mips", "malta")
    line = "root=/dev/sda rootfstype=squashfs rootwait console=ttyS0,115200"
    assert option(machine, "-append") == line
    assert (machine.drives[0].device, machine.card, machine.memory) == ("if=ide", "pcnet", 32 * MIB)


def test_a_machine_of_qemu_that_nobody_knows_is_told(tmp_path: Path) -> None:
    kernel = tmp_path / "o-vmlinux.elf"
    kernel.write_bytes(make.elf(make.MIPS))
    with pytest.raises(NoMachineError, match="starts on QEMU's machine boston"):
        chosen(kernel, tmp_path, system=SystemEmulation(binary="mips", machine="boston", memory=MIB))


def test_qemu_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> str:
        raise HostError(f"this machine lacks {name}")

    monkeypatch.setattr(machines, "find_program", find)
    root = beside(tmp_path, kernel="o-19.07-vmlinux.elf", data=make.elf(make.MIPS))
    with pytest.raises(HostError, match="lacks qemu-system-mips") as error:
        chosen(root, tmp_path, system=system_of("qemu-malta-be"))
    assert error.value.hint == "Debian's package qemu-system-mips brings it"
    with pytest.raises(HostError, match="lacks qemu-system-x86_64") as error:
        chosen(grub_disk(tmp_path), tmp_path)
    assert error.value.hint == "Debian's package qemu-system-x86 brings it"


def test_of_a_builds_images_the_disk_is_booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, efi = beside(tmp_path), efi_disk(tmp_path)
    bios = grub_disk(tmp_path)
    other = tmp_path / "list.txt"
    other.write_text("x" * 1000)
    everything = [other, root, tmp_path / "o-19.07-x86-64-vmlinuz", bios, efi]
    monkeypatch.setattr("imagebuilder.trial.media.has_uefi", lambda: True)
    assert image_to_boot(everything) == efi
    monkeypatch.setattr("imagebuilder.trial.media.has_uefi", lambda: False)
    assert image_to_boot(everything) == bios
    assert image_to_boot(everything[:3]) == root
    with pytest.raises(NoMediaError, match=r"starts any of these images: list\.txt"):
        image_to_boot([other])
