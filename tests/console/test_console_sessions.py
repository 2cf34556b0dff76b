"""The console's table of sessions: live, filtered, sorted, stopped, and as quick with thousands as with ten."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from carrel.client import ApiError
from conftest import Server


@pytest.fixture
def three_sessions(console_server: Server) -> Iterator[list[str]]:
    """Begun by three callers; the last one's code fails."""
    mark = uuid.uuid4().hex[:8]
    names = [f"{mark}-{each}" for each in ("alice", "bob", "carol")]
    for name in names:
        with console_server.client(name) as client:
            client.execute("1/0" if "carol" in name else "6 * 7")
    yield names
    for name in names:
        with console_server.client(name) as client:
            try:
                client.end()
            except ApiError as error:
                assert error.status == 404


def open_table(page: Page, filtered: str) -> None:
    page.goto(f"{page.url.split('#')[0]}#/sessions/default/python")
    page.get_by_label("Filter by identifier").fill(filtered)


def shown(page: Page) -> list[str]:
    """Identifiers of the rows in sight, from the top."""
    rows = page.locator(".rows .row")
    found = rows.evaluate_all(
        "rows => rows.map(row => [Number(row.ariaRowIndex), row.querySelector('.name').textContent])"
    )
    return [name for _, name in sorted(found)]


def test_sessions_are_filtered_sorted_and_stopped_by_keyboard(page: Page, three_sessions: list[str]) -> None:
    """What the arrow keys reach is told to a screen reader; what was stopped is gone from the server."""
    mark = three_sessions[0].split("-")[0]
    open_table(page, mark.upper())
    table = page.get_by_role("grid", name="Sessions of python")
    expect(page.get_by_role("row").filter(has_text=mark)).to_have_count(3)
    expect(page.get_by_role("row").filter(has_text="carol")).to_contain_text("failed")

    page.get_by_role("button", name="Identifier").click()
    assert shown(page) == three_sessions
    page.get_by_role("button", name="Identifier").click()
    assert shown(page) == three_sessions[::-1]
    expect(page.get_by_role("columnheader", name="Identifier")).to_have_attribute("aria-sort", "descending")
    page.get_by_label("State").select_option("Failed")
    assert shown(page) == [three_sessions[2]]
    page.get_by_label("State").select_option("")

    table.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    active = page.locator(f"#{table.get_attribute('aria-activedescendant')}")
    expect(active).to_contain_text("bob")
    page.keyboard.press("Space")
    expect(active).to_have_attribute("aria-selected", "true")
    page.keyboard.press("End")
    page.keyboard.press("Space")
    page.keyboard.press("Delete")
    ask = page.get_by_role("dialog", name="Stop 2 sessions?")
    expect(ask).to_contain_text(three_sessions[0])
    ask.get_by_role("button", name="Keep").click()
    expect(table).to_be_focused()
    expect(page.get_by_role("row").filter(has_text=mark)).to_have_count(3)

    page.get_by_role("button", name="Stop 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("row").filter(has_text=mark)).to_have_count(1)
    assert shown(page) == [three_sessions[2]]


@pytest.mark.thorough
def test_thousands_of_rows_are_few_in_the_page(page: Page, three_sessions: list[str]) -> None:
    """The server's own answer, many times over: what is in sight is there, and the keyboard reaches the last one."""

    def multiply(route: Route) -> None:
        told = route.fetch().json()
        row = told["value"][0]
        told["value"] = [{**row, "identifier": f"row-{number:05}", "executions": number} for number in range(5000)]
        told["nextLink"] = None
        route.fulfill(status=200, content_type="application/json", body=json.dumps(told))

    page.route(re.compile(r"/\.carrel/sessions"), multiply)
    open_table(page, "")
    table = page.get_by_role("grid", name="Sessions of python")
    expect(page.get_by_text("5,000 sessions")).to_be_visible()
    page.get_by_role("button", name="Identifier").click()

    assert page.locator(".rows .row").count() < 60
    expect(table).to_have_attribute("aria-rowcount", "5001")
    table.focus()
    page.keyboard.press("End")
    expect(page.get_by_role("row", name=re.compile("row-04999"))).to_be_visible()
    assert page.locator(".rows .row").count() < 60
    page.keyboard.press("Home")
    expect(page.get_by_role("row", name=re.compile("row-00000"))).to_be_visible()
    page.get_by_label("Filter by identifier").fill("row-0250")
    expect(page.get_by_text("10 of 5,000 sessions")).to_be_visible()


@pytest.mark.thorough
def test_a_page_of_pools_that_are_not_there_says_so(page: Page) -> None:
    page.goto(f"{page.url.split('#')[0]}#/sessions/default/none")

    expect(page.get_by_role("alert").filter(has_text="There is no pool none that you may see.")).to_be_visible()
