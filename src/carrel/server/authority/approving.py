"""`/device`: where a person says whether a program may act in their name; as a page, and as JSON for `carrel identity approve`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

from carrel.errors import Forbidden
from carrel.server.authority import page
from carrel.server.authority.devices import Asked, Devices
from carrel.server.authority.directory import PUBLIC_CLIENTS, Directory
from carrel.server.authority.throttle import Throttle, peer_of
from carrel.server.exchange import Exchange
from carrel.store import PrincipalRecord
from carrel.wire import jsons
from carrel.wire.oauth import MAX_FORM, OAuthError, decode_fields

_CODES = "codes"  # guesses at codes are about all of them
_NO_CODE = "There is no such code. It may have expired: begin again on the device."
_NO_PERSON = "User name and password do not belong together."


class Approving:
    def __init__(
        self, directory: Directory, devices: Devices, throttle: Throttle, clock: Callable[[], float] = time.time
    ) -> None:
        self._directory = directory
        self._devices = devices
        self._throttle = throttle
        self._clock = clock

    async def show(self, exchange: Exchange) -> None:
        """With the code in place where the address has it (RFC 8628 §3.3.1). A person still sees it, and says yes on the next step."""
        fields = parse_qs(exchange.scope["query_string"][:1024].decode("latin-1"))
        (user_code, *_) = fields.get("user_code", [""])
        await _reply(exchange, 200, page.ask_code(user_code=user_code[:20]))

    async def answer(self, exchange: Exchange) -> None:
        """A post of either step. Raises OAuthError where it is no form; all else is said on the page."""
        _require_same_site(exchange)
        fields = dict(decode_fields(await exchange.body(MAX_FORM), exchange.header(b"content-type") or ""))
        wants_json = "application/json" in (exchange.header(b"accept") or "")
        try:
            status, text = await self._answered(fields, peer_of(exchange), exchange.details)
        except OAuthError as error:
            if wants_json or error.status != 429:
                raise
            body = page.ask_code(error.message).encode()
            headers = [(b"retry-after", error.headers["Retry-After"].encode()), *page.HEADERS]
            return await exchange.reply(429, body, headers, page.CONTENT_TYPE)
        if wants_json:
            return await exchange.reply(status, jsons.encode({"status": status, "message": _ANSWERED[status]}))
        return await _reply(exchange, status, text)

    async def _answered(self, fields: Mapping[str, str], peer: str, told: dict[str, object]) -> tuple[int, str]:
        """Status and page; `told` is what the audit log has of it."""
        user_code = fields.get("user_code", "")[:64]
        asked = await self._asked(user_code, peer)
        if asked is None:
            return 404, page.ask_code(_NO_CODE)
        client = PUBLIC_CLIENTS.get(asked.client_id, asked.client_id)
        choice = fields.get("answer")
        if choice not in ("approve", "deny"):
            return 200, page.ask_person(user_code, client, asked, self._clock())
        user_name = fields.get("user_name", "")[:256]
        told |= {"answer": choice, "client": asked.client_id, "device": asked.peer, "userName": user_name}
        user = await self._person(user_name, fields.get("password", ""), peer)
        if user is None:
            return 403, page.ask_person(user_code, client, asked, self._clock(), _NO_PERSON, user_name)
        told["of"] = user.id
        is_approved = choice == "approve"
        if not await self._devices.settle(user_code, user, is_approved=is_approved):
            return 404, page.ask_code(_NO_CODE)
        return 200, page.settled(client, is_approved=is_approved)

    async def _asked(self, user_code: str, peer: str) -> Asked | None:
        if not user_code:
            return None
        async with self._throttle.attempt(peer, _CODES, is_guessable=False) as attempt:
            asked = await self._devices.asked(user_code)
            attempt.judge(has_passed=asked is not None)
        return asked

    async def _person(self, user_name: str, password: str, peer: str) -> PrincipalRecord | None:
        async with self._throttle.attempt(peer, f"user {user_name.lower()}") as attempt:
            user = await self._directory.check_password(user_name, password)
            attempt.judge(has_passed=user is not None)
        return user


_ANSWERED = {200: "Done.", 403: _NO_PERSON, 404: _NO_CODE}


def _require_same_site(exchange: Exchange) -> None:
    """A browser says where a post comes from; whoever says nothing is no browser."""
    site, origin = exchange.header(b"sec-fetch-site"), exchange.header(b"origin")
    is_ours = site in (None, "same-origin", "none") and origin in (None, exchange.origin())
    if not is_ours:
        raise Forbidden("This form is to be filled in on this server's own page.")


async def _reply(exchange: Exchange, status: int, text: str) -> None:
    await exchange.reply(status, text.encode(), list(page.HEADERS), page.CONTENT_TYPE)
