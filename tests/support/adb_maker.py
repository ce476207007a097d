"""Writes indexes and packages of apk 3 for tests, from what `apk adbdump --format json` prints of such."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import zstandard
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FIELDS = (
    *("name", "version", "hashes", "description", "arch", "license", "origin", "maintainer", "url"),
    *("repo-commit", "build-time", "installed-size", "file-size", "provider-priority"),
    *("depends", "provides", "replaces", "install-if", "recommends", "layer", "tags"),
)
MATCH = {"": 0, "=": 0, "<": 2, "<=": 3, ">": 4, ">=": 5, "~": 9}
Facts = Mapping[str, Any]


class Writer:
    """The values of one block; equal ones are there once, as apk writes them."""

    def __init__(self) -> None:
        self.data = bytearray(8)
        self._known: dict[bytes, int] = {}

    def _place(self, data: bytes, kind: int, alignment: int) -> int:
        key = bytes([kind]) + data
        if key not in self._known:
            self.data += bytes(-len(self.data) % alignment)
            self._known[key] = kind << 28 | len(self.data)
            self.data += data
        return self._known[key]

    def blob(self, data: bytes) -> int:
        """Bytes, null for none."""
        if not data:
            return 0
        kind = 0 if len(data) < 1 << 8 else 1 if len(data) < 1 << 16 else 2
        head = struct.pack("<" + "BHI"[kind], len(data))
        return self._place(head + data, 8 + kind, 1 << kind)

    def integer(self, number: int) -> int:
        if number < 1 << 28:
            return 1 << 28 | number
        return self._place(struct.pack("<Q" if number >> 32 else "<I", number), 3 if number >> 32 else 2, 4)

    def slots(self, values: Sequence[int], kind: int = 13) -> int:
        """An array (13) or an object (14), null for an empty one."""
        if not any(values):
            return 0
        return self._place(struct.pack(f"<{len(values) + 1}I", len(values) + 1, *values), kind, 4)

    def term(self, text: str) -> int:
        """A dependency."""
        match = re.fullmatch(r"(!?)([^<>=~]+)([<>=~]*)(.*)", text)
        assert match is not None
        bits = MATCH[match[3]] | 16 * bool(match[1])
        version = self.blob(match[4].encode())
        return self.slots([self.blob(match[2].encode()), version, self.integer(bits) if bits else 0], 14)

    def package(self, facts: Facts) -> int:
        """A package's entry."""

        def value(name: str) -> int:
            fact = facts.get(name, "")
            if name in ("hashes", "repo-commit"):
                return self.blob(bytes.fromhex(fact))
            if name == "tags":
                return self.slots([self.blob(tag.encode()) for tag in fact])
            if isinstance(fact, list | tuple):
                return self.slots([self.term(term) for term in fact])
            return self.integer(fact) if isinstance(fact, int) else self.blob(fact.encode())

        return self.slots([value(name) for name in FIELDS], 14)

    def finished(self, root: int) -> bytes:
        """The block's content."""
        struct.pack_into("<I", self.data, 4, root)
        return bytes(self.data)


def block(kind: int, data: bytes) -> bytes:
    """A block with its head and what fills it up."""
    whole = struct.pack("<I", kind << 30 | len(data) + 4) + data
    return whole + bytes(-len(whole) % 8)


def index_values(packages: Sequence[Facts], spec: str = "") -> bytes:
    """The values of an index."""
    writer = Writer()
    entries = [writer.package(each) for each in packages]
    return writer.finished(writer.slots([0, writer.slots(entries), writer.blob(spec.encode())], 14))


def signature(schema: bytes, values: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The content of a signature block."""
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    head = b"\0\4" + hashlib.sha512(point).digest()[:16]
    return head + key.sign(schema + head + hashlib.sha512(values).digest(), ec.ECDSA(hashes.SHA512()))


def index(packages: Sequence[Facts], *keys: ec.EllipticCurvePrivateKey, spec: str = "") -> bytes:
    """An index, signed with these keys, not packed."""
    values = index_values(packages, spec)
    signatures = [block(1, signature(b"indx", values, key)) for key in keys]
    return b"ADB.indx" + block(0, values) + b"".join(signatures)


def deflated(data: bytes, magic: bytes = b"ADBd") -> bytes:
    """Packed as apk does by default, or with another head."""
    packer = zlib.compressobj(wbits=-15)
    return magic + packer.compress(data) + packer.flush()


def zstandarded(data: bytes) -> bytes:
    """Packed with zstd."""
    return b"ADBc\2\3" + zstandard.ZstdCompressor().compress(data)


def package(facts: Facts, files: Mapping[str, bytes], *, damage: bytes = b"") -> tuple[bytes, Facts]:
    """A package with these files in one folder, and its entry in an index. damage: put over the begin of each
    file's content after its hash was taken."""
    writer = Writer()
    text = writer.blob
    entries = [
        writer.slots(
            [
                text(name.encode()),
                0,
                writer.integer(len(data)),
                0,
                text(hashlib.sha256(data).digest()),
            ],
            14,
        )
        for name, data in sorted(files.items())
    ]
    folder = writer.slots([text(b"usr"), 0, writer.slots(entries)], 14)
    values = writer.finished(writer.slots([writer.package(facts), writer.slots([folder])], 14))
    content = [
        block(2, struct.pack("<II", 1, number) + damage + data[len(damage) :])
        for number, (_, data) in enumerate(sorted(files.items()), start=1)
        if data
    ]
    whole = deflated(b"ADB.pckg" + block(0, values) + b"".join(content))
    return whole, {**facts, "hashes": hashlib.sha256(values).hexdigest(), "file-size": len(whole)}
