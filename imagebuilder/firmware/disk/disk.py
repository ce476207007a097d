"""Disks: a partition table (MBR, or GPT as in the UEFI specification 2.10, chapter 5) and its partitions.

OpenWrt's x86 script leaves no backup GPT, and many images end before their last partition does: neither is a
fault. Each recipe writes its partitions with `dd` into a file that ptgen began, and few write the last one to
its end (target/linux/*/image and scripts/gen_image_generic.sh). x86 up to 19.07 has 128 KiB of zeros behind
the squashfs, so that no overlay of an older system is taken for this one's; sunxi, omap, zynq, mxs and RISC-V
end with the root file system's last byte; Raspberry Pi fills its last sector, and from 24.10 on 1 MiB more.
What a partition lacks there is not of the file system: sysupgrade and `dd` write what there is.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from imagebuilder.firmware.checks import hexadecimal, holds, same_number
from imagebuilder.firmware.formats.fit import is_loader
from imagebuilder.firmware.formats.metadata import MOST_BYTES, peel_own
from imagebuilder.firmware.formats.padding import padding
from imagebuilder.firmware.reader import Format, ImageFormatError, Reading, View
from imagebuilder.model.firmware import Check, Field, Part

SECTOR = 512
OVERLAY_ZEROS = 128 << 10
_LIES = "lies in the file"
_WHOLE = ("squashfs", "ext4", "fat", "fit")  # what states its own length


def content_end(partition: Part | None) -> int | None:
    """Where the contents of a partition end, in bytes of what the partition lies in; None where they do not
    say, or are cut."""
    if partition is None or not partition.children or partition.children[0].kind not in _WHOLE:
        return None
    if partition.children[0].problems:
        return None
    return max(
        part.offset + part.size for part in partition.children if part.kind not in ("padding", "end-marker")
    )


def is_recipe_end(end: int, contents: int | None) -> bool:
    """Whether a recipe ends a file there that ends inside of its last partition. contents: where that
    partition's contents end; all in bytes."""
    return contents is not None and end in (contents, contents + OVERLAY_ZEROS)


def is_card(view: View) -> bool:
    """Whether nothing in the first sector is run: processors with a boot ROM of their own look elsewhere."""
    return view.u8(0) == 0


def end_checks(view: View, latest: int, *, recipe_end: bool) -> Iterator[Check]:
    """The file's length. latest: where it may end at the latest, in bytes."""
    size = f"{view.size} bytes"
    whole = view.size % SECTOR == 0 or recipe_end
    yield holds("length of the disk image", whole, expected="whole sectors", found=size)
    ends = view.size <= latest
    yield holds("end of the disk image", ends, expected=f"at {latest} bytes at the latest", found=size)


GPT_MAGIC = b"EFI PART"
GPT_HEADER_BYTES = 92
_SLACK = 63 * SECTOR  # what OpenWrt's script puts behind the last partition of a GPT
_GPT_SECTORS = 34  # MBR, header, and 32 of entries
_MOST_ENTRIES, _SMALLEST_ENTRY, _LARGEST_ENTRY = 1024, 128, 4096
_PROTECTIVE, _EXTENDED = 0xEE, (0x05, 0x0F, 0x85)
_KNOWN_TYPES = (0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E, 0x82, 0x83, 0xEE, 0xEF)
TYPES = {
    UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"): "EFI system",
    UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"): "Linux data",
    UUID("21686148-6449-6e6f-744e-656564454649"): "BIOS boot",
    UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"): "Linux root, x86-64",
    UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"): "basic data",
}


@dataclass(frozen=True, slots=True)
class DiskPartition:
    """An entry of a table. offset, size: bytes; they may lie outside of the file."""

    number: int
    kind: str
    name: str
    offset: int
    size: int
    active: bool = False
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class _Table:
    """A partition table. end: where the disk ends at the latest, in bytes."""

    partitions: list[DiskPartition]
    fields: dict[str, Field]
    checks: list[Check]
    end: int


def _last(partitions: list[DiskPartition]) -> int:
    return max((one.offset + one.size for one in partitions), default=0)


def detect(view: View) -> bool:
    """The boot signature, and at least one entry that is a partition. A FAT without a table has one, too: its
    entries are code or text."""
    if view.size < SECTOR or not view.has(b"\x55\xaa", 510):
        return False
    entries = [view.part(446 + 16 * index, 16) for index in range(4)]
    used = [entry for entry in entries if entry.u8(4) and entry.le32(12)]
    return bool(used) and all(entry.u8(0) in (0, 0x80) for entry in entries)


