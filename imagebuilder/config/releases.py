"""Which releases there are: a list that is shipped, the server's own, and what `24.10` or `latest` mean.

Format of the server's list: `.versions.json` at its top, as OpenWrt's firmware selector reads it:
`stable_version`, `oldstable_version`, `upcoming_version` and `versions_list`. It is not signed: it can name
releases, and what is downloaded for a release is checked all the same.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from imagebuilder.config.board import Board, Profile
from imagebuilder.errors import UserError
from imagebuilder.log import Log
from imagebuilder.model.release import LATEST, SNAPSHOT, Release, is_embedded

VERSIONS_FILE = ".versions.json"
MAX_VERSIONS = 10_000

_SHIPPED = Path(__file__).with_name("data") / "releases.json"
_VERSION = re.compile(r"[0-9]{2}\.[0-9]{2}\.[0-9]{1,2}(-rc[0-9]{1,2})?")
_SERIES = re.compile(r"[0-9]{2}\.[0-9]{2}")


class ReleaseError(UserError):
    """A release that does not exist, or that does not build for a board."""


class ReleaseListError(UserError):
    """A list of releases that cannot be read."""


@dataclass(frozen=True)
class ReleaseList:
    """Releases, the newest first. stable, oldstable: the newest of the two series that OpenWrt maintains (""
    for none). origin: where the list is from, in words, with the month it was taken where it was not asked
    just now.
    """

    versions: tuple[str, ...]
    stable: str
    oldstable: str
    origin: str

    def series(self) -> tuple[str, ...]:
        """The series in the list, the newest first."""
        return tuple(dict.fromkeys(Release(version).series for version in self.versions))

    def newest(self, series: str | None = None) -> str | None:
        """The newest release, of one series or of all; no release candidate. None where there is none."""
        releases = (Release(version) for version in self.versions)
        fit = (release for release in releases if series in (None, release.series))
        return next((release.name for release in fit if not release.candidate), None)

    def maintained_series(self) -> tuple[str, ...]:
        """The series that still get security fixes: those of `stable` and `oldstable`.

        OpenWrt's server names these two and no dates of an end of life; a list without them (a mirror's own)
        counts its two newest series that have a release.
        """
        named = [Release(version).series for version in (self.stable, self.oldstable) if version]
        released = (series for series in self.series() if self.newest(series) is not None)
        return tuple(named) or tuple(released)[:2]

    def end_of_life(self, release: str) -> str | None:
        """A sentence for a release whose series gets no security fixes any more; None for others."""
        maintained, series = self.maintained_series(), Release(release).series
        if not maintained or series in maintained or Release(series) > max(map(Release, maintained)):
            return None
        return (
            f"OpenWrt {series} gets no security fixes any more"
            f" (maintained: {', '.join(maintained)}, says {self.origin})"
        )

    def merged(self, other: ReleaseList) -> ReleaseList:
        """The releases of both; `stable` and `oldstable` of whichever names the newer stable one. A server's
        list can thus add releases and hide none that are known: it is not signed."""
        newer = max(self, other, key=lambda each: (each.stable != "", Release(each.stable)))
        return replace(newer, versions=_newest_first((*self.versions, *other.versions)))


@cache
def shipped_releases() -> ReleaseList:
    """The list that comes with the project: what the server named in the month that the file states."""
    facts = json.loads(_SHIPPED.read_text("utf-8"))
    origin = f"the project's own list of {facts['taken']}"
    return ReleaseList(_newest_first(facts["versions"]), facts["stable"], facts["oldstable"], origin)


def parse_versions(data: bytes, origin: str) -> ReleaseList:
    """The server's `.versions.json`. Names that are no numbered release (a vendor's, a branch) are left out.

    ReleaseListError for anything that is no such file.
    """
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ReleaseListError(f"{origin} is no list of releases: it is not JSON") from error
    listed = facts.get("versions_list") if isinstance(facts, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_VERSIONS:
        raise ReleaseListError(f"{origin} is no list of releases: it has no list `versions_list`")
    versions = _newest_first(each for each in listed if isinstance(each, str))
    named = [facts.get(key) for key in ("stable_version", "oldstable_version")]
    stable, oldstable = (name if isinstance(name, str) and _VERSION.fullmatch(name) else "" for name in named)
    return ReleaseList(versions, stable, oldstable, origin)


def resolve_release(wanted: str, known: ReleaseList, log: Log) -> str:
    """The release that is meant: `24.10.4`, `24.10` (the newest of the series, no release candidate),
    `latest` or `snapshot`. ReleaseError for one that does not exist.

    A number above all that the list has of its series is accepted, with a note: it may be newer than the
    list.
    """
    if wanted == SNAPSHOT or is_embedded(wanted):
        return wanted
    if wanted == LATEST or _SERIES.fullmatch(wanted):
        found = known.newest(None if wanted == LATEST else wanted)
        if found is not None:
            log.note(f"release {wanted} is {found}, says {known.origin}")
            return found
        candidates = [version for version in known.versions if Release(version).series == wanted]
        hint = f"there are release candidates: {', '.join(candidates)}" if candidates else None
        raise ReleaseError(f"there is no release of {wanted}", hint=hint or _series_hint(known))
    if wanted in known.versions:
        return wanted
    if not _VERSION.fullmatch(wanted):
        raise ReleaseError(
            f"'{wanted}' is no release", hint=f"say 24.10.4, a series such as 24.10, {LATEST} or {SNAPSHOT}"
        )
    release = Release(wanted)
    newest = next((each for each in map(Release, known.versions) if each.series == release.series), None)
    if newest is not None and release > newest:
        log.note(f"release {wanted} is newer than {newest.name}, the last of its series in {known.origin}")
        return wanted
    near = difflib.get_close_matches(wanted, known.versions, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else _series_hint(known)
    raise ReleaseError(f"there is no release {wanted} in {known.origin}", hint=hint)


def profile_for_release(board: Board, release: str, known: ReleaseList) -> Profile:
    """The board's newest profile that covers a release.

    ReleaseError, naming the newest release that the board is built in, for a release that has it no more or
    not yet.
    """
    profiles = board.profiles_for(release)
    if profiles:
        return profiles[0]
    numbered = (version for version in known.versions if not Release(version).candidate)
    newest = next((version for version in numbered if board.profiles_for(version)), None)
    raise ReleaseError(
        f"board '{board.id}' is not in OpenWrt {release}"
        + (f": {newest} is the newest release that has it" if newest else ""),
        hint=f'say release = "{newest}"; its board file knows it for {board.known_for}'
        if newest
        else f"its board file knows it for {board.known_for}",
    )


def _series_hint(known: ReleaseList) -> str:
    return f"{known.origin} has {', '.join(known.series())}"


def _newest_first(versions: Iterable[str]) -> tuple[str, ...]:
    numbered = {version for version in versions if _VERSION.fullmatch(version)}
    return tuple(sorted(numbered, key=Release, reverse=True))
