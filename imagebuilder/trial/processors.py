"""Which emulator runs the programs of a root file system, by their own words: for images of which nobody says
for which board they are."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

from imagebuilder.host.elf import ElfError, ElfHeader, read_header
from imagebuilder.python.bytecode.interpreter import emulator
from imagebuilder.rootfs.files import opened
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.trial.paths import real_path

_HEADER_BYTES = 64
_PROGRAMS = ("/bin/busybox", "/bin/sh", "/sbin/init", "/sbin/procd")
# QEMU's names for user emulation, by ELF's machine, bits and order (little-endian or not)
_EMULATORS = {
    (3, 32, True): "i386",
    (8, 32, False): "mips",
    (8, 32, True): "mipsel",
    (8, 64, False): "mips64",
    (8, 64, True): "mips64el",
    (20, 32, False): "ppc",
    (21, 64, False): "ppc64",
    (21, 64, True): "ppc64le",
    (40, 32, True): "arm",
    (40, 32, False): "armeb",
    (62, 64, True): "x86_64",
    (183, 64, True): "aarch64",
    (243, 64, True): "riscv64",
    (258, 64, True): "loongarch64",
}
# a processor that knows the instructions of all for which OpenWrt has packages (mips_24kc, mipsel_74kc),
# where QEMU's default knows less
_PROCESSORS = {"mips": "74Kf", "mipsel": "74Kf"}
_SAME = {"i386": ("x86_64",)}  # whose machines run them themselves


def emulation_of(tree: FileTree) -> tuple[str, ...]:
    """What runs the programs of a root file system on this machine, as emulation() says it; empty where it
    does so itself, and where nothing says what they are for. HostError without the emulator."""
    header = next(_headers(tree), None)
    key = None if header is None else (header.machine, header.bits, header.little_endian)
    binary = None if key is None else _EMULATORS.get(key)
    if binary is None or platform.machine() in (binary, *_SAME.get(binary, ())):
        return ()
    return emulator(binary, _PROCESSORS.get(binary), Path("/"))


def _headers(tree: FileTree) -> Iterator[ElfHeader]:
    for path in _PROGRAMS:
        place = real_path(tree, path)
        if place is None or tree[place].kind != "file":
            continue
        with opened(tree[place]) as stream:
            head = stream.read(_HEADER_BYTES)
        try:
            yield read_header(head)
        except ElfError:
            continue
