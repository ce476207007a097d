"""usign's secret keys, and what is signed with them here: files, and the certificates behind images.

A secret key: a line `untrusted comment: …` and a line of base64: `Ed`, `BK`, the rounds of a key derivation
(four bytes; 0, since usign protects no key by a passphrase), 16 bytes of salt, the first 8 bytes of the
SHA-512 over the secret key, 8 bytes of key number, and 64 bytes of secret key: Ed25519's seed and the public
key. Source: signify's format, OpenWrt's usign/main.c.

A certificate (OpenWrt's ucert): blobs of libubox, each with four bytes of number and length and filled up to
four bytes. A link of the chain is a blob (0) with a signature (0) and, but for the last, a payload (1) that
is signed: a table `ucert` with the kind, from when and until when it holds (seconds since 1970), and the
public key that signs the next link. The last signs the image. Source: OpenWrt's ucert/ucert.c and
libubox/blobmsg.h; both are byte for byte what usign and ucert of 21.02 and 23.05 make of the same key.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagebuilder.trust.keys import KeyFileError, key_bytes, usign_lines

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED_BYTES, NUMBER_BYTES = 32, 8
COMMENT = "Local build key"  # as OpenWrt's make names the key that it makes

_SECRET_BYTES = 104
_SALT_BYTES = 16
_CHECKSUM_BYTES = 8
_KIND = b"EdBK"
# a certificate of ucert's own ends after a year; a device may have no clock, and flash its backup years later
_VALID_FROM, _VALID_UNTIL = 0, 253402300799  # the end of the year 9999
_SIGNATURE, _PAYLOAD = 0, 1
_AUTHORITY = 1  # the kind of certificate that `ucert -I` issues
_TABLE, _STRING, _INT64, _INT32 = 2, 3, 4, 5  # of blobmsg
_EXTENDED = 0x80


@dataclass(frozen=True)
class UsignPair:
    """An Ed25519 key pair as usign has it. seed: its 32 secret bytes; bare_number: the 8 bytes that it is
    named by."""

    seed: bytes
    bare_number: bytes

    def __repr__(self) -> str:
        return f"UsignPair({self.number})"  # never the seed

    @property
    def number(self) -> str:
        """16 hex digits."""
        return self.bare_number.hex()

    def public(self) -> bytes:
        """The 32 bytes of the public key."""
        return self._private().public_key().public_bytes_raw()

    def public_file(self) -> bytes:
        """What `usign -G` writes into the file of the public key."""
        return _text(COMMENT, b"Ed" + self.bare_number + self.public())

    def secret_file(self) -> bytes:
        """What `usign -G` writes into the file of the secret key, but for the salt, which has no use."""
        secret = self.seed + self.public()
        head = _KIND + bytes(4) + bytes(_SALT_BYTES) + _checksum(secret) + self.bare_number
        return _text(COMMENT, head + secret)

    def sign(self, data: bytes | memoryview) -> bytes:
        """A usign signature: what `usign -S` writes for a file of these bytes."""
        signature = self._private().sign(data)
        return _text(f"signed by key {self.number}", b"Ed" + self.bare_number + signature)

    def certificate(self) -> bytes:
        """The pair's certificate of itself, without an end: what `ucert -I` writes, which ends after a
        year."""
        payload = _field(
            _TABLE,
            "ucert",
            _field(_INT32, "certtype", _AUTHORITY.to_bytes(4, "big"))
            + _field(_INT64, "validfrom", _VALID_FROM.to_bytes(8, "big"))
            + _field(_INT64, "expiresat", _VALID_UNTIL.to_bytes(8, "big"))
            + _field(_STRING, "pubkey", self.public_file() + b"\0"),
        )
        return _blob(0, _blob(_SIGNATURE, self.sign(payload)) + _blob(_PAYLOAD, payload))

    def chain(self, signature: bytes) -> bytes:
        """The certificate and a signature made with this pair: what `ucert -A` makes of both."""
        return self.certificate() + _blob(0, _blob(_SIGNATURE, signature))

    def _private(self) -> Ed25519PrivateKey:
        # here: loading it takes a while, and many builds sign nothing
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        return Ed25519PrivateKey.from_private_bytes(self.seed)


def pair_of(seed: bytes) -> UsignPair:
    """The pair of 32 secret bytes; its number follows from the public key, so that the same bytes always make
    the same pair."""
    public = UsignPair(seed, bytes(NUMBER_BYTES)).public()
    return UsignPair(seed, hashlib.sha512(public).digest()[:NUMBER_BYTES])


def read_secret_key(place: Path) -> UsignPair:
    """The pair in a file of a secret key. KeyFileError for a file that cannot be read or is none."""
    return parse_secret_key(key_bytes(place), str(place))


def parse_secret_key(data: bytes, origin: str) -> UsignPair:
    """The pair of a usign secret key. KeyFileError, which says nothing of the bytes, for any other bytes, for
    one under a passphrase, and where its halves do not belong together."""
    _, blob = usign_lines(data, origin)
    if len(blob) != _SECRET_BYTES or not blob.startswith(_KIND):
        raise KeyFileError(f"{origin} is no usign secret key: {_SECRET_BYTES} bytes `EdBK…` are expected")
    if any(blob[4:8]):
        raise KeyFileError(
            f"{origin} is protected by a passphrase, which usign does not know",
            hint="make one without: usign -G -s key-build -p key-build.pub",
        )
    at = 8 + _SALT_BYTES
    checksum, number = blob[at : at + _CHECKSUM_BYTES], blob[at + _CHECKSUM_BYTES :][:NUMBER_BYTES]
    secret = blob[at + _CHECKSUM_BYTES + NUMBER_BYTES :]
    pair = UsignPair(secret[:SEED_BYTES], number)
    if checksum != _checksum(secret) or pair.public() != secret[SEED_BYTES:]:
        raise KeyFileError(f"{origin} is damaged: its checksum or its public half is another key's")
    return pair


def _checksum(secret: bytes) -> bytes:
    return hashlib.sha512(secret).digest()[:_CHECKSUM_BYTES]


def _text(comment: str, blob: bytes) -> bytes:
    return f"untrusted comment: {comment}\n".encode() + base64.b64encode(blob) + b"\n"


def _blob(number: int, content: bytes, *, extended: bool = False) -> bytes:
    head = (_EXTENDED if extended else 0) | number
    data = (head << 24 | len(content) + 4).to_bytes(4, "big") + content
    return data + bytes(-len(data) % 4)


def _field(kind: int, name: str, content: bytes) -> bytes:
    """A value with a name (blobmsg): two bytes of the name's length, the name, a zero, filled up to four."""
    head = len(name).to_bytes(2, "big") + name.encode() + b"\0"
    return _blob(kind, head + bytes(-len(head) % 4) + content, extended=True)
