"""Writers of firmware images for the tests: headers byte by byte, payloads by whoever calls them.

They state the formats a second time, independently of the readers; what the genuine tools make is tried
beside them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import random
import struct
import tarfile
import uuid
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from imagebuilder.host.run import run

MARKER = bytes.fromhex("deadc0de")
MIPS, ARM, X86_64 = (8, "big"), (40, "little"), (62, "little")
RELEASE = """\
DISTRIB_ID='OpenWrt'
DISTRIB_RELEASE='{release}'
DISTRIB_TARGET='{target}'
DISTRIB_ARCH='{arch}'
"""
STATUS = """\
Package: libc
Version: 1.1.16-1
Status: install user installed
Architecture: {arch}

Package: busybox
Version: 1.25.1-4
Status: install user installed
Architecture: {arch}

Package: python3-base
Version: 3.6.4-8
Status: install user installed
Architecture: {arch}

Package: python3-light
Version: 3.6.4-8
Status: install user installed
Architecture: {arch}
"""


def noise(size: int, seed: int = 7) -> bytes:
    """Bytes that compress badly, the same each time."""
    return random.Random(seed).randbytes(size)


def pad_to(data: bytes, block: int, fill: int = 0xFF) -> bytes:
    return data + bytes([fill]) * (-len(data) % block)


def program(machine: tuple[int, str] = MIPS, size: int = 4000) -> bytes:
    """A file that begins as a program of this machine does: a whole header that names no segments."""
    number, order = machine
    head = b"\x7fELF\x01" + (b"\x02" if order == "big" else b"\x01") + b"\x01" + bytes(9)
    fields = struct.pack(">HHI" if order == "big" else "<HHI", 2, number, 1) + bytes(28)
    return head + fields + noise(size)


def write_tree(root: Path, *, release: str, target: str, arch: str, machine: tuple[int, str]) -> None:
    """A root file system with what a device must have, and package lists."""
    files = {
        "sbin/init": program(machine, 900),
        "bin/busybox": program(machine, 30000),
        "lib/libc.so": program(machine, 50000),
        "usr/bin/python3.6": program(machine, 20000),
        "etc/openwrt_release": RELEASE.format(release=release, target=target, arch=arch).encode(),
        "usr/lib/opkg/status": STATUS.format(arch=arch).encode(),
        "usr/lib/opkg/info/busybox.list": b"/bin/busybox\n/bin/sh\n",
        "usr/lib/opkg/info/libc.list": b"/lib/libc.so\n",
        "usr/lib/opkg/info/python3-base.list": b"/usr/bin/python3.6\n",
        "etc/a name with spaces [1] (2)": b"text\n",
    }
    for name, data in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o755 if data.startswith(b"\x7fELF") else 0o644)
    (root / "bin/sh").symlink_to("busybox")
    (root / "dev").mkdir()


@cache
def squashfs(
    *,
    release: str = "17.01.7",
    target: str = "ar71xx/generic",
    arch: str = "mips_24kc",
    machine: tuple[int, str] = MIPS,
    compressor: str = "xz",
    remove: str = "",
    empty: str = "",
    scripts: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """A squashfs by mksquashfs. remove, empty: a file that is left out, and one without content. scripts:
    files besides, by their paths."""
    with TemporaryDirectory() as scratch:
        root, image = Path(scratch) / "root", Path(scratch) / "image"
        write_tree(root, release=release, target=target, arch=arch, machine=machine)
        if remove:
            (root / remove).unlink()
        if empty:
            (root / empty).write_bytes(b"")
        for name, text in scripts:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        argv = ["mksquashfs", str(root), str(image), "-noappend", "-quiet", "-no-progress", "-no-xattrs"]
        argv += [
            "-all-root",
            "-nopad",
            "-b",
            "262144",
            "-comp",
            compressor,
            "-mkfs-time",
            "1",
            "-all-time",
            "1",
        ]
        run(argv)
        return image.read_bytes()


def functions(machine: tuple[int, str] = MIPS, count: int = 100) -> bytes:
    """Bare code of that many functions, each of which returns as this processor's do."""
    number, order = machine
    words = {8: 0x03E00008, 40: 0xE12FFF1E, 183: 0xD65F03C0, 20: 0x4E800020}
    end = words[number].to_bytes(4, order)  # type: ignore[arg-type]
    return b"".join(noise(56, seed) + end for seed in range(count))


