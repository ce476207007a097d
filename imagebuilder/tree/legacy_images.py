"""Images that no device definition describes: `Image/Build/Profile/NAME` of image/legacy.mk (ar71xx, 17.01 to
19.07).

There a recipe is shell text that macros put together. The macros are replaced here as make would, and what
the text writes into BIN_DIR is told by what it is made from. What cannot be followed leaves an image's format
unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from imagebuilder.config.board import ImageFormat
from imagebuilder.config.device import ImageFacts
from imagebuilder.tree.image_makefile import ImageMakefiles
from imagebuilder.tree.makefile_text import UNKNOWN, closing_bracket, split_arguments

MAX_TEXT = 100_000  # characters that one macro may become
MAX_WORK = 2_000  # references that are replaced for one device
MAX_DEPTH = 40

_PROFILE = "Image/Build/Profile"
_BIN, _PREFIX = "@BIN", "@NAME"
_GIVEN = {
    **{"BIN_DIR": _BIN, "IMG_PREFIX": _PREFIX, "TAR": "tar"},
    **{"COMMA": ",", "comma": ",", "space": " ", "empty": ""},
}
_OUTPUT = rf'"?{_BIN}/{_PREFIX}-([A-Za-z0-9_.$+-]+)"?'
# two files one behind the other: `( dd if=A bs=… conv=sync; cat B ) > OUTPUT`
_JOINED = re.compile(
    rf'\(\s*dd if="?([^\s";]+)"?[^;()]*;\s*(?:cat|dd if=)\s*"?([^\s";()]+)"?[^;()]*\)\s*>\s*{_OUTPUT}'
)
# an image and a text behind it: `( dd if=IMAGE …; echo -n TEXT; ) > OUTPUT`
_TAILED = re.compile(rf'\(\s*dd if={_OUTPUT}[^;()]*;\s*echo -n "?([^\s";()]+)"?\s*;?\s*\)\s*>\s*{_OUTPUT}')
_COMBINED = re.compile(rf"/combined-image\.sh\s+\S+\s+\S+\s+{_OUTPUT}")
_COPIED = re.compile(rf"\bcp\s+{_OUTPUT}\s+{_OUTPUT}")
_NAND = re.compile(rf"(?<![\w.-])tar\s+cvf\s+{_OUTPUT}\s+sysupgrade-")
# programs and words of recipes that make a vendor's format, of what an image and its parts are
_VENDOR = re.compile(
    r"(?<![\w.-])(addpattern|Airstation|buffalo-tag|combined-ext-image\.sh|edimax_fw_header|mkcameofw|mkmylofw"
    r"|mkplanexfw|mksenaofw|mkzcfw|mkzynfw|tar|wrt400n)(?![\w.-])"
)
_LOOP = re.compile(r"for (\w+) in ([^;]*);")
_NAMED = re.compile(r"(?P<board>[A-Za-z0-9_.+-]+?)-(?:squashfs|ubi)-(?P<type>[A-Za-z0-9_+-]+)(?:\.|$)")
_COMMAND_LINE = re.compile(r'patch-cmdline\s+\S+\s+"([^"]*)"')
_PROGRAMS: Mapping[str, ImageFormat] = {
    "addpattern": "cybertan",
    "buffalo-tag": "buffalo",
    "combined-ext-image.sh": "openmesh",
    "mkmylofw": "myloader",
    "mkzcfw": "zcomax",
}
_OTHER_MAGIC = re.compile(r"mkimage [^\n]*-M 0x[0-9A-Fa-f]+ [^\n]*-d \S+\s+(\S+)")
_DNI = re.compile(rf"/mkdniimg\s[^;]*-o\s+{_OUTPUT}")


@dataclass(frozen=True)
class LegacyDevice:
    """images: by their types; command_line: of the kernel, as patch-cmdline writes it; "" where it does not
    say."""

    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    command_line: str = ""


def legacy_device(makefiles: ImageMakefiles, profile: str) -> LegacyDevice | None:
    """What the legacy recipes say of a profile; None where there is none for it."""
    if f"{_PROFILE}/{profile}" not in makefiles.definitions:
        return None
    text = _Macros(makefiles).called(f"{_PROFILE}/{profile}", ["squashfs"])
    kernel = _Macros(makefiles).called(f"{_PROFILE}/{profile}", ["buildkernel"])
    found = _COMMAND_LINE.search(kernel)
    said = " ".join(found[1].split()) if found and UNKNOWN not in found[1] else ""
    return LegacyDevice(dict(_images(text, frozenset(_OTHER_MAGIC.findall(kernel)))), said)


class _Macros:
    """Replaces the references of a text as make does when it runs a recipe."""

    def __init__(self, makefiles: ImageMakefiles) -> None:
        self._makefiles = makefiles
        self._work = 0

    def called(self, name: str, arguments: Sequence[str], depth: int = 0) -> str:
        """`$(call name,arguments…)`; UNKNOWN where there is nothing of that name."""
        self._work += 1
        text = self._text(name)
        if text is None or depth > MAX_DEPTH or self._work > MAX_WORK:
            return UNKNOWN
        return self._replaced(text, arguments, depth)

    def _text(self, name: str) -> str | None:
        if name in _GIVEN:
            return _GIVEN[name]
        if name in self._makefiles.definitions:
            return "\n".join(self._makefiles.definitions[name])
        return self._makefiles.text_of(name)

    def _replaced(self, text: str, arguments: Sequence[str], depth: int) -> str:
        result: list[str] = []
        length = at = 0
        while at < len(text):
            dollar = text.find("$", at)
            piece = text[at:] if dollar < 0 else text[at:dollar]
            at = len(text) if dollar < 0 else dollar
            if dollar >= 0:
                following = text[at + 1 : at + 2]
                end = closing_bracket(text, at + 1) if following in ("(", "{") and following else None
                if end is not None:
                    piece += self._reference(text[at + 2 : end], arguments, depth + 1)
                    at = end + 1
                else:  # `$$` is the shell's own dollar
                    piece += "$" if following == "$" else UNKNOWN
                    at += 2
            result.append(piece)
            length += len(piece)
            if length > MAX_TEXT:
                return UNKNOWN
        return "".join(result)

    def _reference(self, inner: str, arguments: Sequence[str], depth: int) -> str:
        if inner.isdecimal() and inner.isascii():
            number = int(inner[:4])
            return arguments[number - 1] if 0 < number <= len(arguments) else ""
        function, _, rest = inner.partition(" ")
        if not rest:
            return self.called(self._replaced(inner, arguments, depth).strip(), (), depth)
        parts = split_arguments(rest)
        if function == "if":
            return self._chosen(parts, arguments, depth)
        if function == "call":
            name, *given = (self._replaced(part, arguments, depth).strip("\t\n") for part in parts)
            return self.called(name.strip(), given, depth)
        if function in ("strip", "patsubst"):
            return _function(function, [self._replaced(part, arguments, depth) for part in parts])
        return "" if function in ("eval", "info", "warning") else UNKNOWN  # the shell, and what else make has

    def _chosen(self, parts: Sequence[str], arguments: Sequence[str], depth: int) -> str:
        """`$(if condition,then,else)`."""
        condition = self._replaced(parts[0], arguments, depth).strip()
        if UNKNOWN in condition or len(parts) not in (2, 3):
            return UNKNOWN
        return self._replaced(parts[1] if condition else (*parts, "")[2], arguments, depth)


def _function(name: str, given: list[str]) -> str:
    if name == "strip":
        return " ".join(given[0].split())
    if len(given) != 3 or UNKNOWN in "".join(given[:2]):
        return UNKNOWN
    before, percent, behind = (part.strip() for part in given[0].partition("%"))
    changed = []
    for word in given[2].split():
        middle = word[len(before) : len(word) - len(behind)]
        fits = word.startswith(before) and word.endswith(behind) and len(word) >= len(before + behind)
        if fits and (percent or word == before):
            changed.append(given[1].strip().replace("%", middle, 1))
        else:
            changed.append(word)
    return " ".join(changed)


def _images(text: str, other_magic: frozenset[str]) -> Iterator[tuple[str, ImageFacts]]:
    """What a recipe's shell text leaves in BIN_DIR, by type. other_magic: uImages with a vendor's magic."""
    formats: dict[str, tuple[ImageFormat, str]] = {}
    for line in text.splitlines():
        for first, second, output in _JOINED.findall(line):
            formats.setdefault(output, (_joined(first, second, other_magic), ""))
        for inner, tail, output in _TAILED.findall(line):
            formats.setdefault(output, (formats.get(inner, ("unknown", ""))[0], tail))
        for output in _COMBINED.findall(line):
            formats.setdefault(output, ("combined", ""))
        for output in _NAND.findall(line):
            formats.setdefault(output, ("sysupgrade-tar", ""))
        for output in _DNI.findall(line):
            formats.update(dict.fromkeys(_looped(output, line), ("netgear-dni", "")))
        for inner, output in _COPIED.findall(line):
            formats.setdefault(output, formats.get(inner, ("unknown", "")))
        program = _VENDOR.search(line)
        last: ImageFormat = _PROGRAMS.get(program[1], "vendor") if program else "unknown"
        for output in re.findall(_OUTPUT, line):
            for each in _looped(output, line):
                formats.setdefault(each, (last, ""))
    for output, (image_format, tail) in formats.items():
        match = _NAMED.match(output)
        if match is not None and "$" not in output:
            kind = match["type"]
            if match["board"].endswith("-fat"):  # a second image for a larger layout of the flash
                kind = f"fat-{kind}"
            file = f"{output[: match.end('type')]}".replace("-squashfs-", "-{fs}-")
            yield kind, ImageFacts(format=image_format, file=file, tail=tail)


def _looped(output: str, line: str) -> Iterator[str]:
    """`factory$dashr.img`, written in a loop over regions, by its names; any other name as it is."""
    loop = _LOOP.search(line)
    if "$dashr" not in output or loop is None:
        yield output
        return
    for word in loop[2].split():
        region = word.strip('"')
        yield output.replace("$dashr", f"-{region}" if region else "")


def _joined(first: str, second: str, other_magic: frozenset[str]) -> ImageFormat:
    kinds = (_kind(first, other_magic), _kind(second, other_magic))
    known: Mapping[tuple[str, str], ImageFormat] = {
        ("uimage", "rootfs"): "uimage-squashfs",
        ("vendor-uimage", "rootfs"): "vendor-uimage-squashfs",
        ("lzma", "rootfs"): "kernel-squashfs",
        ("rootfs", "uimage"): "squashfs-kernel",
    }
    return known.get(kinds, "unknown")


def _kind(file: str, other_magic: frozenset[str]) -> str:
    """What a file of the build is, by its name: KDIR and KDIR_TMP hold `root.squashfs…` and `vmlinux-…`."""
    name = file.rpartition("/")[2]
    if name.startswith("root."):
        return "rootfs"
    if file in other_magic:
        return "vendor-uimage"
    endings = {".uImage": "uimage", ".bin.lzma": "lzma"}
    kinds = (kind for ending, kind in endings.items() if name.endswith(ending))
    return next(kinds, "unknown") if name.startswith("vmlinux") else "unknown"
