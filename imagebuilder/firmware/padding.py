"""What lies between and behind the parts: padding, and the end marker of JFFS2.

The first four bytes of an erase block equal to the marker tell OpenWrt's JFFS2 that the flash is free from
there on; `mtd -j` puts the kept settings there (padjffs2, mktplinkfw).
"""

from __future__ import annotations

from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.reader import View
from imagebuilder.firmware.reading import Reading
from imagebuilder.model.firmware import Check, Part

MARKER = bytes.fromhex("deadc0de")
_CHUNK = 1 << 16
FILLS = {0x00: "zeros", 0xFF: "0xff"}


def run_length(view: View) -> int:
    """How many bytes at its beginning are the same fill byte, 0x00 or 0xff; 0 where it begins otherwise."""
    if view.size == 0 or view.u8(0) not in FILLS:
        return 0
    fill = view.take(0, 1)
    all_the_same = fill * _CHUNK
    at = 0
    while at < view.size:
        known = view.zeros_at(at) if fill == b"\0" else 0
        chunk = b"" if known else bytes(view.part(at).first(_CHUNK).raw)
        if chunk != all_the_same[: len(chunk)]:
            return at + len(chunk) - len(chunk.lstrip(fill))
        at += known or len(chunk)
    return at


def padding(view: View) -> tuple[Part, ...]:
    """All of a view as padding and end markers. Other bytes are a part of kind `data` with a failed check."""
    parts: list[Part] = []
    at = 0
    while at < view.size:
        rest = view.part(at)
        if rest.has(MARKER):
            parts.append(Part("end-marker", "end marker", rest.start, len(MARKER), data=rest.first(4).raw))
            at += len(MARKER)
            continue
        length = run_length(rest)
        if length == 0:
            parts.append(_foreign(rest))
            break
        name = f"padding ({FILLS[rest.u8(0)]})"
        parts.append(Part("padding", name, rest.start, length, data=rest.first(length).raw))
        at += length
    return tuple(parts)


def _foreign(view: View) -> Part:
    check = holds(
        "padding", False, expected="only padding and end markers", found=f"other bytes at {view.start:#x}"
    )
    return Part("data", "unknown bytes", view.start, view.size, checks=(check,), data=view.raw)


def behind(view: View, reading: Reading, name: str) -> tuple[Part, ...]:
    """What lies behind a kernel: padding, perhaps a root file system, padding and end markers."""
    gap = run_length(view)
    before = padding(view.first(gap))
    if gap == view.size or view.has(MARKER, gap):
        return (*before, *padding(view.part(gap)))
    found = reading.inside(view.part(gap), name)
    if found.kind == "data":
        return (*before, *padding(view.part(gap)))
    return (*before, found, *padding(view.part(gap + found.size)))


def filled(view: View, reading: Reading, name: str) -> tuple[Part, ...]:
    """An area that one part begins, known or not, and padding fills."""
    part = reading.inside(view, name)
    return (part, *padding(view.part(part.size)))


def marker_checks(parts: tuple[Part, ...], start: int, erase_block: int) -> tuple[Check, ...]:
    """Whether an end marker lies at an erase block's beginning, counted from start. erase_block: bytes."""
    markers = [part.offset for part in parts if part.kind == "end-marker"]
    found = ", ".join(f"{at:#x}" for at in markers) or "none"
    at_block = any((at - start) % erase_block == 0 for at in markers)
    expected = f"one at a multiple of {erase_block >> 10} KiB behind the root file system"
    return (holds("end marker of the root file system", at_block, expected=expected, found=found),)
