"""Signing in to the console, in a real browser against a real server."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from authority_client import PASSWORD, Asker
from browser import Driver, sign_in, tab
from conftest import Server, SlimServer
from test_cli import carrel


def test_an_application_signs_in_with_its_secret_and_out(page: Page) -> None:
    """The secret stays in memory: what the tab's storage keeps is tokens, and after signing out nothing."""
    expect(page.get_by_role("heading", name="Pools", level=1)).to_be_visible()
    kept = page.evaluate("JSON.stringify([sessionStorage, localStorage, document.cookie])")
    assert "arm" in kept and "secret" not in kept.lower()

    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_role("heading", name="Sign in", level=1)).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.thorough
def test_what_was_pasted_is_looked_at_first(blank_page: Page, console_server: Server) -> None:
    """What is no token, one for another plane, one for nobody here; then those that `carrel console --tokens` prints."""
    page = blank_page
    page.goto(f"{console_server.connection['http']}/console/#/health")
    page.get_by_text("Other ways").click()
    field, form = page.get_by_label("Tokens", exact=True), page.get_by_role("form", name="With tokens")
    strange = {
        "x": "This is no token",
        "a.b.c": "This is no token",
        console_server.connection["token"]: "control plane",
    }
    for text, said in strange.items():
        field.fill(text)
        form.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text(said)

    field.fill(carrel("console", "--tokens", "--state", str(console_server.state)).stdout)
    form.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", name="Health", level=1)).to_be_visible()
    expect(page.get_by_text(re.compile("Carrel .*, up for"))).to_be_visible()


@pytest.mark.thorough
def test_a_wrong_secret_is_told_and_nothing_is_kept(blank_page: Page, console_server: Server) -> None:
    page = blank_page
    page.goto(f"{console_server.connection['http']}/console")
    page.get_by_text("Other ways").click()
    page.get_by_label("Client id").fill(console_server.connection["client_id"])
    page.get_by_label("Client secret").fill("wrong")
    page.get_by_role("form", name="As an application").get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_contain_text("Invalid client secret")
    assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.thorough  # the console asks once in five seconds, as the authority tells it to
def test_a_user_signs_in_by_the_device_page_and_out(blank_page: Page, console_server: Server) -> None:
    """The password is typed on the server's page alone, which has the code in place. Signing out ends the sign-in on the server."""
    page, asker = blank_page, Asker(console_server)
    user = asker.user()
    page.goto(f"{console_server.connection['http']}/console/")
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Sign in").first.click()
    device = opened.value
    expect(device.get_by_label("Code that the device shows")).to_have_value(page.locator("output.code").inner_text())
    assert device.evaluate("[window.opener, sessionStorage.length]") == [None, 0]
    device.get_by_role("button", name="Next").click()
    expect(device.get_by_text("Let Carrel console sign in?")).to_be_visible()
    device.get_by_label("User name").fill(user["userPrincipalName"])
    device.get_by_label("Password").fill(PASSWORD)
    device.get_by_role("button", name="Approve").click()
    expect(device.get_by_text("You can close this page.")).to_be_visible()
    device.close()

    expect(page.locator(".who")).to_have_text(user["displayName"])
    expect(page.get_by_role("alert").filter(has_text="you have no role on it")).to_be_visible()
    refresh = page.evaluate("JSON.parse(sessionStorage['carrel.signin']).refresh")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in", level=1)).to_be_visible()
    grant = {"grant_type": "refresh_token", "client_id": "b7b1c0de-6c2f-4b0e-9a55-3d1f0c9e7a42"}
    expect(page.get_by_role("button", name="Sign in").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert asker.token(**grant, refresh_token=refresh).json()["error"] == "invalid_grant"


@pytest.mark.thorough
def test_a_server_that_goes_away_is_waited_for(browser_driver: Driver, slim_server: SlimServer, tmp_path: Path) -> None:
    """A banner says so, what was seen stays, and the page goes on by itself once the server is back, signed in as before."""
    tmp_path.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir()
    with slim_server(state=state) as server:
        origin = server.connection["http"]
        opened = tab(browser_driver.browser, origin)
        page = opened.__enter__()
        sign_in(page, server)
        card = page.get_by_role("article", name="Pool python")
        expect(card).to_contain_text("Ready")

    banner = page.get_by_role("alert").filter(has_text="Carrel does not answer")
    expect(banner).to_be_visible()
    expect(card).to_be_visible()
    with slim_server("--port", str(urlsplit(origin).port), state=state):
        expect(banner).to_be_hidden()
        expect(page.get_by_text("Carrel is back.")).to_be_visible()
        page.get_by_role("link", name="Health").click()
        expect(page.get_by_text(re.compile("Carrel .*, up for"))).to_be_visible()
        opened.__exit__(None, None, None)


@pytest.mark.thorough
def test_a_broken_connection_is_not_taken_for_a_server_that_is_away(blank_page: Page, console_server: Server) -> None:
    """Browsers break connections off when an interface of the machine comes or goes: a part that did not come is fetched again."""
    page, broken = blank_page, []

    def break_once(route: Route) -> None:
        if route.request.url in broken:
            return route.continue_()
        broken.append(route.request.url)
        return route.abort("failed")

    page.route(re.compile(r"/console/pages/usage\.js$|/subscriptions/[^/]+/providers/"), break_once)
    sign_in(page, console_server)

    expect(page.get_by_role("article", name="Pool python")).to_be_visible()
    assert len(broken) == 2
    expect(page.get_by_text("Carrel does not answer")).to_have_count(0)


def test_its_files_are_the_same_for_everybody_and_may_do_little(console_server: Server) -> None:
    """No token is needed for them; a strict policy goes with each, and what a browser has already is not sent again."""
    with httpx.Client(base_url=console_server.connection["http"], trust_env=False) as http:
        first = http.get("/console/")
        policy = dict(each.strip().partition(" ")[::2] for each in first.headers["content-security-policy"].split(";"))

        assert (first.status_code, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'" and policy["trusted-types"] == "'none'"
        assert "unsafe" not in first.headers["content-security-policy"] and "http" not in first.text
        assert first.headers["cache-control"] == "no-cache" and first.headers["x-content-type-options"] == "nosniff"
        again = http.get("/console/", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        head = http.head("/console/app.js", headers={"Accept-Encoding": "identity"})
        script = http.get("/console/app.js", headers={"Accept-Encoding": "identity"})
        assert (head.content, head.headers["content-length"]) == (b"", str(len(script.content)))
        assert http.get("/console/app.js").content == script.content  # squeezed on the way
        moved = http.get("/console")
        assert (moved.status_code, moved.headers["location"]) == (302, "/console/")
        for path in (
            "/console/../../server/app.py",
            "/console/%2e%2e/config.py",
            "/console/none.js",
            "/console/pages/",
        ):
            assert http.get(path).status_code in (401, 404), path
        assert http.post("/console/").status_code == 405
        assert http.get("/console/", headers={"If-None-Match": "tag"}).status_code == 400
