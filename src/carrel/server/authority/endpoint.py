"""The authority's paths: `/{tenant}/…` for the tenant's GUID, `organizations`, `common` and `adfs`. They need no token; any other goes on.

Errors are answered here, in Entra's form and not the edge's: the clients of this part read nothing else.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable

from carrel.errors import RouteNotFound
from carrel.server.asgi import ASGIApp, Receive, Scope, Send
from carrel.server.authority.directory import Directory
from carrel.server.authority.grants import Facts, decide
from carrel.server.authority.resources import Resources, claims_for
from carrel.server.exchange import KEY, Exchange, method_not_allowed
from carrel.storage import State
from carrel.wire import jsons
from carrel.wire.oauth import (
    MAX_FORM,
    OAuthError,
    decode_form,
    encode_configuration,
    encode_key,
    encode_oauth_error,
    encode_tokens,
    invalid_request,
)

TOKEN_S = 3600  # as Entra's; who loses a right loses it at once all the same

Handler = Callable[[Exchange, str], Awaitable[None]]

_PATH = re.compile(r"/+([^/]+)/+(.+?)/*", re.DOTALL)
_SHARED = ("organizations", "common")


class Authority:
    def __init__(
        self, state: State, directory: Directory, resources: Resources, app: ASGIApp, *, is_open: bool = True
    ) -> None:
        self._is_open = is_open
        self._state = state
        self._directory = directory
        self._resources = resources
        self._app = app
        documents: dict[str, tuple[str, Handler]] = {
            "v2.0/.well-known/openid-configuration": ("GET", self._configuration),
            ".well-known/openid-configuration": ("GET", self._configuration),
            "discovery/v2.0/keys": ("GET", self._keys),
            "discovery/keys": ("GET", self._keys),
        }
        grants: dict[str, tuple[str, Handler]] = {
            "oauth2/v2.0/token": ("POST", self._token),
            "oauth2/token": ("POST", self._token),
            "oauth2/v2.0/authorize": ("GET", self._authorize),
            "oauth2/authorize": ("GET", self._authorize),
        }
        self._routes = documents | grants

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _PATH.fullmatch(scope["path"])
        route = self._routes.get(match[2].lower()) if match else None
        if match is None or route is None:
            return await self._app(scope, receive, send)
        if not self._is_open:
            raise RouteNotFound("This server hands out no tokens: its authority is switched off.")
        exchange: Exchange = scope[KEY]
        exchange.route = f"/{{tenant}}/{match[2].lower()}"
        method, handler = route
        if exchange.method not in ((method, "HEAD") if method == "GET" else (method,)):
            raise method_not_allowed(exchange.route, exchange.method, (method,))
        try:
            self._require_tenant(match[1])
            return await handler(exchange, match[1])
        except OAuthError as error:
            return await _refuse(exchange, error)

    def _require_tenant(self, tenant: str) -> None:
        if tenant.lower() not in (*_SHARED, "adfs", self._state.tenant):
            raise invalid_request(90002, "Tenant not found. Check that you have the correct tenant ID.")

    async def _configuration(self, exchange: Exchange, tenant: str) -> None:
        origin = exchange.origin()
        is_adfs = tenant.lower() == "adfs"
        issuer = f"{origin}/adfs" if is_adfs else f"{origin}/{self._state.tenant}/v2.0"
        document = encode_configuration(origin, tenant.lower(), issuer, is_adfs=is_adfs)
        await exchange.reply(200, jsons.encode(document))

    async def _keys(self, exchange: Exchange, _tenant: str) -> None:
        await exchange.reply(
            200, jsons.encode({"keys": [encode_key(name, key) for name, key in self._state.public_keys().items()]})
        )

    async def _authorize(self, _exchange: Exchange, _tenant: str) -> None:
        raise OAuthError(
            "unsupported_response_type",
            700054,
            "Signing in through a browser redirect is not served here: use a device code, or a client secret.",
        )

    async def _token(self, exchange: Exchange, _tenant: str) -> None:
        body = await exchange.body(MAX_FORM)
        form = decode_form(body, exchange.header(b"content-type") or "", exchange.header(b"authorization"))
        client = await self._directory.client(form.client_id)
        is_authenticated = client is not None and await self._directory.has_secret(client, form.client_secret)
        decide(Facts(form, client, is_authenticated))
        wanted = self._resources.wanted(form.scope, form.resource)
        token = self._state.issue_token(wanted.audience, ttl_s=TOKEN_S, claims=claims_for(wanted.audience))
        await exchange.reply(200, jsons.encode(self._granted(token, form.resource)))

    def _granted(self, token: str, resource: str) -> dict[str, object]:
        now = int(time.time())
        classic = {"resource": resource, "expires_on": str(now + TOKEN_S), "not_before": str(now)} if resource else {}
        fields = {"token_type": "Bearer", "expires_in": TOKEN_S, "ext_expires_in": TOKEN_S, "access_token": token}
        return encode_tokens(fields | classic)


async def _refuse(exchange: Exchange, error: OAuthError) -> None:
    correlation = exchange.header(b"client-request-id") or ""
    try:
        correlation_id = str(uuid.UUID(correlation))
    except ValueError:
        correlation_id = str(uuid.uuid4())
    body = encode_oauth_error(error, exchange.trace_id, correlation_id, time.time())
    headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await exchange.reply(error.status, jsons.encode(body), headers)
