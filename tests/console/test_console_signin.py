"""Signing in to the console, in a real browser against a real server."""

from __future__ import annotations

import httpx
from playwright.sync_api import Page, expect

from conftest import Server


def test_an_application_signs_in_with_its_secret_and_out(page: Page) -> None:
    """The secret stays in memory: what the tab's storage keeps is tokens, and after signing out nothing."""
    expect(page.get_by_role("heading", name="Pools", level=1)).to_be_visible()
    kept = page.evaluate("JSON.stringify([sessionStorage, localStorage])")
    assert "arm" in kept and "secret" not in kept.lower()

    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_role("heading", name="Sign in", level=1)).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


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
