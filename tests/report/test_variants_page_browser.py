"""The page of `compare` in a real browser: read in light and dark, on a desk and on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuilder.model.variant_table import VariantRow
from imagebuilder.report.variants_page import variants_page
from tests.support.browser import DESKTOP, NARROW_PHONE, PHONE, OpenPage, Screen, access_faults, sideways
from tests.support.variant_making import row, variant_table

pytestmark = pytest.mark.browser


@pytest.fixture
def address(tmp_path: Path) -> str:
    (tmp_path / "compared.html").write_text(variants_page(variant_table()))
    return (tmp_path / "compared.html").as_uri()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("screen", [DESKTOP, PHONE])
def test_it_can_be_read_in_light_and_dark(
    address: str, open_page: OpenPage, screen: Screen, dark: bool
) -> None:
    page = open_page(address, screen=screen, dark=dark)
    assert access_faults(page) == []
    assert page.locator(".track").first.is_visible()


@pytest.mark.parametrize("screen", [NARROW_PHONE, PHONE, DESKTOP])
def test_nothing_is_wider_than_the_window(
    address: str, tmp_path: Path, open_page: OpenPage, screen: Screen
) -> None:
    assert sideways(open_page(address, screen=screen)) == 0
    long = "a-name-without-any-end" * 12
    table = variant_table(row("base"), VariantRow(variant="full", state="failed", why=long, remarks=(long,)))
    (tmp_path / "long.html").write_text(variants_page(table))
    assert sideways(open_page((tmp_path / "long.html").as_uri(), screen=screen)) == 0


@pytest.mark.parametrize("screen", [PHONE, DESKTOP])
def test_bars_are_as_long_as_their_figures(address: str, open_page: OpenPage, screen: Screen) -> None:
    """The policy of the page lets its rules in, and no piece slips below its bar."""
    page = open_page(address, screen=screen)
    tracks = page.locator("#flash ~ ul.rows .track")
    whole = tracks.last.bounding_box()
    assert whole is not None
    filled = []
    for piece in tracks.last.locator("i").all():
        box = piece.bounding_box()
        assert box is not None
        assert box["y"] == pytest.approx(whole["y"], abs=1)
        filled.append(box["width"])
    assert sum(filled) == pytest.approx(whole["width"], rel=0.01), "the longest one fills its place"
    end = tracks.last.locator("b").bounding_box()
    assert end is not None
    assert end["x"] + end["width"] - whole["x"] == pytest.approx(whole["width"] * 8 / 12, rel=0.02)
