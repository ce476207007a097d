"""OpenWrt releases (`24.10.4`, `snapshot`, `embedded-3.13`) and expressions over them (`>=19.07`)."""

from __future__ import annotations

import re
from typing import Annotated

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator

from imagebuilder.model.edition import EDITIONS

EMBEDDED = "embedded"  # the kit's first edition, and, as a range, all of them
SNAPSHOT = "snapshot"
LATEST = "latest"  # the newest stable release, once it is known which that is
_NAMED_RANGES = (EMBEDDED, SNAPSHOT)
_NUMBERED = re.compile(r"[0-9]{2}\.[0-9]{2}(\.[0-9]{1,2})?(-rc[0-9]{1,2})?")
_FUTURE = Version("9999")


def check_release(text: str) -> str:
    """The release itself, if it is one: `24.10`, `24.10.4`, `24.10.0-rc1`, `latest`, `snapshot`, `embedded`,
    `embedded-3.13`.

    Raises ValueError for anything else.
    """
    if text in (SNAPSHOT, LATEST) or is_embedded(text) or _NUMBERED.fullmatch(text):
        return text
    expected = ", ".join(("24.10.4", SNAPSHOT, *EDITIONS))
    raise ValueError(f"'{text}' is no release; expected one such as {expected}")


def is_embedded(release: str) -> bool:
    """Whether it is an edition of the embedded kit."""
    return release in EDITIONS


def _specifiers(expression: str) -> SpecifierSet:
    """`17.01` alone means the whole series, as OpenWrt users say it."""
    parts = [part.strip() for part in expression.split(",")]
    series = [f"=={part}.*" if re.fullmatch(r"\d{2}\.\d{2}", part) else part for part in parts]
    return SpecifierSet(",".join(series), prereleases=True)


def check_release_range(expression: str) -> str:
    """The expression itself, if it is one: `embedded`, `snapshot`, `17.01`, `>=19.07`, `>=18.06,<21.02`.

    Raises ValueError for anything else.
    """
    if expression in _NAMED_RANGES:
        return expression
    try:
        if expression.strip():
            _specifiers(expression)
            return expression
    except InvalidSpecifier:
        pass
    raise ValueError(
        f"'{expression}' is no release expression; "
        f"expected one such as >=19.07, >=18.06,<21.02, 17.01 or {EMBEDDED}"
    )


def covers(expression: str, release: str) -> bool:
    """Whether a release lies in the range. snapshot is newer than every numbered release; the
    editions of the kit are covered by `embedded` alone."""
    if expression == EMBEDDED or is_embedded(release):
        return expression == EMBEDDED and is_embedded(release)
    if expression == SNAPSHOT:
        return release == SNAPSHOT
    version = _FUTURE if release == SNAPSHOT else _version(release)
    return version is not None and version in _specifiers(expression)


def _version(release: str) -> Version | None:
    try:
        return Version(release.removesuffix("-SNAPSHOT"))  # the tip of a series: 24.10-SNAPSHOT
    except InvalidVersion:  # vendor trees name themselves as they like: such a version is in no range
        return None


def lower_bound(expression: str) -> Version:
    """What ranges are ordered by: the newest range is the one that begins latest."""
    if expression in _NAMED_RANGES:
        return _FUTURE
    begins = (part.version for part in _specifiers(expression) if not part.operator.startswith("<"))
    return max((Version(begin.removesuffix(".*")) for begin in begins), default=Version("0"))


Release = Annotated[str, AfterValidator(check_release)]
ReleaseRange = Annotated[str, AfterValidator(check_release_range)]
