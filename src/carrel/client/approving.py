"""Answering for a device that wants to sign in: what the page `/device` does, without a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrel.client.values import ApiError

if TYPE_CHECKING:
    from carrel.client.management import Management

_CODES = {403: "AccessDenied", 404: "CodeNotFound", 429: "TooManyRequests"}


def answer(management: Management, user_code: str, user_name: str, password: str, *, is_approved: bool) -> None:
    """As the person whose name and password these are. Raises ApiError where they are not, or no device waits under this code."""
    form = {"user_code": user_code, "user_name": user_name, "password": password}
    form["answer"] = "approve" if is_approved else "deny"
    address = f"{management.endpoint}/device"
    reply = management._http.post(address, data=form, headers={"Accept": "application/json"})
    if not reply.is_success:
        body = reply.json()
        told = body.get("message") or body.get("error_description") or reply.text[:200]
        raise ApiError(reply.status_code, _CODES.get(reply.status_code, f"HTTP {reply.status_code}"), str(told))
