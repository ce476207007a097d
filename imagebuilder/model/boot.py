"""What booting an image gives."""

from __future__ import annotations

from imagebuilder.model.base import Many, Model
from imagebuilder.model.trial import TrialCheck


class BootReport(Model):
    """How an image started, ran and ended in a machine of its own. image: its file's name; board: None where
    nobody said it; twin_of: the board in whose place that is, "" for the board itself. program, accelerator:
    QEMU's, `kvm` or `tcg`; started_by: `UEFI`, `its BIOS`, `its kernel`. memory: RAM in bytes. seconds: from
    QEMU's start to the answer of the shell. free_memory, free_with_python: what was available in KiB, before
    Python started and while it ran; None where the guest does not say, or has no Python. shutdown_seconds:
    None where it did not end by itself. console: the file with all that the console said, "" for none."""

    image: str
    board: str | None
    twin_of: str
    program: str
    accelerator: str
    started_by: str
    memory: int
    seconds: float
    free_memory: int | None
    free_with_python: int | None
    shutdown_seconds: float | None
    console: str
    checks: Many[TrialCheck]

    @property
    def failed(self) -> tuple[TrialCheck, ...]:
        """The checks that speak against using the image."""
        return tuple(check for check in self.checks if check.outcome == "failed")
