"""The Atom feed of new builds (RFC 4287)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote
from uuid import UUID, uuid5
from xml.etree.ElementTree import Element, SubElement, tostring

from imagebuilder.model.size import human_size
from imagebuilder.site.facts import PublishedBuild, Recent, SiteState, iso

FEED = "feed.xml"
MOST_ENTRIES = 50
_ATOM = "http://www.w3.org/2005/Atom"
_MOST_CHANGES = 30  # of each kind, in an entry
# what XML 1.0 has no way to write (section 2.2)
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def feed(state: SiteState) -> bytes:
    """The feed, the newest build first. Addresses are whole where the site's is known, else they count from
    the feed's own."""
    root = Element("feed", {"xmlns": _ATOM, "xml:lang": "en"})
    _text(root, "id", UUID(state.name).urn)
    _text(root, "title", state.title)
    newest = max((recent.build.published for recent in state.recent), default=state.published)
    _text(root, "updated", iso(newest))
    SubElement(root, "link", {"rel": "self", "type": "application/atom+xml", "href": _address(state, FEED)})
    SubElement(root, "link", {"rel": "alternate", "type": "text/html", "href": _address(state, "index.html")})
    author = SubElement(root, "author")
    _text(author, "name", state.title)
    _text(root, "generator", "owrt-python").set("version", state.builder)
    for recent in sorted(state.recent, key=lambda each: -each.build.published)[:MOST_ENTRIES]:
        _entry(root, state, recent)
    text: bytes = tostring(root, "utf-8", xml_declaration=True)
    return text + b"\n"


def _entry(root: Element, state: SiteState, recent: Recent) -> None:
    build = recent.build
    path = f"builds/{recent.board}/{recent.config}/{build.number}"
    entry = SubElement(root, "entry")
    _text(entry, "id", uuid5(UUID(state.name), path).urn)
    _text(entry, "title", f"{recent.name}, {recent.config}: {changes_in_words(build)}")
    _text(entry, "updated", iso(build.published))
    _text(entry, "published", iso(build.published))
    page = _address(state, f"{path}/index.html")
    SubElement(entry, "link", {"rel": "alternate", "type": "text/html", "href": page})
    for image in build.images:
        SubElement(
            entry,
            "link",
            {
                "rel": "enclosure",
                "type": "application/octet-stream",
                "length": str(image.size),
                "title": _writable(image.type),
                "href": _address(state, f"{path}/{image.file}"),
            },
        )
    _text(entry, "category", "").set("term", _writable(recent.board))
    _text(entry, "content", "\n".join(_lines(build))).set("type", "text")


def changes_in_words(build: PublishedBuild) -> str:
    """What is new in a build, in a few words."""
    if build.night is None:
        return f"first build, {build.version}"
    changes = build.night.packages
    counts = [
        (sum(1 for each in changes if each.before is not None and each.after is not None), "changed"),
        (sum(1 for each in changes if each.before is None), "added"),
        (sum(1 for each in changes if each.after is None), "removed"),
    ]
    told = [f"{count} {what}" for count, what in counts if count]
    if not told:
        return "the same packages, other contents"
    return f"package{'s' if len(changes) > 1 else ''}: {', '.join(told)}"


def _lines(build: PublishedBuild) -> Iterable[str]:
    for image in build.images:
        yield f"{image.type}: {human_size(image.size)}, SHA-256 {image.sha256}"
    for each in build.night.packages[:_MOST_CHANGES] if build.night else ():
        if each.before is None:
            yield f"+ {each.name} {each.after}"
        elif each.after is None:
            yield f"- {each.name} {each.before}"
        else:
            yield f"~ {each.name}: {each.before} -> {each.after}"
    if build.night and len(build.night.packages) > _MOST_CHANGES:
        yield f"... and {len(build.night.packages) - _MOST_CHANGES} more"


def _text(parent: Element, name: str, text: str) -> Element:
    element = SubElement(parent, name)
    if text:
        element.text = _writable(text)
    return element


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)


def _address(state: SiteState, path: str) -> str:
    whole = quote(path)
    return f"{state.url}/{whole}" if state.url else whole
