"""An index older than one already seen is refused: what a mirror that is stale, or an attacker who replays an
old signed file, would bring.

A signed index says nothing dependable of its own age, so this machine keeps a record for each feed: the
SHA-256 of every index it has verified, in that order, with the time of signing where the signature tells it
(GPG's does, usign's does not).

It detects: an index that was seen here and then replaced; where both have a time of signing, any that was
signed before the newest seen. It cannot detect: what is older than all this machine has seen; an old index
that it never saw, where signatures have no time; a mirror that stands still. The record outlives `clean
--cache`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagebuilder.errors import UserError
from imagebuilder.host.cache import Cache, cache_disk_errors, is_sha256
from imagebuilder.host.handover import write_whole
from imagebuilder.log import Log
from imagebuilder.trust.signature import TrustError

MAX_SEEN = 1000


class OlderIndexError(TrustError):
    """An index that was replaced by a newer one, which this machine has seen."""


class SeenRecordError(UserError):
    """The record of what was seen cannot be read."""


@dataclass(frozen=True)
class Seen:
    """An index that was verified: its SHA-256, when this machine first saw it, and when it was signed, if
    known."""

    sha256: str
    first: datetime
    signed: datetime | None = None


def accept_index(feed: str, sha256: str, cache: Cache, log: Log, *, signed: datetime | None = None) -> None:
    """Record an index whose signature holds, or refuse it. feed: its path in the server's layout, the same
    for all mirrors; sha256: of the index's bytes; signed: the time in its signature.

    OlderIndexError for one that is older than the newest seen; SeenRecordError for a damaged record.
    """
    place = _place(feed, cache)
    with cache.lock(f"seen {feed}", f"looking at {feed}", log):
        seen = _not_older(feed, sha256, cache, signed)
        if seen and seen[-1].sha256 == sha256:
            return
        seen.append(Seen(sha256, datetime.fromtimestamp(int(cache.clock()), UTC), signed))
        with cache_disk_errors(cache.folder):
            write_whole(place, _text(feed, seen[-MAX_SEEN:]))


def refuse_older(feed: str, sha256: str, cache: Cache, log: Log, *, signed: datetime | None = None) -> None:
    """As accept_index(), but nothing is recorded: for one of which it is not yet known whether it is used."""
    with cache.lock(f"seen {feed}", f"looking at {feed}", log):
        _not_older(feed, sha256, cache, signed)


def _not_older(feed: str, sha256: str, cache: Cache, signed: datetime | None) -> list[Seen]:
    """What was seen, if the index is not older than the newest of that."""
    place = _place(feed, cache)
    seen = _read(place)
    if seen and seen[-1].sha256 == sha256:
        return seen
    for entry in seen:
        if entry.sha256 == sha256:
            raise _older(feed, f"it was here on {entry.first:%Y-%m-%d}, and was replaced since", seen, place)
    latest = max((entry.signed for entry in seen if entry.signed is not None), default=None)
    if signed is not None and latest is not None and signed < latest:
        how = f"it was signed on {signed:%Y-%m-%d %H:%M}, another on {latest:%Y-%m-%d %H:%M} UTC"
        raise _older(feed, how, seen, place)
    return seen


def _older(feed: str, why: str, seen: list[Seen], place: Path) -> OlderIndexError:
    return OlderIndexError(
        f"the mirror's index of {feed} is older than one already seen on {seen[-1].first:%Y-%m-%d}: {why}",
        hint=f"try another mirror, or later; if OpenWrt itself went back, remove {place}",
    )


def _place(feed: str, cache: Cache) -> Path:
    return cache.folder / "seen" / f"{hashlib.sha256(feed.encode()).hexdigest()}.json"


def _text(feed: str, seen: list[Seen]) -> bytes:
    entries = [
        {
            "sha256": each.sha256,
            "first": each.first.isoformat(),
            "signed": each.signed.isoformat() if each.signed else None,
        }
        for each in seen
    ]
    return json.dumps({"feed": feed, "seen": entries}, indent=1).encode()


def _read(place: Path) -> list[Seen]:
    """SeenRecordError for a damaged record: to forget it silently would let an old index pass."""
    try:
        entries = json.loads(place.read_bytes())["seen"]
        seen = [Seen(each["sha256"], _when(each["first"]), _maybe(each["signed"])) for each in entries]
        if all(is_sha256(entry.sha256) for entry in seen):
            return seen
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        pass
    raise SeenRecordError(f"the record of seen indexes {place} is damaged", hint="remove it to begin anew")


def _maybe(text: str | None) -> datetime | None:
    return None if text is None else _when(text)


def _when(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
