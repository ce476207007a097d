"""Package facts as text: the `Name: value` paragraphs of control files and opkg indexes, as opkg reads them.

Source: opkg-lede, libopkg/pkg_parse.c, parse_util.c and pkg_depends.c (parseDepends, parse_providelist,
parse_replacelist), the same from 17.01 to 24.10, and what genuine ones of 17.01.7, 18.06.9, 19.07.0, 21.02.3
and 24.10.4 print. Where opkg reads what lies behind a text, or ends with a segmentation fault, the package
cannot be used, or a blank that says nothing is passed over. Pure; files and streams are the callers'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice, pairwise
from typing import Literal

from imagebuilder.errors import UserError
from imagebuilder.model.package import Dependency, Package

# in the order in which opkg compares; the single signs of old packages mean "or equal"
OPERATORS = {"<<": "<<", "<=": "<=", ">=": ">=", ">>": ">>", "=": "=", "<": "<=", ">": ">="}
BLANKS = " \t\n\v\f\r"  # of isspace()
# what opkg takes for the names in Provides and Replaces; it takes the parts of `(= 4)` for names too, which
# nothing can want
_LISTED = re.compile(r"([^, ]+)(?: +\(([^(),]*)\)(?=[, ]|$))?")
_BLANK_LINE = re.compile(r"\n[ \t\v\f\r]+(?:\n|\Z)")
_NOTHING_SAID = re.compile(r"^Description.?[ \t\v\f\r]*$", re.MULTILINE)
_FIELD_START = re.compile(r"^([!-9;-~]{1,200}):", re.MULTILINE)
_FIELD_NAME = re.compile(r"[!-9;-~]+")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9A-Fa-f]+|0[0-7]*|[1-9][0-9]*)")
_MOST_DIGITS = 18
_VERSION = re.compile(r"(?:([0-9]{1,9}):)?([^\x00-\x20\x7f:-][^\x00-\x20\x7f]*(?<!-))")
# the second of a text would write behind the first one's end
_ONCE = frozenset(
    ("Package", "Version", "Architecture", "Filename", "SHA256sum", "ABIVersion", "Maintainer", "Priority")
) | {"Section", "Tags"}
_LISTS = frozenset(("Depends", "Pre-Depends", "Provides", "Conflicts", "Replaces"))
_READ = _LISTS | {"Package", "Version", "Architecture", "Filename", "SHA256sum"}
_READ |= {"Size", "Installed-Size", "Essential"}
_BEGINNINGS = tuple(sorted(_READ))
KNOWN = _READ | {"Section", "Description", "ABIVersion"}


# characters that a field may have: of 813 genuine indexes of 15.05 to 25.12 the longest name has 51, the
# longest version 63, the longest Depends 8104 with 416 names, of which none has 100, the longest text (a
# Description) 2245, and a paragraph at most 21 fields
MAX_NAME = 255  # of a package; its file's name holds it
MAX_WORD = 1024
MAX_TEXT = 1 << 16
MAX_LIST = 1 << 18
MAX_FIELDS = 1000
MAX_PARAGRAPH = 1 << 20
_MOST = {
    "Package": MAX_NAME,
    "Filename": 4096,
    **dict.fromkeys(("Version", "Architecture", "ABIVersion"), MAX_WORD),
    **dict.fromkeys(("SHA256sum", "Size", "Installed-Size"), MAX_WORD),
    **dict.fromkeys(("Depends", "Pre-Depends", "Provides", "Conflicts", "Replaces"), MAX_LIST),
}


class ControlError(UserError):
    """A paragraph that cannot be read. line counts from 1 within the text that was given."""

    def __init__(self, problem: str, *, line: int = 0) -> None:
        super().__init__(problem, hint="the file is damaged, or it is no opkg package list")
        self.line = line


@lru_cache(maxsize=65536)
def _dependency(text: str) -> Dependency:
    """A name up to a blank, and what the bracket right behind that blank holds; the rest is passed over."""
    if len(text) > MAX_WORD:
        raise ControlError(
            f"a term of a list has {len(text)} characters, more than {MAX_WORD}: {text[:60]!r}"
        )
    name, _, rest = text.lstrip(" ").partition(" ")
    operator = version = None
    if rest.startswith("("):
        bracket, _, rest = rest[1:].lstrip(")").partition(")")
        sign = next((sign for sign in OPERATORS if bracket.startswith(sign)), None)
        if sign is not None:
            operator, version = OPERATORS[sign], bracket.removeprefix(sign).strip(BLANKS)
    if rest.lstrip(" ").startswith("*"):
        raise ControlError(f"it wants all that provide {name!r} (`*`), which is not known here")
    return Dependency(name, operator, version)


@lru_cache(maxsize=65536)
def _alternatives(group: str) -> tuple[Dependency, ...]:
    """`a (>= 1) | b` with blanks around it; nothing for blanks alone."""
    return tuple(_dependency(term) for term in group.split("|") if term.strip(" "))


def parse_depends(text: str) -> tuple[tuple[Dependency, ...], ...]:
    """`a, b (>= 1) | c` as a tuple of alternatives. Raises ControlError."""
    return tuple(filter(None, map(_alternatives, text.split(","))))


def parse_names(text: str) -> tuple[Dependency, ...]:
    """`a, b (= 1)` as a tuple; alternatives count as any others. Raises ControlError."""
    return tuple(term for group in parse_depends(text) for term in group)


def parse_provides(text: str) -> tuple[str, ...]:
    """`a, b (= 1)` and `a b` as names, without versions."""
    return tuple([name for name, _ in _LISTED.findall(text)])


def parse_replaces(text: str) -> tuple[Dependency, ...]:
    """`a, b (<= 1)` and `a b` as a tuple. opkg does not look at the versions."""
    return tuple(
        [_dependency(f"{name} ({bracket})" if bracket else name) for name, bracket in _LISTED.findall(text)]
    )


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs of a text, each with the number of its first line, from 1. A line of blanks ends one
    too, if no description goes on in it, and so does a line with a zero byte, which ends there."""
    if _NOTHING_SAID.search(text) is not None and _is_odd(text):
        yield from _by_lines(text.split("\n"), 1)
        return
    line = 1
    for part in text.split("\n\n"):
        begin = part.lstrip("\n")
        number = line + len(part) - len(begin)
        if not _is_odd(begin):
            if begin:
                yield number, begin
        else:
            yield from _by_lines(begin.split("\n"), number)
        line += part.count("\n") + 2


