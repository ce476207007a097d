"""The signature in an apk index: ECDSA over P-256, with the public keys in a tree's `keys/*.pem`.

A signature's block: a version (0), the algorithm of the hash over the block of values, 16 bytes of key
number, then the signature itself. Signed is: the schema, these 18 bytes, and that hash; ECDSA over SHA-512 of
them. A key's number is the begin of the SHA-512 over its point, uncompressed. Source: apk-tools 3, src/adb.c
(adb_trust_verify_signature) and src/crypto_openssl.c.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from imagebuilder.model.adb import INDEX, AdbError, database, index_container
from imagebuilder.trust.keys import KeyFileError, key_bytes
from imagebuilder.trust.signature import (
    NoSignatureError,
    SignatureFormatError,
    UnknownKeyError,
    WrongSignatureError,
)

KEYS = "keys"  # the folder in a tree
_HASHES = {3: "sha256", 4: "sha512"}
_HEAD_BYTES = 18
_KEY_NUMBER_BYTES = 16
# OpenWrt writes a line `untrusted comment: …` before it
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True)
class ApkKey:
    """A public key. number: 32 hex digits that signatures name it by; name: of its file."""

    number: str
    public: ec.EllipticCurvePublicKey
    name: str


def parse_apk_key(data: bytes, origin: str) -> ApkKey:
    """A public key in PEM. KeyFileError for anything else, and for keys on other curves."""
    match = _PEM.search(data)
    if match is None:
        raise KeyFileError(f"{origin} is no public key: it has no line -----BEGIN PUBLIC KEY-----")
    try:
        public = load_pem_public_key(match[0])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{origin} is no public key: {error}") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise KeyFileError(f"{origin} is no key that OpenWrt signs indexes with: it is not on P-256")
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return ApkKey(hashlib.sha512(point).digest()[:_KEY_NUMBER_BYTES].hex(), public, Path(origin).name)


def read_apk_key(path: Path) -> ApkKey:
    """The key in a file. KeyFileError."""
    return parse_apk_key(key_bytes(path), str(path))


def tree_apk_keys(tree: Path) -> tuple[ApkKey, ...]:
    """The public keys that a tree has in its keys/, by the names of their files. KeyFileError for a file that
    ends in .pem and holds none; a private key, which an ImageBuilder may have made itself, is none."""
    paths = sorted((tree / KEYS).glob("*.pem"))
    return tuple(read_apk_key(path) for path in paths if not path.name.endswith("private-key.pem"))


def verify_adb(data: bytes, keys: Iterable[ApkKey], origin: str) -> ApkKey:
    """The key that signed the index `data`. origin: the index's name, for messages.

    NoSignatureError, SignatureFormatError (also where `data` is no index), UnknownKeyError,
    WrongSignatureError.
    """
    try:
        values, signatures = database(index_container(data, origin))
    except AdbError as error:
        raise SignatureFormatError(error.message) from error
    if not signatures:
        raise NoSignatureError(f"{origin} has no signature")
    known: dict[str, list[ApkKey]] = {}
    for key in keys:
        known.setdefault(key.number, []).append(key)
    wrong: list[ApkKey] = []
    for signature in signatures:
        for key in known.get(_key_number(signature, origin), []):
            if _holds(values, signature, key):
                return key
            wrong.append(key)
    if wrong:
        raise WrongSignatureError(
            f"{origin} is not what the key {wrong[0].number} ({wrong[0].name}) signed: it, or its signature,"
            " was changed",
            hint="do not use it; try another mirror, and tell the keepers of this one",
        )
    raise _unknown([_key_number(each, origin) for each in signatures], origin)


def _key_number(signature: bytes, origin: str) -> str:
    """The number of the key that made a signature."""
    if len(signature) <= _HEAD_BYTES or signature[0] != 0:
        raise SignatureFormatError(f"a signature in {origin} is of an unknown version")
    return signature[2:_HEAD_BYTES].hex()


def _holds(values: bytes, signature: bytes, key: ApkKey) -> bool:
    algorithm = _HASHES.get(signature[1])
    if algorithm is None:
        return False
    signed = INDEX + signature[:_HEAD_BYTES] + hashlib.new(algorithm, values).digest()
    try:
        key.public.verify(signature[_HEAD_BYTES:], signed, ec.ECDSA(hashes.SHA512()))
    except InvalidSignature:
        return False
    return True


def _unknown(numbers: Sequence[str], origin: str) -> UnknownKeyError:
    return UnknownKeyError(
        f"{origin} is signed by the key {', '.join(numbers)}, which is not among the keys trusted here",
        signer=numbers[0],
        hint="the keys of a tree's own feeds are in its keys/; a feed of somebody else's needs its key named",
    )
