"""Squashfs that Linux does not mount: versions 1 to 3, and vendors' own with LZMA inside. Told by name.

Sources: squashfs-tools 3.x, squashfs_fs.h (the old superblocks); binwalk's signatures and
devttys0/sasquatch for the vendors' magics (`shsq`, `qshs`; `tqsh` and `hsqt` are DD-WRT's).
"""

from __future__ import annotations

from imagebuilder.firmware.formats.named import NOT_OPENED
from imagebuilder.firmware.reader import ImageFormatError, Reading, View
from imagebuilder.model.firmware import Field, Part

KIND, ABOUT = "squashfs-old", "squashfs before 4.0, or a vendor's"
MAGICS = {
    b"hsqs": ("little", "squashfs"),
    b"sqsh": ("big", "squashfs"),
    b"shsq": ("little", "squashfs with a vendor's LZMA"),
    b"qshs": ("big", "squashfs with a vendor's LZMA"),
    b"tqsh": ("big", "DD-WRT's squashfs"),
    b"hsqt": ("little", "DD-WRT's squashfs"),
    b"sqlz": ("big", "squashfs with a vendor's LZMA"),
}
_LEAST = 96
_NEWEST_OLD = 3
_VERSION_AT, _LOG_AT, _BLOCK_AT, _SIZE_2_AT, _SIZE_3_AT = 28, 34, 51, 8, 63
_GZIP, _INODES_AT, _STORED = 1, 0x40, 0x8000
_LZMA_BEGINNINGS = (b"\x5d\0\0", b"\x6d\0\0", b"7zip")


class _Numbers:
    """The numbers of a superblock of either order."""

    def __init__(self, view: View, order: str) -> None:
        self._view, self._little = view, order == "little"

    def read(self, at: int, size: int) -> int:
        """A number of so many bytes."""
        return int.from_bytes(self._view.take(at, size), "little" if self._little else "big")


def _order(view: View) -> str:
    return MAGICS[view.take(0, 4)][0]


def _is_old(view: View) -> bool:
    """Whether the superblock is sane for a version before 4."""
    number = _Numbers(view, _order(view)).read
    version, log = number(_VERSION_AT, 2), number(_LOG_AT, 2)
    return 1 <= version <= _NEWEST_OLD and log <= 20 and number(_BLOCK_AT, 4) == 1 << log


def _is_vendors(view: View) -> bool:
    """Whether a 4.0 says gzip and has LZMA: the table of inodes begins so."""
    if not view.has(b"hsqs") or view.le16(_VERSION_AT) != _NEWEST_OLD + 1 or view.le16(20) != _GZIP:
        return False
    at = view.le64(_INODES_AT)
    if not _LEAST <= at <= view.size - 5 or view.le16(at) & _STORED:
        return False
    return any(view.has(beginning, at + 2) for beginning in _LZMA_BEGINNINGS)


def detect(view: View) -> bool:
    """A vendor's magic, or the usual one before what is no squashfs of Linux' own."""
    if view.size < _LEAST or bytes(view.take(0, 4)) not in MAGICS:
        return False
    return not view.has(b"hsqs") or _is_old(view) or _is_vendors(view)


def parse(view: View, _reading: Reading) -> Part:
    """Its version, order and size; where the size is not told, all of the view."""
    magic = view.take(0, 4)
    if magic not in MAGICS or view.size < _LEAST:
        raise ImageFormatError("there is no squashfs, old or of a vendor's own")
    order, about = MAGICS[magic]
    number = _Numbers(view, order).read
    version = number(_VERSION_AT, 2)
    if _is_vendors(view):
        size, about = view.le64(40), "squashfs with a vendor's LZMA"
    elif _is_old(view):
        size = number(_SIZE_3_AT, 8) if version == _NEWEST_OLD else number(_SIZE_2_AT, 4)
    else:
        size = view.size
    if not _LEAST < size <= view.size:
        raise ImageFormatError(f"the old squashfs is cut: it needs {size} bytes, {view.size} are there")
    fields = {
        "version": Field(f"{version}.{number(_VERSION_AT + 2, 2)}"),
        "order": Field(f"{order} endian"),
        "contents": Field(NOT_OPENED),
    }
    return view.first(size).to_part(KIND, about, fields)
