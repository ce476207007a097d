"""How two images differ: packages, files, sizes by package and file, kernel, header fields."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.firmware.formats.formats import read_image
from imagebuilder.firmware.inspection import kernel_version, open_root
from imagebuilder.firmware.reader import open_view
from imagebuilder.firmware.rootfs import place_of
from imagebuilder.firmware.rootfs_facts import root_facts
from imagebuilder.model.firmware import Change, Difference, Part, RootFacts, RootFile, SizeChange

# long enough that two contents are not taken for one by chance, short enough to read
_SHOWN_HEX = 16


@dataclass(frozen=True, slots=True)
class _Side:
    """What is compared of one image. files: path to kind, mode and contents as text."""

    sha256: str
    kernel: str
    facts: RootFacts | None
    files: Mapping[str, str]
    fields: Mapping[str, str]


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
    for key, field in part.fields.items():
        value = ", ".join(field.value) if isinstance(field.value, tuple) else str(field.value)
        yield f"{name}: {key}", f"{value} ({field.meaning})" if field.meaning else value
    yield f"{name}: size", str(part.size)
    for child in part.children:
        if child.kind not in ("padding", "end-marker"):
            yield from _fields(child, name)


def _side(path: Path) -> _Side:
    view = open_view(path)
    read = read_image(view)
    root = open_root(read)
    facts, files = None, {}
    if root is not None:
        with root.unpacked(root.index.files) as unpacked:
            facts = root_facts(root, unpacked)
            files = {file.path: _told(file, unpacked) for file in root.index.files}
    sha256 = hashlib.sha256(view.raw).hexdigest()
    return _Side(sha256, kernel_version(read.part), facts, files, dict(_fields(read.part)))


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


def _packages(facts: RootFacts | None) -> Mapping[str, str]:
    return {} if facts is None else facts.packages


def _package_sizes(facts: RootFacts | None) -> Mapping[str, int]:
    return {} if facts is None else {share.name: share.stored for share in facts.shares}


def _file_sizes(facts: RootFacts | None) -> Mapping[str, int]:
    return {} if facts is None else {file.path: file.size for file in facts.files if file.kind == "file"}


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
        changes(_packages(one.facts), _packages(two.facts)),
        changes(one.files, two.files),
        size_changes(_package_sizes(one.facts), _package_sizes(two.facts)),
        size_changes(_file_sizes(one.facts), _file_sizes(two.facts)),
        kernel,
        changes(one.fields, two.fields),
    )
