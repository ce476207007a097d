"""OpenWrt's image signatures: certificates and a signature as nested blobs (libubox), Ed25519 by usign
(ucert)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from imagebuilder.firmware.reader import ImageFormatError, View
from imagebuilder.model.firmware import Field

_SIGNATURE, _PAYLOAD = 0, 1
_SIGNATURE_BYTES = 74  # "Ed", fingerprint, Ed25519
# what stands for a certificate where OpenWrt's builders sign elsewhere, or not at all
PLACEHOLDER = b"# fake certificate"
_BLOB_HEAD = 4
_LENGTH_MASK, _ID_MASK = 0xFFFFFF, 0x7F


def blobs(view: View) -> Iterator[tuple[int, View]]:
    """The blobs of a view: number and contents. ImageFormatError for one that is cut."""
    at = 0
    while at + _BLOB_HEAD <= view.size:
        head = view.u32(at)
        length = head & _LENGTH_MASK
        if length < _BLOB_HEAD:
            raise ImageFormatError("the signature is damaged: a blob without a length")
        yield head >> 24 & _ID_MASK, view.part(at + _BLOB_HEAD, length - _BLOB_HEAD, "the signature")
        at += (length + 3) & ~3


def fingerprint(signature: View) -> str:
    """The fingerprint of the key that signed: of a usign text's second line. ImageFormatError where it has
    none."""
    lines = bytes(signature.raw).rstrip(b"\0").split(b"\n")
    try:
        packed = base64.b64decode(lines[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise ImageFormatError("the signature holds no usign text") from error
    if len(packed) != _SIGNATURE_BYTES or not packed.startswith(b"Ed"):
        raise ImageFormatError("the signature is no Ed25519 signature")
    return packed[2:10].hex()


def signature_fields(view: View) -> dict[str, Field]:
    """The keys of a signature chunk: of its certificates, and of the signature over the image. Official
    images have a placeholder there, which is no signature and no fault. ImageFormatError where it is neither.
    """
    if bytes(view.raw).strip(b"\0\r\n ") == PLACEHOLDER:
        return {"signed by": Field((), "unsigned: it holds OpenWrt's placeholder for a certificate")}
    if view.size < _BLOB_HEAD:
        raise ImageFormatError("the signature holds no blob")
    certified: list[str] = []
    signed: list[str] = []
    for _, outer in blobs(view):
        inner = dict(blobs(outer))
        if _SIGNATURE not in inner:
            raise ImageFormatError("the signature chunk has a blob without a signature")
        (certified if _PAYLOAD in inner else signed).append(fingerprint(inner[_SIGNATURE]))
    return {
        "signed by": Field(tuple(signed), "fingerprint of the key over the image"),
        "certificates signed by": Field(tuple(certified)),
    }
