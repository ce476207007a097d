"""What lies between and behind the parts: padding, and the end marker of JFFS2.

The first four bytes of an erase block equal to the marker tell OpenWrt's JFFS2 that the flash is free from
there on; `mtd -j` puts the kept settings there (padjffs2, mktplinkfw).
"""

from __future__ import annotations

from dataclasses import replace

from imagebuilder.firmware.checks import holds
from imagebuilder.firmware.reader import Reading, View
from imagebuilder.model.firmware import Check, Part

MARKER = bytes.fromhex("deadc0de")
# the same as a node of JFFS2, of either order (padjffs2 -J)
ROOTS = ("squashfs", "ubi", "ubifs", "ext4")
MARKERS = (MARKER, bytes.fromhex("1985200404000000c494dbf4"), bytes.fromhex("8519042000000004a8fba0b4"))
_CHUNK = 1 << 16
_MOST_KERNELS = 3
_MOST_FILLS = 4
HEADED = ("uimage", "vendor-uimage")
# what may begin the file or the area of a kernel: with a header, compressed, in a file system, bare, or the
# device tree before it
KERNELS = (*HEADED, "elf", "zimage", "gzip", "lzma", "xz", "zstd", "jffs2", "device-tree")
ROOT_FIRST = "squashfs-image"  # a root file system with the kernel behind it
COMPOSED = {kind: f"{kind}-image" for kind in KERNELS}  # kinds of a kernel together with what follows it
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
        marker = next((one for one in MARKERS if rest.has(one)), None)
        if marker is not None:
            size = len(marker)
            parts.append(rest.first(size).to_part("end-marker", "end marker"))
            at += size
            continue
        length = run_length(rest)
        if length == 0:
            parts.append(_foreign(rest))
            break
        name = f"padding ({FILLS[rest.u8(0)]})"
        parts.append(rest.first(length).to_part("padding", name))
        at += length
    return tuple(parts)


def _foreign(view: View) -> Part:
    check = holds(
        "padding", False, expected="only padding and end markers", found=f"other bytes at {view.start:#x}"
    )
    return view.to_part("data", "unknown bytes", checks=(check,))


def _gap(view: View) -> int:
    """How many bytes at its beginning are fill: 0xff that a file system was padded with, then zeros that its
    flash area was."""
    at = 0
    for _ in range(_MOST_FILLS):
        at += run_length(view.part(at))
    return at


def behind(view: View, reading: Reading, name: str, *, kernels: int = _MOST_KERNELS) -> tuple[Part, ...]:
    """What lies behind a kernel: padding, perhaps the kernel that it loads, perhaps a root file system,
    padding and end markers. kernels: how many more there may be."""
    gap = _gap(view)
    before = padding(view.first(gap))
    marker = next((one for one in MARKERS if view.has(one, gap)), None)
    if marker is not None:
        return _behind_marker(view, gap + len(marker), reading, name)
    if gap == view.size:
        return before
    found = reading.inside(view.part(gap), name)
    if found.kind == "data":
        return (*before, *padding(view.part(gap)))
    if found.kind in COMPOSED.values():
        return (*before, *found.children)
    if found.kind in KERNELS and kernels:
        after = behind(view.part(gap + found.size), reading, name, kernels=kernels - 1)
        return (*before, found.renamed("kernel"), *after)
    return (*before, found, *padding(view.part(gap + found.size)))


def _behind_marker(view: View, at: int, reading: Reading, name: str) -> tuple[Part, ...]:
    """Behind an end marker there is nothing, or the root file system of an image whose kernel lies in a JFFS2
    that was padded with one (UniFi, RouterStation: `$(call mkfs/jffs2)` of 17.01 and its padjffs2)."""
    at += _gap(view.part(at))
    if at < view.size and not any(view.has(one, at) for one in MARKERS):
        found = reading.inside(view.part(at), name)
        if found.kind in ROOTS:
            return (*padding(view.first(at)), found, *padding(view.part(at + found.size)))
    return padding(view)


def filled(view: View, reading: Reading, name: str) -> tuple[Part, ...]:
    """An area that one part begins, known or not, and padding fills. Behind a kernel there may be its root
    file system."""
    part = reading.inside(view, name)
    rest = view.part(part.size)
    if part.kind in COMPOSED.values():
        return (*part.children, *padding(rest))
    if part.kind in KERNELS:
        return (part, *behind(rest, reading, "rootfs"))
    return (part, *padding(rest))


def kernel_area(view: View, reading: Reading) -> tuple[Part, ...]:
    """What a header calls its kernel: code, or a small loader and the kernel that it unpacks, which OpenWrt's
    recipes put at a fixed place behind it (lzma-loader, loader-okli). What else fills the area the header's
    checksum covers."""
    first = reading.inside(view, "kernel")
    rest = view.part(first.size)
    gap = _gap(rest)
    if first.kind not in KERNELS or gap == rest.size:
        return (first,)
    second = reading.inside(rest.part(gap), "kernel")
    if second.kind not in KERNELS:
        return (first,)
    return (first.renamed("loader"), *padding(rest.first(gap)), second)


def followed(kernel: Part, view: View, reading: Reading) -> Part:
    """A kernel and what an image has behind it: padding, another kernel that it loads, a root file system
    (squashfs or UBI), end markers. The kernel alone where nothing that is known follows."""
    tail = behind(view.part(kernel.size, what="what follows the kernel"), reading, "rootfs")
    known = [part for part in tail if part.kind not in ("padding", "end-marker", "data")]
    if not known and (kernel.kind not in HEADED or all(part.kind == "padding" for part in tail)):
        return kernel
    kind, about = COMPOSED[kernel.kind], "kernel with what it starts"
    children = (replace(kernel, name="kernel"), *tail)
    return view.to_part(kind, about, {}, children)


def marker_checks(parts: tuple[Part, ...], start: int, erase_block: int) -> tuple[Check, ...]:
    """Whether an end marker lies at an erase block's beginning, counted from start. erase_block: bytes."""
    markers = [part.offset for part in parts if part.kind == "end-marker"]
    found = ", ".join(f"{at:#x}" for at in markers) or "none"
    at_block = any((at - start) % erase_block == 0 for at in markers)
    expected = f"one at a multiple of {erase_block >> 10} KiB behind the root file system"
    return (holds("end marker of the root file system", at_block, expected=expected, found=found),)


def root_first(root: Part, view: View, reading: Reading) -> Part:
    """A root file system and the kernel that some recipes put behind it (Image/Build of ar71xx, RKuImage):
    each fills its own partition. The root file system alone where no kernel follows."""
    *fill, last = padding(view.part(root.size)) or (root,)
    if last.kind != "data":
        return root
    area = view.part(last.offset - view.start)
    kernel = reading.inside(area, "kernel")
    if kernel.kind not in HEADED:
        return root
    children = (root.renamed("rootfs"), *fill, kernel, *padding(area.part(kernel.size)))
    name = "root filesystem with the kernel behind it"
    return view.to_part(ROOT_FIRST, name, {}, children)