def _is_odd(text: str) -> bool:
    """Whether there are lines of blanks in it, or zero bytes."""
    return text[:1] in BLANKS or _BLANK_LINE.search(text) is not None or "\0" in text


def _by_lines(lines: list[str], number: int) -> Iterator[tuple[int, str]]:
    """The paragraphs of lines, told apart as in pkg_parse_line(), where a description without a text is
    waited for until one comes, be it paragraphs later. number: of the first line."""
    kept: list[str] = []
    described = said = listed = False
    for at, whole in enumerate(lines, start=number):
        line, cut, _ = whole.partition("\0")
        goes_on = line.startswith(" ") and (described or listed)
        ends = not goes_on and not line.strip(BLANKS)
        if line.startswith("Description"):
            described, said, listed = True, bool(line[len("Description:") :].strip(BLANKS)), False
        elif line.startswith("Conffiles"):
            described, listed = False, True
        elif goes_on:
            said = said or described
        else:
            described, listed = described and not said, False
        if not ends:
            kept.append(line)
        if ends or cut:
            if kept:
                yield at - len(kept) + (not ends), "\n".join(kept)
            kept = []
    if kept:
        yield number + len(lines) - len(kept), "\n".join(kept)


def parse_fields(paragraph: str, *, first_line: int = 1) -> dict[str, str]:
    """One paragraph as names to values, in their order; lines of a value that goes on keep their own text,
    joined by line feeds. What is no field is passed over. first_line: the number of its first line, for
    errors.

    Raises ControlError for what opkg may read otherwise than it is meant: a line that begins as a field that
    it reads, and goes on otherwise than with a colon, and a field that is there twice and can be there once.
    """
    if len(paragraph) > MAX_PARAGRAPH:
        raise ControlError(
            f"its paragraph has {len(paragraph)} characters, more than {MAX_PARAGRAPH}, most of them in "
            f"{_longest(paragraph)}",
            line=first_line,
        )
    fields: dict[str, str] = {}
    name = ""
    for number, line in enumerate(paragraph.split("\n"), start=first_line):
        if line.startswith(" "):
            if name:
                fields[name] += "\n" + line
                _check_length(name, fields[name], number)
            continue
        name, colon, value = line.partition(":")
        kind = _kind(name) if colon else "odd" if line.startswith(_BEGINNINGS) else "none"
        if kind == "odd":
            raise ControlError(f"opkg takes {line[:60]!r} for another field than it is", line=number)
        if name in fields and name in _ONCE:
            raise ControlError(f"{name} is there twice", line=number)
        if kind in ("other", "read"):
            fields[name] = value.strip(BLANKS) if kind == "other" else _value(name, value, fields.get(name))
            _check_length(name, fields[name], number)
            if len(fields) > MAX_FIELDS:
                raise ControlError(f"it has more than {MAX_FIELDS} fields", line=number)
        name = name if kind == "other" else ""
    return fields


def _longest(paragraph: str) -> str:
    """The name of the field that most of a paragraph belongs to."""
    found = islice(_FIELD_START.finditer(paragraph), MAX_FIELDS)
    starts = [*((each.start(), each[1]) for each in found), (len(paragraph), "")]
    fields = ((end - start, name) for (start, name), (end, _) in pairwise(starts))
    return max(fields, default=(0, "no field"))[1][:60]


