"""The signature behind an image, put on by the user's key in place of the one that make put there.

OpenWrt's recipes sign at the very end (include/image-commands.mk, append-metadata): over the whole file that
there is then, metadata included, with `usign -S`; the signature goes behind a certificate (`ucert -A`) into a
chunk of fwtool's. A device with ucert takes the chunk off, verifies the rest, and looks for the key in
/etc/opkg/keys (fwtool_check_signature of /lib/upgrade/fwtool.sh).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.firmware.formats.metadata import (
    MAGIC,
    MOST_BYTES,
    SIGNATURE,
    TRAILER_BYTES,
    USIGN_TEXT,
    crc,
)
from imagebuilder.firmware.reader import View, open_view
from imagebuilder.host.fs import disk_errors_explained, sha256_of
from imagebuilder.model.result import ImageFile
from imagebuilder.trust.usign import UsignPair


@dataclass(frozen=True)
class Signed:
    """Images as they are in the end. keys: of those that were signed here, by their files, the number of the
    key."""

    images: tuple[ImageFile, ...]
    keys: Mapping[str, str]


def sign_images(images: Sequence[ImageFile], folder: Path, pair: UsignPair) -> Signed:
    """Put the pair's signature on those of the images in a folder that end with a signature, in place of it.
    HostError for a full disk."""
    with disk_errors_explained(folder):
        keys = {image.file: pair.number for image in images if sign_image(folder / image.file, pair)}
    return Signed(tuple(_as_it_is(image, folder) if image.file in keys else image for image in images), keys)


def sign_image(place: Path, pair: UsignPair) -> bool:
    """Replace the signature that an image ends with by one of the pair's, of the same kind: behind a
    certificate, or usign's text alone; whether it had one. A file that ends otherwise stays as it is."""
    image = open_view(place)
    old = _signature_at_end(image)
    if old is None:
        return False
    body = image.part(0, image.size - old.size - TRAILER_BYTES)
    chunk = _chunk(body, pair, bare=old.has(USIGN_TEXT))
    image.release()
    with place.open("r+b") as stream:
        stream.truncate(body.size)
        stream.seek(body.size)
        stream.write(chunk)
    return True


def _signature_at_end(image: View) -> View | None:
    """What the signature chunk that an image ends with holds; None where it ends with none."""
    if image.size < TRAILER_BYTES:
        return None
    trailer = image.part(image.size - TRAILER_BYTES)
    kind, size = trailer.u8(8), trailer.u32(12)
    most = min(MOST_BYTES[SIGNATURE], image.size)
    if not trailer.has(MAGIC) or kind != SIGNATURE or not TRAILER_BYTES <= size <= most:
        return None
    return image.part(image.size - size, size - TRAILER_BYTES)


def _chunk(body: View, pair: UsignPair, *, bare: bool) -> bytes:
    signature = pair.sign(body.raw)
    content = signature if bare else pair.chain(signature)
    number = zlib.crc32(content, crc(body) ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    head = MAGIC + number.to_bytes(4, "big") + bytes([SIGNATURE]) + bytes(3)
    return content + head + (len(content) + TRAILER_BYTES).to_bytes(4, "big")


def _as_it_is(image: ImageFile, folder: Path) -> ImageFile:
    place = folder / image.file
    return image.model_copy(update={"size": place.stat().st_size, "sha256": sha256_of(place)})
