"""Whether an image fits the board's flash, is padded as it has to be, a disk can start, and the root file
system holds what a device cannot start without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.config.board import TAKEN_APART
from imagebuilder.config.device import parse_mtdparts
from imagebuilder.firmware.checks import at_most, holds
from imagebuilder.firmware.formats.padding import marker_checks
from imagebuilder.firmware.formats.tplink import ERASE_BLOCK
from imagebuilder.firmware.rootfs import RootFs, place_of
from imagebuilder.firmware.subject import DISKS, Subject, of_kind
from imagebuilder.host.elf import MACHINES, ElfError, ElfHeader, read_header
from imagebuilder.host.processor import processor_of
from imagebuilder.model.firmware import Check, Part
from imagebuilder.model.init_script import INIT, RC, RC_COMMON, started

_NOR = ("tplink-v1", "tplink-v2", "uimage-squashfs", "vendor-uimage-squashfs", "kernel-squashfs")
_LEAST_OVERLAY_BLOCKS = 5  # fewer, and JFFS2 does not mount: settings are lost at each start
_PARTUUID = re.compile(r"root=PARTUUID=([0-9a-fA-F-]+)")
_START_FILES = re.compile(r"(?i)(cmdline\.txt|loader/entries/[^/]+\.conf|boot/grub/grub\.cfg)")
# Raspberry Pi: the kernel that each subtarget's firmware loads
_PI_KERNELS = {
    "bcm2708": "kernel.img",
    "bcm2709": "kernel.img",
    "bcm2710": "kernel8.img",
    "bcm2711": "kernel8.img",
    "bcm2712": "kernel_2712.img",
}
_SETTINGS_BYTES = 64 << 10
_MOST_SCRIPT = 1 << 20
SYSUPGRADE_WRITES = "firmware"  # the partition


def size_checks(subject: Subject) -> Iterator[Check]:
    """The file, the kernel, and both together against the board's layout."""
    board, layout, part = subject.board, subject.board.layout, subject.part
    size = part.size if part is not subject.read.image else subject.read.body_size
    apart = subject.image.format in (*DISKS, *TAKEN_APART)
    limit = subject.image.limit or (None if apart else layout.firmware)
    if limit is not None:
        yield at_most("size of the image", limit, size)
    if isinstance(board.flash, int):
        yield at_most("size of the image against the whole flash", board.flash, size)
    kernel = kernel_part(part)
    if kernel is not None and layout.kernel is not None:
        yield at_most("size of the kernel", layout.kernel, kernel.size)
    root = part.find("squashfs")
    if layout.kernel_and_rootfs is not None and kernel is not None and root is not None:
        yield at_most(
            "kernel and root filesystem together", layout.kernel_and_rootfs, kernel.size + root.size
        )
    if subject.image.format == "ubi-factory" and layout.kernel is not None:
        ubi = next((child for child in part.children if child.kind == "ubi"), None)
        place = "none" if ubi is None else f"at {ubi.offset:#x}"
        fits = ubi is not None and ubi.offset == layout.kernel
        yield holds("place of UBI", fits, expected=f"at {layout.kernel:#x}, behind the kernel", found=place)


def partition_checks(subject: Subject) -> Iterator[Check]:
    """The flash as the kernel's own command line divides it. A kernel for a larger or a smaller chip of the
    same board (AP121, AP143) finds its root file system and the settings elsewhere. A board's second image
    (fat-sysupgrade of DIR-825 B1) is for a flash that its owner has divided anew: of it the file knows
    nothing."""
    if subject.kind.startswith("fat-"):
        return
    stated = {part.name: part for part in subject.board.layout.partitions}
    for kernel in of_kind(subject.part, "kernel", "elf"):
        text = kernel.value("mtdparts")
        for found in parse_mtdparts(text) if isinstance(text, str) else ():
            expected = stated.get(found.name)
            if expected is not None and found.name == SYSUPGRADE_WRITES:
                yield holds(
                    "place of the firmware in the kernel's command line",
                    (found.offset, found.size) == (expected.offset, expected.size),
                    expected=f"{expected.size} bytes at {expected.offset:#x}",
                    found=f"{found.size} bytes at {found.offset:#x}",
                )


