"""Writers of vendors' headers for the tests, stated a second time, byte by byte."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence

from tests.support.firmware_writers import noise, pad_to

JFFS2_MAGIC = {"big": b"\x19\x85", "little": b"\x85\x19"}


def _jffs2_crc(data: bytes) -> int:
    return zlib.crc32(data, 0xFFFFFFFF) ^ 0xFFFFFFFF


def jffs2_node(kind: int, body: bytes, sign: str = ">") -> bytes:
    """A node without its own fields' checksums."""
    magic = JFFS2_MAGIC["big" if sign == ">" else "little"]
    head = magic + struct.pack(f"{sign}HI", kind, 12 + len(body))
    return pad_to(head + struct.pack(f"{sign}I", _jffs2_crc(head)) + body, 4)


def jffs2(
    files: Mapping[str, bytes], *, order: str = "big", compress: bool = False, block: int = 0x10000
) -> bytes:
    """A file system of these files in its root, as mkfs.jffs2 writes it: a name, then the data in pages."""
    sign = ">" if order == "big" else "<"
    magic = JFFS2_MAGIC[order]
    out = jffs2_node(0x2003, b"", sign)
    for number, (name, data) in enumerate(files.items(), start=2):
        text = name.encode()
        fixed = struct.pack(f"{sign}IIIIBBH", 1, 1, number, 0, len(text), 8, 0)
        head = magic + struct.pack(f"{sign}HI", 0xE001, 40 + len(text))
        head += struct.pack(f"{sign}I", _jffs2_crc(head)) + fixed
        out += pad_to(head + struct.pack(f"{sign}II", _jffs2_crc(head), _jffs2_crc(text)) + text, 4)
        for version, at in enumerate(range(0, len(data), 4096), start=1):
            page = data[at : at + 4096]
            stored = zlib.compress(page) if compress else page
            head = magic + struct.pack(f"{sign}HI", 0xE002, 68 + len(stored))
            head += struct.pack(f"{sign}I", _jffs2_crc(head))
            head += struct.pack(f"{sign}IIIHHI", number, version, 0o100644, 0, 0, at + len(page))
            head += struct.pack(f"{sign}IIIIII", 0, 0, 0, at, len(stored), len(page))
            head += bytes([6 if compress else 0, 0]) + bytes(2)
            head += struct.pack(f"{sign}II", _jffs2_crc(stored), _jffs2_crc(head))
            out += pad_to(head + stored, 4)
    return pad_to(out, block)


def okli(loader: bytes, kernel: bytes, at: int) -> bytes:
    """A small loader, and at a fixed place the kernel with the loader's own magic."""
    return pad_to(loader, at, 0) + kernel


def netgear_sum(data: bytes) -> int:
    low = high = 0
    for byte in data:
        low = (low + byte) & 0xFFFFFFFF
        high = (high + low) & 0xFFFFFFFF
    folded = []
    for number in (low, high):
        once = (number & 0xFFFF) + (number >> 16)
        folded.append(((once >> 16) + once) & 0xFFFF)
    return folded[1] << 16 | folded[0]


def chk(kernel: bytes, root: bytes = b"", board: bytes = b"U12H127T00_NETGEAR") -> bytes:
    """As mkchkimg: NETGEAR's header with the board's id."""
    sums = netgear_sum(kernel), netgear_sum(root) if root else 0
    head = struct.pack(">4sI8sIIIIII", b"*#$^", 40 + len(board), b"\1ccccccc", *sums, len(kernel), len(root),
                       netgear_sum(kernel + root), 0)  # fmt: skip
    return head[:36] + struct.pack(">I", netgear_sum(head + board)) + board + kernel + root


def cybertan(body: bytes, pattern: bytes = b"NL16") -> bytes:
    """As addpattern: Linksys' BIN header."""
    head = pattern.ljust(8, b"\0") + bytes([20, 11, 19, 1, 0, 1]) + b"U2ND\0\x0f\x3f"
    return head.ljust(32, b"\0") + body


