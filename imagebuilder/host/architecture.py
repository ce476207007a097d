"""Which processor this machine has, and whether it runs the programs that firmware is made with.

OpenWrt's ImageBuilders come with host programs for x86-64, and so does what the embedded kit is made of.
Another machine runs them where the kernel was told how (binfmt_misc, with qemu-user or Rosetta); an
ImageBuilder that somebody built on an ARM machine has programs for that. Source of the numbers: elf(5), of
the entries: the kernel's Documentation/admin-guide/binfmt-misc.rst.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

from imagebuilder.errors import HostError
from imagebuilder.host.elf import HEADER_BYTES, MACHINES, ElfError, read_header

X86_64 = "x86_64"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
WORKS_ANYWHERE = (
    "what works on any machine: plan with --imagebuilder, boards, configs, show, releases, inspect, verify,"
    " ls, cat, extract, diff, and booting an image"
)
# what uname calls the processors of ELF files; where it tells no byte order, little endian
_UNAMES = {
    "x86": "i686",
    "mips": "mips",
    "arm": "armv7l",
    "x86_64": X86_64,
    "aarch64": "aarch64",
    "riscv": "riscv64",
    "loongarch": "loongarch64",
}
_HEAD_BYTES = max(HEADER_BYTES.values())
_HOST_PROGRAMS = "staging_dir/host/bin"


def runs_x86_64(machine: str | None = None, binfmt: Path = BINFMT) -> bool:
    """Whether x86-64 programs run here. machine: what uname says, by default of this machine."""
    return _runs(X86_64, machine or platform.machine(), binfmt)


def require_x86_64(what: str, machine: str | None = None, binfmt: Path = BINFMT) -> None:
    """HostError where x86-64 programs do not run. what: what needs them, as the subject of a sentence in the
    singular: `the embedded kit`."""
    here = machine or platform.machine()
    if not _runs(X86_64, here, binfmt):
        raise HostError(
            f"{what} needs an x86-64 machine, and this one is {here}: what firmware is made with, OpenWrt's"
            " programs and the kit's, is for x86-64",
            hint=f"{WORKS_ANYWHERE}. To build, use an x86-64 machine, or let this one run x86-64 programs"
            " (binfmt_misc with qemu-user)",
        )


def require_host_programs(tree: Path, machine: str | None = None, binfmt: Path = BINFMT) -> None:
    """HostError where an ImageBuilder's own host programs are for another processor than this machine has.
    A tree without such programs, or with programs for a processor that is not known here, passes."""
    here = machine or platform.machine()
    for program, wanted in _programs(tree):
        if _runs(wanted, here, binfmt):
            return
        raise HostError(
            f"the host programs of this ImageBuilder are for {wanted}, and this machine is {here}: {program}",
            hint=WORKS_ANYWHERE,
        )


def _programs(tree: Path) -> Iterator[tuple[Path, str]]:
    """The tree's programs whose processor is known, and that processor as uname calls it."""
    folder = tree / _HOST_PROGRAMS
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not place.is_file():
            continue
        with place.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        try:
            program = read_header(head)
        except ElfError:
            continue
        name = _UNAMES.get(MACHINES.get(program.machine, ""))
        if program.little_endian and name is not None:
            yield place, name


def _runs(wanted: str, here: str, binfmt: Path) -> bool:
    if wanted == here or (wanted == "i686" and here == X86_64):
        return True
    return wanted in _emulated(binfmt)


def _emulated(binfmt: Path) -> set[str]:
    """The processors whose programs the kernel hands to an emulator."""
    names = set()
    numbers = {
        number.to_bytes(2, "little").hex(): _UNAMES[name]
        for number, name in MACHINES.items()
        if name in _UNAMES
    }
    for place in sorted(binfmt.iterdir()) if binfmt.is_dir() else ():
        if place.name in ("register", "status"):
            continue
        lines = place.read_text("utf-8", "replace").splitlines()
        magic = next(
            (line.split()[1] for line in lines if line.startswith("magic ") and len(line.split()) > 1), ""
        )
        name = numbers.get(magic[36:40])  # bytes 18 and 19 of the ELF header
        if "enabled" in lines and magic.startswith("7f454c46") and name:
            names.add(name)
    return names
