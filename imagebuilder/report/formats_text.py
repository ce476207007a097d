"""The list of firmware formats as Markdown: docs/formats.md is what `build.py formats` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imagebuilder.model.firmware import FormatRow

_HEAD = """\
# Firmware formats

What `inspect`, `verify`, `extract` and `diff` know. This page is printed by `build.py formats`, and a test
compares them: change the table of formats (`imagebuilder/firmware/formats/formats.py`).

**opened**: its header and checksums are checked, and what lies inside is read in turn. **named**: the file is
told by its name, with those of its fields that can be read plainly, and is not opened; no board accepts it.
The fourth column is what a board's file may state as an image's `format`, the fifth the steps of OpenWrt's
image recipes (17.01 to 25.12, all targets) that make such a file.
"""
_TITLES = ("kind", "what it is", "", "`format` in a board's file", "steps of recipes")
_UNKNOWN = """\
## Unknown

What these steps of OpenWrt's recipes make is known by no name.
"""


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
