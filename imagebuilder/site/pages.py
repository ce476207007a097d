"""The site's pages. What others wrote is escaped by the templates; no page wants more than the style, and the
first one a script of a few lines that searches it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.resources import files
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from imagebuilder.model.firmware import SizeChange
from imagebuilder.model.size import human_size
from imagebuilder.site.chart import chart, series_of
from imagebuilder.site.facts import Listing, PublishedBuild, SiteState, iso, utc
from imagebuilder.site.feed import changes_in_words

STYLE, SEARCH = "style.css", "search.js"
_PACKAGE = "imagebuilder.site"
_BESIDE = {
    "result.json": "all figures",
    "manifest": "list of packages",
    "sha256sums": "checksums (sha256sums)",
    "sha256sums.sig": "their signature",
    "lock.toml": "lock",
    "report.html": "report",
    "sbom.cdx.json": "bill of materials (CycloneDX)",
}


@cache
def static(name: str) -> bytes:
    """A file that all pages share: STYLE, SEARCH."""
    return (files(_PACKAGE) / "templates" / name).read_bytes()


@cache
def _templates() -> str:
    folder = files(_PACKAGE) / "templates"
    places = sorted(folder.iterdir(), key=lambda place: place.name)
    return hashlib.sha256(b"\0".join(place.read_bytes() for place in places)).hexdigest()


def look(builder: str, title: str) -> str:
    """A digest of all that pages are made of besides the facts on them."""
    return hashlib.sha256("\n".join((builder, title, _templates())).encode()).hexdigest()


@dataclass(frozen=True)
class Pages:
    """Makes pages for one state of the site. Each is UTF-8."""

    site: SiteState

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=PackageLoader(_PACKAGE, "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["site"] = self.site
        environment.filters.update(
            size=human_size,
            kib=lambda size: f"{size / 1024:,.1f} KiB",
            iso=iso,
            utc=utc,
            day=lambda seconds: f"{datetime.fromtimestamp(seconds, UTC):%-d %b %Y}",
            address=quote,
            beside=lambda file: _BESIDE.get(file, file),
            words=changes_in_words,
            board_page=lambda listing: f"boards/{listing.board}/{listing.config}/index.html",
            total=_total,
        )
        return environment

    def _page(self, name: str, up: str, **values: object) -> bytes:
        text = self._environment.get_template(name).render(up=up, **values)
        return text.encode("utf-8", "replace")

    def index(self) -> bytes:
        """All boards, by vendor."""
        boards = len({listing.board for listing in self.site.listings})
        return self._page("index.html", "", vendors=by_vendor(self.site.listings), boards=boards)

    def board(self, listing: Listing, builds: Sequence[PublishedBuild]) -> bytes:
        """One config of one board. builds: all that are known, the oldest first."""
        up = "../../../"
        place = f"{up}builds/{listing.board}/{listing.config}/"
        return self._page(
            "board.html",
            up,
            listing=listing,
            newest=listing.newest,
            builds=place,
            folder=f"{place}{listing.newest.number}/",
            charts=[(each.name, chart(each, self.site.published)) for each in series_of(builds)],
            history=[*reversed(builds)],
            kept=listing.kept,
        )

    def build(
        self, listing: Listing, build: PublishedBuild, packages: Mapping[str, str], sizes: Mapping[str, int]
    ) -> bytes:
        """One build. packages: names to versions; sizes: bytes in the image by package, compressed."""
        return self._page(
            "build.html", "../../../../", listing=listing, build=build, packages=packages, sizes=sizes
        )

    def folder(self, folder: str, names: Sequence[str]) -> bytes:
        """What lies in a target's folder. folder: its path on the site."""
        return self._page("folder.html", "../" * (folder.count("/") + 1), folder=folder, names=names)


def by_vendor(listings: Sequence[Listing]) -> list[tuple[str, list[Listing]]]:
    """Listings by who makes the board, in the order of the alphabet; of two ways to spell it the one that a
    release has, which tells it apart from the model."""
    found: dict[str, list[Listing]] = {}
    for listing in listings:
        found.setdefault(listing.vendor.casefold(), []).append(listing)
    named = sorted(found.items())
    return [(max(same, key=_tells_vendor).vendor, sorted(same, key=_by_name)) for _, same in named]


def _tells_vendor(listing: Listing) -> bool:
    return any(title.vendor for title in listing.titles)


def _by_name(listing: Listing) -> tuple[str, str, str]:
    return listing.names[0].casefold(), listing.config, listing.board


def _total(sizes: Sequence[SizeChange]) -> str:
    return f"{sum(each.after - each.before for each in sizes):+,}"
