"""The browser that tests look at pages with notices what a page does wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

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

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ color: #111; background: #fff; }} p {{ width: 350px; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #eee; background: #111; }} p {{ color: #333; }} }}
</style></head><body><main><h1>Page</h1><p>text</p>{inside}</main></body></html>"""


def page_with(tmp_path: Path, inside: str) -> str:
    (tmp_path / "page.html").write_text(PAGE.format(inside=inside))
    return (tmp_path / "page.html").as_uri()


def test_a_good_page_passes_and_is_as_wide_as_its_window(tmp_path: Path, open_page: OpenPage) -> None:
    address = page_with(tmp_path, "<script>document.title = 'changed'</script>")
    for screen in (DESKTOP, PHONE):
        page = open_page(address, screen=screen)
        assert page.title() == "changed"
        assert page.evaluate("[innerWidth, innerHeight]") == [screen.width, screen.height]
        assert sideways(page) == 0
        assert access_faults(page) == []
    assert open_page(address, scripts=False).title() == "page"
    assert sideways(open_page(address, screen=NARROW_PHONE)) > 0, "350 pixels do not go into 320"


def test_text_that_is_too_faint_is_found_in_the_dark_alone(tmp_path: Path, open_page: OpenPage) -> None:
    address = page_with(tmp_path, "")
    assert contrast_faults(open_page(address)) == []
    (fault,) = contrast_faults(open_page(address, dark=True))
    assert fault.startswith("fails color-contrast: p: ")


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ("<script>console.error('odd')</script>", "odd"),
        ("<script>throw new Error('thrown')</script>", "error on the page: thrown"),
        (
            '<script>fetch("http://other.invalid/x").catch(() => 0)</script>',
            "asked another host: http://other",
        ),
        ('<img alt="" src="https://other.invalid/x.png">', "asked another host: https://other.invalid/x.png"),
        ('<img alt="" src="missing.png">', "net::ERR_FILE_NOT_FOUND"),
    ],
)
def test_what_a_page_does_wrong_is_told(
    tmp_path: Path, open_page: OpenPage, watch: Watch, inside: str, told: str
) -> None:
    page = open_page(page_with(tmp_path, inside))
    page.wait_for_load_state("networkidle")
    assert any(told in fault for fault in watch.faults), watch.faults
    watch.faults.clear()
