"""Whether a site is whole: every link leads somewhere inside it, every sum is right, the feed is one."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID

from imagebuilder.host.fs import sha256_of
from imagebuilder.site.facts import History, SiteState

ATOM = "{http://www.w3.org/2005/Atom}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attributes if name in ("href", "src") and value]


def links_of(page: Path) -> list[str]:
    """What a page links to, as it says it."""
    parser = _Links()
    parser.feed(page.read_text("utf-8"))
    return parser.links


def pages_of(site: Path) -> list[Path]:
    """All pages that can be reached from the first one."""
    found, waiting = [], [site / "index.html"]
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.append(page)
        for link in links_of(page):
            path = urlsplit(link).path
            if path.endswith(".html"):
                waiting.append(_resolved(page, path))
    return found


def _resolved(page: Path, path: str) -> Path:
    """Where a link of a page leads, as a browser counts it: by names, whatever is a link on the disk."""
    parts = list(page.parent.parts)
    for part in unquote(path).split("/"):
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return Path(*parts)


def site_faults(site: Path) -> list[str]:
    """All that is wrong with it."""
    if not (site / "index.html").exists():
        return ["no index.html"]
    return [
        *_link_faults(site),
        *_build_faults(site),
        *_profile_faults(site),
        *feed_faults(site / "feed.xml"),
    ]


def _link_faults(site: Path) -> Iterator[str]:
    for page in pages_of(site):
        for link in links_of(page):
            parts = urlsplit(link)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                yield f"{page}: leads out of the site: {link}"
            elif parts.path:
                place = _resolved(page, parts.path)
                if not place.is_relative_to(site) or not place.is_file():
                    yield f"{page}: {link} leads nowhere"


def _build_faults(site: Path) -> Iterator[str]:
    state = SiteState.model_validate_json((site / "boards.json").read_text())
    for listing in state.listings:
        folder = site / "boards" / listing.board / listing.config
        history = History.model_validate_json((folder / "history.json").read_text())
        known = {build.number: build for build in history.builds}
        if history.builds[-1].model_dump() != listing.newest.model_dump():
            yield f"{folder}: the newest build is another one"
        for number in listing.kept:
            for image in known[number].images:
                place = site / "builds" / listing.board / listing.config / number / image.file
                if not place.is_file() or sha256_of(place) != image.sha256:
                    yield f"{place} is not what it should be"


def _profile_faults(site: Path) -> Iterator[str]:
    versions = json.loads((site / ".versions.json").read_text())["versions_list"]
    for version in versions:
        folder = site / ("snapshots" if version == "SNAPSHOT" else f"releases/{version}")
        overview = json.loads((folder / ".overview.json").read_text())
        for entry in overview["profiles"]:
            target = folder / "targets" / entry["target"]
            profile = json.loads((target / "profiles.json").read_text())["profiles"][entry["id"]]
            for image in profile["images"]:
                place = target / image["name"]
                if not place.is_file() or sha256_of(place) != image["sha256"]:
                    yield f"{place} is not what profiles.json says"


def feed_faults(path: Path) -> Iterator[str]:
    """What RFC 4287 wants of a feed, and that this one has not."""
    root = ET.fromstring(path.read_bytes())
    if root.tag != f"{ATOM}feed":
        yield f"the root is {root.tag}"
    entries = root.findall(f"{ATOM}entry")
    for element in (root, *entries):
        yield from _element_faults(element)
    authors = root.findall(f"{ATOM}author")  # 4.1.1: one for the feed, or one for each entry
    if len(authors) != 1 or not authors[0].findtext(f"{ATOM}name"):
        yield "no author"
    identities = [entry.findtext(f"{ATOM}id") for entry in entries]
    if len(set(identities)) != len(identities):
        yield "two entries have one id"
    dates = [entry.findtext(f"{ATOM}updated") for entry in entries]
    if entries and root.findtext(f"{ATOM}updated") != max(map(str, dates)):
        yield "the feed is not as new as its newest entry"


def _element_faults(element: ET.Element) -> Iterator[str]:
    for name in ("id", "title", "updated"):  # 4.1.1, 4.1.2: exactly one of each
        if len(element.findall(f"{ATOM}{name}")) != 1:
            yield f"not one {name} in {element.tag}"
    dates = [date for name in ("updated", "published") for date in element.findall(f"{ATOM}{name}")]
    for date in dates:  # 3.3: as RFC 3339 has them
        if not re.fullmatch(TIME, date.text or ""):
            yield f"{date.text} is no date"
    identity = element.findtext(f"{ATOM}id") or ""
    if not identity.startswith("urn:uuid:") or UUID(identity.removeprefix("urn:uuid:")).urn != identity:
        yield f"{identity!r} is no id"  # 4.2.6: an IRI
    links = element.findall(f"{ATOM}link")
    if [link.get("rel") for link in links].count("alternate") != 1:  # 4.1.2: at most one of a type
        yield "not one alternate link"
    for link in links:
        if not link.get("href"):  # 4.2.7.1
            yield "a link without href"
        if link.get("rel") == "enclosure" and not (link.get("length") or "").isdigit():
            yield "an enclosure of unknown length"
