"""What a disk image boots from: the EFI system partition, and the kernel that its loader entry names.

GPT as in the UEFI specification 2.10, section 5.3; loader entries as in the UAPI group's Boot Loader
Specification, type 1. mtools reads the FAT.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from imagebuilder.host.run import clean_environment, run
from imagebuilder.trial.errors import TrialError

SECTOR = 512
ESP_TYPE = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
MTOOLS_SECONDS = 30.0
_HEADER = struct.Struct("<8s64xQIII")  # signature, first LBA of the entries, their number, size, checksum
_ENTRY = struct.Struct("<16s16sQQ")  # type, own identifier, first and last LBA
_SIGNATURE = b"EFI PART"
_MOST_ENTRIES = 1024
_LARGEST_ENTRY = 4096


@dataclass(frozen=True)
class BootFiles:
    """A kernel and an initramfs as files of their own, and the kernel's command line."""

    kernel: Path
    initrd: Path | None
    options: str


def esp_offset(image: Path) -> int:
    """Where the EFI system partition begins, in bytes. TrialError where the image has none."""
    with image.open("rb") as stream:
        stream.seek(SECTOR)
        header = stream.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_SIGNATURE):
            raise TrialError(f"{image} has no GPT")
        _, first, number, size, _ = _HEADER.unpack(header)
        sectors = image.stat().st_size // SECTOR
        if first >= sectors or number > _MOST_ENTRIES or not _ENTRY.size <= size <= _LARGEST_ENTRY:
            raise TrialError(f"the GPT of {image} is damaged")
        stream.seek(first * SECTOR)
        table = stream.read(number * size)
    for at in range(0, len(table) - size + 1, size):
        kind, _, begin, _ = _ENTRY.unpack_from(table, at)
        if UUID(bytes_le=kind) == ESP_TYPE and begin < sectors:
            return int(begin) * SECTOR
    raise TrialError(f"{image} has no EFI system partition")


def _copy_out(image: Path, offset: int, source: str, target: Path) -> None:
    run(
        ("mcopy", "-n", "-i", f"{image}@@{offset}", f"::{source}", str(target)),
        env=clean_environment(MTOOLS_SKIP_CHECK="1"),
        timeout=MTOOLS_SECONDS,
    )


def _loader_entry(text: str) -> dict[str, str]:
    """The last value of each key of a loader entry."""
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("#"))
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def take_boot_files(image: Path, into: Path) -> BootFiles:
    """Copy what the image's first loader entry names into a folder.

    Raises TrialError where the image has no ESP or no such entry, ProgramError where mtools fails.
    """
    offset = esp_offset(image)
    entries = into / "entries"
    entries.mkdir()
    _copy_out(image, offset, "/loader/entries/*.conf", entries)
    files = sorted(entries.glob("*.conf"))
    entry = _loader_entry(files[0].read_text("utf-8", "replace")) if files else {}
    if "linux" not in entry:
        raise TrialError(f"the EFI system partition of {image} has no loader entry that names a kernel")
    kernel, initrd = into / "kernel", None
    _copy_out(image, offset, entry["linux"], kernel)
    if "initrd" in entry:
        initrd = into / "initrd"
        _copy_out(image, offset, entry["initrd"], initrd)
    return BootFiles(kernel, initrd, entry.get("options", ""))
