"""OpenWrt's chunks behind an image: metadata (JSON) and signature, each with a trailer `FWx0` (OpenWrt's
fwtool).

The CRC of a trailer covers every byte of the file before it, without inversion at the end. A signature is
certificates and a signature as nested blobs (libubox), Ed25519 by usign (ucert); GL.iNet's makefiles (4.x,
append-gl-metadata) put usign's text there, without a certificate.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imagebuilder.firmware.checks import holds, same_number
from imagebuilder.firmware.reader import ImageFormatError, View, printable
from imagebuilder.model.firmware import Check, Field, FieldValue, Part

_SIGNATURE, _PAYLOAD = 0, 1
_SIGNATURE_BYTES = 74  # "Ed", fingerprint, Ed25519
# what stands for a certificate where OpenWrt's builders sign elsewhere, or not at all
PLACEHOLDER = b"# fake certificate"
USIGN_TEXT = b"untrusted comment: "  # how a signature begins that is in no blob
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
    if view.has(USIGN_TEXT):
        return {"signed by": Field((fingerprint(view),), "fingerprint of the key over the image")}
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


MAGIC = b"FWx0"
TRAILER_BYTES = 16
SIGNATURE, METADATA = 0, 1
_NAMES = {SIGNATURE: "signature", METADATA: "metadata"}
MOST_BYTES = {METADATA: 30 << 10, SIGNATURE: 1 << 10}
_JSON_AT = 8  # version and flags, zero
_SEARCHED = 64 << 10


@dataclass(frozen=True, slots=True)
class Peeled:
    """An image without its chunks. chunks: the parts, in the file's order."""

    body: View
    chunks: tuple[Part, ...]
    metadata: Metadata | None
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the JSON says. devices: the names that the image accepts. version: of the release."""

    devices: tuple[str, ...]
    compat_version: str
    compat_message: str
    version: Mapping[str, str]


def crc(view: View) -> int:
    """The CRC of a trailer behind these bytes."""
    found = 0
    for chunk in view.chunks():
        found = zlib.crc32(chunk, found)
    return found ^ 0xFFFFFFFF


def _strings(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ImageFormatError(f"the metadata's {what} is no list of names")
    return tuple(printable(one.encode()) for one in value)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ImageFormatError(f"the metadata's {what} is no text")
    return printable(value.encode())


def read_metadata(text: bytes) -> Metadata:
    """The JSON of a metadata chunk. ImageFormatError where it is none, or a known key has a wrong type.

    Where compat_version is not 1.0, supported_devices is a sentence for people on old systems and
    new_supported_devices is the list.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImageFormatError("the metadata is no JSON") from error
    if not isinstance(found, dict):
        raise ImageFormatError("the metadata is no JSON object")
    compat = _text(found.get("compat_version", "1.0"), "compat_version")
    key = "supported_devices" if compat == "1.0" else "new_supported_devices"
    version = found.get("version", {})
    facts = version.items() if isinstance(version, dict) else ()
    return Metadata(
        _strings(found.get(key, []), key),
        compat,
        _text(found.get("compat_message", ""), "compat_message"),
        # what is neither is a fork's own; a device asks for none of them
        {
            printable(str(name).encode()): printable(str(value).encode())
            for name, value in facts
            if isinstance(value, str | int)
        },
    )


def _fields(found: Metadata) -> dict[str, Field]:
    values: dict[str, FieldValue] = {
        "supported devices": found.devices,
        "compat version": found.compat_version,
        **{f"version {name}": value for name, value in found.version.items()},
    }
    if found.compat_message:
        values["compat message"] = found.compat_message
    return {name: Field(value) for name, value in values.items()}


def _chunk(view: View, trailer: View, size: int) -> tuple[Part, Metadata | None]:
    kind = trailer.u8(8)
    start = view.size - size
    body = view.part(start, size - TRAILER_BYTES, "the metadata")
    checks = [
        same_number(
            "checksum of the image in its metadata (CRC)",
            trailer.u32(4),
            crc(view.part(0, view.size - TRAILER_BYTES)),
        ),
        holds(
            "size of the metadata",
            size <= MOST_BYTES[kind],
            expected=f"at most {MOST_BYTES[kind]}",
            found=str(size),
        ),
    ]
    name = _NAMES[kind]
    fields: dict[str, Field] = {}
    metadata = None
    try:
        if kind == SIGNATURE:
            fields = signature_fields(body)
        else:
            head = body.take(0, _JSON_AT)
            checks.append(holds("header of the metadata", not any(head), expected="zeros", found=head.hex()))
            metadata = read_metadata(bytes(body.raw[_JSON_AT:]))
            fields = _fields(metadata)
    except ImageFormatError as error:
        # the chunk's size is known, so that it hides nothing before it
        checks.append(Check(f"{name} can be read", f"a whole {name}", error.message, False))
    return Part(name, name, view.start + start, size, fields, (), tuple(checks), data=body.raw), metadata


def peel(view: View) -> Peeled:
    """Take the chunks off the end of a file. Raises nothing: a chunk whose contents cannot be read has a
    failed check, and before a trailer that cannot be one nothing more is taken off."""
    chunks: list[Part] = []
    metadata: Metadata | None = None
    kinds: list[int] = []
    body = view
    trouble: tuple[Check, ...] = ()
    while body.has(MAGIC, body.size - TRAILER_BYTES):
        trailer = body.part(body.size - TRAILER_BYTES, what="the trailer")
        kind, size = trailer.u8(8), trailer.u32(12)
        unfit = kind not in MOST_BYTES or any(trailer.take(9, 3)) or kind in kinds
        if unfit or not TRAILER_BYTES <= size <= body.size:
            found = f"type {kind}, {size} bytes, {sum(trailer.take(9, 3))} in its unused bytes"
            expected = "a signature or metadata, one of each, that lies in the file"
            trouble = (Check("trailer of the metadata", expected, found, False),)
            break
        part, stated = _chunk(body, trailer, size)
        chunks.insert(0, part)
        metadata = metadata or stated
        kinds.append(kind)
        body = body.part(0, body.size - size)
    return Peeled(body, tuple(chunks), metadata, trouble or _stray(view, bool(chunks)))


def peel_own(view: View) -> Peeled:
    """Take off the chunks that were made for just these contents, which their CRCs tell; those that end with
    the chunks of something smaller, as MediaTek's cards do with those of the last image in them, have none.

    Raises nothing.
    """
    none = Peeled(view, (), None, ())
    if not view.has(MAGIC, view.size - TRAILER_BYTES):
        return none
    peeled = peel(view)
    checks = (*peeled.checks, *(check for part in peeled.chunks for check in part.checks))
    return peeled if all(check.ok for check in checks) else none


def metadata_of(part: Part) -> Metadata | None:
    """What the first metadata chunk in a part says; None where it has none."""
    chunk = part.find("metadata")
    return None if chunk is None or chunk.data is None else read_metadata(bytes(chunk.data[_JSON_AT:]))


def _stray(view: View, at_end: bool) -> tuple[Check, ...]:
    """A trailer near the end, but not at it: bytes were lost or added."""
    if at_end:
        return ()
    tail = view.part(max(0, view.size - _SEARCHED))
    at = bytes(tail.raw).rfind(MAGIC)
    left = tail.size - at
    if at < 0 or (left >= TRAILER_BYTES and not _is_trailer(tail.part(at))):
        return ()
    found = f"a trailer at {tail.start + at:#x}, and {left} bytes from there"
    return (Check("end of the metadata", "the end of the file", found, False),)


def _is_trailer(view: View) -> bool:
    return view.u8(8) in MOST_BYTES and not any(view.take(9, 3))
