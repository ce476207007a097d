"""The superblock of squashfs 4.0: 96 bytes, little endian (Linux, fs/squashfs/squashfs_fs.h)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.reader import ImageFormatError, Reading, View
from imagebuilder.model.firmware import Field, Part

KIND = "squashfs"
MAGIC = b"hsqs"
SUPERBLOCK_BYTES = 96
COMPRESSIONS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
ABSENT = (1 << 64) - 1
_BLOCK_LOGS = range(12, 21)
_TABLES = ("ids", "xattrs", "inodes", "directories", "fragments", "exports")


@dataclass(frozen=True, slots=True)
class Superblock:
    """A superblock that is sane. Sizes and offsets in bytes from its beginning; tables by name, None:
    absent."""

    inodes: int
    modified: int
    block_size: int
    fragments: int
    compression: int
    flags: int
    ids: int
    root: int
    bytes_used: int
    tables: dict[str, int | None]


def detect(view: View) -> bool:
    """The magic of a little-endian squashfs."""
    return view.has(MAGIC)


def is_squashfs(view: View, at: int) -> bool:
    """Whether a sane superblock stands there; four letters alone occur in compressed data."""
    if not view.has(MAGIC, at) or at + SUPERBLOCK_BYTES > view.size:
        return False
    return not any(_insanities(view.part(at)))


def _insanities(view: View) -> Iterator[str]:
    """What is wrong with a superblock, its length aside."""
    block, log = view.le32(0x0C), view.le16(0x16)
    used = view.le64(0x28)
    if (view.le16(0x1C), view.le16(0x1E)) != (4, 0):
        yield f"its version is {view.le16(0x1C)}.{view.le16(0x1E)}, not 4.0"
    if log not in _BLOCK_LOGS or block != 1 << log:
        yield f"its block size is {block} bytes with a logarithm of {log}"
    if view.le16(0x14) not in COMPRESSIONS:
        yield f"its compression is {view.le16(0x14)}, which is none"
    if view.le32(0x04) == 0 or view.le16(0x1A) == 0:
        yield "it has no inodes or no owners"
    if used <= SUPERBLOCK_BYTES:
        yield f"it has {used} bytes"
    for index, name in enumerate(_TABLES):
        place = view.le64(0x30 + 8 * index)
        if place != ABSENT and not SUPERBLOCK_BYTES <= place < used:
            yield f"its table of {name} would lie at {place}"
        if place == ABSENT and name in ("ids", "inodes", "directories"):
            yield f"it has no table of {name}"


def superblock(view: View) -> Superblock:
    """The superblock at the beginning of a view. ImageFormatError where it is not sane, or the file system
    has more bytes than the view."""
    reason = "it has no magic" if not detect(view) else next(_insanities(view), None)
    if reason is not None:
        raise ImageFormatError(f"the root filesystem is damaged: {reason}")
    used = view.le64(0x28)
    if used > view.size:
        raise ImageFormatError(f"the root filesystem is cut: it needs {used} bytes, {view.size} are there")
    places = [view.le64(0x30 + 8 * index) for index in range(len(_TABLES))]
    return Superblock(
        inodes=view.le32(0x04),
        modified=view.le32(0x08),
        block_size=view.le32(0x0C),
        fragments=view.le32(0x10),
        compression=view.le16(0x14),
        flags=view.le16(0x18),
        ids=view.le16(0x1A),
        root=view.le64(0x20),
        bytes_used=used,
        tables={name: None if at == ABSENT else at for name, at in zip(_TABLES, places, strict=True)},
    )


def parse(view: View, _reading: Reading) -> Part:
    """The superblock; the part has bytes_used bytes, what pads it is its caller's."""
    block = superblock(view)
    fields = {
        "compression": Field(block.compression, COMPRESSIONS[block.compression]),
        "block size": Field(block.block_size, f"{block.block_size >> 10} KiB"),
        "inodes": Field(block.inodes),
        "fragments": Field(block.fragments),
        "owners": Field(block.ids),
        "modified": Field(block.modified, "seconds since 1970"),
        "flags": Field(block.flags, hex(block.flags)),
        "bytes used": Field(block.bytes_used),
    }
    order = [block.tables[name] or 0 for name in ("inodes", "directories", "ids")]
    checks = (
        holds(
            "tables of the squashfs in their order",
            order == sorted(order),
            expected="inodes, directories, owners",
            found=", ".join(hex(at) for at in order),
        ),
    )
    whole = view.first(block.bytes_used)
    return whole.to_part(KIND, "squashfs", fields, (), checks)
