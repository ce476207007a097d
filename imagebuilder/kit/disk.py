"""The disk: a squashfs of the root, and a GPT image of it with the ESP and the writable partition.

Everything that could differ from one run to the next is fixed: times, identifiers, serial numbers, order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagebuilder.host.fs import disk_errors_explained
from imagebuilder.host.run import clean_environment, run

TOOL_SECONDS = 300.0
OVERLAY_BYTES = 32 << 20
ESP_SLACK_BYTES = 2 << 20  # FAT's own tables, and room for a second loader entry
MIB = 1 << 20
_OVERLAY_UUID = "4f575254-0000-4000-8000-000000000004"


def make_squashfs(root: Path, image: Path, *, block_size: int, compressor: Sequence[str], epoch: int) -> int:
    """A squashfs of the folder, all of it owned by root and dated `epoch`; its size in bytes.

    block_size: bytes. compressor: its name, and options for it. ProgramError if mksquashfs fails.
    """
    name, *options = compressor
    argv = ["mksquashfs", str(root), str(image), "-noappend", "-quiet", "-no-progress", "-no-xattrs"]
    argv += ["-all-root", "-mkfs-time", str(epoch), "-all-time", str(epoch)]
    argv += ["-b", str(block_size), "-comp", name, *options]
    run(argv, timeout=TOOL_SECONDS)
    return image.stat().st_size


def make_overlay(image: Path, epoch: int) -> None:
    """An empty ext4 of OVERLAY_BYTES for what changes in the guest. ProgramError if mke2fs fails."""
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^huge_file", "-J", "size=1", "-N", "8192", "-m", "0"]
    argv += ["-I", "256", "-L", "rootfs_data", "-U", _OVERLAY_UUID]
    argv += ["-E", f"hash_seed={_OVERLAY_UUID},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0"]
    # of e2fsprogs 1.47 only the first is heard, of later ones the second
    times = clean_environment(E2FSPROGS_FAKE_TIME=str(epoch), SOURCE_DATE_EPOCH=str(epoch))
    run([*argv, str(image), f"{OVERLAY_BYTES >> 10}k"], env=times, timeout=TOOL_SECONDS)


def genimage(config: str, values: Mapping[str, str], inputs: Path, into: Path, epoch: int) -> None:
    """Run genimage on a configuration with its @NAME@ places filled in. inputs: the folder of the parts;
    into: where the images that it describes go. ProgramError if genimage fails."""
    for name, value in values.items():
        config = config.replace(f"@{name}@", value)
    with disk_errors_explained(into), tempfile.TemporaryDirectory(dir=inputs) as scratch:
        root, temporary = Path(scratch) / "root", Path(scratch) / "tmp"
        for folder in (root, temporary):
            folder.mkdir()
        file = Path(scratch) / "genimage.cfg"
        file.write_text(config, "utf-8")
        into.mkdir(parents=True, exist_ok=True)
        argv = ["genimage", "--loglevel", "1", "--config", str(file), "--inputpath", str(inputs)]
        argv += ["--rootpath", str(root), "--tmppath", str(temporary), "--outputpath", str(into)]
        times = clean_environment(SOURCE_DATE_EPOCH=str(epoch))
        run(argv, cwd=inputs, env=times, timeout=TOOL_SECONDS)


def esp_size(parts: Sequence[Path]) -> int:
    """The bytes that an ESP with these files needs, in whole MiB."""
    total = sum(part.stat().st_size for part in parts) + ESP_SLACK_BYTES
    return -(-total // MIB) * MIB
