"""Public keys: those that are shipped with the project, a user's, and those of a verified tree.

usign's public key: a line `untrusted comment: …` and a line of base64: `Ed`, 8 bytes of key number, 32 bytes
of Ed25519 key (signify's format; OpenWrt's usign/main.c). GPG's: RFC 4880, with or without ASCII armour.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.files import PlainFileError, read_plain
from imagebuilder.model.release import covers

USIGN_PUBLIC_BYTES = 42
MAX_KEY_FILE_BYTES = 1 << 20

_SHIPPED = Path(__file__).with_name("data") / "keys"
_COMMENT = b"untrusted comment: "
_ARMOUR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL
)
_PUBLIC_KEY_PACKET = 6


class KeyFileError(UserError):
    """A file that should hold a public key and does not."""


@dataclass(frozen=True)
class UsignKey:
    """An Ed25519 key. number: 16 hex digits that signatures name it by; name: what people call it.
    releases: expressions, as in board files, for which it is trusted; none: for all."""

    number: str
    public: bytes
    name: str
    releases: tuple[str, ...] = ()


@dataclass(frozen=True)
class GpgKey:
    """One or more OpenPGP keys. packets: as they are in a binary keyring; fingerprints: of the primary keys
    and, where known, of the subkeys that sign, in upper-case hex. releases: as for UsignKey."""

    packets: bytes
    fingerprints: tuple[str, ...]
    name: str
    releases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keys:
    """Keys that signatures are checked with."""

    usign: tuple[UsignKey, ...] = ()
    gpg: tuple[GpgKey, ...] = ()

    def __add__(self, other: Keys) -> Keys:
        return Keys(self.usign + other.usign, self.gpg + other.gpg)

    def for_release(self, release: str) -> Keys:
        """Those that are trusted for a release: a key for one series, leaked or grown old, signs no
        other."""
        return Keys(
            tuple(key for key in self.usign if _trusted(key.releases, release)),
            tuple(key for key in self.gpg if _trusted(key.releases, release)),
        )

    def name_of(self, signer: str) -> str | None:
        """What people call the key with this number or (the end of) this fingerprint; None for an unknown."""
        for key in self.usign:
            if key.number == signer.lower():
                return key.name
        for gpg in self.gpg:
            if signer and any(fingerprint.endswith(signer.upper()) for fingerprint in gpg.fingerprints):
                return gpg.name
        return None


@cache
def shipped_keys() -> Keys:
    """OpenWrt's public keys as data/keys/keys.json lists them, each for the releases that it is for."""
    usign, gpg = [], []
    for entry in json.loads((_SHIPPED / "keys.json").read_text("utf-8"))["keys"]:
        data = (_SHIPPED / entry["file"]).read_bytes()
        releases = tuple(entry["releases"])
        if entry["kind"] == "usign":
            key = parse_usign_key(data, entry["file"])
            usign.append(UsignKey(key.number, key.public, entry["name"], releases))
        else:
            packets = parse_gpg_key(data, entry["file"]).packets
            gpg.append(GpgKey(packets, tuple(entry["signing"]), entry["name"], releases))
    return Keys(tuple(usign), tuple(gpg))


def keys_in(folder: Path) -> Keys:
    """The keys in a user's folder, of both kinds, trusted for every release. KeyFileError names the first
    file that is no public key; hidden files are passed over."""
    if not folder.is_dir():
        raise KeyFileError(f"there is no folder {folder} with keys")
    found = Keys()
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            found += read_key_file(path)
    return found


def tree_keys(folder: Path) -> Keys:
    """The usign keys of a verified tree, for its feeds' indexes: `keys/NUMBER`. A tree without is no error
    (17.01 has none), nor are files of other kinds there (from 25.12 on: PEM, for apk)."""
    paths = sorted((folder / "keys").glob("*"))
    numbered = [path for path in paths if re.fullmatch(r"[0-9a-f]{16}", path.name) and path.is_file()]
    return Keys(tuple(key for path in numbered for key in read_key_file(path).usign))


def feed_keys(folder: Path, release: str) -> Keys:
    """What the indexes of a verified tree's own feeds are verified by: the tree's keys, and OpenWrt's for its
    release, which a tree of 17.01 has in no place of its own."""
    return tree_keys(folder) + shipped_keys().for_release(release)


def key_bytes(path: Path) -> bytes:
    """What is in a file that should be a key. KeyFileError where it cannot be read or is too large."""
    try:
        return read_plain(path, MAX_KEY_FILE_BYTES)
    except PlainFileError as error:
        raise KeyFileError(f"the key {error.message}") from error


