"""What an image's own root file system says of the sysupgrade that it brings: whether that wants metadata,
and what it calls a device by the model of its device tree.

A running OpenWrt compares its board name (/tmp/sysinfo/board_name) with the names in the metadata. Up to
19.07 scripts of the target say it (lib/ramips.sh: `*"GL-MT300N-V2") name="gl-mt300n-v2"`); where none does,
it is the first name in the device tree's `compatible` (base-files, lib/preinit/02_sysinfo).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.firmware.rootfs import RootFs, place_of

_PLATFORM = "/lib/upgrade/platform.sh"
_REQUIRED = re.compile(rb"^REQUIRE_IMAGE_METADATA=1\b", re.MULTILINE)
_SCRIPTS = re.compile(r"/lib/[a-z0-9_-]+\.sh|/lib/preinit/[0-9]+_sysinfo[a-z0-9_-]*")
_MOST_BYTES = 256 << 10
_PATTERNS = re.compile(r"""[*"'A-Za-z0-9].{0,200}""")
_NAME = re.compile(r"""(?:name|board)="([A-Za-z0-9][!#-~]{0,80})\"""")


@dataclass(frozen=True, slots=True)
class SystemRules:
    """What the system in an image does at the next sysupgrade. requires_metadata: None where it has no
    script that would say so. names: patterns of a shell's `case` over the model, to the board's name."""

    requires_metadata: bool | None = None
    names: tuple[tuple[str, str], ...] = ()

    def board_name(self, model: str) -> str:
        """What the device with this model in its device tree is called; empty where no script says it."""
        return next((name for pattern, name in self.names if _glob(pattern, model)), "")


NO_RULES = SystemRules()


def read_rules(root: RootFs, unpacked: Path) -> SystemRules:
    """The rules of a root file system whose files lie in a folder."""
    required: bool | None = None
    names: list[tuple[str, str]] = []
    for file in root.index.files:
        if file.kind != "file" or file.size > _MOST_BYTES:
            continue
        if file.path == _PLATFORM:
            required = _REQUIRED.search(place_of(unpacked, file).read_bytes()) is not None
        elif _SCRIPTS.fullmatch(file.path):
            names += cases_of(place_of(unpacked, file).read_text("utf-8", "replace"))
    return SystemRules(required, tuple(names))


def cases_of(script: str) -> list[tuple[str, str]]:
    """The arms of a shell's `case` that do nothing first but set `name` or `board`: pattern and name."""
    found: list[tuple[str, str]] = []
    patterns: list[str] = []
    whole = False
    for line in (text.strip() for text in script.splitlines()):
        named = _NAME.fullmatch(line.rstrip(";").rstrip())
        if whole and named is not None:
            found += [(pattern, named[1]) for pattern in patterns]
        begun = [] if whole else patterns
        patterns, whole = [], False
        more = line.removesuffix("\\").rstrip()
        if line.endswith(")") and _PATTERNS.fullmatch(line[:-1]):
            patterns, whole = [*begun, *_alternatives(line[:-1])], True
        elif more.endswith("|") and _PATTERNS.fullmatch(more):
            patterns = [*begun, *_alternatives(more[:-1])]
    return found


def _alternatives(text: str) -> list[str]:
    return [one.strip() for one in text.split("|") if one.strip(" *\"'")]


def _glob(pattern: str, text: str) -> bool:
    """Whether a shell's pattern fits; only `*` is special, and only outside of quotes."""
    quoted, pieces = "", [""]
    for sign in pattern:
        if sign in "\"'" and quoted in ("", sign):
            quoted = "" if quoted else sign
        elif sign == "*" and not quoted:
            pieces.append("")
        else:
            pieces[-1] += sign
    if len(pieces) == 1:
        return text == pieces[0]
    first, *middle, last = pieces
    at, end = len(first), len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last)):
        return False
    for piece in middle:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return at <= end
