"""Who is calling, and may they: bearer tokens of our own issuer, and the role they carry."""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from carrel.errors import Forbidden, Unauthorized
from carrel.server.asgi import ASGIApp, Receive, Scope, Send
from carrel.server.exchange import KEY, Exchange
from carrel.server.mcp.keys import KEY_HEADER, Keys, pool_of
from carrel.storage import ALGORITHM, AUDIENCES, MCP_CALLER

_LEEWAY_S = 30
_CACHE_SIZE = 4096
_MAX_TOKEN = 16 * 1024
_ACCEPTED = [form for audience in AUDIENCES for form in (audience, audience + "/")]


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller, as its token says. `pools` are lower-case names, or "*"."""

    subject: str
    roles: frozenset[str]
    pools: frozenset[str]
    expires_at: float

    def require(self, role: str, pool: str, instead: str = "") -> None:
        """Raises Forbidden unless the caller has this role on the pool, or the one that will do `instead`."""
        if not self.roles & ({role, instead} - {""}):
            raise Forbidden(f"The token lacks the role '{role}'.")
        if "*" not in self.pools and pool.lower() not in self.pools:
            raise Forbidden(f"The token's role '{role}' does not cover this session pool.")


class Verifier:
    """Turns tokens into principals. A token once verified is remembered by its digest until it ends; nothing else is remembered."""

    def __init__(self, key: RSAPublicKey, issuer: str, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._issuer = issuer
        self._clock = clock
        self._known: OrderedDict[bytes, Principal] = OrderedDict()

    def verify(self, token: str) -> Principal:
        """Raises Unauthorized, with the reason in WWW-Authenticate."""
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known.expires_at:
            self._known.move_to_end(digest)
            return known
        principal = _principal(self._claims(token))
        self._known[digest] = principal
        if len(self._known) > _CACHE_SIZE:
            self._known.popitem(last=False)
        return principal

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > _MAX_TOKEN:
            raise _refused("the token is too long")
        try:
            return jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],  # pinned: what the header of the token says is the caller's word
                audience=_ACCEPTED,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise _refused("the token has expired") from error
        except jwt.InvalidAudienceError as error:
            raise _refused(f"the token's audience is not one of {', '.join(AUDIENCES)}") from error
        except (
            jwt.PyJWTError,
            ValueError,
            TypeError,
        ) as error:  # the last two: JSON that decodes, but to other things than claims
            raise _refused("the token is not valid here") from error


class Auth:
    """The middleware: nobody gets past it without a valid token. Roles are checked where the pool is known."""

    def __init__(self, app: ASGIApp, verifier: Verifier, keys: Keys) -> None:
        self._app = app
        self._verifier = verifier
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        exchange.principal = self._by_key(exchange) or self._verifier.verify(_bearer(exchange))
        await self._app(scope, receive, send)

    def _by_key(self, exchange: Exchange) -> Principal | None:
        """Who calls a pool's MCP endpoint with its key, which is good for nothing else. Raises Unauthorized where it is another."""
        key = exchange.header(KEY_HEADER)
        pool = pool_of(exchange.scope["raw_path"]) if key is not None else None
        if key is None or pool is None:
            return None
        self._keys.check(pool, key)
        return Principal("mcp-key", frozenset({MCP_CALLER}), frozenset({pool.lower()}), expires_at=math.inf)


def _bearer(exchange: Exchange) -> str:
    values = [value for name, value in exchange.headers if name == b"authorization"]
    if not values:
        raise Unauthorized(
            "A bearer token is required in the Authorization header.",
            headers={"WWW-Authenticate": 'Bearer realm="carrel"'},
        )
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise _refused("one Authorization header of the form 'Bearer <token>' is needed")
    return token.strip()


def _principal(claims: dict[str, Any]) -> Principal:
    return Principal(
        subject=str(claims["sub"]),
        roles=frozenset(_texts(claims.get("roles"))),
        pools=frozenset(name.lower() for name in _texts(claims.get("carrel_pools"))),
        expires_at=float(claims["exp"]) + _LEEWAY_S,
    )


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _refused(reason: str) -> Unauthorized:
    challenge = f'Bearer realm="carrel", error="invalid_token", error_description="{reason}"'
    return Unauthorized(f"The request was refused: {reason}.", headers={"WWW-Authenticate": challenge})
