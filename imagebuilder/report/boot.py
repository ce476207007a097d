"""What a boot showed, as text for people."""

from __future__ import annotations

from imagebuilder.model.boot import BootReport
from imagebuilder.report.trial import check_lines, counts_of

_MIB = 1 << 20


def boot_text(report: BootReport, *, whole: bool = False) -> str:
    """The machine, what it took, a line a check, and what was found. whole: all findings, notes too."""
    speed = "KVM" if report.accelerator == "kvm" else "emulation"
    board = report.board or "a PC"
    if report.twin_of:
        board += f", the twin of {report.twin_of}"
    lines = [
        f"{report.image} on {board}",
        f"{'':9}{report.program} ({speed}) with {report.memory // _MIB} MiB, started by {report.started_by}",
        f"{'':9}start to shell: {report.seconds:.1f} s",
    ]
    if report.free_memory is not None:
        used = f"{'':9}free memory: {report.free_memory} KiB"
        if report.free_with_python is not None:
            used += f", {report.free_with_python} KiB while Python runs"
        lines.append(used)
    for check in report.checks:
        lines += check_lines(check, whole=whole)
    if report.console:
        lines.append(f"{'':9}console: {report.console}")
    lines.append(counts_of(report.checks))
    return "\n".join(lines) + "\n"
