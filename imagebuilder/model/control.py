"""Package facts as text: the `Name: value` paragraphs of control files and opkg indexes.

The format is Debian's (deb822) as far as opkg reads it: a value goes on in lines that begin with a blank, a
paragraph ends with an empty line. Pure; files and streams are the callers'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from imagebuilder.errors import UserError
from imagebuilder.model.package import Dependency, Package

# opkg reads the single signs of old packages as "or equal"
OPERATORS = {"<<": "<<", "<=": "<=", "=": "=", ">=": ">=", ">>": ">>", "<": "<=", ">": ">=", "==": "="}
# opkg takes everything up to a blank or a bracket as the name: `a=1`, which real lists hold, is a name
TERM = re.compile(r"([^\s()|,]+)\s*(?:\(\s*([<>=]{1,2})\s*([^\s()<>=][^\s()]*)\s*\))?")
KNOWN = frozenset(
    (
        "Package",
        "Version",
        "Architecture",
        "Depends",
        "Provides",
        "Conflicts",
        "Replaces",
        "Section",
        "Essential",
    )
) | {"Description", "ABIVersion", "Installed-Size", "Filename", "Size", "SHA256sum"}


class ControlError(UserError):
    """A paragraph that cannot be read. line counts from 1 within the text that was given."""

    def __init__(self, problem: str, *, line: int = 0) -> None:
        super().__init__(problem, hint="the file is damaged, or it is no opkg package list")
        self.line = line


@lru_cache(maxsize=65536)
def _dependency(text: str) -> Dependency:
    found = TERM.fullmatch(text)
    if found is None or (found[2] is not None and found[2] not in OPERATORS):
        raise ControlError(f"{text!r} is no dependency; one reads `name` or `name (>= version)`")
    return Dependency(found[1], OPERATORS[found[2]] if found[2] else None, found[3])


@lru_cache(maxsize=65536)
def _alternatives(group: str) -> tuple[Dependency, ...]:
    """`a (>= 1) | b` with blanks around it; nothing for blanks alone."""
    return tuple(_dependency(term.strip()) for term in group.split("|")) if group.strip() else ()


def forget_dependencies() -> None:
    """Empty the caches of what was parsed before: for measuring."""
    _dependency.cache_clear()
    _alternatives.cache_clear()


def parse_depends(text: str) -> tuple[tuple[Dependency, ...], ...]:
    """`a, b (>= 1) | c` as a tuple of alternatives. Raises ControlError."""
    return tuple(filter(None, map(_alternatives, text.split(","))))


def parse_names(text: str) -> tuple[Dependency, ...]:
    """`a, b (= 1)` as a tuple; no alternatives. Raises ControlError."""
    return tuple(_dependency(term.strip()) for term in text.split(",") if term.strip())


def parse_fields(paragraph: str, *, first_line: int = 1) -> dict[str, str]:
    """One paragraph as names to values, in their order; lines of a value that goes on keep their own text,
    joined by line feeds. first_line: the number of its first line, for errors. Raises ControlError."""
    fields: dict[str, str] = {}
    name = ""
    for number, line in enumerate(paragraph.split("\n"), start=first_line):
        if line[:1] in (" ", "\t"):
            if not name:
                raise ControlError("a value goes on before there is one", line=number)
            fields[name] += "\n" + line
        elif line:
            name, colon, value = line.partition(":")
            if not colon or not name or " " in name:
                raise ControlError(f"{line[:60]!r} is no `Name: value`", line=number)
            if name in fields:
                raise ControlError(f"{name} is there twice", line=number)
            fields[name] = value.strip()
    return fields


def _bytes_field(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ControlError(f"{name} is {text[:40]!r}, not a number of bytes")
    return int(text)


def package_of(fields: Mapping[str, str]) -> Package:
    """A package from the fields of its paragraph; fields without a place of their own go to `extra`.
    Raises ControlError."""
    name, version = fields.get("Package", ""), fields.get("Version", "")
    if not name or not version:
        raise ControlError(f"the package {name!r} has no {'Version' if name else 'Package'} field")
    get = fields.get
    return Package(
        name,
        version,
        get("Architecture", "all"),
        parse_depends(fields["Depends"]) if "Depends" in fields else (),
        tuple([each.name for each in parse_names(fields["Provides"])]) if "Provides" in fields else (),
        parse_names(fields["Conflicts"]) if "Conflicts" in fields else (),
        parse_names(fields["Replaces"]) if "Replaces" in fields else (),
        get("Filename", ""),
        _bytes_field(fields, "Size"),
        _bytes_field(fields, "Installed-Size"),
        get("SHA256sum", ""),
        get("Section", ""),
        get("Description", ""),
        get("ABIVersion", ""),
        get("Essential") == "yes",
        {key: value for key, value in fields.items() if key not in KNOWN},
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
