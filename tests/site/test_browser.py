"""The site in a real browser: search, downloads, the keyboard alone, contrast, phones, and from the disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagebuilder.log import Log
from imagebuilder.model.result import DeviceTitle
from imagebuilder.site.publish import PublishOptions, publish
from imagebuilder.site.serve import site_server
from tests.support.browser import (
    DESKTOP,
    NARROW_PHONE,
    PHONE,
    OpenPage,
    Watch,
    access_faults,
    contrast_faults,
    sideways,
)
from tests.support.result_maker import BOARD, PACKAGES, MadeResult

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

DAY = 24 * 3600
FIRST = 1_795_000_000
TABS = 60  # that a keyboard's user would have to press at most
LINKSYS = MadeResult(
    board="linksys-wrt1200ac",
    profile="linksys_wrt1200ac",
    target="mvebu/cortexa9",
    version="24.10.4",
    title=DeviceTitle(vendor="Linksys", model="WRT1200AC"),
)
PLACES = {"first": "index.html", "board": f"boards/{BOARD}/home/index.html", "folder": "", "build": ""}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A week of a board with two configs, and another board; beside a folder, so that it has a sub path."""
    top = tmp_path_factory.mktemp("site")
    for night in range(7):
        packages = {**PACKAGES, "busybox": f"1.3{night}", **({"tcpdump-mini": "4.99"} if night > 3 else {})}
        MadeResult(content=f"{night}", size=4 + night, packages=packages).write(top / "out")
        MadeResult(config="office", content=f"{night // 3}").write(top / "out")
        LINKSYS.write(top / "out")
        publish(top / "out", top / "www/nightly", PublishOptions(keep=4), FIRST + night * DAY, Log())
    (top / "www/index.html").write_text("the office's own page")
    return top / "www/nightly"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with site_server(site.parent, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/nightly/"
        server.shutdown()


def place_of(site: Path, kind: str) -> str:
    build = max(path.name for path in (site / f"builds/{BOARD}/home").iterdir())
    places = {"build": f"builds/{BOARD}/home/{build}/", "folder": "releases/23.05.5/targets/ath79/tiny/"}
    return PLACES[kind] or f"{places[kind]}index.html"


def shown(page: Page) -> list[str]:
    return page.locator(".boards li:visible a").all_inner_texts()


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.innerText || document.activeElement.id"))


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until what has the focus begins so."""
    for _ in range(TABS):
        page.keyboard.press("Tab")
        if focused(page).startswith(wanted):
            return
    pytest.fail(f"no Tab leads to {wanted!r}")


def test_search_finds_a_board(address: str, open_page: OpenPage) -> None:
    page = open_page(address)
    assert shown(page) == ["Linksys WRT1200AC", "TP-Link TL-WR740N v4", "TP-Link TL-WR740N v4"]
    page.get_by_label("Search").fill("tlwr-740 office")
    assert shown(page) == ["TP-Link TL-WR740N v4"]
    assert page.locator("h2:visible").all_inner_texts() == ["TP-Link"]
    assert page.get_by_role("status").inner_text() == "1 of 3 found"
    page.get_by_label("Search").fill("mvebu")
    assert shown(page) == ["Linksys WRT1200AC"]
    page.get_by_label("Search").fill("nothing of that name")
    assert shown(page) == []
    page.get_by_label("Search").fill("")
    assert len(shown(page)) == 3


def test_without_scripts_all_is_there_but_the_search(site: Path, address: str, open_page: OpenPage) -> None:
    page = open_page(address, scripts=False)
    assert len(shown(page)) == 3
    assert not page.locator("#search").is_visible()
    page = open_page(f"{address}{place_of(site, 'board')}", scripts=False)
    assert page.locator("svg.chart").count() == 3
    page = open_page(f"{address}{place_of(site, 'build')}", scripts=False)
    page.get_by_text("All packages and their versions").click()
    assert page.locator("td", has_text="base-files").is_visible()


@pytest.mark.parametrize("from_disk", [False, True])
def test_a_downloads_bytes_match_its_checksum(
    site: Path, address: str, open_page: OpenPage, from_disk: bool
) -> None:
    page = open_page((site / "index.html").as_uri() if from_disk else address)
    page.get_by_label("Search").fill("740 home")
    page.locator(".boards li:visible a").click()
    row = page.locator("tr", has_text="sysupgrade").first
    with page.expect_download() as download:
        row.locator("a").click()
    data = Path(download.value.path()).read_bytes()
    assert hashlib.sha256(data).hexdigest() == row.locator("code").inner_text()
    assert data == MadeResult(content="6", size=10).image("sysupgrade")[1]


def test_the_keyboard_alone_leads_to_an_image(address: str, open_page: OpenPage) -> None:
    page = open_page(address)
    page.keyboard.press("Tab")
    assert focused(page) == "to the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]
    tab_to(page, "words")
    page.keyboard.type("740 office")
    page.keyboard.press("Tab")
    assert focused(page) == "TP-Link TL-WR740N v4"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.locator("h1").inner_text().startswith("TP-Link TL-WR740N v4")
    tab_to(page, "sysupgrade")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith("-sysupgrade.bin")
    tab_to(page, "All of build")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    tab_to(page, "All packages")
    assert not page.locator("td", has_text="base-files").is_visible()
    page.keyboard.press("Enter")
    assert page.locator("td", has_text="base-files").is_visible()


def test_a_finger_is_enough_on_a_phone(address: str, open_page: OpenPage) -> None:
    page = open_page(address, screen=PHONE)
    page.get_by_text("Linksys WRT1200AC").tap()
    box = page.locator(".button").first.bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 24  # WCAG 2.5.8
    with page.expect_download():
        page.locator(".button").first.tap()


def told(faults: list[str], page: Page) -> list[str]:
    """All but that axe-core cannot tell what is behind a text in SVG: nothing is, and it has the colour of
    texts that it can tell."""
    ticks = page.locator("svg .tick")
    if ticks.count():
        plain = page.evaluate("getComputedStyle(document.querySelector('dt')).color")
        assert ticks.first.evaluate("each => getComputedStyle(each).fill") == plain
    return [fault for fault in faults if not fault.startswith("unsure color-contrast: svg")]


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("view", ["desktop light", "desktop dark", "phone light", "phone dark"])
def test_pages_can_be_read(site: Path, open_page: OpenPage, watch: Watch, kind: str, view: str) -> None:
    """From the disk: what the policy for content lets a server's page load, it has to let this one too."""
    screen, dark = PHONE if "phone" in view else DESKTOP, "dark" in view
    page = open_page((site / place_of(site, kind)).as_uri(), screen=screen, dark=dark)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert watch.faults == []
    assert told(contrast_faults(page), page) == []
    assert told(access_faults(page), page) == []
    # axe-core itself would fetch the style, which the page's policy does not let it
    assert [fault for fault in watch.faults if "'connect-src' was not" not in fault] == []
    watch.faults.clear()
    assert sideways(page) == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("kind", PLACES)
def test_nothing_is_wider_than_the_narrowest_phone(site: Path, open_page: OpenPage, kind: str) -> None:
    page = open_page((site / place_of(site, kind)).as_uri(), screen=NARROW_PHONE)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert sideways(page) == 0