def model(body: bytes, name: bytes = b"NG_WNR854T") -> bytes:
    """As add_header: a model's name and a CRC over all."""
    name = name.ljust(16, b"\0")
    return name + struct.pack(">I", zlib.crc32(name + bytes(4) + body)) + body


def edimax(body: bytes, *, order: str = "little", name: bytes = b"RN54") -> bytes:
    """As mkedimaximg: the size counts the sum behind the image."""
    sign = "<" if order == "little" else ">"
    body = pad_to(body, 2, 0)
    words = struct.unpack(f"{sign}{len(body) // 2}H", body)
    head = struct.pack(f"{sign}4sII4sI", b"CSYS", 0x01100000, 0x70000, name, len(body) + 2)
    return head + body + struct.pack(f"{sign}H", -sum(words) & 0xFFFF)


def _slow_crc(data: bytes) -> int:
    """The highest bit first, as buffalo-lib computes it bit by bit."""
    found = 0
    for byte in data:
        found ^= byte << 24
        for _ in range(8):
            found = (found << 1 ^ 0x04C11DB7 if found & 0x80000000 else found << 1) & 0xFFFFFFFF
    return found ^ 0xFFFFFFFF


def buffalo(body: bytes, product: bytes = b"WHR-G301N") -> bytes:
    """As buffalo-tag for one file."""
    length = 160 + len(body)
    head = product.ljust(32, b"\0") + product.ljust(32, b"\0") + b"1.99\0\0\0\0" + b"1.01\0\0\0\0" + b"M_"
    head = (head + b"\xff" * 4 + bytes(2) + b"mlang8\0\0" + b"Z:15\0\0\0\0").ljust(136, b"\0")
    head += struct.pack(">IIIIIB3x", length, 0, 0x80041000, 0x801E8000, len(body), 1)
    whole = head + body
    ending = length.to_bytes((length.bit_length() + 7) // 8, "little")
    return whole[:140] + struct.pack(">I", _slow_crc(whole + ending)) + whole[144:]


def combined(kernel: bytes, root: bytes) -> bytes:
    """As scripts/combined-image.sh."""
    kernel, root = pad_to(kernel, 0x10000, 0), pad_to(root, 0x10000, 0)
    digest = hashlib.md5(kernel + root).hexdigest()
    return pad_to(f"CI{len(kernel):08x}{len(root):08x}{digest}".encode(), 0x10000, 0) + kernel + root


def openmesh(files: Mapping[str, bytes], kind: str = "OM2P") -> bytes:
    """As scripts/combined-ext-image.sh."""
    text = f"CE01{kind:<32}{len(files):02x}"
    for name, data in files.items():
        text += f"{name:<32}{len(data):08x}{hashlib.md5(data).hexdigest()}"
    return pad_to(text.encode(), 0x10000, 0) + b"".join(files.values())


def seama_image(body: bytes, texts: Sequence[bytes] = (b"dev=/dev/mtdblock/1", b"type=firmware")) -> bytes:
    meta = pad_to(b"".join(text + b"\0" for text in texts), 4, 0)
    head = struct.pack(">IHHI", 0x5EA3A417, 0, len(meta), len(body))
    return head + hashlib.md5(body).digest() + meta + body


def seama_seal(*inner: bytes, texts: Sequence[bytes] = (b"signature=wapac02_dkbs_dap2695",)) -> bytes:
    meta = pad_to(b"".join(text + b"\0" for text in texts), 4, 0)
    return struct.pack(">IHHI", 0x5EA3A417, 0, len(meta), 0) + meta + b"".join(inner)


def ubiquiti(parts: Sequence[tuple[bytes, int, int, bytes]], *, signed: bool = False) -> bytes:
    """As mkfwimage: name, flash address, room in the flash and data of each part."""
    head = (b"UBNT" if signed else b"OPEN") + b"XM.ar7240.v6.0.0-OpenWrt-r1".ljust(256, b"\0")
    out = head + struct.pack(">II", zlib.crc32(head), 0)
    for number, (name, address, room, data) in enumerate(parts, start=1):
        part = struct.pack(">4s16s12xIIIIII", b"PART", name, 0, number, address, 0, len(data), room) + data
        out += part + struct.pack(">II", zlib.crc32(part), 0)
    if signed:
        return out + b"ENDS" + bytes(range(256)) + bytes(4)
    return out + b"END." + struct.pack(">II", zlib.crc32(out), 0)


def xiaomi(blobs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """HDR1: blobs with their names, and a signature's place behind them."""
    places, body = [], b""
    for number, (name, data) in enumerate(blobs):
        places.append(48 + len(body))
        body += pad_to(struct.pack("<IIIHH32s", 0xBABE, number << 20, len(data), 7, 0, name) + data, 4, 0)
    rest = struct.pack("<HH8I", 0, 0x0D, *places, *(0 for _ in range(8 - len(places)))) + body
    rest += struct.pack("<IIII", 256, 0, 0, 0) + bytes(range(256))
    return struct.pack("<4sII", b"HDR1", 12 + len(rest) - 272, zlib.crc32(rest) ^ 0xFFFFFFFF) + rest


def myloader(body: bytes, table: bytes = b"\x03\x11\x02\x20" + bytes(396)) -> bytes:
    """As mkmylofw: a partition table and one block of firmware."""
    blocks = struct.pack("<IIII", 1, 0x20000, len(table), 0x8000)
    blocks += struct.pack("<IIII", 1, 0x30000, len(body), 0x7D0000) + bytes(16)
    head = struct.pack("<HHHHIIII", 0x11F6, 0x0640, 0x11F6, 0x0640, 0, 0x20000, 0x20000, 0)
    rest = bytes(8) + head + blocks + table + body
    return b"\0MYL" + struct.pack("<I", zlib.crc32(b"\0MYL" + bytes(4) + rest)) + rest


def zcomax(kernel: bytes, root: bytes, hwid: int = 0x66661523) -> bytes:
    """As mkzcfw: each part with a header and a tail, and a tail over both."""
    out = b""
    for word, data in ((b"Kimg", kernel), (b"Rimg", root)):
        data += struct.pack(">I", hwid)  # noqa: PLW2901
        out += struct.pack("<4sI8x", word, len(data) + 4) + data + struct.pack(">I", _jffs2_crc(data))
    out += struct.pack(">I", hwid)
    out += struct.pack(">I", _jffs2_crc(out))
    return struct.pack("<4sI8x", b"firm", len(out)) + out


def tplink_v2(kernel: bytes, root: bytes, *, hwid: int = 0x00C500, length: int = 0x7A0000) -> bytes:
    """As mktplinkfw2."""
    start = 0x200 + len(kernel)
    body = kernel + bytes(-start % 4) + root
    place = start + -start % 4
    head = struct.pack(">I48sIII16sI16sI", 0x03000000, b"ver. 1.0", hwid, 1, 2, bytes.fromhex(
        "dcd73aa5c39598fbdcf9e7f40eae4737"), 0, b"\xff" * 16, 0xFFFFFFFF)  # fmt: skip
    head += struct.pack(
        ">IIIIIIIII", 0x80000000, 0x80000000, length, 0x200, len(kernel), place, len(root), 0, 0
    )
    head = (head + b"\x55\xaa\0\0\xa5\0\0\1").ljust(0x200, b"\xff")
    whole = pad_to(head + body, 0x10000) + b"\xde\xad\xc0\xde"
    return whole[:0x40] + hashlib.md5(whole).digest() + whole[0x50:]


def old_squashfs(
    magic: bytes = b"hsqs", version: int = 3, size: int = 3000, *, order: str = "little"
) -> bytes:
    """The superblock of a squashfs before 4.0, and noise."""
    sign = "<" if order == "little" else ">"
    head = magic + struct.pack(f"{sign}I", 12)
    head = (head + struct.pack(f"{sign}I", size if version < 3 else 0)).ljust(28, b"\0")
    head += struct.pack(f"{sign}HHHH", version, 0, 0, 16)
    head = head.ljust(51, b"\0") + struct.pack(f"{sign}I", 1 << 16)
    head = head.ljust(63, b"\0") + struct.pack(f"{sign}Q", size)
    return head + noise(size - len(head))
