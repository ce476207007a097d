"""What was read, checked or compared of firmware images: as text for a terminal of any width, as values that
json.dumps takes, as a page for a browser; and the list of formats as Markdown (docs/formats.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from imagebuilder.model.firmware import (
    Change,
    Check,
    Difference,
    FormatRow,
    Inspection,
    Part,
    Stretch,
    outcome_of,
)
from imagebuilder.model.size import human_size

STRIP_SIGNS = 72
MOST_LINES = 20
# signs of the strip, by kind
_SIGNS = {
    "padding": ".",
    "end-marker": "!",
    "unused": " ",
    "squashfs": "R",
    "ubi": "U",
    "ext4": "E",
    "fat": "B",
}
_WORDS = {"error": "REFUSED", "warning": "warning", "unsure": "unsure"}


def _sign(stretch: Stretch) -> str:
    if stretch.kind == "partition-table" or stretch.kind.endswith("-header"):
        return "H"
    if stretch.kind in ("metadata", "signature"):
        return "M"
    return _SIGNS.get(stretch.kind, "K" if "kernel" in stretch.name else "#")


def strip_text(strip: Iterable[Stretch], count: int = STRIP_SIGNS) -> str:
    """One line of so many signs, each for the same number of bytes: what takes most of them. A stretch that
    would vanish beside larger ones still has a sign of its own where there is room."""
    stretches = list(strip)
    total = sum(stretch.size for stretch in stretches)
    if not total:
        return ""
    signs = [" "] * count
    for stretch in sorted(stretches, key=lambda one: -one.size):
        first = stretch.offset * count // total
        last = max(first, (stretch.offset + stretch.size) * count // total - 1)
        for index in range(first, min(last, count - 1) + 1):
            signs[index] = _sign(stretch)
    return "".join(signs)


def _part_lines(part: Part, depth: int) -> Iterator[str]:
    inside = f", unpacks to {part.unpacked_size} bytes" if part.unpacked_size is not None else ""
    yield f"{part.offset:#010x} {part.size:>10}  {'  ' * depth}{part.name} ({part.kind}{inside})"
    for name, field in part.fields.items():
        value = ", ".join(field.value) if isinstance(field.value, tuple) else str(field.value)
        meaning = f" ({field.meaning})" if field.meaning and field.meaning != value else ""
        if value or meaning:
            yield f"{'':23}{'  ' * depth}{name}: {value}{meaning}"
    for child in part.children:
        yield from _part_lines(child, depth + 1)


def inspection_text(found: Inspection, *, signs: int = STRIP_SIGNS) -> str:
    """All of an inspection but the list of files. signs: of the strip."""
    lines = [f"{found.file}: {human_size(found.size)} ({found.size} bytes)", f"SHA-256 {found.sha256}", ""]
    lines += [f"[{strip_text(found.strip, signs)}]"]
    for stretch in found.strip:
        share = stretch.size * 100 / found.size
        lines.append(
            f"  {_sign(stretch)} {stretch.offset:#010x} {stretch.size:>10} {share:5.1f} %  {stretch.name}"
        )
    lines += ["", *_part_lines(found.part, 0), ""]
    if found.kernel:
        lines.append(f"kernel: {found.kernel}")
    if found.root is not None:
        root = found.root
        lines += [f"{name.lower()}: {value}" for name, value in root.release.items() if value]
        inside = root.python
        lines.append(
            "Python: none" if inside is None else f"Python: {inside.version} {inside.variant}".rstrip()
        )
        lines += ["", f"{len(root.packages)} packages, by what they take of the image:"]
        for package in root.shares:
            title = f"{package.name} {package.version}" if package.name else "files of no package"
            lines.append(f"  {package.stored:>10} bytes  {title}")
        lines.append(f"  {root.tables:>10} bytes  tables of the file system")
    lines += ["", *(_check_line(check) for check in found.problems)]
    return "\n".join(lines).rstrip() + "\n"


def _check_line(check: Check) -> str:
    if check.ok:
        return f"ok       {check.what}: {check.found}"
    word = _WORDS[check.level]
    return f"{word:8} {check.what}: expected {check.expected}, found {check.found}"


def checks_text(checks: Iterable[Check]) -> str:
    """A line for each check, and the verdict."""
    told = list(checks)
    outcome = outcome_of(told)
    failed = [check for check in told if not check.ok]
    refusing = sum(1 for check in failed if check.refuses)
    passed = len(told) - len(failed)
    verdict = f"all {passed} checks passed"
    if outcome == "refused":
        verdict = f"do not flash: {refusing} of {len(told)} checks failed"
    elif outcome == "cannot be told":
        what = ", ".join(check.what for check in failed if check.unsure)
        verdict = f"cannot be told: {what}" + (f"; the other {passed} checks passed" if passed else "")
    elif failed:
        verdict = f"{passed} checks passed, {len(failed)} with a warning"
    return "\n".join([*(_check_line(check) for check in told), verdict]) + "\n"


def _change_lines(title: str, found: tuple[Change, ...], most: int | None) -> Iterator[str]:
    if not found:
        return
    yield f"{title}: {len(found)}"
    for change in found[:most]:
        if change.before is None:
            yield f"  + {change.name} {change.after}"
        elif change.after is None:
            yield f"  - {change.name} {change.before}"
        else:
            yield f"  ~ {change.name}: {change.before} -> {change.after}"
    if most is not None and len(found) > most:
        yield f"  ... and {len(found) - most} more"


def difference_text(found: Difference, *, most: int | None = MOST_LINES) -> str:
    """The differences of two images; most: lines of each kind, None for all."""
    if found.same:
        return f"{found.before} and {found.after} are the same, byte for byte\n"
    lines = [f"from {found.before} to {found.after}"]
    lines += _change_lines("packages", found.packages, most)
    lines += _change_lines("kernel", (found.kernel,) if found.kernel else (), most)
    lines += _change_lines("files", found.files, most)
    sizes = found.package_sizes
    if sizes:
        lines.append(f"bytes in the image by package: {sum(one.after - one.before for one in sizes):+}")
        lines += [
            f"  {one.after - one.before:+10}  {one.name or 'files of no package'}" for one in sizes[:most]
        ]
    lines += _change_lines("fields", found.fields, most)
    return "\n".join(lines) + "\n"


_BYTES = "data"  # of a part: the image itself, which no report repeats


def plain(found: Inspection | Difference | Check | Part) -> dict[str, Any]:
    """All fields by their names; tuples become lists, the bytes of parts are left out."""
    return {str(name): value for name, value in _plain(found).items()}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value) if field.name != _BYTES)
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def difference_html(found: Difference) -> str:
    """One page without scripts, and without anything that it would have to load."""
    from imagebuilder.report.html import page  # noqa: PLC0415 - for pages alone

    return page("difference.html", found=found)


_HEAD = """\
# Firmware formats