@cache
def kernel(
    text: str = "board=TL-WR741ND-v4 console=ttyATH0,115200",
    size: int = 90000,
    *,
    machine: tuple[int, str] = MIPS,
    tree: bytes = b"",
) -> bytes:
    """Kernel code that names its version, in LZMA as OpenWrt packs it. tree: appended to it."""
    code = b"\0\0CMDLINE:" + text.encode() + bytes(64) + b"Linux version 4.4.182 (builder) " + noise(size)
    code += functions(machine) + tree
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 23, "lc": 1, "lp": 2, "pb": 2}]
    packed = lzma.compress(code, lzma.FORMAT_ALONE, filters=filters)
    return packed[:5] + struct.pack("<Q", len(code)) + packed[13:]


def tplink_v1(
    kernel_data: bytes,
    root: bytes,
    *,
    hwid: int = 0x07400004,
    hwrev: int = 1,
    length: int = 0x3C0000,
    factory: bool = False,
    region: int = 0,
    region_text: bytes = b"",
    boot: int = 0,
    block: int = 0x10000,
) -> bytes:
    """An image as mktplinkfw of 17.01 makes it: the root file system right behind the kernel, one end
    marker."""
    kernel_data = pad_to(kernel_data, 4, 0)
    body = pad_to(bytes(0x200) + kernel_data + root, block) + MARKER
    if factory:
        body = pad_to(body, length)
    head = struct.pack(
        ">I24s36sIII16sI16sIIIIIIIIII",
        0x01000000,
        b"OpenWrt",
        b"r4030-6028f00df0",
        hwid,
        hwrev,
        region,
        bytes(16),
        0,
        bytes(16),
        0,
        0x80060000,
        0x80060000,
        length,
        0x200,
        len(kernel_data),
        0x100000,
        len(root),
        0,
        boot,
    )
    head = head.ljust(0x120, b"\0")
    if region_text:
        head += b"00000000;" + region_text + b";" + bytes(32 - 10 - len(region_text)) + region_text
    return sign_tplink(head.ljust(0x200, b"\0") + body[0x200:])


def sign_tplink(image: bytes) -> bytes:
    """The MD5 put right."""
    salt = "8cef335bd5c5cefaa79c28dab2e90f42" if any(image[0x94:0x98]) else "dcd73aa5c39598fbddf9e7f40eae4738"
    digest = hashlib.md5(image[:0x4C] + bytes.fromhex(salt) + image[0x5C:]).digest()
    return image[:0x4C] + digest + image[0x5C:]


def uimage(
    data: bytes,
    *,
    machine: int = 5,
    compression: int = 3,
    kind: int = 2,
    name: bytes = b"MIPS LEDE Linux-4.4.182",
    magic: int = 0x27051956,
) -> bytes:
    """A uImage. machine: as its header says, whatever the data are."""
    head = struct.pack(
        ">IIIIIIIBBBB32s",
        magic,
        0,
        1,
        len(data),
        0x80060000,
        0x80060000,
        zlib.crc32(data),
        5,
        machine,
        kind,
        compression,
        name,
    )
    return head[:4] + struct.pack(">I", zlib.crc32(head)) + head[8:] + data


def dni(body: bytes, device: bytes = b"WNDR3800") -> bytes:
    """What mkdniimg makes for NETGEAR's factory firmware."""
    head = b"device:" + device + b"\nversion:VLEDE.r3560\nregion:\nhd_id:29763654+16+128\n"
    whole = head.ljust(128, b"\0") + body
    return whole + bytes([0xFF - sum(whole) % 256])


def nor_sysupgrade(kernel_data: bytes, root: bytes, block: int = 0x10000) -> bytes:
    """Kernel, padding, root file system, end markers."""
    start = pad_to(kernel_data, block, 0) + root
    return pad_to(start, block) + MARKER


def metadata(body: bytes, **keys: object) -> bytes:
    """An image with a metadata chunk."""
    text = bytes(8) + json.dumps({"metadata_version": "1.1", **keys}).encode() + b"\n"
    return chunk(body + text, 1, len(text) + 16)


def chunk(data: bytes, kind: int, size: int) -> bytes:
    return data + struct.pack(">4sIB3xI", b"FWx0", zlib.crc32(data) ^ 0xFFFFFFFF, kind, size)


def blob(number: int, content: bytes) -> bytes:
    return pad_to(struct.pack(">I", number << 24 | len(content) + 4) + content, 4, 0)


def signature(image: bytes) -> bytes:
    """An image with a chunk that is built as ucert builds one; the signature in it is noise."""
    import base64  # noqa: PLC0415

    packed = base64.b64encode(b"Ed" + bytes(range(8)) + noise(64))
    body = blob(0, blob(0, b"untrusted comment: x\n" + packed + b"\n"))
    return chunk(image + body, 0, len(body) + 16)


