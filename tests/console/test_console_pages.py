"""The console's pages of usage, health and a pool's log: what they show is what the server says."""

from __future__ import annotations

import re
import uuid

import httpx
import pytest
from playwright.sync_api import Page, expect

from carrel.client import Client
from conftest import Server
from processes import eventually

pytestmark = pytest.mark.thorough

VERSION = {"api-version": "2026-07-01"}
HOSTILE = "<img src=x onerror=evil()>"


def test_usage_is_shown_and_saved_as_a_file(page: Page, console_server: Server) -> None:
    """By what it is grouped; the file is the server's own CSV."""
    with console_server.client() as client:
        client.execute("6 * 7")
        client.end()
    page.get_by_role("link", name="Usage").click()
    table = page.get_by_role("table")
    expect(table.get_by_role("cell", name="python", exact=True).first).to_be_visible()
    expect(table.get_by_role("row", name=re.compile("^Together"))).to_be_visible()

    page.get_by_label("by", exact=True).select_option("day")
    expect(table.get_by_role("columnheader").first).to_have_text("Day")
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()

    assert saved.value.suggested_filename.startswith("carrel-usage-")
    lines = saved.value.path().read_text().splitlines()
    assert lines[0].startswith("day,sessionSeconds,") and len(lines) > 1
    page.get_by_label("From").fill("2020-02-02")
    page.get_by_label("to", exact=True).fill("2020-02-01")
    expect(page.get_by_role("alert").filter(has_text="'to' lies before 'from'")).to_be_visible()


def test_health_shows_errors_with_their_traces(page: Page, console_server: Server) -> None:
    """What the server remembers of its own faults: the warnings of its start are there too."""
    page.get_by_role("link", name="Health").click()

    expect(page.get_by_role("heading", name="Session host")).to_be_visible()
    expect(page.get_by_text(re.compile(r"^in [\d.]+ ms$"))).to_be_visible()
    expect(page.get_by_role("heading", name="Recent errors")).to_be_visible()
    expect(page.get_by_role("cell", name=re.compile("not an extension")).first).to_be_visible()


def test_a_pools_log_shows_code_and_output_as_text(page: Page, console_server: Server, arm_pools: httpx.Client) -> None:
    """As much as the pool keeps; one that keeps none says so."""
    name = f"p{uuid.uuid4().hex[:8]}"
    scale = {"maxConcurrentSessions": 2, "readySessionInstances": 0}
    properties = {"scaleConfiguration": scale, "carrel": {"image": "python-slim", "logs": {"records": "full"}}}
    body = {"location": "local", "properties": properties}
    assert arm_pools.put(name, params=VERSION, json=body).status_code == 201

    def is_ready() -> bool:
        return bool(arm_pools.get(name, params=VERSION).json()["properties"]["provisioningState"] == "Succeeded")

    assert eventually(is_ready, 60)
    endpoint = f"{console_server.endpoint.rpartition('/')[0]}/{name}"
    with Client(endpoint, console_server.connection["token"], identifier=HOSTILE) as client:
        client.execute(f"print({HOSTILE!r})")
        client.execute("1 / 0")

    page.evaluate("hash => { location.hash = hash }", f"#/logs/default/{name}")
    expect(page.get_by_text(re.compile("^Kept for 7 d: who, .*, the code and the output"))).to_be_visible()
    expect(page.locator(".record")).to_have_count(2)
    page.get_by_label("How it ended").select_option("Succeeded")
    expect(page.locator(".record")).to_have_count(1)
    page.locator(".record summary").click()
    expect(page.get_by_role("region", name="Code")).to_have_text(f"print({HOSTILE!r})")
    expect(page.get_by_role("region", name="Output")).to_have_text(HOSTILE)
    assert page.locator("img").count() == 0
    arm_pools.delete(name, params=VERSION)
    page.evaluate("location.hash = '#/logs/default/python'")
    expect(page.get_by_text("This pool keeps no log.")).to_be_visible()