def kernel_part(part: Part) -> Part | None:
    """The part that is the kernel, as its partition holds it."""
    if part.kind == "uimage":
        return part
    return next((child for child in part.walk() if child.name == "kernel"), None)


def nor_checks(subject: Subject) -> Iterator[Check]:
    """What NOR flash wants: an end marker at an erase block, and a tail that is neither cut nor extended."""
    part = subject.part
    if subject.image.format not in _NOR:
        return
    root = part.find("squashfs")
    if root is None:
        yield Check("root filesystem", "squashfs behind the kernel", "none", False)
        return
    tail = tuple(child for child in part.children if child.offset >= root.offset)
    yield from marker_checks(tail, part.offset, ERASE_BLOCK)
    zeroed = subject.image.tail is not None  # dd pads up to where the boot loader looks for the text
    wrong = [child for child in tail if child.kind == "padding" and not child.name.endswith("(0xff)")]
    wrong = [] if zeroed else wrong
    found = wrong[0].name if wrong else "0xff"
    yield holds("padding behind the root filesystem", not wrong, expected="0xff", found=found)
    markers = [child.offset for child in tail if child.kind == "end-marker"]
    if not markers:
        return
    if subject.sysupgrade:
        ends = tail[-1].kind == "end-marker"
        end = part.offset + part.size
        expected = f"right behind the last end marker, at {markers[-1] + 4:#x}"
        yield holds("end of the image", ends, expected=expected, found=f"{end:#x}")
    firmware = subject.board.layout.firmware
    if firmware is not None:
        # the marker's erase block is the first of the overlay
        blocks = (firmware - (markers[-1] - part.offset)) // ERASE_BLOCK
        expected = f"{_LEAST_OVERLAY_BLOCKS} erase blocks at least"
        found = f"{blocks} erase blocks of {ERASE_BLOCK >> 10} KiB"
        fits = blocks >= _LEAST_OVERLAY_BLOCKS
        yield holds("flash left for settings", fits, expected=expected, found=found, level="warning")


def disk_checks(subject: Subject) -> Iterator[Check]:
    """What a disk starts with: boot files, a kernel, and a root= that means this disk."""
    disk = subject.part
    if subject.image.format not in DISKS or disk.kind not in ("gpt-disk", "mbr-disk"):
        return
    files = {part.name: part for part in of_kind(disk, "file")}
    if subject.image.format == "bios-disk":
        boot = str(disk.value("boot code"))
        yield holds("boot code", boot in ("eb63", "eb48"), expected="GRUB's", found=boot)
    if subject.image.format == "efi-disk":
        loaders = [name for name in files if re.fullmatch(r"(?i)efi/boot/boot[a-z0-9]+\.efi", name)]
        found = ", ".join(loaders) or "none"
        yield holds("UEFI boot program", bool(loaders), expected="EFI/BOOT/BOOT*.EFI", found=found)
    yield from _pi_checks(subject, files)
    known = {str(part.value("identifier")).lower() for part in of_kind(disk, "partition")}
    for name, part in files.items():
        if _START_FILES.fullmatch(name) is None or part.data is None:
            continue
        for wanted in _PARTUUID.findall(bytes(part.data[:_SETTINGS_BYTES]).decode("ascii", "replace")):
            same = wanted.lower() in known
            yield holds(f"root= in {name}", same, expected=" or ".join(sorted(known)), found=wanted)
    root = next((part for part in of_kind(disk, "squashfs", "ext4") if part.kind == "squashfs"), None)
    if root is None:
        root = next(of_kind(disk, "ext4"), None)
    found = "none" if root is None else root.kind
    yield holds("root filesystem on the disk", root is not None, expected="squashfs or ext4", found=found)


