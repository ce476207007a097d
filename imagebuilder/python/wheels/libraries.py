"""Which packages may have a shared library, by nothing but names: OpenWrt's custom for packages of libraries
(`ABI_VERSION` of their makefiles becomes part of the name), and a table of those that are called otherwise.
Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources

_SONAME = re.compile(r"(?P<library>[^/]+?)\.so(?:\.(?P<abi>[^/]+))?")
_VERSIONED = re.compile(r"(?P<name>.+?)-(?P<major>[0-9]+)(\.[0-9]+)*")
_MARKS = "*?["


@dataclass(frozen=True, slots=True)
class LibraryRule:
    """An entry of the table. library: patterns for the name without `.so` and what follows; packages: names,
    or patterns, with `{abi}`."""

    library: tuple[str, ...]
    packages: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class PackageName:
    """A name of packages that may have a library. stated: the table says so; else it is OpenWrt's custom."""

    name: str
    stated: bool

    def matching(self, names: Collection[str]) -> Iterator[str]:
        """Those of the names that it means, sorted where it is a pattern."""
        if any(mark in self.name for mark in _MARKS):
            yield from sorted(name for name in names if fnmatchcase(name, self.name))
        elif self.name in names:
            yield self.name


@cache
def library_rules() -> tuple[LibraryRule, ...]:
    """The table."""
    text = (resources.files(__package__) / "data" / "libraries.toml").read_text("utf-8")
    return tuple(
        LibraryRule(tuple(each["library"]), tuple(each["packages"]), each["reason"])
        for each in tomllib.loads(text)["library"]
    )


def abi_of(name: str) -> str:
    """What follows `.so.` in a library's name, "" where nothing does."""
    found = _SONAME.fullmatch(name)
    return (found["abi"] or "") if found is not None else ""


def package_names(name: str) -> tuple[PackageName, ...]:
    """Names of packages to look for, the likeliest first. name: the library's (SONAME), such as
    `libffi.so.8`; () for what is no library's name."""
    found = _SONAME.fullmatch(name)
    if found is None:
        return ()
    library, abi = found["library"], found["abi"] or ""
    names: dict[str, bool] = {}
    for rule in library_rules():
        if any(fnmatchcase(library, pattern) for pattern in rule.library):
            names |= {
                text.replace("{abi}", abi): True for text in rule.packages if abi or "{abi}" not in text
            }
    plain = library.lower().replace("_", "-").replace("+", "p")
    parts = abi.split(".") if abi else []
    stems = [plain, plain.removeprefix("lib")]
    versioned = _VERSIONED.fullmatch(plain)  # libdbus-1 is in libdbus, libevent-2.0 in libevent2
    if versioned is not None:
        stems += [versioned["name"] + versioned["major"], versioned["name"]]
    for stem in dict.fromkeys(stems):
        for end in range(len(parts), 0, -1):
            number = ".".join(parts[:end])
            joined = (f"{stem}{number}", f"{stem}-{number}")
            for text in joined if not stem[-1:].isdecimal() else reversed(joined):
                names.setdefault(text, False)
        if stem:
            names.setdefault(stem, False)
    return tuple(PackageName(text, stated) for text, stated in names.items())
