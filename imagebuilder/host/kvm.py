"""Whether QEMU's machines can be run by this host's own processor, found out by running something so.

/dev/kvm says little: it may be there and not be ours, be there in a machine that passes no virtualization on,
or fail when a guest's first instruction is run; and where a virtual machine's own processor is virtual, each
access to a device may take so long that emulation is ten times as fast. So a machine is started with a boot
sector that ends it with a code of its own, which only an executed instruction can bring about, and it has to
be about as fast with KVM as without.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

from imagebuilder.errors import HostError
from imagebuilder.host.handover import temporary_folder
from imagebuilder.host.run import ProgramTimeoutError, run

KVM = Path("/dev/kvm")
_SECONDS = 20.0
SLOWER = 2.0  # times as long as emulation: start-up alone is where KVM gains least
_PORT = 0x501
# mov dx, 0x501; mov al, 0x2a; out dx, al; hlt; jmp to the hlt
_SECTOR = bytes((0xBA, *_PORT.to_bytes(2, "little"), 0xB0, 0x2A, 0xEE, 0xF4, 0xEB, 0xFD)).ljust(510, b"\0")
_CODE = 0x2A << 1 | 1  # what QEMU's isa-debug-exit makes of it


def seconds_with(accelerator: str, limit: float = _SECONDS) -> float | None:
    """How long qemu-system-x86_64 takes to start a machine and run some instructions with an accelerator,
    `kvm` or `tcg`; None where it does not, or not within the limit. HostError where there is no such
    program."""
    with temporary_folder("scratch") as folder:
        disk = folder / "sector"
        disk.write_bytes(_SECTOR + b"\x55\xaa")
        argv = ["qemu-system-x86_64", "-accel", accelerator, "-nodefaults", "-display", "none", "-m", "16"]
        argv += ["-machine", "pc", "-cpu", "max", "-no-reboot"]
        argv += ["-device", f"isa-debug-exit,iobase={_PORT:#x},iosize=1"]
        argv += ["-drive", f"file={str(disk).replace(',', ',,')},format=raw,if=ide"]
        began = time.monotonic()
        try:
            done = run(argv, check=False, timeout=limit)
        except ProgramTimeoutError:
            return None
        return time.monotonic() - began if done.code == _CODE else None


@functools.cache
def works() -> bool:
    """Whether KVM runs x86 machines for this user on this host, and not slower than emulation; tried once a
    process."""
    if os.uname().machine != "x86_64" or not os.access(KVM, os.R_OK | os.W_OK):
        return False
    try:
        emulated = seconds_with("tcg")
        return emulated is not None and seconds_with("kvm", SLOWER * emulated) is not None
    except HostError:  # whoever starts a machine says what is missing
        return False
