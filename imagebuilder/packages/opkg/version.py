"""Package versions in Debian's order, which opkg follows: [epoch:]upstream[-revision].

Source of the rule: Debian Policy 5.6.12. Runs of letters and of digits are compared in turn; letters come
before other signs, and `~` before everything, the end included.
"""

from __future__ import annotations

import re
from functools import lru_cache

from packaging.version import Version

RUNS = re.compile(r"([^0-9]*)([0-9]*)")
OPERATORS = {"<<": "<", "<=": "<", "=": "=", ">=": ">", ">>": ">"}
END = 0  # of a run of letters: after ~, before everything else

Number = tuple[int, str]  # digits without leading zeros, and how many: no limit on their length
Part = tuple[tuple[tuple[int, ...], Number], ...]
Key = tuple[Number, Part, Part]


def _order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 256


def _number(digits: str) -> Number:
    significant = digits.lstrip("0")
    return len(significant), significant


def _part(text: str) -> Part:
    """A part of a version as tuples that compare as the rule says."""
    # the first run is there even if empty, so that '' and '0' are the same and both newer than '0~1'
    first, *others = RUNS.findall(text)
    runs = [first, *(run for run in others if any(run)), ("", "")]
    return tuple(((*map(_order, letters), END), _number(digits)) for letters, digits in runs)


@lru_cache(maxsize=4096)
def version_key(version: str) -> Key:
    """What to sort by. Total: every text has a place."""
    epoch, colon, rest = version.partition(":")
    if not (colon and epoch.isascii() and epoch.isdigit()):
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return _number(epoch), _part(upstream), _part(revision)


def compare_versions(one: str, other: str) -> int:
    """-1, 0 or 1: whether one is older than, the same as or newer than the other."""
    first, second = version_key(one), version_key(other)
    return (first > second) - (first < second)


def satisfies(version: str, operator: str, wanted: str) -> bool:
    """Whether `version operator wanted` holds for opkg; operator is one of << <= = >= >>, where << and >>
    hold for an equal version too. KeyError for another operator.

    Source: version_constraints_satisfied() in opkg's pkg_depends.c, in every release from 17.01 to 24.10.
    """
    order = compare_versions(version, wanted)
    return {"<": order <= 0, "=": order == 0, ">": order >= 0}[OPERATORS[operator]]


def python_version(version: Version, release: int) -> str:
    """The version of a Python distribution (PEP 440) as a package's, in the same order: 1.0rc2 as 1.0~rc2-1.
    release: counts packages of one version."""
    text = f"{version.epoch}:" if version.epoch else ""
    text += ".".join(map(str, version.release))
    if version.pre is not None:
        text += "~{}{}".format(*version.pre)
    if version.post is not None:
        text += f".post{version.post}"
    if version.dev is not None:  # before a pre-release of the same number, so one ~ more
        text += f"~~dev{version.dev}"
    text += f"+{version.local}" if version.local else ""
    return f"{text}-{release}"
