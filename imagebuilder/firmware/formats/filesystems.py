"""File systems that are known by name and size, and not looked into: ext4, UBIFS."""

from __future__ import annotations

from imagebuilder.firmware.reader import ImageFormatError, Reading, View
from imagebuilder.model.firmware import Field, Part

EXT4_SUPERBLOCK = 0x400
_EXT4_MAGIC = 0xEF53
_MOST_LOG = 6
_UBIFS_MAGIC = bytes.fromhex("31181006")


def detect_ext4(view: View) -> bool:
    """The magic in the superblock (Linux, fs/ext4/ext4.h)."""
    return view.size >= 2 * EXT4_SUPERBLOCK and view.le16(EXT4_SUPERBLOCK + 0x38) == _EXT4_MAGIC


def parse_ext4(view: View, _reading: Reading) -> Part:
    """Its label and size. ImageFormatError where the view is shorter."""
    block = view.part(EXT4_SUPERBLOCK, EXT4_SUPERBLOCK)
    log = block.le32(0x18)
    if log > _MOST_LOG:
        raise ImageFormatError(f"the ext4 superblock is damaged: the block size is 2^{10 + log}")
    size = block.le32(0x04) << (10 + log)
    if not 0 < size <= view.size:
        raise ImageFormatError(f"the ext4 file system is cut: it needs {size} bytes, {view.size} are there")
    fields = {"label": Field(block.text(0x78, 16)), "block size": Field(1 << (10 + log), "bytes")}
    return view.first(size).to_part("ext4", "ext4", fields)


def detect_ubifs(view: View) -> bool:
    """The magic of a node."""
    return view.has(_UBIFS_MAGIC)


def parse_ubifs(view: View, _reading: Reading) -> Part:
    """Only its name."""
    return view.to_part("ubifs", "UBIFS")