What `inspect`, `verify`, `extract` and `diff` know. This page is printed by `build.py formats`, and a test
compares them: change the table of formats (`imagebuilder/firmware/formats/formats.py`).

**opened**: its header and checksums are checked, and what lies inside is read in turn. **named**: the file is
told by its name, with those of its fields that can be read plainly, and is not opened; no board accepts it.
The fourth column is what a board's file may state as an image's `format`, the fifth the steps of OpenWrt's
image recipes (17.01 to 25.12, all targets) that make such a file.
"""
_UNKNOWN = """\
## Unknown

What these steps of OpenWrt's recipes make is known by no name.
"""


def format_cells(rows: Iterable[FormatRow]) -> Iterator[tuple[str, ...]]:
    """The table's cells, for a terminal."""
    for row in rows:
        known = "opened" if row.opened else "named"
        yield row.kind, row.about, known, ", ".join(row.boards), ", ".join(row.steps)


def formats_text(rows: Iterable[FormatRow], unknown: Sequence[str]) -> str:
    """The page. unknown: steps of recipes that make what no row is."""
    lines = [
        _HEAD,
        "| kind | what it is | | `format` in a board's file | steps of recipes |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        known = "opened" if row.opened else "named"
        boards, steps = (", ".join(f"`{one}`" for one in names) for names in (row.boards, row.steps))
        lines.append(f"| `{row.kind}` | {row.about} | {known} | {boards} | {steps} |")
    lines += ["", _UNKNOWN, ", ".join(f"`{step}`" for step in sorted(unknown, key=str.lower))]
    return "\n".join(lines) + "\n"
