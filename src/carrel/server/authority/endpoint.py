"""The authority's paths: `/device`, and `/{tenant}/…` for the tenant's GUID, `organizations`, `common` and `adfs`. They need no token; any
other goes on.

Errors are answered here, in Entra's form and not the edge's: the clients of this part read nothing else.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable

from carrel.errors import RouteNotFound
from carrel.server.asgi import ASGIApp, Receive, Scope, Send
from carrel.server.audit.noting import of_token
from carrel.server.authority.approving import Approving
from carrel.server.authority.devices import INTERVAL_S, LIFE_S
from carrel.server.authority.throttle import peer_of
from carrel.server.authority.tokens import Tokens
from carrel.server.exchange import KEY, Exchange, method_not_allowed
from carrel.storage import State
from carrel.wire import jsons
from carrel.wire.oauth import (
    MAX_FORM,
    Form,
    OAuthError,
    decode_form,
    encode_configuration,
    encode_device_code,
    encode_key,
    encode_oauth_error,
    invalid_request,
    missing,
    shown,
)

Handler = Callable[["Authority", Exchange, str], Awaitable[None]]

_PATH = re.compile(r"/+([^/]+)/+(.+?)/*", re.DOTALL)
_SHARED = ("organizations", "common")
_ADFS = "adfs"


class Authority:
    def __init__(
        self, state: State, tokens: Tokens, approving: Approving, app: ASGIApp, *, is_open: bool = True
    ) -> None:
        self._is_open = is_open
        self._state = state
        self._tokens = tokens
        self._approving = approving
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        match = _PATH.fullmatch(path)
        is_page = path.rstrip("/") == PAGE
        methods = PAGES if is_page else ROUTES.get(match[2].lower()) if match else None
        if methods is None:
            return await self._app(scope, receive, send)
        if not self._is_open:
            raise RouteNotFound("This server hands out no tokens: its authority is switched off.")
        exchange: Exchange = scope[KEY]
        exchange.plane = "authority"
        exchange.route = PAGE if is_page or match is None else f"/{{tenant}}/{match[2].lower()}"
        handler = methods.get("GET" if exchange.method == "HEAD" else exchange.method)
        if handler is None:
            raise method_not_allowed(exchange.route, exchange.method, methods)
        tenant = match[1].lower() if match and not is_page else ""
        try:
            self._require_tenant(tenant)
            return await handler(self, exchange, tenant)
        except OAuthError as error:
            return await _refuse(exchange, error)

    def _require_tenant(self, tenant: str) -> None:
        if tenant and tenant not in (*_SHARED, _ADFS, self._state.tenant):
            raise invalid_request(90002, "Tenant not found. Check that you have the correct tenant ID.")

    def _issuer(self, exchange: Exchange, tenant: str) -> str:
        """What id tokens and the configuration say, by which clients check one against the other: the address that they called."""
        origin = exchange.origin()
        return f"{origin}/adfs" if tenant == _ADFS else f"{origin}/{self._state.tenant}/v2.0"

    async def configuration(self, exchange: Exchange, tenant: str) -> None:
        document = encode_configuration(
            exchange.origin(), tenant, self._issuer(exchange, tenant), is_adfs=tenant == _ADFS
        )
        await exchange.reply(200, jsons.encode(document))

    async def keys(self, exchange: Exchange, _tenant: str) -> None:
        keys = [encode_key(name, key) for name, key in self._state.public_keys().items()]
        await exchange.reply(200, jsons.encode({"keys": keys}))

    async def authorize(self, _exchange: Exchange, _tenant: str) -> None:
        raise OAuthError(
            "unsupported_response_type",
            700054,
            "Signing in through a browser redirect is not served here: use a device code, or a client secret.",
        )

    async def token(self, exchange: Exchange, tenant: str) -> None:
        form = await _form(exchange)
        exchange.details = {"grant": form.grant_type, "client": form.client_id}
        fields = await self._tokens.answer(form, peer_of(exchange), self._issuer(exchange, tenant))
        exchange.details |= of_token(fields["access_token"])
        await exchange.reply(200, jsons.encode(fields))

    async def revoke(self, exchange: Exchange, _tenant: str) -> None:
        """200 whatever the token was: it is good for nothing now (RFC 7009 §2.2)."""
        await self._tokens.revoke(await _form(exchange))
        await exchange.reply(200, jsons.encode({}))

    async def device_code(self, exchange: Exchange, _tenant: str) -> None:
        form = await _form(exchange)
        exchange.details = {"client": form.client_id}
        if not form.client_id:
            raise missing("client_id")
        client = await self._tokens.directory.client(form.client_id)
        if client is None or not client.is_public:
            name = shown(form.client_id)
            raise OAuthError("unauthorized_client", 700016, f"Application '{name}' may not sign users in.")
        is_classic = bool(form.resource)
        scope = f"{form.resource}/.default openid profile offline_access" if is_classic else form.scope
        self._tokens.resources.wanted(scope)
        begun = await self._tokens.devices.begin(client.client_id, scope, peer_of(exchange))
        page = f"{exchange.origin()}{PAGE}"
        reply = encode_device_code(begun.device_code, begun.user_code, page, LIFE_S, INTERVAL_S, is_classic=is_classic)
        await exchange.reply(200, jsons.encode(reply))

    async def show_page(self, exchange: Exchange, _tenant: str) -> None:
        await self._approving.show(exchange)

    async def answer_page(self, exchange: Exchange, _tenant: str) -> None:
        await self._approving.answer(exchange)


PAGE = "/device"
PAGES: dict[str, Handler] = {"GET": Authority.show_page, "POST": Authority.answer_page}

# What follows the tenant, in any case. AD FS has no `v2.0`; Entra's first version neither.
ROUTES: dict[str, dict[str, Handler]] = {
    "v2.0/.well-known/openid-configuration": {"GET": Authority.configuration},
    ".well-known/openid-configuration": {"GET": Authority.configuration},
    "discovery/v2.0/keys": {"GET": Authority.keys},
    "discovery/keys": {"GET": Authority.keys},
    "oauth2/v2.0/token": {"POST": Authority.token},
    "oauth2/token": {"POST": Authority.token},
    "oauth2/v2.0/devicecode": {"POST": Authority.device_code},
    "oauth2/devicecode": {"POST": Authority.device_code},
    "oauth2/v2.0/revoke": {"POST": Authority.revoke},
    "oauth2/revoke": {"POST": Authority.revoke},
    "oauth2/v2.0/authorize": {"GET": Authority.authorize},
    "oauth2/authorize": {"GET": Authority.authorize},
}


async def _form(exchange: Exchange) -> Form:
    body = await exchange.body(MAX_FORM)
    return decode_form(body, exchange.header(b"content-type") or "", exchange.header(b"authorization"))


async def _refuse(exchange: Exchange, error: OAuthError) -> None:
    exchange.fault = error.code
    try:
        correlation_id = str(uuid.UUID(exchange.header(b"client-request-id") or ""))
    except ValueError:
        correlation_id = str(uuid.uuid4())
    body = encode_oauth_error(error, exchange.trace_id, correlation_id, time.time())
    headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await exchange.reply(error.status, jsons.encode(body), headers)
