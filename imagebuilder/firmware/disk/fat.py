"""FAT12, FAT16 and FAT32: the boot sector, both tables, and the files (Microsoft's FAT specification, 2005).

Little endian. Files that lie in one piece, which they do in fresh images, are views into the image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.formats.fit import is_loader
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View, printable
from imagebuilder.model.firmware import Check, Field, Part

ENTRY_BYTES = 32
_DEEPEST, _MOST_FILES = 8, 4096
_FOLDER, _LABEL, _LONG = 0x10, 0x08, 0x0F
_SECTORS = (512, 1024, 2048, 4096)
_FAT12_CLUSTERS = 4085
_UNSURE = ("lzma", "jffs2", "ext4", "disk", "tplink-v2")  # two bytes or three tell them


@dataclass(frozen=True, slots=True)
class BootSector:
    """What the boot sector says. All in bytes, but clusters and bits (of a table's entry)."""

    view: View
    bits: int
    cluster: int
    clusters: int
    table_at: int
    table_bytes: int
    tables: int
    root_at: int
    root_bytes: int
    root_cluster: int
    data_at: int
    size: int


def detect(view: View) -> bool:
    """The boot signature, a jump, and FAT's name where each kind has it."""
    if not view.has(b"\x55\xaa", 510) or view.u8(0) not in (0xEB, 0xE9):
        return False
    return view.has(b"FAT", 54) or view.has(b"FAT32", 82)


def read_volume(view: View) -> BootSector:
    """The boot sector. ImageFormatError where it contradicts itself or the view is shorter than it says."""
    sector, per_cluster, reserved = view.le16(11), view.u8(13), view.le16(14)
    tables, roots = view.u8(16), view.le16(17)
    total = view.le16(19) or view.le32(32)
    table_sectors = view.le16(22) or view.le32(36)
    sane = (
        sector in _SECTORS
        and per_cluster.bit_count() == 1
        and reserved
        and tables in (1, 2)
        and table_sectors
    )
    if not sane or view.u8(21) < 0xF0:
        raise ImageFormatError(f"the boot sector of {view.what} is damaged")
    root_at = (reserved + tables * table_sectors) * sector
    root_bytes = -(-roots * ENTRY_BYTES // sector) * sector
    data_at = root_at + root_bytes
    clusters = (total * sector - data_at) // (per_cluster * sector)
    if clusters < 1 or total * sector > view.size:
        raise ImageFormatError(
            f"the FAT file system of {view.what} is cut: it needs {total * sector} bytes, "
            f"{view.size} are there"
        )
    wide = not view.le16(22)
    bits = 32 if wide else 12 if clusters < _FAT12_CLUSTERS else 16
    if (clusters + 2) * bits > table_sectors * sector * 8 or wide != (roots == 0):
        raise ImageFormatError(f"the boot sector of {view.what} is damaged: its tables are too small")
    return BootSector(
        view,
        bits,
        per_cluster * sector,
        clusters,
        reserved * sector,
        table_sectors * sector,
        tables,
        root_at,
        root_bytes,
        view.le32(44) if wide else 0,
        data_at,
        total * sector,
    )


class _Files:
    """Walks the folders of a volume. Each cluster may belong to one file only, which also bounds the walk."""

    def __init__(self, volume: BootSector) -> None:
        self.volume = volume
        self.taken: set[int] = set()
        self.label = ""

    def _next(self, cluster: int) -> int:
        bits, table = self.volume.bits, self.volume.view.part(self.volume.table_at, self.volume.table_bytes)
        if bits == 12:
            pair = table.le16(cluster * 3 // 2)
            return pair >> 4 if cluster & 1 else pair & 0xFFF
        return table.le16(cluster * 2) if bits == 16 else table.le32(cluster * 4) & 0xFFFFFFF

    def chain(self, first: int, name: str) -> list[int]:
        """A file's clusters."""
        clusters: list[int] = []
        end = (1 << min(self.volume.bits, 28)) - 8
        cluster = first
        while cluster < end:
            if not 2 <= cluster < self.volume.clusters + 2 or cluster in self.taken:
                raise ImageFormatError(f"the FAT chain of {name} is damaged at cluster {cluster}")
            self.taken.add(cluster)
            clusters.append(cluster)
            cluster = self._next(cluster)
        return clusters

    def content(self, clusters: list[int], size: int, name: str) -> View:
        """So many bytes of a chain."""
        volume = self.volume
        at = volume.data_at + (clusters[0] - 2) * volume.cluster if clusters else volume.data_at
        if all(second == first + 1 for first, second in itertools.pairwise(clusters)):
            return volume.view.part(at, size, name)
        pieces = [
            bytes(volume.view.part(volume.data_at + (one - 2) * volume.cluster, volume.cluster).raw)
            for one in clusters
        ]
        return View(b"".join(pieces)[:size], start=volume.view.start + at, what=name)

    def walk(self, folder: View, path: str, depth: int) -> Iterator[tuple[str, View]]:
        """The files of a folder and of those below it, by their paths."""
        long_name: list[bytes] = []
        sums: set[int] = set()
        for at in range(0, folder.size - ENTRY_BYTES + 1, ENTRY_BYTES):
            entry = folder.part(at, ENTRY_BYTES)
            first, kind = entry.u8(0), entry.u8(11)
            if first == 0:
                return
            if kind == _LONG and first != 0xE5:
                long_name.insert(0, entry.take(1, 10) + entry.take(14, 12) + entry.take(28, 4))
                sums.add(entry.u8(13))
                continue
            if first != 0xE5 and kind & _LABEL:
                self.label = entry.text(0, 11).strip()
            elif first != 0xE5 and first != ord("."):
                name = _name(entry, long_name, sums)
                yield from self._entry(entry, f"{path}{name}", depth)
            long_name, sums = [], set()

    def _entry(self, entry: View, path: str, depth: int) -> Iterator[tuple[str, View]]:
        first = entry.le16(26) | (entry.le16(20) << 16 if self.volume.bits == 32 else 0)
        size = entry.le32(28)
        clusters = self.chain(first, path) if first else []
        if entry.u8(11) & _FOLDER:
            if depth >= _DEEPEST or not clusters:
                raise ImageFormatError(f"the FAT folder {path} is damaged")
            size = len(clusters) * self.volume.cluster
            yield from self.walk(self.content(clusters, size, path), f"{path}/", depth + 1)
            return
        if len(clusters) != -(-size // self.volume.cluster):
            raise ImageFormatError(f"the FAT file {path} has {size} bytes in {len(clusters)} clusters")
        yield path, self.content(clusters, size, path)


def _name(entry: View, long_name: list[bytes], sums: set[int]) -> str:
    short = entry.take(0, 11)
    if long_name:
        total = 0
        for byte in short:
            total = ((total >> 1) | (total << 7)) + byte & 0xFF
        if sums != {total}:
            raise ImageFormatError(
                f"the FAT entry {printable(short)!r} is damaged: checksum of its long name"
            )
        text = b"".join(long_name).decode("utf-16-le", "replace").partition("\0")[0]
        return "".join(sign if sign.isprintable() and sign != "/" else "?" for sign in text)
    lower = entry.u8(12)  # NT's flags: base and extension in small letters
    base, extension = (printable(part).rstrip() for part in (short[:8], short[8:]))
    base = base.lower() if lower & 0x08 else base
    extension = extension.lower() if lower & 0x10 else extension
    return f"{base}.{extension}" if extension else base


def _files(volume: BootSector) -> tuple[list[tuple[str, View]], str]:
    files = _Files(volume)
    if volume.bits == 32:
        clusters = files.chain(volume.root_cluster, "the root folder")
        root = files.content(clusters, len(clusters) * volume.cluster, "the root folder")
    else:
        root = volume.view.part(volume.root_at, volume.root_bytes)
    found: list[tuple[str, View]] = []
    for path, content in files.walk(root, "", 0):
        found.append((path, content))
        if len(found) > _MOST_FILES:
            raise ImageFormatError(f"the FAT file system has more than {_MOST_FILES} files")
    return found, files.label


def _checks(volume: BootSector) -> tuple[Check, ...]:
    view = volume.view
    copies = [
        view.part(volume.table_at + index * volume.table_bytes, volume.table_bytes).raw
        for index in range(volume.tables)
    ]
    alike = all(copy == copies[0] for copy in copies)
    media = copies[0][0]
    return (
        holds("copies of the FAT", alike, expected="alike", found="alike" if alike else "different"),
        holds(
            "media byte of the FAT", media == view.u8(21), expected=f"{view.u8(21):#x}", found=f"{media:#x}"
        ),
    )


def _matters(part: Part) -> bool:
    """Whether what a file holds is looked into. Programs that are no kernel are for whatever processor the
    board has besides (Raspberry Pi's start.elf, for the VideoCore), and a beginning that tells little is
    trusted only where the rest agrees."""
    if part.kind in ("data", "gzip") or (part.kind == "elf" and "version" not in part.fields):
        return False
    if is_loader(part):
        return False
    return part.kind not in _UNSURE or not part.problems


def parse(view: View, reading: Reading) -> Part:
    """The file system with its files as parts; kernels among them are looked into."""
    volume = read_volume(view)
    files, label = _files(volume)
    children = []
    for path, content in files:
        inner = reading.inside(content, path) if content.size else None
        nested = (inner,) if inner is not None and _matters(inner) else ()
        children.append(content.to_part("file", path, {}, nested))
    fields = {
        "type": Field(f"FAT{volume.bits}"),
        "label": Field(label),
        "cluster": Field(volume.cluster, "bytes"),
        "files": Field(len(files)),
    }
    whole = view.first(volume.size)
    return whole.to_part(FAT.kind, "FAT", fields, children, _checks(volume))


FAT = Format("fat", "FAT", detect, parse, steps="boot-img boot-common boot-2708 boot-2711")
