"""Whether this machine runs a program of a root file system, before it is tried."""

from __future__ import annotations

import sys
from pathlib import Path

from imagebuilder.host.elf import MACHINES, ElfError, ElfHeader, read_header
from imagebuilder.python.shake.commands import Root
from imagebuilder.rootfs.files import opened
from imagebuilder.rootfs.tree import FileTree
from imagebuilder.trial.paths import real_path

_HEADER_BYTES = 64


def why_not_run(root: Root, tree: FileTree, program: str) -> str:
    """Why a program is not run here, in words; "" where it can be tried, and where it is not there or no ELF
    file, of which whoever starts it says more."""
    if root.emulated:
        return ""
    place = real_path(tree, program)
    if place is None or tree[place].kind != "file":
        return ""
    with opened(tree[place]) as stream:
        head = stream.read(_HEADER_BYTES)
    try:
        theirs = read_header(head)
    except ElfError:
        return ""
    ours = read_header(Path(sys.executable).resolve().open("rb").read(_HEADER_BYTES))
    if _processor(theirs) == _processor(ours):
        return ""
    name = MACHINES.get(theirs.machine, f"ELF machine {theirs.machine}")
    return (
        f"{program} is for another processor ({name}, {theirs.bits} bits, {theirs.order}), and nothing says"
        " how it is emulated: [emulation] user in the board's file does"
    )


def _processor(header: ElfHeader) -> tuple[int, int, bool]:
    return header.machine, header.bits, header.little_endian