def stated_end(view: View) -> int:
    """Where a disk that begins so may end at the latest by its table, metadata behind it included; 0 where it
    is none, or its table is damaged. All in bytes."""
    if not detect(view):
        return 0
    try:
        table = _gpt(view) if view.has(GPT_MAGIC, SECTOR) else _mbr(view)
    except ImageFormatError:
        return 0
    return table.end + sum(MOST_BYTES.values())


def _mbr_partitions(view: View) -> list[DiskPartition]:
    found = []
    for number in range(1, 5):
        entry = view.part(446 + 16 * (number - 1), 16)
        kind, start, sectors = entry.u8(4), entry.le32(8), entry.le32(12)
        if kind in _EXTENDED:
            raise ImageFormatError(
                "the partition table has an extended partition, which OpenWrt's images have not"
            )
        if kind:
            own, active = f"{view.le32(440):08x}-{number:02x}", entry.u8(0) == 0x80
            place, size = start * SECTOR, sectors * SECTOR
            found.append(DiskPartition(number, f"{kind:#04x}", "", place, size, active, own))
        elif start or sectors:
            raise ImageFormatError(f"the partition {number} has a place and no type")
    return found


def _gpt_entries(view: View, header: View) -> tuple[list[DiskPartition], View]:
    at, count, size = header.le64(72) * SECTOR, header.le32(80), header.le32(84)
    if count > _MOST_ENTRIES or not _SMALLEST_ENTRY <= size <= _LARGEST_ENTRY:
        raise ImageFormatError(f"the GPT has {count} entries of {size} bytes")
    table = view.part(at, count * size, "the GPT's entries")
    found = []
    for index in range(count):
        entry = table.part(index * size, size)
        if entry.part(0, 16).filled_with(0):
            continue
        kind = UUID(bytes_le=entry.take(0, 16))
        first, last = entry.le64(32), entry.le64(40)
        if last < first:
            raise ImageFormatError(f"the partition {index + 1} of the GPT ends before it begins")
        name = entry.take(56, 72).decode("utf-16-le", "replace").partition("\0")[0]
        text = "".join(sign if sign.isprintable() else "?" for sign in name)
        kind_name = TYPES.get(kind, str(kind))
        own = str(UUID(bytes_le=entry.take(16, 16)))
        size_bytes = (last - first + 1) * SECTOR
        found.append(DiskPartition(index + 1, kind_name, text, first * SECTOR, size_bytes, identifier=own))
    return found, table


def _header_crc(header: View) -> int:
    return zlib.crc32(header.take(0, 16) + bytes(4) + header.take(20, header.size - 20))


def _gpt_header(view: View, sector: int, name: str) -> tuple[View, list[Check]]:
    """The header at a sector, checked: CRCs of it and of its entries, and that it is where it says."""
    first = view.part(sector * SECTOR, what=f"the {name}")
    size = first.le32(12)
    if not GPT_HEADER_BYTES <= size <= SECTOR:
        raise ImageFormatError(f"the {name} is damaged: it says it has {size} bytes")
    header = first.part(0, size)
    _, table = _gpt_entries(view, header)
    checks = [
        same_number(f"checksum of the {name} (CRC)", header.le32(16), _header_crc(header)),
        same_number(f"checksum of the entries of the {name} (CRC)", header.le32(88), zlib.crc32(table.raw)),
        holds(
            f"place of the {name}",
            header.le64(24) == sector,
            expected=str(sector),
            found=str(header.le64(24)),
        ),
    ]
    return header, checks


def _gpt(view: View) -> _Table:
    header, checks = _gpt_header(view, 1, "GPT")
    partitions, _ = _gpt_entries(view, header)
    protective = any(one.kind == f"{_PROTECTIVE:#04x}" for one in _mbr_partitions(view))
    found = "one" if protective else "none"
    checks.append(holds("protective MBR", protective, expected="an entry of type 0xee", found=found))
    backup = header.le64(32)
    there = view.has(GPT_MAGIC, backup * SECTOR)
    if there:
        checks += _gpt_header(view, backup, "backup GPT")[1]
        end = (backup + 1) * SECTOR
        checks.append(
            holds("length of the disk", end == view.size, expected=f"{end} bytes", found=f"{view.size}")
        )
    fields = {
        "table": Field("GPT"),
        "disk id": Field(str(UUID(bytes_le=header.take(56, 16)))),
        "backup GPT": Field(
            "there" if there else "missing", "OpenWrt's x86 images have none" if not there else ""
        ),
    }
    return _Table(partitions, fields, checks, max((backup + 1) * SECTOR, _last(partitions) + _SLACK))


def _mbr(view: View) -> _Table:
    partitions = _mbr_partitions(view)
    unknown = [one.kind for one in partitions if int(one.kind, 16) not in _KNOWN_TYPES]
    found = ", ".join(unknown) or "known"
    checks = [holds("types of the partitions", not unknown, expected="known", found=found)]
    return _Table(partitions, {"table": Field("MBR")}, checks, _last(partitions))