def sysupgrade_tar(board: str, members: Mapping[str, bytes], control: str | None = None) -> bytes:
    """As scripts/sysupgrade-tar.sh makes it."""
    out = io.BytesIO()
    everything = {"CONTROL": f"BOARD={board}\n".encode() if control is None else control.encode(), **members}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        folder = tarfile.TarInfo(f"sysupgrade-{board}")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in sorted(everything.items()):
            member = tarfile.TarInfo(f"sysupgrade-{board}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def trx(parts: Sequence[bytes], version: int = 1) -> bytes:
    head = 28 if version == 1 else 32
    offsets, body = [], b""
    for part in parts:
        offsets.append(head + len(body))
        body += pad_to(part, 4, 0)
    slots = (head - 16) // 4
    places = struct.pack(f"<{slots}I", *(offsets + [0] * (slots - len(offsets))))
    checked = struct.pack("<HH", 0, version) + places + body
    return struct.pack("<4sII", b"HDR0", head + len(body), zlib.crc32(checked) ^ 0xFFFFFFFF) + checked


def safeloader(
    kernel_data: bytes,
    root: bytes,
    support: str = "SupportList:\r\nArcherC7(TP-LINK|UN|AC1750-D)\r\n",
    block: int = 0x10000,
) -> bytes:
    """A factory image; root with its end marker at the next block."""

    def wrapped(data: bytes) -> bytes:
        return struct.pack(">II", len(data), 0) + data + b"\0"

    parts = {
        "soft-version": wrapped(b"\0\xff\x01\0" + bytes(12)),
        "support-list": wrapped(support.encode()),
        "os-image": kernel_data,
        "file-system": pad_to(root, block) + MARKER,
    }
    flash = b"".join(
        f"partition {name} base 0x{at:05x} size 0x{size:05x}\n".encode()
        for name, at, size in (
            ("soft-version", 0, 0x1000),
            ("support-list", 0x1000, 0x1000),
            ("os-image", 0x20000, 0x200000),
            ("file-system", 0x220000, 0xD00000),
        )
    )
    table = (b"\0\x04\0\0" + flash + b"\0").ljust(0x800, b"\xff")
    lines, body = [], b""
    for name, data in {"partition-table": table, **parts}.items():
        lines.append(f"fwup-ptn {name} base 0x{0x800 + len(body):05x} size 0x{len(data):05x}\t\r\n")
        body += data
    listing = ("".join(lines).encode() + b"\0").ljust(0x800, b"\xff")
    rest = struct.pack(">I", 0xFFFFFFFF) + b"\xff" * 4092 + listing + body
    digest = hashlib.md5(bytes.fromhex("7a2b15ed9b98596de504ab44ac2a9f4e") + rest).digest()
    return struct.pack(">I", 20 + len(rest)) + digest + rest


def _ubi_crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data) ^ 0xFFFFFFFF)