def _check_length(name: str, value: str, number: int) -> None:
    most = _MOST.get(name, MAX_TEXT)
    if len(value) > most or len(name) > MAX_WORD:
        raise ControlError(f"{name[:60]} has {len(value)} characters, more than {most}", line=number)


@lru_cache(maxsize=4096)
def _kind(name: str) -> Literal["read", "other", "odd", "none"]:
    """Whether opkg reads the field, or passes over it, or takes it for one that it reads; or it is none."""
    if name in _READ:
        return "read"
    if name.startswith(_BEGINNINGS):
        return "odd"
    return "other" if _FIELD_NAME.fullmatch(name) else "none"


def _value(name: str, value: str, before: str | None) -> str:
    """A value as opkg keeps it, beside the one that the same field had before."""
    if name == "Essential" and before == "yes":
        return before
    if name in _LISTS:
        return value.strip(" ") if before is None or name == "Replaces" else f"{before},{value}"
    return value.lstrip(BLANKS) if name == "Architecture" else value.strip(BLANKS)


def _bytes_field(fields: Mapping[str, str], name: str) -> int:
    """A number as strtoul() reads it, whatever follows; 0, which means unknown, where there is none."""
    found = _NUMBER.match(fields.get(name, "0"))
    if found is None:
        return 0
    sign, digits = found.groups()
    if sign == "-" or len(digits) > _MOST_DIGITS:
        raise ControlError(f"{name} is {fields[name][:40]!r}, not a number of bytes")
    octal = digits.startswith("0") and digits[1:2] not in ("x", "X")
    return int(digits, 8 if octal else 0)


def _version(text: str) -> str:
    """A version as opkg writes it: without an epoch of 0."""
    found = _VERSION.fullmatch(text)
    if found is None or (":" in text and found[1] is None):
        raise ControlError(f"{text[:60]!r} is no version")
    epoch, rest = found.groups()
    return f"{int(epoch)}:{rest}" if epoch and int(epoch) else rest


def package_of(fields: Mapping[str, str], feed: str = "") -> Package:
    """A package of a feed from the fields of its paragraph; fields without a place of their own go to
    `extra`. Raises ControlError."""
    name, version = fields.get("Package", ""), fields.get("Version", "")
    if not name:
        raise ControlError("it has no name (Package)")
    if not version:
        raise ControlError("it has no version (Version)")
    if not name.isprintable() or " " in name:
        raise ControlError(f"{name[:60]!r} is no name")
    get = fields.get
    depends = parse_depends(fields["Depends"]) if "Depends" in fields else ()
    if "Pre-Depends" in fields:
        depends = parse_depends(fields["Pre-Depends"]) + depends
    sha256 = get("SHA256sum", "")
    return Package(
        name,
        _version(version),
        get("Architecture", ""),
        depends,
        parse_provides(fields["Provides"]) if "Provides" in fields else (),
        parse_names(fields["Conflicts"]) if "Conflicts" in fields else (),
        parse_replaces(fields["Replaces"]) if "Replaces" in fields else (),
        get("Filename", ""),
        _bytes_field(fields, "Size"),
        _bytes_field(fields, "Installed-Size"),
        sha256 if _SHA256.fullmatch(sha256) else "",
        get("Section", ""),
        get("Description", ""),
        get("ABIVersion", ""),
        get("Essential") == "yes",
        {key: value for key, value in fields.items() if key not in KNOWN},
        feed=feed,
    )


def _joined(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in names)


def fields_of(package: Package, *, indexed: bool) -> dict[str, str]:
    """The fields of a package's paragraph, in OpenWrt's order; empty ones are left out.
    indexed: with Filename, Size and SHA256sum, which an index has and a control file has not."""
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Depends": _joined(" | ".join(str(one) for one in group) for group in package.depends),
        "Conflicts": _joined(package.conflicts),
        "Provides": _joined(package.provides),
        "Replaces": _joined(package.replaces),
        **{name: package.extra[name] for name in sorted(package.extra)},
        "Section": package.section,
        "Essential": "yes" if package.essential else "",
        "ABIVersion": package.abi_version,
        "Architecture": package.architecture,
        "Installed-Size": str(package.installed_size),
    }
    if indexed:
        fields |= {"Filename": package.filename, "Size": str(package.size), "SHA256sum": package.sha256}
    fields["Description"] = package.description
    return {name: value for name, value in fields.items() if value}


def format_fields(fields: Mapping[str, str]) -> str:
    """A paragraph, ending with one line feed. Lines after a value's first are indented by a blank where they
    are not yet, also empty ones, which would end the paragraph. Raises ControlError for a bad name."""
    lines = []
    for name, value in fields.items():
        if not name or not re.fullmatch(r"[!-9;-~]+", name):
            raise ControlError(f"{name!r} cannot name a field")
        first, *others = value.split("\n")
        lines.append(f"{name}: {first}".rstrip())
        lines += [line if line[:1] in (" ", "\t") else f" {line}" for line in others]
    return "\n".join(lines) + "\n"
