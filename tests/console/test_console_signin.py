"""Signing in to the console, in a real browser against a real server."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from authority_client import PASSWORD, Asker
from conftest import Server

TOKENS = ("arm_token", "token")


def test_an_application_signs_in_with_its_secret_and_out(page: Page) -> None:
    """The secret stays in memory: what the tab's storage keeps is tokens, and after signing out nothing."""
    expect(page.get_by_role("heading", name="Pools", level=1)).to_be_visible()
    kept = page.evaluate("JSON.stringify([sessionStorage, localStorage])")
    assert "arm" in kept and "secret" not in kept.lower()

    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_role("heading", name="Sign in", level=1)).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
