"""What is compressed: gzip around an image, and kernels in LZMA, xz and zstd. Unpacked with a bound."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import zstandard

from imagebuilder.firmware.checks import equal
from imagebuilder.firmware.disk.disk import stated_end
from imagebuilder.firmware.formats.kernel import KERNEL_KINDS, loose_kernel
from imagebuilder.firmware.formats.metadata import Peeled, peel_own
from imagebuilder.firmware.formats.named import detect_ext4
from imagebuilder.firmware.formats.padding import padding
from imagebuilder.firmware.reader import (
    MOST_UNPACKED,
    Format,
    ImageFormatError,
    Reading,
    Spool,
    View,
    begins_with,
)
from imagebuilder.firmware.squashfs.squashfs import is_squashfs
from imagebuilder.model.firmware import Field, Part

XZ_MAGIC = bytes.fromhex("fd377a585a00")
ZSTD_MAGIC = bytes.fromhex("28b52ffd")
LZMA_HEADER_BYTES = 13
_UNKNOWN_SIZE = (1 << 64) - 1
_LARGEST_KERNEL = 1 << 28
_DECODER_BYTES = 64 << 20  # enough for a dictionary of 8 MiB many times over, and for no bomb
_STEP = 1 << 20
_GZIP_STEP = 1 << 16  # of zeros, zlib makes a thousand times as many
_LARGEST_PARTITION = 1 << 40  # what a config may state, ImageOptions.rootfs_partsize
_MOST_RATIO = 64  # of what is no zeros to the compressed file; file systems are compressed already
Unpacked = tuple[memoryview, int]  # contents, and how many bytes they took


class _TooMuchError(ImageFormatError):
    def __init__(self, what: str, most: int, kind: str = "") -> None:
        message = f"{what} unpacks to more than {most} bytes {kind}".rstrip()
        super().__init__(message, hint="it is no firmware to trust")


def _stated_size(beginning: View) -> int:
    """How large contents that begin so may be by what they say, zeros behind them included; 0 where they say
    nothing. A file system that is an image of its own is padded to rootfs_partsize."""
    if is_squashfs(beginning, 0) or detect_ext4(beginning):
        return _LARGEST_PARTITION
    return stated_end(beginning)


def _gunzip(view: View, most: int, *, outermost: bool) -> tuple[Spool, int]:
    """One gzip member; zlib checks its CRC and length. outermost: whether it may be as large as it says."""
    decoder = zlib.decompressobj(31)
    spool, at = Spool(), 0
    try:
        while not decoder.eof and at < view.size:
            chunk = view.part(at).first(_GZIP_STEP).raw
            at += len(chunk)
            while True:
                piece = decoder.decompress(chunk, _STEP >> 2)
                if outermost and spool.size == 0:
                    most = max(most, _stated_size(View(piece)))
                spool.add(piece)
                if spool.size > most:
                    raise _TooMuchError(view.what, most)
                if spool.stored > max(MOST_UNPACKED, _MOST_RATIO * view.size):
                    raise _TooMuchError(view.what, spool.stored - len(piece), "that are no zeros")
                chunk = memoryview(decoder.unconsumed_tail)
                if not chunk or decoder.eof:
                    break
    except zlib.error as error:
        raise ImageFormatError(f"{view.what}: the gzip data is damaged ({error})") from error
    if not decoder.eof:
        raise ImageFormatError(f"{view.what}: the compressed image is incomplete")
    return spool, at - len(decoder.unused_data)


def _unlzma(view: View, most: int, *, form: int) -> Unpacked:
    decoder = lzma.LZMADecompressor(form, memlimit=_DECODER_BYTES)
    data, at = bytearray(), 0
    try:
        while not decoder.eof:
            if decoder.needs_input:
                chunk = bytes(view.part(at).first(_STEP).raw)
                if not chunk:
                    break
                at += len(chunk)
            else:
                chunk = b""
            data += decoder.decompress(chunk, _STEP)
            if len(data) > most:
                raise _TooMuchError(view.what, most)
    except (lzma.LZMAError, EOFError) as error:
        raise ImageFormatError(f"{view.what}: the compressed data is damaged ({error})") from error
    if not decoder.eof:
        raise ImageFormatError(f"{view.what}: the compressed data is incomplete")
    return memoryview(data), at - len(decoder.unused_data)


def _unzstd(view: View, most: int) -> Unpacked:
    decoder = zstandard.ZstdDecompressor(max_window_size=_DECODER_BYTES).decompressobj()
    data, at = bytearray(), 0
    try:
        while not decoder.eof and at < view.size:
            chunk = bytes(view.part(at).first(_STEP >> 4).raw)
            at += len(chunk)
            data += decoder.decompress(chunk)
            if len(data) > most:
                raise _TooMuchError(view.what, most)
    except zstandard.ZstdError as error:
        raise ImageFormatError(f"{view.what}: the compressed data is damaged ({error})") from error
    if not decoder.eof:
        raise ImageFormatError(f"{view.what}: the compressed data is incomplete")
    return memoryview(data), at - len(decoder.unused_data)


def _kernel(view: View, reading: Reading, kind: str, unpack: Callable[[View, int], Unpacked]) -> Part:
    most = min(_LARGEST_KERNEL, reading.unpack_left)
    found = reading.kernels.find(kind, view, most)
    data, used = unpack(view, most) if found is None else found
    if found is None:
        reading.kernels.keep(kind, view.first(used), data)
    inner = reading.unpacked(data, f"what {kind} unpacks")
    return _unpacked_part(view.first(used), reading, kind, Peeled(inner, (), None, ()))


def _unpacked_part(whole: View, reading: Reading, kind: str, peeled: Peeled) -> Part:
    """whole: the compressed bytes. peeled: what they unpack to."""
    body = peeled.body
    content = reading.inside(body, "contents")
    if content.kind == "data" and body.size <= _LARGEST_KERNEL:
        content = loose_kernel(body, reading)
    rest: tuple[Part, ...] = ()
    if content.size < body.size:
        tail = body.part(content.size)
        rest = (tail.to_part("data", "behind the kernel"),) if content.kind in KERNEL_KINDS else padding(tail)
    size = body.size + sum(chunk.size for chunk in peeled.chunks)
    fields = {"unpacked": Field(size, "bytes")}
    children = (content, *rest, *peeled.chunks)
    return whole.to_part(kind, kind, fields, children, unpacked_size=size)


def parse_gzip(view: View, reading: Reading) -> Part:
    """The first member; what follows is the caller's.

    A disk may unpack to what its partition table states, which is what the config asked make for
    (rootfs_partsize), a file system to the largest partition that a config may ask for, anything else to what
    may still be unpacked. Of what is no zeros there may be 1 GiB, or so many times the file's own bytes.
    """
    most = reading.unpack_left
    spool, used = _gunzip(view, most, outermost=reading.outermost)
    reading.count_unpacked(spool.size if spool.size <= most else 0)
    inner = spool.view("what gzip unpacks")
    return _unpacked_part(view.first(used), reading, "gzip", peel_own(inner))


def parse_xz(view: View, reading: Reading) -> Part:
    """One stream."""
    return _kernel(view, reading, "xz", partial(_unlzma, form=lzma.FORMAT_XZ))


def parse_zstd(view: View, reading: Reading) -> Part:
    """One frame."""
    return _kernel(view, reading, "zstd", _unzstd)


def detect_lzma(view: View) -> bool:
    """The properties, a dictionary of a power of two from 64 KiB to 32 MiB, and a size that a kernel can
    have. There is no magic."""
    if view.size < LZMA_HEADER_BYTES or view.u8(0) not in (0x5D, 0x6D, 0x6E):
        return False
    dictionary, size = view.le32(1), view.le64(5)
    power = dictionary.bit_count() == 1 and 1 << 16 <= dictionary <= 1 << 25
    return power and (size == _UNKNOWN_SIZE or 0 < size <= _LARGEST_KERNEL)


def parse_lzma(view: View, reading: Reading) -> Part:
    """A stream of LZMA with its 13-byte header; what pads it is the caller's."""
    part = _kernel(view, reading, "lzma", partial(_unlzma, form=lzma.FORMAT_ALONE))
    stated = view.le64(5)
    checks = (
        () if stated == _UNKNOWN_SIZE else (equal("unpacked size of the kernel", stated, part.unpacked_size),)
    )
    fields = {**part.fields, "dictionary": Field(view.le32(1), "bytes")}
    return replace(part, fields=fields, checks=checks)


GZIP = Format("gzip", "gzip", begins_with(b"\x1f\x8b\x08"), parse_gzip)
XZ = Format("xz", "xz", begins_with(XZ_MAGIC), parse_xz)
ZSTD = Format("zstd", "zstd", begins_with(ZSTD_MAGIC), parse_zstd)
LZMA = Format("lzma", "LZMA", detect_lzma, parse_lzma)
