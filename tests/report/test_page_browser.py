"""The report in a real browser: the map zooms by mouse and keyboard, everything can be read in light and dark
and on a phone, and it works without scripts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imagebuilder.report.changes import changes
from imagebuilder.report.page import report_page
from tests.report.test_page import NASTY, nasty_page
from tests.support.browser import (
    DESKTOP,
    NARROW_PHONE,
    PHONE,
    OpenPage,
    Screen,
    access_faults,
    contrast_faults,
    sideways,
)
from tests.support.report_making import KIB, PACKAGES, page_facts, result_of, root_of

pytestmark = pytest.mark.browser
# a box of the map may be smaller than a finger: what it leads to is in the table as well (WCAG 2.5.8,
# Equivalent)
SMALL_BOX = re.compile(r"\w+ target-size: #g\d+: ")
AT_REST = "Promise.all(document.getAnimations().map((each) => each.finished)).then(() => 0)"
BASE = "a.g[aria-label^='python3-base:']"


@pytest.fixture
def address(tmp_path: Path) -> str:
    """The page of a build, with all that one can have."""
    before = result_of(PACKAGES[:-1], root_of({"/bin/busybox": ("busybox", 100 * KIB)}), profile="other")
    facts = page_facts(
        result=result_of(secrets=("WIFI_KEY",)),
        note="not built by OpenWrt itself",
        compared=changes(before, result_of(), ("overlay 'base' is new",)),
        earlier="the build that was here before",
    )
    (tmp_path / "report.html").write_text(report_page(facts))
    return (tmp_path / "report.html").as_uri()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("screen", [DESKTOP, PHONE])
def test_it_can_be_read_in_light_and_dark(
    address: str, open_page: OpenPage, screen: Screen, dark: bool
) -> None:
    page = open_page(address, screen=screen, dark=dark)
    for summary in page.locator("summary").all():
        summary.click()
    assert [fault for fault in access_faults(page) if not SMALL_BOX.match(fault)] == []
    page.click(BASE)
    page.evaluate(AT_REST)
    assert contrast_faults(page) == []


@pytest.mark.parametrize("screen", [NARROW_PHONE, PHONE, DESKTOP])
def test_nothing_is_wider_than_the_window(
    address: str, tmp_path: Path, open_page: OpenPage, screen: Screen
) -> None:
    page = open_page(address, screen=screen)
    assert sideways(page) == 0
    page.click(BASE)
    assert sideways(page) == 0
    long = "a-name-without-any-end" * 12
    (tmp_path / "long.html").write_text(nasty_page(long))
    assert sideways(open_page((tmp_path / "long.html").as_uri(), screen=screen)) == 0


def test_the_map_zooms_by_mouse(address: str, open_page: OpenPage) -> None:
    page = open_page(address)
    zoom = page.locator("#zoom")
    assert zoom.is_hidden()
    page.click(BASE)
    assert zoom.locator("h3").inner_text().startswith("python3-base: ")
    boxes = zoom.locator(".f")
    assert boxes.count() == 41
    assert boxes.first.inner_text() == "/usr/bin/python3.11, 1.5 MiB"
    page.evaluate(AT_REST)
    area = zoom.locator(".area").bounding_box()
    assert area is not None
    places = [box.bounding_box() for box in boxes.all()]
    filled = sum(place["width"] * place["height"] for place in places if place is not None)
    assert filled == pytest.approx(area["width"] * area["height"], rel=0.02)
    assert page.locator("#files li").count() == 41
    zoom.get_by_role("button", name="Back").click()
    assert zoom.is_hidden()
    assert page.locator("#files").is_hidden()


def test_the_map_zooms_by_keyboard(address: str, open_page: OpenPage) -> None:
    page = open_page(address)
    page.focus(BASE)
    for key in ("Enter", " "):
        page.keyboard.press(key)
        assert page.locator("#zoom").is_visible()
        assert page.evaluate("document.activeElement.textContent") == "Back", "the focus goes along"
        page.keyboard.press("Tab")
        assert not page.evaluate("document.activeElement.matches('a.g')"), "what is covered is not reached"
        page.keyboard.press("Escape")
        assert page.locator("#zoom").is_hidden()
        assert page.evaluate("document.activeElement.matches(\"a.g[aria-label^='python3-base:']\")")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # on the button
    assert page.locator("#zoom").is_hidden()


def test_all_of_the_map_is_reached_by_the_keyboard_alone(address: str, open_page: OpenPage) -> None:
    page = open_page(address)
    labels = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        label = page.evaluate("document.activeElement.matches('a.g') ? document.activeElement.ariaLabel : ''")
        labels |= {label.split(":")[0]} - {""}
    assert labels == {
        *("the kernel", "python3-base", "busybox", "kmod-ath9k", "tcpdump-mini", "2 smaller ones"),
    }


def test_boxes_lie_where_they_should(address: str, open_page: OpenPage) -> None:
    """The rules of style that say so are let in by the page's own policy, in a wide window and a tall one."""
    for screen in (DESKTOP, PHONE):
        page = open_page(address, screen=screen)
        whole = page.locator("#map").bounding_box()
        assert whole is not None
        assert (whole["width"] > whole["height"]) == (screen is DESKTOP)
        places = [box.bounding_box() for box in page.locator("a.g").all()]
        filled = sum(place["width"] * place["height"] for place in places if place is not None)
        assert filled == pytest.approx(whole["width"] * whole["height"], rel=0.02)


def test_without_scripts_all_is_there_but_the_zoom(address: str, open_page: OpenPage) -> None:
    page = open_page(address, scripts=False)
    assert page.locator("a.g").count() >= 5
    assert page.locator("#hint").is_hidden(), "nothing is promised that does not work"
    assert page.locator("#zoom").is_hidden()
    page.click(BASE)
    row = page.locator("tr:target")
    assert row.inner_text().startswith("python3-base")
    page.locator("summary").first.click()
    assert page.get_by_text("hardware id").is_visible()


def test_an_odd_name_is_shown_and_does_nothing(tmp_path: Path, open_page: OpenPage) -> None:
    (tmp_path / "odd.html").write_text(nasty_page(NASTY))
    page = open_page((tmp_path / "odd.html").as_uri())
    page.locator("a.g:has(.f)").first.click()
    assert NASTY in page.locator("#zoom .f").first.inner_text()
    assert page.locator("img, main script").count() == 0
