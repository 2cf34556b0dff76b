"""The managed-identity endpoints: how unmodified clients on this machine get a token without being configured for us.

Both hand out a token that is good for every pool, so both answer to this machine only, and never to a request that a proxy passed on
(X-Forwarded-For: the mark that cloud metadata services refuse too, since it betrays a forged request made through somebody's server).
The App Service form asks for a secret header besides. The IMDS form has none, as its clients can send none but `Metadata: true`; there
the kernel is asked whose socket it is, and other users of the machine are refused. Sandboxes have no way here: their loopback is their own.
"""

from __future__ import annotations

import hmac
import time

from carrel.errors import Forbidden, RequestInvalid, Unauthorized
from carrel.server.authority.resources import Resources, claims_for
from carrel.server.exchange import Exchange
from carrel.server.peers import is_loopback, uid_of
from carrel.server.request import decode_query
from carrel.storage import ARM_AUDIENCE, AUDIENCES, GRAPH_AUDIENCE, TOKEN_TTL_S, State
from carrel.wire import jsons


class Identity:
    def __init__(self, state: State, resources: Resources) -> None:
        self._state = state
        self._resources = resources

    async def app_service(self, exchange: Exchange) -> None:
        """`GET /msi/token` with X-IDENTITY-HEADER, as App Service has it (IDENTITY_ENDPOINT, IDENTITY_HEADER)."""
        _require_local(exchange)
        given = exchange.header(b"x-identity-header") or ""
        if not hmac.compare_digest(given.encode("latin-1"), self._state.identity_header.encode()):
            raise Unauthorized("X-IDENTITY-HEADER is missing or wrong.", target="X-IDENTITY-HEADER")
        await exchange.reply(200, jsons.encode(self._token(exchange)))

    async def instance_metadata(self, exchange: Exchange) -> None:
        """`GET /metadata/identity/oauth2/token` with `Metadata: true`, as virtual machines have it."""
        _require_local(exchange)
        if (exchange.header(b"metadata") or "").lower() != "true":
            raise RequestInvalid("The header 'Metadata: true' is required.", target="Metadata")
        owner = uid_of(exchange.scope["client"], exchange.scope["server"])
        if owner not in (0, self._state.owner):
            raise Forbidden("Only the user that runs the server may have a token here; others use IDENTITY_ENDPOINT.")
        now = int(time.time())
        more = {"expires_in": str(TOKEN_TTL_S), "ext_expires_in": str(TOKEN_TTL_S), "not_before": str(now)}
        await exchange.reply(200, jsons.encode(self._token(exchange) | more))

    def _token(self, exchange: Exchange) -> dict[str, str]:
        resource = decode_query(exchange.scope["query_string"]).get("resource", "")
        audience = self._resources.audience(resource)
        if audience is None:
            known = ", ".join((*AUDIENCES, ARM_AUDIENCE, GRAPH_AUDIENCE))
            raise RequestInvalid(f"resource must be one of {known}, or this server's address.", target="resource")
        now = time.time()
        return {
            "access_token": self._state.issue_token(audience, claims=claims_for(audience), now=now),
            "expires_on": str(int(now) + TOKEN_TTL_S),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": self._state.client_id,
        }


def _require_local(exchange: Exchange) -> None:
    if not is_loopback(exchange.scope["client"]) or exchange.header(b"x-forwarded-for") is not None:
        raise Forbidden("Tokens are given to callers on this machine only.")