def _pi_checks(subject: Subject, files: dict[str, Part]) -> Iterator[Check]:
    target, _, subtarget = subject.profile.target.partition("/")
    if target not in ("bcm27xx", "brcm2708") or subtarget not in _PI_KERNELS:
        return
    kernel = _PI_KERNELS[subtarget]
    if subtarget == "bcm2710" and subject.profile.arch.startswith("arm_"):
        kernel = "kernel7.img"
    shown = ", ".join(sorted(name for name in files if name.startswith("kernel"))) or "none"
    there = kernel in files and files[kernel].size > 0
    yield holds("kernel on the boot partition", there, expected=kernel, found=shown)
    for name in ("cmdline.txt", "config.txt"):
        yield holds(
            f"{name} on the boot partition",
            name in files,
            expected=name,
            found="there" if name in files else "missing",
        )


# each is there under one of these names
REQUIRED = {
    "init": ("/sbin/init", "/init"),
    "shell": ("/bin/sh",),
    "C library": (
        "/lib/libc.so",
        "/lib/libc.so.6",
        "/lib/libc.so.0",
        "/lib/libuClibc.so.0",
        "/usr/lib/libc.so",
        "/lib64/libc.so.6",
    ),
}


def required_checks(root: RootFs) -> Iterator[Check]:
    """Init, shell and C library: links followed, not empty."""
    for what, paths in REQUIRED.items():
        found = [path for path in paths if _whole(root, path)]
        yield holds(
            f"{what} in the root filesystem",
            bool(found),
            expected=paths[0],
            found=found[0] if found else "none",
        )


def service_checks(root: RootFs, unpacked: Path) -> Iterator[Check]:
    """Whether anything at all is linked for the start, where init scripts would be. unpacked: a folder that
    holds the root's files."""
    files = [file for file in root.index.files if file.path.startswith((f"{INIT}/", f"{RC}/"))]
    scripts = {
        file.path.rpartition("/")[2]: place_of(unpacked, file).read_bytes()
        for file in files
        if file.kind == "file" and file.path.startswith(INIT) and file.size <= _MOST_SCRIPT
    }
    links = [file.path.rpartition("/")[2] for file in files if file.path.startswith(RC)]
    found = started(scripts, links)
    if found.surely and root.index.get(RC_COMMON) is not None:
        number = len(found.surely) - len(found.lacking)
        yield holds(
            "services that start",
            not found.none,
            expected=f"links in {RC} to init scripts",
            found=f"none to any of {len(found.surely)}" if found.none else f"for {number} or more",
        )


def _whole(root: RootFs, path: str) -> bool:
    file = root.index.resolve(path)
    return file is not None and file.kind == "file" and file.size > 0


@dataclass(frozen=True, slots=True)
class Shell:
    """/bin/sh of a root file system. program: its header, None where it is no ELF file."""

    mode: int
    program: ElfHeader | None


def read_shell(root: RootFs, unpacked: Path) -> Shell | None:
    """The shell, from a folder that holds it; None where there is none."""
    shell = root.index.resolve("/bin/sh")
    if shell is None or shell.kind != "file":
        return None
    try:
        return Shell(shell.mode, read_header(place_of(unpacked, shell).read_bytes()))
    except ElfError:
        return Shell(shell.mode, None)


def program_checks(shell: Shell | None, arch: str) -> Iterator[Check]:
    """The shell is a program for the board's processor, and may be run."""
    processor = processor_of(arch)
    if shell is None or processor is None:
        return
    yield holds(
        "mode of the shell", bool(shell.mode & 0o111), expected="may be run", found=f"{shell.mode:04o}"
    )
    program = shell.program
    if program is None:
        yield Check("shell", "a program", "no ELF file", False)
        return
    found = f"{MACHINES.get(program.machine, program.machine)}, {program.order}"
    wanted = f"{processor.name}, {processor.order}"
    yield holds("processor of the shell", found == wanted, expected=wanted, found=found, proves="processor")
