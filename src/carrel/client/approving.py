"""Answering for a device that wants to sign in: what the page `/device` does, without a browser."""

from __future__ import annotations

import httpx

from carrel.client.errors import ApiError

HEADERS = {"Accept": "application/json"}
_CODES = {403: "AccessDenied", 404: "CodeNotFound", 429: "TooManyRequests"}


def form(endpoint: str, user_code: str, user_name: str, password: str, is_approved: bool) -> tuple[str, dict[str, str]]:
    """Where to post, and what."""
    answer = "approve" if is_approved else "deny"
    return f"{endpoint}/device", {
        "user_code": user_code,
        "user_name": user_name,
        "password": password,
        "answer": answer,
    }


def check(reply: httpx.Response) -> None:
    """Raises ApiError with the server's own words."""
    if reply.is_success:
        return
    try:
        body = reply.json()
        told = body.get("message") or body.get("error_description")
    except (ValueError, AttributeError):  # something between us and the server answered
        told = None
    code = _CODES.get(reply.status_code, f"HTTP {reply.status_code}")
    raise ApiError(reply.status_code, code, str(told or reply.text[:200]))
