"""What an image starts from: its boot loaders, the kernel and the command line that these name, and which
drivers that kernel has built in.

OpenWrt's x86 images have GRUB in the first sectors and, from 21.02 on, GRUB for UEFI as well; its files lie
in ext4, or in FAT where UEFI reads them (scripts/gen_image_generic.sh). armsr has GRUB for UEFI alone. The
kit has a loader's entry in its EFI system partition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from imagebuilder.firmware.disk.ext4 import Ext4
from imagebuilder.firmware.disk.grub import MOST_BYTES, BootEntry, BootMenu, parse_grub, parse_loader_entry
from imagebuilder.firmware.formats.formats import FORMATS, Read
from imagebuilder.firmware.formats.kernel import KERNEL_KINDS, detect_bzimage
from imagebuilder.firmware.inspection import view_of
from imagebuilder.firmware.reader import ImageFormatError, Reading, View
from imagebuilder.model.firmware import Part

Form = Literal["disk", "kernel", "root"]
GRUB_CONFIGS = (
    "boot/grub/grub.cfg",
    "efi/openwrt/grub.cfg",
    "efi/boot/grub.cfg",
    "boot/grub2/grub.cfg",
    "grub/grub.cfg",
)
LOADER_ENTRIES = "loader/entries/"
# where UEFI looks on removable media (specification 2.10, section 3.5.1.1), and for which processor
EFI_LOADERS = {
    "efi/boot/bootx64.efi": "x86_64",
    "efi/boot/bootia32.efi": "i386",
    "efi/boot/bootaa64.efi": "aarch64",
    "efi/boot/bootarm.efi": "arm",
}
ELF_MIPS = 8
# what QEMU has devices for: names of drivers as the kernel keeps them, each between two NULs
DRIVERS = (
    *("virtio_blk", "virtio_net", "virtio-pci", "virtio-mmio", "ata_piix", "ahci"),
    *("e1000", "e1000e", "8139too", "8139cp", "pcnet32", "ne2k-pci"),
)
_DRIVER = re.compile(rb"\0(" + b"|".join(name.encode() for name in DRIVERS) + rb")(?=\0)")
_SECTOR = 512
_LOADED_64 = 1  # xloadflags (Linux, Documentation/arch/x86/boot.rst): there is an entry for 64 bits


@dataclass(frozen=True, slots=True)
class Starting:
    """What an image starts from. form: a whole disk, a kernel alone, or a root file system alone. bios:
    whether its first sector is run. efi: processors that it has a loader for, as QEMU calls them. source: the
    file that says `entry`. kernel, initrd: their bytes, where they are there."""

    form: Form
    bios: bool = False
    efi: tuple[str, ...] = ()
    source: str = ""
    entry: BootEntry | None = None
    kernel: View | None = None
    initrd: View | None = None

    @property
    def architecture(self) -> str:
        """The processor, as QEMU calls it; empty where nothing says it."""
        kernel = "" if self.kernel is None else kernel_architecture(self.kernel)
        return kernel or (self.efi[0] if self.efi else "")


def kernel_architecture(kernel: View) -> str:
    """The processor that a kernel is for, as QEMU calls it; empty where its format does not say."""
    if detect_bzimage(kernel):
        return "x86_64" if kernel.le16(0x236) & _LOADED_64 else "i386"
    part = Reading(FORMATS).inside(kernel, "kernel")
    if part.kind == "elf" and part.value("machine") == ELF_MIPS:
        return "mips" if kernel.u8(5) == 2 else "mipsel"
    return {"zimage": "arm", "arm64-image": "aarch64"}.get(part.kind, "")


def built_in_drivers(kernel: View) -> frozenset[str] | None:
    """Those of DRIVERS that a kernel has built in; None where what it unpacks itself from is in no format
    that is read here.

    A bzImage says where its payload is (Linux, Documentation/arch/x86/boot.rst, payload_offset).
    """
    code = kernel.raw
    if detect_bzimage(kernel):
        try:
            setup = ((kernel.u8(0x1F1) or 4) + 1) * _SECTOR
            payload = kernel.part(setup + kernel.le32(0x248), kernel.le32(0x24C), "the kernel's payload")
        except ImageFormatError:
            return None
        unpacked = _unpacked(Reading(FORMATS).inside(payload, "payload"))
        if unpacked is None:
            return None
        code = unpacked
    return frozenset(found[1].decode() for found in _DRIVER.finditer(code))


def _unpacked(part: Part) -> memoryview | None:
    if part.unpacked_size is None or not part.children or part.problems:
        return None
    return part.children[0].data


def starting(read: Read) -> Starting:
    """What an image starts from. A boot partition that cannot be read tells nothing: whether it starts, the
    machine shows. ImageFormatError for what is neither a disk, nor a kernel, nor a root file system."""
    part = read.unwrapped
    if part.kind in ("mbr-disk", "gpt-disk"):
        return _disk(part)
    if part.kind in KERNEL_KINDS:
        return Starting("kernel", kernel=view_of(part))
    if part.kind in ("squashfs", "ext4"):
        return Starting("root")
    raise ImageFormatError(
        f"{read.part.name} is of the format {part.kind}, which no machine of QEMU starts from",
        hint="a disk does, or a kernel with its root file system beside it",
    )


def _disk(part: Part) -> Starting:
    disk = view_of(part)
    partitions = [one for one in part.children if one.kind == "partition"]
    has_code = disk.u8(0) != 0
    gpt_boots = any(one.value("type") == "BIOS boot" for one in partitions)
    bios = has_code and (part.kind == "mbr-disk" or gpt_boots)
    volumes = [volume for volume in map(_volume, partitions) if volume is not None]
    paths = [path for volume in volumes for path in volume.names]
    efi = tuple(name for path, name in EFI_LOADERS.items() if path in paths)
    for volume in volumes:
        for source in volume.configs():
            menu = _menu(source, _text(volume, source))
            if menu is not None and menu.chosen is not None:
                entry = menu.chosen
                kernel = volume.file(entry.kernel)
                initrd = volume.file(entry.initrd) if entry.initrd else None
                return Starting("disk", bios, efi, source, entry, kernel, initrd)
    return Starting("disk", bios, efi)


def _menu(source: str, text: str) -> BootMenu | None:
    if not source.startswith(LOADER_ENTRIES):
        return parse_grub(text)
    entry = parse_loader_entry(text)
    return None if entry is None else BootMenu((entry,))


@dataclass(frozen=True, slots=True)
class _Volume:
    """A file system that a boot loader reads. names: its files, lower case, where they are listed. read: a
    file's bytes by its path; None where it has no such file."""

    names: tuple[str, ...]
    read: Callable[[str], View | None]

    def file(self, path: str) -> View | None:
        return self.read(path.lstrip("/"))

    def configs(self) -> Iterator[str]:
        """The configurations that may be there, the one that counts first."""
        yield from sorted(
            name for name in self.names if name.startswith(LOADER_ENTRIES) and name.endswith(".conf")
        )
        yield from GRUB_CONFIGS


def _text(volume: _Volume, path: str) -> str:
    found = volume.file(path)
    return "" if found is None else bytes(found.first(MOST_BYTES).raw).decode("utf-8", "replace")


def _volume(partition: Part) -> _Volume | None:
    content = next(iter(partition.children), None)
    if content is None or content.kind not in ("fat", "ext4"):
        return None
    if content.kind == "fat":
        files = {one.name.lower(): one for one in content.children}

        def from_fat(path: str) -> View | None:
            return view_of(files[path.lower()]) if path.lower() in files else None

        return _Volume(tuple(files), from_fat)
    try:
        ext4 = Ext4(view_of(content))
    except ImageFormatError:
        return None

    def from_ext4(path: str) -> View | None:
        try:
            data = ext4.read(path)
        except ImageFormatError:
            return None
        return None if data is None else View(data, what=path)

    return _Volume((), from_ext4)
