"""Who is calling: bearer tokens of the issuers that this server trusts, and keys of MCP endpoints. What they may is access.py's."""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jwt

from carrel import tracing
from carrel.audiences import Plane
from carrel.errors import Unauthorized
from carrel.server.access import MCP_KEY, Access, Principal, refused
from carrel.server.asgi import ASGIApp, Receive, Scope, Send
from carrel.server.exchange import KEY, Exchange
from carrel.server.issuers import Issuer
from carrel.server.mcp.keys import KEY_HEADER, Keys, target_of

__all__ = ["Auth", "Principal", "Verifier"]

_CACHE_SIZE = 4096
_MAX_TOKEN = 16 * 1024


class Verifier:
    """Turns tokens into principals. A token once verified is remembered by its digest until it ends, or its issuer's keys change."""

    def __init__(self, issuers: Sequence[Issuer], clock: Callable[[], float] = time.time) -> None:
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """Raises Unauthorized, with the reason in WWW-Authenticate."""
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known.principal.expires_at and known.issuer.epoch() is known.epoch:
            self._known.move_to_end(digest)
            return known.principal
        issuer = self._issuer(token)
        epoch = issuer.epoch()
        principal = await issuer.verify(token)
        self._known[digest] = _Known(principal, issuer, epoch)
        if len(self._known) > _CACHE_SIZE:
            self._known.popitem(last=False)
        return principal

    def _issuer(self, token: str) -> Issuer:
        """Whose the token says it is: only which key it is held against depends on that."""
        if len(token) > _MAX_TOKEN:
            raise refused("the token is too long", "malformed")
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
            issuer = self._issuers.get(claims.get("iss", ""))
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise refused("the token is not valid here") from error
        if issuer is None:
            raise refused("the token is not valid here")
        return issuer


class _Known(NamedTuple):
    principal: Principal
    issuer: Issuer
    epoch: object


class Auth:
    """The middleware: nobody gets past it without a valid token. Rights are checked where it is known what they are wanted for."""

    def __init__(self, app: ASGIApp, verifier: Verifier, keys: Keys, access: Access) -> None:
        self._app = app
        self._verifier = verifier
        self._keys = keys
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        with tracing.span("authenticate"):
            exchange.principal = self._by_key(exchange) or await self._verifier.verify(_bearer(exchange))
        exchange.access = self._access
        await self._app(scope, receive, send)

    def _by_key(self, exchange: Exchange) -> Principal | None:
        """Who calls a pool's MCP endpoint with its key, which is good for nothing else. Raises Unauthorized where it is another."""
        key = exchange.header(KEY_HEADER)
        target = target_of(exchange.scope["raw_path"]) if key is not None else None
        if key is None or target is None:
            return None
        exchange.check = partial(self._keys.check, target, key)
        exchange.check()
        return Principal("mcp-key", frozenset(), "mcp-key", MCP_KEY, Plane.DATA, "", expires_at=math.inf)


def _bearer(exchange: Exchange) -> str:
    values = [value for name, value in exchange.headers if name == b"authorization"]
    if not values:
        raise Unauthorized(
            "A bearer token is required in the Authorization header.",
            headers={"WWW-Authenticate": 'Bearer realm="carrel"'},
        )
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise refused("one Authorization header of the form 'Bearer <token>' is needed", "malformed")
    return token.strip()