def _table_checks(view: View, table: _Table, contents: int | None) -> Iterator[Check]:
    """contents: where those of the last partition end, in bytes."""
    ordered = sorted(table.partitions, key=lambda one: one.offset)
    clash = [two.number for one, two in itertools.pairwise(ordered) if two.offset < one.offset + one.size]
    found = "none" if not clash else f"partition {clash[0]} begins inside of the one before it"
    yield holds("overlapping partitions", not clash, expected="none", found=found)
    has_mbr = table.fields["table"].value == "MBR"
    recipe_end = (has_mbr or is_card(view)) and is_recipe_end(view.size, contents)
    short = recipe_end or (has_mbr and is_card(view))
    yield from end_checks(view, table.end, recipe_end=recipe_end)
    last = next((one for one in reversed(ordered) if one.offset < view.size), None)
    for one in ordered:
        end = one.offset + one.size
        begins = SECTOR <= one.offset < view.size
        inside = begins and (end <= view.size or (short and one is last))
        # an image for one of two sets of partitions leaves the other as it is (mvebu, methode-gpt-emmc)
        inside = inside or (recipe_end and not has_mbr and one.offset >= view.size)
        found = f"{one.offset} to {end}, the file has {view.size}"
        yield holds(f"partition {one.number} {_LIES}", inside, expected="inside of it", found=found)


def cut_off(name: str, problems: Iterable[Check]) -> str:
    """Of the failed checks of a disk, in a sentence: which partition its file ends before, and should not;
    empty where it ends where it may. name: the file's."""
    cut = next((each for each in problems if each.what.endswith(_LIES)), None)
    if cut is None:
        return ""
    return f"{name} looks cut off: {cut.what.removesuffix(_LIES)}lies at {cut.found}"


def _content(view: View, one: DiskPartition, reading: Reading) -> Part:
    name = f"partition {one.number}" + (f" {one.name}" if one.name else "")
    place = view.part(one.offset, min(one.size, view.size - one.offset), name)
    fields = {
        "type": Field(one.kind),
        "active": Field(int(one.active)),
        "sectors": Field(one.size // SECTOR),
        "identifier": Field(one.identifier),
        "number": Field(one.number),
    }
    peeled = peel_own(place)  # a sysupgrade image that was put here as it is has its metadata with it
    content = reading.inside(peeled.body, "contents")
    children: tuple[Part, ...] = () if content.kind == "data" or is_loader(content) else (content,)
    if content.kind == "squashfs" or (children and peeled.chunks):
        children = (content, *padding(peeled.body.part(content.size)), *peeled.chunks)
    return place.to_part("partition", name, fields, children)


def parse(view: View, reading: Reading) -> Part:
    """The table and its partitions; all of the view is the disk."""
    has_gpt = view.has(GPT_MAGIC, SECTOR)
    if not has_gpt and any(one.kind == f"{_PROTECTIVE:#04x}" for one in _mbr_partitions(view)):
        raise ImageFormatError("the disk has a protective MBR and no GPT")
    table = _gpt(view) if has_gpt else _mbr(view)
    if not table.partitions:
        raise ImageFormatError("the disk has no partitions")
    signature = view.le32(440)
    fields = {
        **table.fields,
        "signature": Field(signature, hexadecimal(signature)),
        "boot code": Field(view.take(0, 2).hex(), "GRUB" if view.has(b"GRUB", 0x180) else ""),
    }
    head = view.first(SECTOR * (_GPT_SECTORS if has_gpt else 1))
    inside = [one for one in table.partitions if SECTOR <= one.offset < view.size]
    contents = [_content(view, one, reading) for one in sorted(inside, key=lambda one: one.offset)]
    table_part = head.to_part("partition-table", "partition table")
    end = content_end(contents[-1]) if contents else None
    checks = (*table.checks, *_table_checks(view, table, None if end is None else end - view.start))
    kind = "gpt-disk" if has_gpt else "mbr-disk"
    return view.to_part(kind, "disk", fields, (table_part, *contents), checks)


DISK = Format(
    "disk",
    "disk with MBR or GPT",
    detect,
    parse,
    steps="sdcard-img sdcard-img-ext4 sunxi-sdcard at91-sdcard omap-sdcard tegra-sdcard riscv-sdcard "
    "zynq-sdcard mxs-sdcard-vfat-ext4 mxs-sdcard-ext4-ext4 imx-sdcard pine64-img combined "
    "qemu-image hdd-img mt798x-gpt mt7622-gpt mt7623-mbr mt7988-mozart-gpt lan969x-gpt-emmc "
    "methode-gpt-emmc",
)
