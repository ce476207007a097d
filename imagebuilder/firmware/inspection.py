"""All that an image tells without a board: its parts, what fills it, kernel, packages, Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from imagebuilder.firmware.formats.formats import Read, read_image
from imagebuilder.firmware.reader import ImageFormatError, View, open_view
from imagebuilder.firmware.rootfs import RootFs
from imagebuilder.firmware.rootfs_facts import needed_files, root_facts
from imagebuilder.model.firmware import Check, Inspection, Part, RootFacts, Stretch

# one piece in the strip, though parts of them lie here and there inside
_WHOLE = ("ubi", "fat", "squashfs", "gzip", "fit", "jffs2")


def view_of(part: Part) -> View:
    """A part's bytes, to look further into them."""
    return View(part.data if part.data is not None else b"", start=part.offset, what=part.name)


def root_part(read: Read) -> Part | None:
    """The part that is the root file system, if it is a squashfs."""
    return read.part.find("squashfs")


def open_root(read: Read) -> RootFs | None:
    """The root file system; None where the image has no squashfs. ImageFormatError where it is damaged."""
    part = root_part(read)
    return None if part is None else RootFs(view_of(part))


def kernel_version(part: Part) -> str:
    """The version that the kernel itself names, or its header; empty where neither does."""
    for one in part.walk():
        version = one.value("version")
        if one.kind in ("kernel", "elf", "bzimage", "arm64-image") and isinstance(version, str):
            return version
    for one in part.walk():
        name = one.value("name")
        if one.kind == "uimage" and isinstance(name, str) and "Linux-" in name:
            return name.rpartition("Linux-")[2].split(" ")[0]
    return ""


def _leaves(part: Part) -> Iterator[Part]:
    if not part.children or part.unpacked_size is not None or part.kind in _WHOLE:
        yield part
        return
    for child in sorted(part.children, key=lambda one: one.offset):
        yield from _leaves(child)


def _shown_name(part: Part, names: dict[int, str]) -> str:
    return names.get(id(part), part.name)


def strip_of(whole: Part) -> tuple[Stretch, ...]:
    """What fills the file, from its first byte to its last, without gaps or overlaps."""
    names: dict[int, str] = {}
    for part in whole.walk():
        for child in part.children:
            plain = child.name in ("contents", "kernel data", "image") or child.name.endswith(" data")
            names[id(child)] = _shown_name(part, names) if plain and part.kind != "file" else child.name
    found: list[Stretch] = []
    at = 0
    for part in _leaves(whole):
        if part.offset > at:
            found.append(Stretch("unused", "unused", at, part.offset - at))
        elif part.offset < at:
            continue  # parts that share bytes: the first one shows them
        if part.size:
            found.append(Stretch(part.kind, _shown_name(part, names), part.offset, part.size))
        at = part.offset + part.size
    if at < whole.size:
        found.append(Stretch("unused", "unused", at, whole.size - at))
    return tuple(found)


def _facts(read: Read) -> tuple[RootFacts | None, tuple[Check, ...]]:
    """The root file system's facts; where it is damaged, none and a failed check."""
    try:
        root = open_root(read)
        if root is None:
            return None, ()
        with root.unpacked(needed_files(root)) as unpacked:
            return root_facts(root, unpacked), ()
    except ImageFormatError as error:
        return None, (Check("root filesystem", "readable", error.message, False),)


def _sha256(view: View) -> str:
    digest = hashlib.sha256()
    for piece in view.pieces():
        digest.update(piece)
    return digest.hexdigest()


def inspect(path: Path) -> Inspection:
    """All that is known of an image file.

    ImageFormatError where it is no image of a known format, UserError where the file cannot be read,
    HostError without squashfs-tools. What is damaged inside of a known format is in `problems`.
    """
    view = open_view(path)
    read = read_image(view)
    facts, trouble = _facts(read)
    return Inspection(
        path.name,
        view.size,
        _sha256(view),
        read.part,
        strip_of(read.part),
        kernel_version(read.part),
        facts,
        (*read.part.problems, *trouble),
    )
