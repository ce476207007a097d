"""usign's signatures, and what can be wrong with any signature.

A usign signature: a line `untrusted comment: …` and a line of base64: `Ed`, 8 bytes of key number, 64 bytes
of Ed25519 signature over the file's bytes. Used for sha256sums.sig and, with the keys of a tree, for
Packages.sig.
"""

from __future__ import annotations

from imagebuilder.errors import UserError
from imagebuilder.trust.keys import KeyFileError, Keys, UsignKey, usign_lines

USIGN_SIGNATURE_BYTES = 74

ADD_KEY_HINT = (
    'a key that you trust goes into the folder of your own keys; or pin the archive: trust = "sha256:…"'
)


class TrustError(UserError):
    """Something that came from a mirror and is not to be trusted. Nothing of it is kept."""

    def __init__(self, message: str, *, hint: str | None = "try another mirror, or later") -> None:
        super().__init__(message, hint=hint)


class NoSignatureError(TrustError):
    """There is no signature."""


class SignatureFormatError(TrustError):
    """A file that should be a signature and is none."""


class UnknownKeyError(TrustError):
    """Signed by a key that is not trusted here. signer: its number, or the end of its fingerprint."""

    def __init__(self, message: str, *, signer: str, hint: str | None = ADD_KEY_HINT) -> None:
        super().__init__(message, hint=hint)
        self.signer = signer


class WrongSignatureError(TrustError):
    """The signature of a known key that does not belong to this file: one of them was changed."""


class UsignLengthError(TrustError):
    """As WrongSignatureError, where usign's own mistake at some lengths may be the cause."""


class ExpiredKeyError(TrustError):
    """Signed by a known key, but after it had expired."""


def parse_usign_signature(data: bytes, origin: str) -> tuple[str, bytes]:
    """The number of the key (16 hex digits) and the 64 bytes of a signature. SignatureFormatError for any
    other bytes."""
    try:
        _, blob = usign_lines(data, origin)
    except KeyFileError as error:
        raise SignatureFormatError(error.message) from error
    if len(blob) != USIGN_SIGNATURE_BYTES or not blob.startswith(b"Ed"):
        raise SignatureFormatError(
            f"{origin} is no usign signature: it has not {USIGN_SIGNATURE_BYTES} bytes `Ed…`"
        )
    return blob[2:10].hex(), blob[10:]


def verify_usign(data: bytes, signature: bytes, keys: Keys, what: str) -> UsignKey:
    """The key that signed `data`. what: the file's name in messages; `WHAT.sig` is called its signature.

    SignatureFormatError, UnknownKeyError, WrongSignatureError, UsignLengthError.
    """
    # here: a build whose feeds lie in the cache needs none of it
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    number, bare = parse_usign_signature(signature, f"{what}.sig")
    candidates = [key for key in keys.usign if key.number == number]
    if not candidates:
        raise UnknownKeyError(
            f"{what} is signed by the usign key {number}, which is not among the keys trusted here",
            signer=number,
        )
    for key in candidates:
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(bare, data)
        except InvalidSignature:
            continue
        return key
    if usign_hashes_wrong(len(data)):
        raise UsignLengthError(
            f"{what}.sig does not belong to {what}; {len(data)} bytes are a length at which usign itself made"
            " wrong signatures until 2019, so this need not be a forgery",
            hint="another signature of the same file, or its next version, can be checked",
        )
    raise WrongSignatureError(
        f"{what} is not what the key {number} ({key.name}) signed: it, or its signature, was changed",
        hint="do not use it; try another mirror, and tell the keepers of this one",
    )


def usign_hashes_wrong(size: int) -> bool:
    """Whether usign's SHA-512 was wrong for a message of so many bytes: where its last block, with the 64
    bytes that Ed25519 puts before the message, has 110 or 111 bytes. Put right in usign's commit 5a52b37 of
    2019; OpenWrt pads the indexes that it signs, for the routers that check them with an older one."""
    return (64 + size) % 128 in (110, 111)
