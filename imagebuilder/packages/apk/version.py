"""Package versions in Alpine's order, which apk follows:
`number{.number}{letter}{_suffix{number}}{~commit}{-rnumber}`.

Source of the rule: apk-tools 3, src/version.c, and doc/apk-package.5.
"""

from __future__ import annotations

import re
from functools import lru_cache

from packaging.version import Version

from imagebuilder.python.catalogue.package_version import PackageVersionError

# what can come next, by the rank that decides where two versions go on in different ways: the one with the
# lower rank is older. Before a version's end come only suffixes that mean a version to be
_TO_BE, _INVALID, _END, _REVISION, _COMMIT, _SUFFIX_NUMBER, _SUFFIX, _LETTER, _NUMBER, _FIRST = range(10)
_SUFFIXES = {name: place for place, name in enumerate(("alpha", "beta", "pre", "rc"))}
_LATER_SUFFIXES = {name: place for place, name in enumerate(("cvs", "svn", "git", "hg", "p"))}
_TOKEN = re.compile(
    r"\.(?P<number>[0-9]+)|(?P<letter>[a-z])|_(?P<suffix>[a-z]+)(?P<count>[0-9]*)"
    r"|~(?P<commit>[0-9a-f]+)|-r(?P<revision>[0-9]+)"
)
_NUMBER_BITS = (1 << 64) - 1  # apk counts in 64 bits, and so do dates with a time in a version

_PYTHON_PRE = {"a": "_alpha", "b": "_beta", "rc": "_rc"}

Token = tuple[int, int, str]
Key = tuple[Token, ...]


def _value(digits: str) -> int:
    """A number as apk reads it: what is above 64 bits is lost."""
    return int(digits[-64:]) & _NUMBER_BITS if len(digits) <= 64 else _wrapped(digits)


def _wrapped(digits: str) -> int:
    value = 0
    for digit in digits:
        value = (value * 10 + int(digit)) & _NUMBER_BITS
    return value


def _tokens(version: str) -> list[Token]:
    """What a version consists of, its end or what is wrong with it included."""
    first = re.match(r"[0-9]+", version)
    if first is None:
        return [(_INVALID, 0, "")]
    tokens: list[Token] = [(_FIRST, _value(first[0]), "")]
    at, allowed = first.end(), _FIRST
    while at < len(version):
        match = _TOKEN.match(version, at)
        if match is None:
            return [*tokens, (_INVALID, 0, "")]
        kind, token, *more = _token(match)
        # a version goes on only with what has a lower rank; numbers and suffixes can be repeated
        if kind > allowed or (kind == allowed and kind not in (_NUMBER, _SUFFIX)) or token[0] == _INVALID:
            return [*tokens, (_INVALID, 0, "")]
        tokens += [token, *more]
        at, allowed = match.end(), kind
    return [*tokens, (_END, 0, "")]


def _token(match: re.Match[str]) -> tuple[int, Token, *tuple[Token, ...]]:
    """The kind of a token, for what may follow, the token, and the number of a suffix."""
    kind = match.lastgroup
    if kind == "number":
        digits = match["number"]
        # with a zero in front numbers are texts, and before all numbers without
        token = (_NUMBER, -1, digits) if digits[0] == "0" else (_NUMBER, _value(digits), "")
        return _NUMBER, token
    if kind == "letter":
        return _LETTER, (_LETTER, ord(match["letter"]), "")
    if kind == "commit":
        return _COMMIT, (_COMMIT, 0, match["commit"])
    if kind == "revision":
        return _REVISION, (_REVISION, _value(match["revision"]), "")
    name, count = match["suffix"], match["count"]
    token = (_INVALID, 0, "")
    if name in _SUFFIXES:
        token = (_TO_BE, _SUFFIXES[name], "")
    elif name in _LATER_SUFFIXES:
        token = (_SUFFIX, _LATER_SUFFIXES[name], "")
    return (_SUFFIX, token, (_SUFFIX_NUMBER, _value(count), "")) if count else (_SUFFIX, token)


@lru_cache(maxsize=4096)
def version_key(version: str) -> Key:
    """What to sort by. Total: every text has a place."""
    return tuple(_tokens(version))


def is_valid(version: str) -> bool:
    """Whether apk accepts it as a version."""
    return version_key(version)[-1][0] == _END


def compare(one: str, other: str) -> int:
    """-1, 0 or 1: whether one is older than, the same as or newer than the other."""
    first, second = version_key(one), version_key(other)
    return (first > second) - (first < second)


def satisfies(version: str, operator: str, wanted: str) -> bool:
    """Whether `version operator wanted` holds; operator is one of = < > <= >= ~ <~ >~. With `~` a version is
    the same as one that it begins with: 1.2.3 is ~1.2, and so is 1.2-r1. KeyError for another operator."""
    order = compare(version, wanted)
    begin = version_key(wanted)[:-1]
    if "~" in operator and is_valid(wanted) and version_key(version)[: len(begin)] == begin:
        order = 0
    same, older, newer = order == 0, order < 0, order > 0
    return {
        "=": same,
        "~": same,
        "<": older,
        ">": newer,
        "<=": older or same,
        "<~": older or same,
        ">=": newer or same,
        ">~": newer or same,
    }[operator]


def python_version(version: Version, release: int) -> str:
    """The version of a Python distribution (PEP 440) as a package's, in the same order: 1.0rc2 as 1.0_rc2-r1.
    release: counts packages of one version. PackageVersionError for an epoch or a local part, for which apk
    has no place."""
    if version.epoch or version.local:
        raise PackageVersionError(
            f"apk has no place for the version {version}: no epoch, and nothing behind a +",
            hint="give its package another: version = …",
        )
    text = ".".join(map(str, version.release))
    if version.pre is not None:
        kind, number = version.pre
        text += f"{_PYTHON_PRE[kind]}{number}"
    if version.post is not None:
        text += f"_p{version.post}"
    if version.dev is not None:  # before all pre-releases, also 0a0.dev0, if it is of none
        text += (
            f"_pre{version.dev}" if version.pre or version.post is not None else f"_alpha0_alpha{version.dev}"
        )
    return f"{text}-r{release}"
