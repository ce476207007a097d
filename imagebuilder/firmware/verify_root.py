"""Whether a root file system is whole and holds what a device cannot start without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.rootfs import RootFs, place_of
from imagebuilder.firmware.verify_machine import machine_of
from imagebuilder.host.elf import MACHINES, ElfError, read_header
from imagebuilder.model.firmware import Check

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


def _whole(root: RootFs, path: str) -> bool:
    file = root.index.resolve(path)
    return file is not None and file.kind == "file" and file.size > 0


def program_checks(root: RootFs, unpacked: Path, arch: str) -> Iterator[Check]:
    """The shell is a program for the board's processor, and may be run."""
    shell = root.index.resolve("/bin/sh")
    machine, order = machine_of(arch)
    if shell is None or shell.kind != "file" or not machine:
        return
    yield holds(
        "mode of the shell", bool(shell.mode & 0o111), expected="may be run", found=f"{shell.mode:04o}"
    )
    try:
        program = read_header(place_of(unpacked, shell).read_bytes())
    except ElfError:
        yield Check("shell", "a program", "no ELF file", False)
        return
    found = f"{MACHINES.get(program.machine, program.machine)}, {program.order}"
    wanted = f"{machine}, {order}"
    yield holds("processor of the shell", found == wanted, expected=wanted, found=found, proves="processor")