def read_key_file(path: Path) -> Keys:
    """The key or keys in one file. KeyFileError if it holds none."""
    data = key_bytes(path)
    if data.startswith(_COMMENT):
        return Keys(usign=(parse_usign_key(data, str(path)),))
    return Keys(gpg=(parse_gpg_key(data, str(path)),))


def parse_usign_key(data: bytes, origin: str) -> UsignKey:
    """A usign public key. KeyFileError for any other bytes."""
    comment, blob = usign_lines(data, origin)
    if len(blob) != USIGN_PUBLIC_BYTES or not blob.startswith(b"Ed"):
        raise KeyFileError(f"{origin} is no usign public key: {USIGN_PUBLIC_BYTES} bytes `Ed…` are expected")
    return UsignKey(blob[2:10].hex(), blob[10:], comment or Path(origin).name)


def usign_lines(data: bytes, origin: str) -> tuple[str, bytes]:
    """The comment and the decoded bytes of a usign file, key or signature. KeyFileError for any other
    bytes."""
    lines = data.rstrip(b"\r\n").split(b"\n")
    if len(lines) != 2 or not lines[0].startswith(_COMMENT):
        raise KeyFileError(f"{origin} is no usign file: it should be a comment and a line of base64")
    try:
        blob = base64.b64decode(lines[1].rstrip(b"\r"), validate=True)
    except binascii.Error as error:
        raise KeyFileError(f"{origin} is no usign file: its second line is not base64") from error
    comment = lines[0][len(_COMMENT) :].decode("utf-8", "replace").strip()
    return "".join(each if each.isprintable() else "?" for each in comment)[:200], blob


def parse_gpg_key(data: bytes, origin: str) -> GpgKey:
    """OpenPGP public keys, armoured or binary. KeyFileError for any other bytes."""
    blocks = _ARMOUR.findall(data)
    packets = b"".join(_decoded(block, origin) for block in blocks) if blocks else data
    try:
        fingerprints = tuple(
            _fingerprint(body) for tag, body in _packets(packets) if tag == _PUBLIC_KEY_PACKET
        )
    except ValueError as error:
        raise KeyFileError(f"{origin} is no OpenPGP public key: {error}") from error
    if not fingerprints:
        raise KeyFileError(
            f"{origin} holds no public key", hint="a key is a usign file, or an OpenPGP key (.asc or .gpg)"
        )
    return GpgKey(packets, fingerprints, Path(origin).name)


def _trusted(releases: tuple[str, ...], release: str) -> bool:
    return not releases or any(covers(each, release) for each in releases)


def _decoded(block: bytes, origin: str) -> bytes:
    """The packets of an armoured block: headers, a blank line, base64, and a line `=` with a checksum, which
    nothing rests on."""
    _, _, body = block.replace(b"\r\n", b"\n").rpartition(b"\n\n")
    lines = [line.strip() for line in body.split(b"\n")]
    text = b"".join(line for line in lines if not line.startswith(b"="))
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise KeyFileError(f"{origin} is no OpenPGP public key: its text is not base64") from error


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each packet (RFC 4880, 4.2). ValueError where they do not fill the bytes exactly, or
    where the first is no public key."""
    at = 0
    while at < len(data):
        tag, length, at = _header(data, at)
        if at == 0 or length > len(data) - at:
            raise ValueError("a packet is cut short")
        yield tag, data[at : at + length]
        at += length


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """A packet's type, the length of its body, and where the body begins."""
    first, rest = data[at], data[at + 1 : at + 6]
    if not first & 0x80 or not rest:
        raise ValueError("there is no packet where one should be")
    if first & 0x40:
        tag, size, skip = first & 0x3F, *_new_length(rest)
    else:
        tag, width = first >> 2 & 0x0F, 1 << (first & 3)
        if width == 8:
            raise ValueError("a packet has no length")
        size, skip = int.from_bytes(rest[:width], "big"), width
    if at == 0 and tag != _PUBLIC_KEY_PACKET:
        raise ValueError("it does not begin with a public key")
    return tag, size, at + 1 + skip


def _new_length(rest: bytes) -> tuple[int, int]:
    if rest[0] < 192:
        return rest[0], 1
    if rest[0] < 224 and len(rest) > 1:
        return (rest[0] - 192 << 8) + rest[1] + 192, 2
    if rest[0] == 255:
        return int.from_bytes(rest[1:5], "big"), 5
    raise ValueError("a packet comes in parts")


def _fingerprint(body: bytes) -> str:
    """Of a key of version 4 (RFC 4880, 12.2). ValueError for others: GnuPG 2.2's gpgv knows no newer ones."""
    if not body or body[0] != 4:
        raise ValueError("only keys of version 4 are known")
    framed = b"\x99" + len(body).to_bytes(2, "big") + body if len(body) < 1 << 16 else b""
    if not framed:
        raise ValueError("a key is too large")
    return hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper()
