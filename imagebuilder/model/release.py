"""OpenWrt releases (`24.10.4`, `snapshot`, `embedded-3.13`), which come before which, and expressions over
them (`>=19.07`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, total_ordering
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
_SERIES = re.compile(r"[0-9]{2}\.[0-9]{2}(?![0-9])")
_FUTURE = Version("9999")


@total_ordering
@dataclass(frozen=True)
class Release:
    """A release as a tree, an image, a server or a config calls it, and its place among the others.

    name: `24.10.4`, `24.10.0-rc1`, a series (`24.10`), the tip of one (`24.10-SNAPSHOT`), `snapshot`, an
    edition of the kit, or what a vendor says. The numbered come first, by their numbers, a candidate before
    its release; then snapshot; then the kit's and vendors', which have no place among the numbered, by name.
    """

    name: str

    @cached_property
    def series(self) -> str:
        """`24.10` of `24.10.4`, of `24.10` and of whatever else begins so; of a name without it, itself."""
        begin = _SERIES.match(self.name)
        return begin[0] if begin else self.name

    @property
    def numbered(self) -> bool:
        """Whether its name begins with a series."""
        return _SERIES.match(self.name) is not None

    @property
    def candidate(self) -> bool:
        """Whether it is a release candidate."""
        return "-rc" in self.name

    @cached_property
    def number(self) -> Version | None:
        """Its number; that of a series is its first release's, and so is that of its tip. None for snapshot,
        the kit's editions, and names that vendors made of a number."""
        try:
            return Version(self.name.removesuffix("-SNAPSHOT")) if self.numbered else None
        except InvalidVersion:
            return None

    def since(self, series: str) -> bool:
        """Whether it is of that series or a newer one, a candidate too, and snapshot. False for names that
        have no place among the numbered."""
        return self.name == SNAPSHOT or (self.numbered and Release(self.series) >= Release(series))

    @cached_property
    def _place(self) -> tuple[int, Version, str]:
        if not self.numbered:
            return 1 if self.name == SNAPSHOT else 2, _FUTURE, self.name
        return 0, self.number or Version(self.series), self.name

    def __lt__(self, other: Release) -> bool:
        return self._place < other._place


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
    """Whether a release lies in the range. snapshot is newer than every numbered release; a candidate counts
    as the release that it becomes; the editions of the kit are covered by `embedded` alone; vendor trees name
    themselves as they like: such a name is in no range."""
    if expression == EMBEDDED or is_embedded(release):
        return expression == EMBEDDED and is_embedded(release)
    if expression == SNAPSHOT:
        return release == SNAPSHOT
    number = _FUTURE if release == SNAPSHOT else Release(release).number
    return number is not None and Version(number.base_version) in _specifiers(expression)


def lower_bound(expression: str) -> Version:
    """What ranges are ordered by: the newest range is the one that begins latest."""
    if expression in _NAMED_RANGES:
        return _FUTURE
    begins = (part.version for part in _specifiers(expression) if not part.operator.startswith("<"))
    return max((Version(begin.removesuffix(".*")) for begin in begins), default=Version("0"))


ReleaseName = Annotated[str, AfterValidator(check_release)]
ReleaseRange = Annotated[str, AfterValidator(check_release_range)]
