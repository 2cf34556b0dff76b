"""The console for those who do not see it, see little, use no mouse, or have a small screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from conftest import Server

CHECKS = Path(__file__).with_name("access.js").read_text()
PAGES = ("pools", "sessions", "usage", "health")
WIDTHS = (360, 1280)


def settled(page: Page) -> None:
    expect(page.get_by_text("Looking…")).to_have_count(0)


def faults(page: Page) -> list[str]:
    """In both themes."""
    found = []
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        found += [f"{theme}: {each}" for each in page.evaluate(CHECKS)]
    return found


def test_pages_are_named_and_readable_in_both_themes(page: Page) -> None:
    """Names, labels and ids, sizes to hit, contrast as computed, nothing wider than the screen; also on a phone."""
    for name in PAGES:
        page.evaluate("name => { location.hash = `#/${name}` }", name)
        expect(page.get_by_role("heading", name=name.capitalize(), level=1)).to_be_visible()
        settled(page)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert faults(page) == [], f"{name} at {width}"


def open_form(page: Page) -> None:
    page.get_by_role("button", name="New pool").click()
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    expect(page.get_by_role("dialog").get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Only these hosts").check()


def open_question(page: Page) -> None:
    page.get_by_role("button", name="Delete python").click()
    expect(page.get_by_role("dialog", name="Delete pool python?")).to_be_visible()


@pytest.mark.thorough
@pytest.mark.parametrize("opened", [open_form, open_question])
def test_dialogs_keep_the_focus_and_give_it_back(page: Page, opened: Callable[[Page], None]) -> None:
    opened(page)

    assert faults(page) == []
    for _ in range(30):
        page.keyboard.press("Tab")
        # The browser's own controls are a stop as well: then nothing of the page has the focus.
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"


@pytest.mark.thorough
def test_the_door_is_readable_and_everything_is_reached_by_keyboard(blank_page: Page, console_server: Server) -> None:
    """Sign-in without a mouse; then the first stop of every page leads past the links to the page itself."""
    page = blank_page
    page.goto(f"{console_server.connection['http']}/console/")
    page.get_by_text("Other ways").focus()
    page.keyboard.press("Enter")
    assert faults(page) == []
    for text in (console_server.connection["client_id"], console_server.connection["client_secret"]):
        page.keyboard.press("Tab")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Pools", level=1)).to_be_visible()

    expect(page.get_by_role("main")).to_be_focused()
    page.get_by_role("link", name="Skip to the page").focus()
    expect(page.get_by_role("link", name="Skip to the page")).to_be_in_viewport()
    stops = set()
    for _ in range(16):
        page.keyboard.press("Tab")
        stops.add(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent")
        )
    assert {"Pools", "Sessions", "Usage", "Health", "Sign out", "New pool", "Edit python", "Delete python"} <= stops


@pytest.mark.thorough
def test_the_switch_of_colours_is_kept(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)

    page.get_by_role("button", name="Colours: as the system. Change").click()
    light = page.evaluate(paper)
    assert light != dark
    page.reload()

    expect(page.get_by_role("button", name="Colours: light. Change")).to_be_visible()
    assert page.evaluate(paper) == light
    page.get_by_role("button", name="Colours: light. Change").click()
    assert page.evaluate(paper) == dark
