"""Pages looked at in a real browser: the distribution's chromium, driven by playwright, judged by axe-core.

A test asks for `open_page` and carries the marker `browser`. It fails at its end where a page wrote an error
to the console, raised one, or asked another host for anything (which is never let out). Where playwright or a
chromium lacks, the test is skipped, and says which.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Route

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SOONEST_NARROW = 320  # CSS pixels: WCAG 1.4.10 wants no scrolling sideways from there on


@dataclass(frozen=True)
class Screen:
    """width, height: CSS pixels. touch: a finger in place of a mouse, and two device pixels for one."""

    width: int
    height: int
    touch: bool = False


PHONE = Screen(390, 844, touch=True)
NARROW_PHONE = Screen(SOONEST_NARROW, 568, touch=True)
DESKTOP = Screen(1280, 800)


class OpenPage(Protocol):
    """Opens a page; scripts: whether the browser runs its own."""

    def __call__(
        self, address: str, *, screen: Screen = DESKTOP, dark: bool = False, scripts: bool = True
    ) -> Page: ...


@dataclass
class Watch:
    """What went wrong on the pages of one test. `faults` may be emptied by a test that wants one."""

    faults: list[str] = field(default_factory=list)

    def open(self, context: BrowserContext, address: str) -> Page:
        """A page of a context, at an address (http, or file), watched from the first byte on."""
        home = _place(address)

        def let_home(route: Route) -> None:
            asked = route.request.url
            if _place(asked) == home or asked.startswith(("data:", "blob:")):
                route.continue_()
                return
            self.faults.append(f"asked another host: {asked}")
            route.abort()

        context.route("**/*", let_home)
        page = context.new_page()
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(f"error on the page: {error}"))
        page.goto(address)
        return page


def _place(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme, parts.netloc


def _chromium() -> str:
    places = (shutil.which(name) for name in PROGRAMS)
    place = next((place for place in places if place is not None), None)
    if place is None:
        pytest.skip(f"needs a browser: {', '.join(PROGRAMS)}")
    return place


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for the tests of a module: its playwright has an event loop, which other modules' tests
    must not meet."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    program = _chromium()
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # as root it would not start
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=[*options, "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    """What went wrong on the pages of this test, which fails for it."""
    watching = Watch()
    yield watching
    assert not watching.faults, watching.faults


@pytest.fixture
def open_page(chromium: Browser, watch: Watch) -> Iterator[OpenPage]:
    with ExitStack() as stack:

        def opened(
            address: str, *, screen: Screen = DESKTOP, dark: bool = False, scripts: bool = True
        ) -> Page:
            context = chromium.new_context(
                viewport={"width": screen.width, "height": screen.height},
                device_scale_factor=2 if screen.touch else 1,
                is_mobile=screen.touch,
                has_touch=screen.touch,
                color_scheme="dark" if dark else "light",
                java_script_enabled=scripts,
                accept_downloads=True,
            )
            stack.callback(context.close)
            return watch.open(context, address)

        yield opened


def contrast_faults(page: Page) -> list[str]:
    """What axe-core says against the contrast of a page's text: what fails, and what it could not tell.

    AssertionError where there was no text that it could judge.
    """
    return _axe(page, {"type": "rule", "values": ["color-contrast"]})


def access_faults(page: Page) -> list[str]:
    """What axe-core says against a page by WCAG 2.2, A and AA: contrast, names, roles, order of headings."""
    return _axe(
        page, {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}
    )


def _axe(page: Page, rules: dict[str, Any]) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 (is where playwright is)

    found = Axe().run(page, options={"runOnly": rules}).response
    assert found["passes"] or found["violations"], "axe-core found nothing that it could judge"
    return [
        f"{verdict} {rule['id']}: {' '.join(map(str, node['target']))}: {_messages(node)}"
        for verdict, rules_found in (("fails", found["violations"]), ("unsure", found["incomplete"]))
        for rule in rules_found
        for node in rule["nodes"]
    ]


def _messages(node: dict[str, Any]) -> str:
    return "; ".join(check["message"] for kind in ("any", "all", "none") for check in node[kind])


def sideways(page: Page) -> int:
    """By how many CSS pixels a page is wider than its window."""
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return int(wider)
