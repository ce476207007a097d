"""What make's output really says: stages, packages that did not go in, images that did not fit.

make exits 0 when an image was too big, and buries the reason for a failure far above its last lines.
The texts are those of OpenWrt's tools, 17.01 to 24.10 (see the project's notes on the ImageBuilder).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_STAGES = (
    ("Building package index", "building the package index"),
    ("Installing packages", "installing packages"),
    ("Copying extra files", "copying files"),
    ("Finalizing root filesystem", "finishing the root file system"),
    ("Cleaning up", "finishing the root file system"),
    ("Activating init scripts", "activating services"),
    ("Building images", "building images"),
    ("Calculating checksums", "calculating checksums"),
)
_INSTALLING = re.compile(r"^Installing (\S+) \(\S+\) to root")
# opkg's standard output and error meet in one line now and then, so nothing is anchored to its beginning
_UNKNOWN = re.compile(r"Unknown package '([^']+)'")
_CANNOT_INSTALL = re.compile(r"opkg_install_cmd: Cannot install package ([^\s]+?)\.?$")
_NOT_FETCHED = re.compile(r"opkg_install_pkg: Failed to download ([^\s]+?)\. ")
_UNSATISFIED = re.compile(r"Cannot satisfy the following dependencies for ([^\s:]+):$")
_DEPENDENCY = re.compile(r"^ \*\s(?!\S*:)\s*(\S.*)$")
_TOO_BIG_BY = re.compile(r"images are too big by (\d+) bytes")
_TOO_BIG_FILE = re.compile(r"WARNING: Image file (\S+) is too big: (\d+) > (\d+)")
_NO_SPACE = re.compile(r"No space left on device")


@dataclass(frozen=True)
class TooBig:
    """An image that make left out. image: its name where make says it. excess, limit: bytes."""

    excess: int
    image: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Unsatisfied:
    """A dependency that no feed can fulfil, and the package that has it."""

    dependency: str
    package: str


@dataclass(frozen=True)
class MakeReport:
    """What went wrong in a run of make.

    unknown: packages that no feed has. not_fetched: those that could not be downloaded.
    not_installed: those that were asked for and did not go in.
    """

    too_big: tuple[TooBig, ...] = ()
    unknown: tuple[str, ...] = ()
    unsatisfied: tuple[Unsatisfied, ...] = ()
    not_fetched: tuple[str, ...] = ()
    not_installed: tuple[str, ...] = ()
    no_space: bool = False


def stage_of(line: str) -> str | None:
    """What make begins with this line, in words, if it begins anything."""
    installing = _INSTALLING.match(line)
    if installing:
        return f"installing {installing[1]}"
    return next((text for start, text in _STAGES if line.startswith(start)), None)


def read_output(lines: Iterable[str]) -> MakeReport:
    """All that the output complains of; the order is that of the output, each thing once."""
    text = list(lines)
    return MakeReport(
        too_big=_each_once(filter(None, map(_too_big, text))),
        unknown=_names(_UNKNOWN, text),
        unsatisfied=_each_once(_unsatisfied(text)),
        not_fetched=_names(_NOT_FETCHED, text),
        not_installed=_names(_CANNOT_INSTALL, text),
        no_space=any(_NO_SPACE.search(line) for line in text),
    )


def _each_once(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))


def _names(pattern: re.Pattern[str], lines: Iterable[str]) -> tuple[str, ...]:
    return _each_once(match[1] for match in map(pattern.search, lines) if match)


def _too_big(line: str) -> TooBig | None:
    if match := _TOO_BIG_FILE.search(line):
        size, limit = int(match[2]), int(match[3])
        return TooBig(size - limit, match[1].rpartition("/")[2], limit)
    match = _TOO_BIG_BY.search(line)
    return TooBig(int(match[1])) if match else None


def _unsatisfied(lines: Iterable[str]) -> Iterator[Unsatisfied]:
    """opkg names the package in one line and its missing dependencies in the ones after it."""
    package = None
    for line in lines:
        if match := _UNSATISFIED.search(line):
            package = match[1]
        elif package and (item := _DEPENDENCY.match(line)):
            for name in re.sub(r"\([^)]*\)|\*", " ", item[1]).split():
                yield Unsatisfied(name, package)
        else:
            package = None