def ubi(
    volumes: Mapping[str, bytes], *, block: int = 0x20000, page: int = 2048, eof: int = 0, static: str = ""
) -> bytes:
    """As ubinize makes it; with `eof` end blocks of OpenWrt's."""
    vid_at, data_at = page, 2 * page
    leb = block - data_at

    def ec(mark: bytes = bytes(3)) -> bytes:
        head = b"UBI#\x01" + mark + struct.pack(">QIII32x", 0, vid_at, data_at, 0x1234)
        return pad_to(head + _ubi_crc(head), page)

    def peb(volume: int, number: int, data: bytes, *, kind: int, compat: int = 0, whole: int = 0) -> bytes:
        size, used, crc = (len(data), whole, _ubi_crc(data)) if kind == 2 else (0, 0, bytes(4))
        head = struct.pack(
            ">4sBBBBIIIIII4sIQ12x", b"UBI!", 1, kind, 0, compat, volume, number, 0, size, used, 0, crc, 0, 0
        )
        return ec() + pad_to(head + _ubi_crc(head), page) + data.ljust(leb, b"\xff")

    records = b""
    for number in range(min(128, leb // 172)):
        record = bytes(168)
        if number < len(volumes):
            name, data = list(volumes.items())[number]
            kind = 2 if name == static else 1
            record = struct.pack(
                ">IIIBBH128sB23x",
                max(1, -(-len(data) // leb)) + 2,
                1,
                0,
                kind,
                0,
                len(name),
                name.encode(),
                1 if not data else 0,
            )
        records += record + _ubi_crc(record)
    image = b"".join(peb(0x7FFFEFFF, number, records, kind=1, compat=5) for number in range(2))
    for volume, (name, data) in enumerate(volumes.items()):
        pieces = [data[at : at + leb] for at in range(0, len(data), leb)]
        kind = 2 if name == static else 1
        image += b"".join(
            peb(volume, n, piece, kind=kind, whole=len(pieces)) for n, piece in enumerate(pieces)
        )
    return image + pad_to(ec(b"EOF"), block) * eof


def mbr(
    partitions: Sequence[tuple[int, int, int]], size: int, *, boot: bytes = b"", signature_: int = 0xCAFE1234
) -> bytearray:
    """A disk with entries (type, first sector, sectors), the first of them active."""
    disk = bytearray(size)
    disk[: len(boot)] = boot
    disk[440:444] = struct.pack("<I", signature_)
    for number, (kind, start, sectors) in enumerate(partitions):
        entry = struct.pack("<B3sB3sII", 0x80 if number == 0 else 0, bytes(3), kind, bytes(3), start, sectors)
        disk[446 + 16 * number : 462 + 16 * number] = entry
    disk[510:512] = b"\x55\xaa"
    return disk


EFI_SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def gpt(partitions: Sequence[tuple[uuid.UUID, str, bytes]], *, backup: bool = True) -> bytes:
    """A disk whose partitions lie at whole MiB."""
    mib = 1 << 20
    entries, places, at = b"", [], mib
    for number, (kind, name, data) in enumerate(partitions):
        sectors = max(1, -(-len(data) // mib)) * mib // 512
        own = uuid.UUID(int=0xABC000 + number)
        entries += struct.pack(
            "<16s16sQQQ72s",
            kind.bytes_le,
            own.bytes_le,
            at // 512,
            at // 512 + sectors - 1,
            0,
            name.encode("utf-16-le"),
        )
        places.append((at, data))
        at += sectors * 512
    entries = entries.ljust(128 * 128, b"\0")
    size = at + mib
    disk = mbr([(0xEE, 1, size // 512 - 1)], size, signature_=0)
    last = size // 512 - 1

    def header(here: int, there: int, table: int) -> bytes:
        head = struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x10000,
            92,
            0,
            0,
            here,
            there,
            34,
            last - 33,
            uuid.UUID(int=0xD15C).bytes_le,
            table,
            128,
            128,
            zlib.crc32(entries),
        )
        return head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:]

    disk[512 : 512 + 92] = header(1, last, 2)
    disk[1024 : 1024 + len(entries)] = entries
    if backup:
        disk[(last - 32) * 512 : (last - 32) * 512 + len(entries)] = entries
        disk[last * 512 : last * 512 + 92] = header(last, 1, last - 32)
    for place, data in places:
        disk[place : place + len(data)] = data
    return bytes(disk)


@cache
def fat(files: tuple[tuple[str, bytes], ...], mib: int = 4) -> bytes:
    """A FAT by mkdosfs and mcopy."""
    with TemporaryDirectory() as scratch:
        image = Path(scratch) / "image"
        image.write_bytes(bytes(mib << 20))
        run(["mkdosfs", "--invariant", "-F", "16" if mib > 8 else "12", "-n", "BOOT", str(image)])
        folders: list[str] = []
        for name, data in files:
            for depth in range(1, name.count("/") + 1):
                folder = "/".join(name.split("/")[:depth])
                if folder not in folders:
                    folders.append(folder)
                    run(["mmd", "-i", str(image), f"::{folder}"])
            source = Path(scratch) / "source"
            source.write_bytes(data)
            run(["mcopy", "-i", str(image), str(source), f"::{name}"])
        return image.read_bytes()


def bzimage(version: str = "6.1.0 (builder)") -> bytes:
    data = bytearray(0x4000)
    data[0x1F1] = 1
    data[0x1F4:0x1F8] = struct.pack("<I", (0x4000 - 1024) // 16)
    data[0x1FE:0x200] = b"\x55\xaa"
    data[0x202:0x206] = b"HdrS"
    data[0x206:0x208] = struct.pack("<H", 0x20F)
    data[0x20E:0x210] = struct.pack("<H", 0x300 - 0x200)
    data[0x236] = 1  # a 64-bit kernel
    data[0x300 : 0x300 + len(version)] = version.encode()
    return bytes(data)


def zimage(tree: bytes = b"", size: int = 5000) -> bytes:
    code = bytearray(noise(size))
    code[0x24:0x30] = struct.pack("<III", 0x016F2818, 0, size)
    return bytes(code) + tree


def elf(machine: tuple[int, str] = MIPS, code: bytes = b"Linux version 5.10.1 (x) ") -> bytes:
    """A 32-bit ELF with one segment."""
    number, order = machine
    sign = ">" if order == "big" else "<"
    data = code + noise(3000)
    head = b"\x7fELF\x01" + (b"\x02" if order == "big" else b"\x01") + b"\x01" + bytes(9)
    head += struct.pack(f"{sign}HHIIIIIHHHHHH", 2, number, 1, 0x80060000, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    head += struct.pack(f"{sign}IIIIIIII", 1, 84, 0x80060000, 0x80060000, len(data), len(data), 7, 4)
    return head + data


def device_tree(compatible: Sequence[str], model: str = "A router") -> bytes:
    return tree(
        {
            "": {
                "model": model.encode() + b"\0",
                "compatible": b"".join(name.encode() + b"\0" for name in compatible),
            }
        }
    )


def overlay_tree(compatible: str) -> bytes:
    """An overlay for a device tree: what is plugged into a board whose processor is named."""
    fragment = {"target-path": b"/soc\0", "__overlay__": {"status": b"okay\0"}}
    return tree({"": {"compatible": compatible.encode() + b"\0", "fragment@0": fragment}})


def tree(nodes: Mapping[str, object]) -> bytes:
    """A flattened device tree; values that are mappings are nodes."""
    strings, structure = b"", b""

    def offset(name: str) -> int:
        nonlocal strings
        at = strings.find(name.encode() + b"\0")
        if at < 0:
            at = len(strings)
            strings += name.encode() + b"\0"
        return at

    def node(name: str, content: Mapping[str, object]) -> bytes:
        out = struct.pack(">I", 1) + pad_to(name.encode() + b"\0", 4, 0)
        for key, value in content.items():
            if isinstance(value, bytes):
                out += struct.pack(">III", 3, len(value), offset(key)) + pad_to(value, 4, 0)
        for key, value in content.items():
            if isinstance(value, Mapping):
                out += node(key, value)
        return out + struct.pack(">I", 2)

    for name, content in nodes.items():
        assert isinstance(content, Mapping)
        structure += node(name, content)
    structure += struct.pack(">I", 9)
    at = 40 + 16
    total = at + len(structure) + len(strings)
    head = struct.pack(
        ">IIIIIIIIII", 0xD00DFEED, total, at, at + len(structure), 40, 17, 16, 0, len(strings), len(structure)
    )
    return head + bytes(16) + structure + strings


def fit(images: Mapping[str, tuple[str, bytes]], *, external: bool = False) -> bytes:
    """A FIT with crc32 and sha1 of each image, and one configuration. images: name to type and data."""
    behind, inside = b"", {}
    at = 0x1000
    for name, (kind, data) in images.items():
        hashes = {
            "hash-1": {"algo": b"crc32\0", "value": struct.pack(">I", zlib.crc32(data))},
            "hash-2": {"algo": b"sha1\0", "value": hashlib.sha1(data).digest()},
        }
        place = (
            {"data-size": struct.pack(">I", len(data)), "data-position": struct.pack(">I", at + len(behind))}
            if external
            else {"data": data}
        )
        inside[name] = {
            "type": kind.encode() + b"\0",
            "arch": b"arm64\0",
            "os": b"linux\0",
            "compression": b"none\0",
            **place,
            **hashes,
        }
        if external:
            behind = pad_to(behind + data, 0x1000, 0)
    first = {kind: name for name, (kind, _) in images.items()}
    configuration = {"kernel": first["kernel"].encode() + b"\0"}
    if "flat_dt" in first:
        configuration["fdt"] = first["flat_dt"].encode() + b"\0"
    root = {"images": inside, "configurations": {"default": b"config-1\0", "config-1": configuration}}
    out = tree({"": {"timestamp": bytes(4), "description": b"OpenWrt FIT\0", **root}})
    if not external:
        return out
    assert len(out) <= 0x1000
    return out[:4] + struct.pack(">I", 0x1000) + pad_to(out, 0x1000, 0)[8:] + behind


def gz_before_zeros(head: bytes, zeros: int) -> bytes:
    """The same contents compressed, and so many zeros (whole MiB) behind them; quick also where they are
    gigabytes, since each MiB of them is the same bytes."""
    mib = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    out = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(mib) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = zlib.crc32(head)
    for _ in range(zeros >> 20):
        crc = zlib.crc32(mib, crc)
    body = out + one * (zeros >> 20) + packer.flush(zlib.Z_FINISH)
    size = len(head) + zeros
    return bytes.fromhex("1f8b0800000000000203") + body + struct.pack("<II", crc, size & 0xFFFFFFFF)


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
