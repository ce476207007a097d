"""All that an image tells without a board: its parts, what fills it, kernel, packages, Python; and how two
differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.firmware.formats.formats import Read, read_image
from imagebuilder.firmware.reader import ImageFormatError, View, open_view
from imagebuilder.firmware.rootfs import RootFs, needed_files, place_of, root_facts
from imagebuilder.model.firmware import (
    Change,
    Check,
    Difference,
    Inspection,
    Part,
    RootFacts,
    RootFile,
    SizeChange,
    Stretch,
)

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


# long enough that two contents are not taken for one by chance, short enough to read
_SHOWN_HEX = 16


@dataclass(frozen=True, slots=True)
class _Side:
    """What is compared of one image. packages: names to versions; package_sizes: compressed bytes; files:
    path to kind, mode and contents as text; file_sizes: bytes."""

    sha256: str
    kernel: str
    fields: Mapping[str, str]
    packages: Mapping[str, str] = field(default_factory=dict)
    package_sizes: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    file_sizes: Mapping[str, int] = field(default_factory=dict)


def _told(file: RootFile, unpacked: Path) -> str:
    if file.kind == "link":
        return f"link to {file.target}"
    head = f"{file.kind} {file.mode:04o}"
    if file.kind != "file":
        return head
    with place_of(unpacked, file).open("rb") as stream:
        return f"{head} {hashlib.file_digest(stream, 'sha256').hexdigest()[:_SHOWN_HEX]}"


def _fields(part: Part, path: str = "") -> Iterator[tuple[str, str]]:
    name = f"{path}/{part.name}" if path else ("image" if part.kind == "file" else part.name)
    for key, told in part.fields.items():
        value = ", ".join(told.value) if isinstance(told.value, tuple) else str(told.value)
        yield f"{name}: {key}", f"{value} ({told.meaning})" if told.meaning else value
    yield f"{name}: size", str(part.size)
    for child in part.children:
        if child.kind not in ("padding", "end-marker"):
            yield from _fields(child, name)


def _side(path: Path) -> _Side:
    view = open_view(path)
    read = read_image(view)
    whole = (hashlib.sha256(view.raw).hexdigest(), kernel_version(read.part), dict(_fields(read.part)))
    root = open_root(read)
    if root is None:
        return _Side(*whole)
    with root.unpacked(root.index.files) as unpacked:
        facts = root_facts(root, unpacked)
        return _Side(
            *whole,
            facts.packages,
            {share.name: share.stored for share in facts.shares},
            {file.path: _told(file, unpacked) for file in facts.files},
            {file.path: file.size for file in facts.files if file.kind == "file"},
        )


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """What was added, removed or changed, by name."""
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def size_changes(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[SizeChange, ...]:
    """Sizes that differ, the largest change first."""
    found = [
        SizeChange(name, before.get(name, 0), after.get(name, 0))
        for name in before.keys() | after.keys()
        if before.get(name, 0) != after.get(name, 0)
    ]
    return tuple(sorted(found, key=lambda one: (-abs(one.after - one.before), one.name)))


def diff(before: Path, after: Path) -> Difference:
    """How two image files differ.

    ImageFormatError where one of them cannot be read to its end, UserError and HostError as inspect() has
    them.
    """
    one, two = _side(before), _side(after)
    kernel = Change("kernel", one.kernel or None, two.kernel or None) if one.kernel != two.kernel else None
    return Difference(
        before.name,
        after.name,
        one.sha256 == two.sha256,
        changes(one.packages, two.packages),
        changes(one.files, two.files),
        size_changes(one.package_sizes, two.package_sizes),
        size_changes(one.file_sizes, two.file_sizes),
        kernel,
        changes(one.fields, two.fields),
    )
